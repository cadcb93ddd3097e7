"""The names operators build on, and log lines a machine reads."""

from __future__ import annotations

import json
import logging
import sys

import pytest

from limelight_collector import metrics


@pytest.mark.parametrize(
    "name",
    [
        "receiver_accepted_spans_total",
        "receiver_refused_spans_total",
        "receiver_requests_total",
        "receiver_accepted_metric_points_total",
        "receiver_accepted_log_records_total",
        "receiver_failed_spans_total",
        "exporter_queue_size",
        "exporter_queue_capacity",
        "exporter_in_flight_requests",
        "exporter_send_failed_spans_total",
        "exporter_enqueue_failed_spans_total",
        "processor_memory_limiter_refused_requests_total",
        "process_uptime",
        "process_memory_rss",
        "process_cpu_seconds_total",
        "wal_over_soft_mark",
        "canary_probes_total",
        "canary_delay_seconds_count",
        "query_duration_seconds_count",
        "alert_evaluations_total",
        "alert_lag_seconds",
        "webhook_deliveries_total",
        "exporter_sent_spans_total",
        "exporter_sent_metric_points_total",
        "exporter_sent_log_records_total",
        "exporter_send_failed_log_records_total",
        "exporter_enqueue_failed_metric_points_total",
        "dedup_metric_points_total",
        "wal_bytes",
        "wal_capacity_bytes",
        "wal_fsync_duration_seconds_count",
        "wal_quarantined_segments_total",
        "ingest_lag_seconds",
        "deadletter_records",
        "dedup_spans_total",
        "clamped_timestamps_total",
        "truncated_attributes_total",
        "storage_insert_duration_seconds_count",
        "storage_insert_failures_total",
        'durability_mode{mode="fsync"} 1.0',
        "process_resident_memory_bytes",
    ],
)
def test_metrics_are_exposed_under_their_names(name: str) -> None:
    assert f"limelight_{name}" in metrics.render().decode()


def test_an_error_that_repeats_is_written_once_a_minute_with_a_count() -> None:
    quiet = metrics.OncePerMinute()

    def passes(at: float, message: str = "it broke", level: int = logging.ERROR) -> object:
        record = logging.LogRecord("n", level, "f", 1, message, (), None)
        record.created = at
        return getattr(record, "fields", {}).get("suppressed", 0) if quiet.filter(record) else None

    assert [passes(at) for at in (0.0, 1.0, 59.0, 60.0, 61.0, 200.0)] == [0, None, None, 2, None, 1]
    assert passes(201.0, "another") == 0
    assert [passes(at, "news", logging.INFO) for at in (0.0, 1.0)] == [0, 0]


def test_log_lines_are_json_with_fields_and_traceback() -> None:
    try:
        int("no")
    except ValueError:
        caught = sys.exc_info()
    record = logging.LogRecord("n", logging.ERROR, "f", 1, "it %s", ("broke",), caught)
    record.fields = {"seq": 7, "path": object}
    line = json.loads(metrics.JsonFormatter().format(record))
    assert (line["level"], line["event"], line["seq"]) == ("error", "it broke", 7)
    assert "ValueError: invalid literal" in line["traceback"]
    assert line["ts"].endswith("+00:00")
