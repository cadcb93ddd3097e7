-- Tables of minutes: what the spans of a minute come to by trace, by user and by failure, so that no question reads every
-- span of a week (docs/adr/0015-tables-of-minutes.md). How their rows are made: collector/limelight_collector/query/
-- {trace_minutes,user_minutes,errors}.py. `rolled` says under step_s = 0 what they were last computed from.
CREATE TABLE IF NOT EXISTS traces_1m (
    project_id LowCardinality(String),
    bucket DateTime('UTC') CODEC(Delta, ZSTD(1)),
    trace_id FixedString(16) CODEC(ZSTD(1)),
    service_name LowCardinality(String),
    environment LowCardinality(String),
    status LowCardinality(String),
    changes UInt64 CODEC(ZSTD(1)),
    is_gone Bool CODEC(ZSTD(1)),
    root_place UInt128 CODEC(ZSTD(1)),
    root_name LowCardinality(String),
    first_start DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)),
    last_end_ns Int64 CODEC(Delta, ZSTD(1)),
    span_count UInt64 CODEC(ZSTD(1)),
    request_count UInt64 CODEC(ZSTD(1)),
    unpriced_count UInt64 CODEC(ZSTD(1)),
    input_tokens Nullable(UInt64) CODEC(ZSTD(1)),
    output_tokens Nullable(UInt64) CODEC(ZSTD(1)),
    cache_read_tokens Nullable(UInt64) CODEC(ZSTD(1)),
    cost_usd Nullable(Decimal(38, 18)) CODEC(ZSTD(1)),
    models Array(LowCardinality(String)),
    request_models Array(LowCardinality(String)),
    llm_models Array(LowCardinality(String)),
    providers Array(LowCardinality(String)),
    trace_tags Array(String) CODEC(ZSTD(1)),
    sessions Array(String) CODEC(ZSTD(1)),
    users Array(String) CODEC(ZSTD(1)),
    session String CODEC(ZSTD(1)),
    user String CODEC(ZSTD(1)),
    ttft_place UInt128 CODEC(ZSTD(1)),
    first_ttft_s Nullable(Float64) CODEC(ZSTD(1)),
    asked_place UInt128 CODEC(ZSTD(1)),
    asked String CODEC(ZSTD(1)),
    answered_place UInt128 CODEC(ZSTD(1)),
    answered String CODEC(ZSTD(1)),
    flags Array(LowCardinality(String)),
    INDEX by_session sessions TYPE bloom_filter(0.01) GRANULARITY 4,
    INDEX by_user users TYPE bloom_filter(0.01) GRANULARITY 4
) ENGINE = ReplacingMergeTree(changes)
PARTITION BY toDate(bucket)
ORDER BY (project_id, bucket, trace_id, service_name, environment, status)
SETTINGS index_granularity = 256, min_compress_block_size = 16384, max_compress_block_size = 65536, fsync_after_insert = 1, fsync_part_directory = 1, ttl_only_drop_parts = 1,
    min_age_to_force_merge_seconds = 14400, min_age_to_force_merge_on_partition_only = 1;

CREATE TABLE IF NOT EXISTS users_1m (
    project_id LowCardinality(String),
    bucket DateTime('UTC') CODEC(Delta, ZSTD(1)),
    service_name LowCardinality(String),
    environment LowCardinality(String),
    session_id String CODEC(ZSTD(1)),
    user_id String CODEC(ZSTD(1)),
    changes UInt64 CODEC(ZSTD(1)),
    is_gone Bool CODEC(ZSTD(1)),
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
    INDEX by_session session_id TYPE bloom_filter(0.01),
    INDEX by_user user_id TYPE bloom_filter(0.01)
) ENGINE = ReplacingMergeTree(changes)
PARTITION BY toDate(bucket)
ORDER BY (project_id, bucket, service_name, environment, session_id, user_id)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, ttl_only_drop_parts = 1,
    min_age_to_force_merge_seconds = 14400, min_age_to_force_merge_on_partition_only = 1;

CREATE TABLE IF NOT EXISTS errors_1m (
    project_id LowCardinality(String),
    bucket DateTime('UTC') CODEC(Delta, ZSTD(1)),
    trace_id FixedString(16) CODEC(ZSTD(1)),
    span_id FixedString(8),
    changes UInt64 CODEC(ZSTD(1)),
    is_gone Bool CODEC(ZSTD(1)),
    start_time DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)),
    error_fingerprint String CODEC(ZSTD(1)),
    error_type LowCardinality(String),
    error_message String CODEC(ZSTD(1)),
    name LowCardinality(String),
    service_name LowCardinality(String),
    environment LowCardinality(String),
    observation_type LowCardinality(String),
    provider LowCardinality(String),
    request_model LowCardinality(String),
    response_model LowCardinality(String),
    session_id String CODEC(ZSTD(1)),
    user_id String CODEC(ZSTD(1))
) ENGINE = ReplacingMergeTree(changes)
PARTITION BY toDate(bucket)
ORDER BY (project_id, bucket, trace_id, span_id)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, ttl_only_drop_parts = 1,
    min_age_to_force_merge_seconds = 14400, min_age_to_force_merge_on_partition_only = 1;

-- All spans of a bucket, requests or not: how often each value of a dimension occurs.
ALTER TABLE rollup_1m ADD COLUMN IF NOT EXISTS span_count UInt64 CODEC(ZSTD(1));
ALTER TABLE rollup_1h ADD COLUMN IF NOT EXISTS span_count UInt64 CODEC(ZSTD(1));

-- The same hours with fewer dimensions, for questions that ask for no more: merging sketches is what such questions cost.
CREATE TABLE IF NOT EXISTS rollup_1h_slim (
    project_id LowCardinality(String),
    slice LowCardinality(String),
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
    tpot AggregateFunction(quantilesBFloat16(0.5, 0.95, 0.99), Float64) CODEC(ZSTD(1)),
    span_count UInt64 CODEC(ZSTD(1))
) ENGINE = ReplacingMergeTree(changes)
PARTITION BY toDate(bucket)
ORDER BY (project_id, slice, bucket, service_name, environment, observation_type, provider, request_model, response_model)
SETTINGS index_granularity = 64, fsync_after_insert = 1, fsync_part_directory = 1, ttl_only_drop_parts = 1,
    min_age_to_force_merge_seconds = 14400, min_age_to_force_merge_on_partition_only = 1;

INSERT INTO rollup_1h_slim (
    project_id, slice, bucket, service_name, environment, observation_type,
    provider, request_model, response_model, changes,
    request_count, error_count, unpriced_count, flag_count, input_tokens, output_tokens, cache_read_tokens,
    cache_write_tokens, reasoning_tokens, cost_usd, latency, ttft, tpot, span_count
)
SELECT
    project_id, 'all', bucket, '', '', '', '', '', '', max(changes),
    sum(request_count), sum(error_count), sum(unpriced_count), sum(flag_count), sum(input_tokens), sum(output_tokens),
    sum(cache_read_tokens), sum(cache_write_tokens), sum(reasoning_tokens), sum(cost_usd),
    quantilesBFloat16MergeState(0.5, 0.95, 0.99)(latency), quantilesBFloat16MergeState(0.5, 0.95, 0.99)(ttft),
    quantilesBFloat16MergeState(0.5, 0.95, 0.99)(tpot), sum(span_count)
FROM rollup_1h FINAL GROUP BY project_id, bucket;

INSERT INTO rollup_1h_slim (
    project_id, slice, bucket, service_name, environment, observation_type,
    provider, request_model, response_model, changes,
    request_count, error_count, unpriced_count, flag_count, input_tokens, output_tokens, cache_read_tokens,
    cache_write_tokens, reasoning_tokens, cost_usd, latency, ttft, tpot, span_count
)
SELECT
    project_id, 'environments', bucket, '', environment, '', '', '', '', max(changes),
    sum(request_count), sum(error_count), sum(unpriced_count), sum(flag_count), sum(input_tokens), sum(output_tokens),
    sum(cache_read_tokens), sum(cache_write_tokens), sum(reasoning_tokens), sum(cost_usd),
    quantilesBFloat16MergeState(0.5, 0.95, 0.99)(latency), quantilesBFloat16MergeState(0.5, 0.95, 0.99)(ttft),
    quantilesBFloat16MergeState(0.5, 0.95, 0.99)(tpot), sum(span_count)
FROM rollup_1h FINAL GROUP BY project_id, bucket, environment;

INSERT INTO rollup_1h_slim (
    project_id, slice, bucket, service_name, environment, observation_type,
    provider, request_model, response_model, changes,
    request_count, error_count, unpriced_count, flag_count, input_tokens, output_tokens, cache_read_tokens,
    cache_write_tokens, reasoning_tokens, cost_usd, latency, ttft, tpot, span_count
)
SELECT
    project_id, 'services', bucket, service_name, environment, '', '', '', '', max(changes),
    sum(request_count), sum(error_count), sum(unpriced_count), sum(flag_count), sum(input_tokens), sum(output_tokens),
    sum(cache_read_tokens), sum(cache_write_tokens), sum(reasoning_tokens), sum(cost_usd),
    quantilesBFloat16MergeState(0.5, 0.95, 0.99)(latency), quantilesBFloat16MergeState(0.5, 0.95, 0.99)(ttft),
    quantilesBFloat16MergeState(0.5, 0.95, 0.99)(tpot), sum(span_count)
FROM rollup_1h FINAL GROUP BY project_id, bucket, service_name, environment;

INSERT INTO rollup_1h_slim (
    project_id, slice, bucket, service_name, environment, observation_type,
    provider, request_model, response_model, changes,
    request_count, error_count, unpriced_count, flag_count, input_tokens, output_tokens, cache_read_tokens,
    cache_write_tokens, reasoning_tokens, cost_usd, latency, ttft, tpot, span_count
)
SELECT
    project_id, 'models', bucket, '', '', observation_type, provider, request_model, response_model, max(changes),
    sum(request_count), sum(error_count), sum(unpriced_count), sum(flag_count), sum(input_tokens), sum(output_tokens),
    sum(cache_read_tokens), sum(cache_write_tokens), sum(reasoning_tokens), sum(cost_usd),
    quantilesBFloat16MergeState(0.5, 0.95, 0.99)(latency), quantilesBFloat16MergeState(0.5, 0.95, 0.99)(ttft),
    quantilesBFloat16MergeState(0.5, 0.95, 0.99)(tpot), sum(span_count)
FROM rollup_1h FINAL GROUP BY project_id, bucket, observation_type, provider, request_model, response_model;

-- Minutes whose rollups are what their spans say are computed again, to have the new column. Not those of which retention
-- kept only some traces: their rollups know more than their spans. Twice is harmless.
INSERT INTO touched (project_id, bucket, changes, spans, last_change)
SELECT project_id, bucket, 1, 0, now64(3)
FROM (
    SELECT project_id, toStartOfMinute(start_time) AS bucket, countIf(observation_type IN ('llm', 'embedding', 'rerank')
        AND usage_role NOT IN ('aggregate', 'duplicate', 'engine')) AS request_count
    FROM spans FINAL GROUP BY project_id, bucket
) AS stored
INNER JOIN (
    SELECT project_id, bucket, sum(request_count) AS request_count FROM rollup_1m FINAL GROUP BY project_id, bucket
) AS known USING (project_id, bucket)
WHERE stored.request_count = known.request_count;
