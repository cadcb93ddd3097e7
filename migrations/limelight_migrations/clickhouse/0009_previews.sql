-- One line of what was asked and answered, for lists: whole messages need not be read for it. Empty in older spans.
ALTER TABLE spans ADD COLUMN IF NOT EXISTS input_preview String CODEC(ZSTD(1)) AFTER output_text;
ALTER TABLE spans ADD COLUMN IF NOT EXISTS output_preview String CODEC(ZSTD(1)) AFTER input_preview;
