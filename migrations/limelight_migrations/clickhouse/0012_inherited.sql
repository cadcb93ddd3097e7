-- Which columns of a model call were taken from another span of its trace. Empty in older spans.
ALTER TABLE spans ADD COLUMN IF NOT EXISTS inherited Array(LowCardinality(String)) AFTER prompt_version;
