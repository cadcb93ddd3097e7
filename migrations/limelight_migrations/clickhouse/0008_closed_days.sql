-- Days that are over become one part each: their copies have collapsed then, and reading them needs no merging (FINAL).
-- Four hours without a late span, so that a trickle of them does not rewrite a day again and again.
ALTER TABLE spans MODIFY SETTING min_age_to_force_merge_seconds = 14400, min_age_to_force_merge_on_partition_only = 1;
ALTER TABLE flags MODIFY SETTING min_age_to_force_merge_seconds = 14400, min_age_to_force_merge_on_partition_only = 1;
ALTER TABLE metric_points MODIFY SETTING min_age_to_force_merge_seconds = 14400, min_age_to_force_merge_on_partition_only = 1;
ALTER TABLE logs MODIFY SETTING min_age_to_force_merge_seconds = 14400, min_age_to_force_merge_on_partition_only = 1;
ALTER TABLE touched MODIFY SETTING min_age_to_force_merge_seconds = 14400, min_age_to_force_merge_on_partition_only = 1;
ALTER TABLE rolled MODIFY SETTING min_age_to_force_merge_seconds = 14400, min_age_to_force_merge_on_partition_only = 1;
ALTER TABLE rollup_1m MODIFY SETTING min_age_to_force_merge_seconds = 14400, min_age_to_force_merge_on_partition_only = 1;
ALTER TABLE rollup_1h MODIFY SETTING min_age_to_force_merge_seconds = 14400, min_age_to_force_merge_on_partition_only = 1;

-- Which group of errors a failed span belongs to: its kind, its message without what differs from one time to the next
-- (quoted parts, ids, numbers), and the operation. Made by the engine where a span is stored; of older spans when read.
ALTER TABLE spans ADD COLUMN IF NOT EXISTS error_fingerprint String MATERIALIZED if(status = 'error', lower(hex(sipHash64(
    error_type,
    replaceRegexpAll(replaceRegexpAll(replaceRegexpAll(
        substring(if(error_message != '', error_message, status_message), 1, 2000),
        '"[^"]*"|\'[^\']*\'', '…'),
        '\\b[0-9a-fA-F]{8}(-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}\\b|\\b0x[0-9a-fA-F]+\\b|\\b[0-9a-fA-F]*[0-9][0-9a-fA-F]{7,}\\b',
        '<id>'),
        '[0-9]+([.,:][0-9]+)*', '<n>'),
    name))), '') CODEC(ZSTD(1));
