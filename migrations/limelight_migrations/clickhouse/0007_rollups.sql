-- Rollups of model calls at a minute and an hour, recomputed for the buckets that were touched, never summed at insert
-- (docs/adr/0011-rollups.md). Columns: collector/limelight_collector/query/measures.py.

-- How often spans or flags of a minute were stored, and when last: what a rollup has to keep up with.
CREATE TABLE IF NOT EXISTS touched (
    project_id LowCardinality(String),
    bucket DateTime('UTC') CODEC(Delta, ZSTD(1)),
    changes SimpleAggregateFunction(sum, UInt64),
    spans SimpleAggregateFunction(sum, UInt64),
    last_change SimpleAggregateFunction(max, DateTime64(3, 'UTC'))
) ENGINE = AggregatingMergeTree
PARTITION BY toDate(bucket)
ORDER BY (project_id, bucket)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, ttl_only_drop_parts = 1;

CREATE MATERIALIZED VIEW IF NOT EXISTS touched_from_spans TO touched AS
SELECT project_id, toStartOfMinute(start_time) AS bucket, 1 AS changes, count() AS spans, now64(3) AS last_change
FROM spans
GROUP BY project_id, bucket;

CREATE MATERIALIZED VIEW IF NOT EXISTS touched_from_flags TO touched AS
SELECT project_id, toStartOfMinute(start_time) AS bucket, 1 AS changes, 0 AS spans, now64(3) AS last_change
FROM flags
GROUP BY project_id, bucket;

-- The state of `touched` that a bucket was last computed from: as many changes = up to date. Of the hour: of its minutes.
CREATE TABLE IF NOT EXISTS rolled (
    project_id LowCardinality(String),
    step_s UInt32,
    bucket DateTime('UTC') CODEC(Delta, ZSTD(1)),
    changes UInt64
) ENGINE = ReplacingMergeTree(changes)
PARTITION BY toDate(bucket)
ORDER BY (project_id, step_s, bucket)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, ttl_only_drop_parts = 1;

CREATE TABLE IF NOT EXISTS rollup_1m (
    project_id LowCardinality(String),
    bucket DateTime('UTC') CODEC(Delta, ZSTD(1)),
    service_name LowCardinality(String),
    environment LowCardinality(String),
    observation_type LowCardinality(String),
    provider LowCardinality(String),
    request_model LowCardinality(String),
    response_model LowCardinality(String),
    changes UInt64 CODEC(ZSTD(1)),
    request_count UInt64 CODEC(ZSTD(1)),
    error_count UInt64 CODEC(ZSTD(1)),
    unpriced_count UInt64 CODEC(ZSTD(1)),
    flag_count UInt64 CODEC(ZSTD(1)),
    input_tokens Nullable(UInt64) CODEC(ZSTD(1)),
    output_tokens Nullable(UInt64) CODEC(ZSTD(1)),
    cache_read_tokens Nullable(UInt64) CODEC(ZSTD(1)),
    cache_write_tokens Nullable(UInt64) CODEC(ZSTD(1)),
    reasoning_tokens Nullable(UInt64) CODEC(ZSTD(1)),
    cost_usd Nullable(Decimal(38, 18)) CODEC(ZSTD(1)),
    latency AggregateFunction(quantilesBFloat16(0.5, 0.95, 0.99), Float64) CODEC(ZSTD(1)),
    ttft AggregateFunction(quantilesBFloat16(0.5, 0.95, 0.99), Float64) CODEC(ZSTD(1)),
    tpot AggregateFunction(quantilesBFloat16(0.5, 0.95, 0.99), Float64) CODEC(ZSTD(1))
) ENGINE = ReplacingMergeTree(changes)
PARTITION BY toDate(bucket)
ORDER BY (project_id, bucket, service_name, environment, observation_type, provider, request_model, response_model)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, ttl_only_drop_parts = 1;

CREATE TABLE IF NOT EXISTS rollup_1h AS rollup_1m;

-- What was stored before counts as touched. Twice is harmless: a bucket is computed once more.
INSERT INTO touched (project_id, bucket, changes, spans, last_change)
SELECT project_id, toStartOfMinute(start_time) AS bucket, 1, count(), now64(3) FROM spans GROUP BY project_id, bucket;
