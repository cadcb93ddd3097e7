-- Verdicts of detectors on spans. A detector that runs again replaces its own verdict.
CREATE TABLE IF NOT EXISTS flags (
    project_id LowCardinality(String),
    trace_id FixedString(16) CODEC(ZSTD(1)),
    span_id FixedString(8),
    start_time DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)),
    code LowCardinality(String),
    severity LowCardinality(String),
    source LowCardinality(String),
    confidence Float64 CODEC(ZSTD(1)),
    evidence String CODEC(ZSTD(1)),
    detector LowCardinality(String),
    detector_version UInt32,
    created_ns UInt64 CODEC(Delta, ZSTD(1))
) ENGINE = ReplacingMergeTree(created_ns)
PARTITION BY toDate(start_time)
ORDER BY (project_id, start_time, trace_id, span_id, code, detector)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, ttl_only_drop_parts = 1;

-- Evaluation results on a span, or on its trace where span_id is eight zero bytes.
CREATE TABLE IF NOT EXISTS scores (
    project_id LowCardinality(String),
    trace_id FixedString(16) CODEC(ZSTD(1)),
    span_id FixedString(8),
    name LowCardinality(String),
    value Nullable(Float64) CODEC(ZSTD(1)),
    label String CODEC(ZSTD(1)),
    explanation String CODEC(ZSTD(1)),
    source LowCardinality(String),
    created_ns UInt64 CODEC(Delta, ZSTD(1)),
    score_id String CODEC(ZSTD(1))
) ENGINE = ReplacingMergeTree(created_ns)
ORDER BY (project_id, trace_id, span_id, name, score_id)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;
