-- Metric points: one row a point of one series. The newest copy of a key wins (docs/adr/0008-metric-points.md).
-- What each column means: collector/limelight_collector/store/signal_columns.py.
CREATE TABLE IF NOT EXISTS metric_points (
    project_id LowCardinality(String) CODEC(ZSTD(1)),
    metric LowCardinality(String) CODEC(ZSTD(1)),
    series_id UInt64 CODEC(ZSTD(1)),
    time DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)),
    original_ns UInt64 CODEC(ZSTD(1)),
    start_ns UInt64 CODEC(Delta, ZSTD(1)),
    received_ns UInt64 CODEC(Delta, ZSTD(1)),
    kind LowCardinality(String) CODEC(ZSTD(1)),
    unit LowCardinality(String) CODEC(ZSTD(1)),
    description String CODEC(ZSTD(1)),
    temporality LowCardinality(String) CODEC(ZSTD(1)),
    is_monotonic Bool CODEC(ZSTD(1)),
    service_name LowCardinality(String) CODEC(ZSTD(1)),
    environment LowCardinality(String) CODEC(ZSTD(1)),
    scope_name LowCardinality(String) CODEC(ZSTD(1)),
    scope_version LowCardinality(String) CODEC(ZSTD(1)),
    attributes Map(String, String) CODEC(ZSTD(1)),
    resource Map(String, String) CODEC(ZSTD(1)),
    value Nullable(Float64) CODEC(ZSTD(1)),
    count Nullable(UInt64) CODEC(ZSTD(1)),
    sum Nullable(Float64) CODEC(ZSTD(1)),
    min Nullable(Float64) CODEC(ZSTD(1)),
    max Nullable(Float64) CODEC(ZSTD(1)),
    bucket_bounds Array(Float64) CODEC(ZSTD(1)),
    bucket_counts Array(UInt64) CODEC(ZSTD(1)),
    scale Int32 CODEC(ZSTD(1)),
    zero_count UInt64 CODEC(ZSTD(1)),
    zero_threshold Float64 CODEC(ZSTD(1)),
    positive_offset Int32 CODEC(ZSTD(1)),
    positive_counts Array(UInt64) CODEC(ZSTD(1)),
    negative_offset Int32 CODEC(ZSTD(1)),
    negative_counts Array(UInt64) CODEC(ZSTD(1)),
    quantiles Array(Float64) CODEC(ZSTD(1)),
    quantile_values Array(Float64) CODEC(ZSTD(1))
) ENGINE = ReplacingMergeTree(received_ns)
PARTITION BY toDate(time)
ORDER BY (project_id, metric, time, series_id, original_ns)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, ttl_only_drop_parts = 1;

-- Each series, and of cumulative ones each start: what it is called, and when it was first and last heard of.
-- min and max are idempotent: storing a point twice changes nothing.
CREATE TABLE IF NOT EXISTS metric_series (
    project_id LowCardinality(String),
    metric LowCardinality(String),
    series_id UInt64,
    stream_start_ns UInt64,
    kind SimpleAggregateFunction(any, LowCardinality(String)),
    unit SimpleAggregateFunction(any, LowCardinality(String)),
    description SimpleAggregateFunction(any, String),
    temporality SimpleAggregateFunction(any, LowCardinality(String)),
    is_monotonic SimpleAggregateFunction(any, Bool),
    service_name SimpleAggregateFunction(any, LowCardinality(String)),
    environment SimpleAggregateFunction(any, LowCardinality(String)),
    scope_name SimpleAggregateFunction(any, LowCardinality(String)),
    scope_version SimpleAggregateFunction(any, LowCardinality(String)),
    attributes SimpleAggregateFunction(any, Map(String, String)),
    resource SimpleAggregateFunction(any, Map(String, String)),
    first_time SimpleAggregateFunction(min, DateTime64(9, 'UTC')),
    last_time SimpleAggregateFunction(max, DateTime64(9, 'UTC'))
) ENGINE = AggregatingMergeTree
ORDER BY (project_id, metric, series_id, stream_start_ns)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

CREATE MATERIALIZED VIEW IF NOT EXISTS metric_series_from_points TO metric_series AS
SELECT
    project_id, metric, series_id, if(temporality = 'cumulative', start_ns, 0) AS stream_start_ns, kind, unit, description,
    temporality, is_monotonic, service_name, environment, scope_name, scope_version, attributes, resource,
    time AS first_time, time AS last_time
FROM metric_points;
