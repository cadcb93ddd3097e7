-- Where in time a trace lies, so that a lookup by id reads a few granules of spans instead of all of them.
-- min and max are idempotent: storing a span twice changes nothing.
CREATE TABLE IF NOT EXISTS trace_times (
    project_id LowCardinality(String),
    trace_id FixedString(16),
    min_start SimpleAggregateFunction(min, DateTime64(9, 'UTC')) CODEC(Delta, ZSTD(1)),
    max_start SimpleAggregateFunction(max, DateTime64(9, 'UTC')) CODEC(Delta, ZSTD(1))
) ENGINE = AggregatingMergeTree
ORDER BY (project_id, trace_id)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

CREATE MATERIALIZED VIEW IF NOT EXISTS trace_times_from_spans TO trace_times AS
SELECT project_id, trace_id, min(start_time) AS min_start, max(start_time) AS max_start
FROM spans
GROUP BY project_id, trace_id;

-- What was stored before has times, too. Twice is harmless.
INSERT INTO trace_times (project_id, trace_id, min_start, max_start)
SELECT project_id, trace_id, min(start_time), max(start_time) FROM spans GROUP BY project_id, trace_id;
