-- Log records and events. The newest copy of a key wins: a client's retry has the same log_id.
-- What each column means: collector/limelight_collector/store/signal_columns.py.
CREATE TABLE IF NOT EXISTS logs (
    project_id LowCardinality(String) CODEC(ZSTD(1)),
    time DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)),
    log_id FixedString(16),
    original_ns UInt64 CODEC(ZSTD(1)),
    observed_ns UInt64 CODEC(Delta, ZSTD(1)),
    received_ns UInt64 CODEC(Delta, ZSTD(1)),
    trace_id FixedString(16) CODEC(ZSTD(1)),
    span_id FixedString(8) CODEC(ZSTD(1)),
    severity_number UInt8 CODEC(ZSTD(1)),
    severity_text LowCardinality(String) CODEC(ZSTD(1)),
    event_name LowCardinality(String) CODEC(ZSTD(1)),
    service_name LowCardinality(String) CODEC(ZSTD(1)),
    environment LowCardinality(String) CODEC(ZSTD(1)),
    scope_name LowCardinality(String) CODEC(ZSTD(1)),
    scope_version LowCardinality(String) CODEC(ZSTD(1)),
    body String CODEC(ZSTD(1)),
    attributes Map(String, String) CODEC(ZSTD(1)),
    resource Map(String, String) CODEC(ZSTD(1)),
    dropped_attributes_count UInt32 CODEC(ZSTD(1))
) ENGINE = ReplacingMergeTree(received_ns)
PARTITION BY toDate(time)
ORDER BY (project_id, time, log_id)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, ttl_only_drop_parts = 1;

-- Where in time the records of a trace lie, as trace_times says it of spans.
CREATE TABLE IF NOT EXISTS log_times (
    project_id LowCardinality(String),
    trace_id FixedString(16),
    min_time SimpleAggregateFunction(min, DateTime64(9, 'UTC')) CODEC(Delta, ZSTD(1)),
    max_time SimpleAggregateFunction(max, DateTime64(9, 'UTC')) CODEC(Delta, ZSTD(1))
) ENGINE = AggregatingMergeTree
ORDER BY (project_id, trace_id)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

CREATE MATERIALIZED VIEW IF NOT EXISTS log_times_from_logs TO log_times AS
SELECT project_id, trace_id, min(time) AS min_time, max(time) AS max_time
FROM logs
WHERE trace_id != toFixedString('', 16)
GROUP BY project_id, trace_id;
