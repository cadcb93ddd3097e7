"""The collector's own numbers and log lines. Names follow the OpenTelemetry Collector's; labels come from fixed sets.

Counters are exposed with `_total`. Nothing here carries a name, a key or a text that a client chose.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily

from limelight_collector.errors import Unavailable
from limelight_collector.request_ids import REQUEST_ID

if TYPE_CHECKING:
    from limelight_collector.spool import Spool

REGISTRY = CollectorRegistry()
"""Everything `/metrics` shows."""

ProcessCollector(namespace="limelight", registry=REGISTRY)

_QUIET_S = 60.0
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


def _counter(name: str, text: str, *labels: str) -> Counter:
    return Counter(f"limelight_{name}", text, labels, registry=REGISTRY)


def _by_signal(name: str, text: str, *labels: str) -> dict[str, Counter]:
    """One counter a signal, named as the OpenTelemetry Collector names its items."""
    items = {"traces": "spans", "metrics": "metric_points", "logs": "log_records"}
    return {
        signal: _counter(name.format(item), text.format(item.replace("_", " ").capitalize()), *labels)
        for signal, item in items.items()
    }


def _gauge(name: str, text: str) -> Gauge:
    return Gauge(f"limelight_{name}", text, registry=REGISTRY)


def _histogram(name: str, text: str, *labels: str) -> Histogram:
    return Histogram(f"limelight_{name}", text, labels, buckets=_SECONDS, registry=REGISTRY)


PROCESS_UPTIME = _gauge("process_uptime", "Seconds since this process began to serve.")
PROCESS_MEMORY_RSS = _gauge("process_memory_rss", "Resident memory in bytes.")

RECEIVER_REQUESTS = _counter("receiver_requests", "OTLP requests by outcome.", "transport", "signal", "outcome")
RECEIVER_ACCEPTED = _by_signal("receiver_accepted_{}", "{} acknowledged.", "transport")
RECEIVER_REJECTED = _by_signal("receiver_rejected_{}", "{} answered with partial_success.", "transport")
RECEIVER_REFUSED = _by_signal("receiver_refused_{}", "Valid {} answered with a retryable error.", "transport")
RECEIVER_FAILED_SPANS = _counter("receiver_failed_spans", "Requests lost to a bug of ours.", "transport")
MEMORY_REFUSED = _counter("processor_memory_limiter_refused_requests", "Requests over the in-flight byte budget.")

QUEUE_SIZE = _gauge("exporter_queue_size", "Requests in the spool.")
QUEUE_CAPACITY = _gauge("exporter_queue_capacity", "Bytes the spool may hold.")
IN_FLIGHT_REQUESTS = _gauge("exporter_in_flight_requests", "Inserts the store is working on.")
SENT = _by_signal("exporter_sent_{}", "{} the store has taken.")
SEND_FAILED = _by_signal("exporter_send_failed_{}", "{} in dead-lettered requests.")
ENQUEUE_FAILED = _by_signal("exporter_enqueue_failed_{}", "{} the spool could not take.")

WAL_BYTES = _gauge("wal_bytes", "Compressed bytes in the spool, dead letters included.")
WAL_CAPACITY_BYTES = _gauge("wal_capacity_bytes", "Bytes the spool may hold.")
WAL_OVER_SOFT_MARK = _gauge("wal_over_soft_mark", "1 while the spool holds 70 % of what it may, or more.")
WAL_FSYNC_SECONDS = _histogram("wal_fsync_duration_seconds", "One group commit of the spool, sync included.")
WAL_QUARANTINED = _counter("wal_quarantined_segments", "Damaged spool records or files set aside.")
INGEST_LAG_SECONDS = _gauge("ingest_lag_seconds", "Age of the oldest acknowledged request that is not stored yet.")
DEADLETTER_RECORDS = _gauge("deadletter_records", "Requests that cannot be stored, kept with the reason.")
DEDUP = _by_signal("dedup_{}", "{} of requests that had been taken before.")
CLAMPED_TIMESTAMPS = _counter("clamped_timestamps", "Items whose time was moved into the kept range.")
TRUNCATED_ATTRIBUTES = _counter("truncated_attributes", "Attributes cut or dropped over the per-span caps.")
PENDING_SPANS = _counter("pending_spans", "Early copies of spans (Logfire) that are not kept: the span comes whole.")
SAMPLED_SPANS = _counter("sampled_spans", "Spans whose trace was kept as a sample (limelight.sample_rate).")
DROPPED_EXEMPLARS = _counter("dropped_exemplars", "Exemplars of metric points, which are not kept.")
AMENDED_SPANS = _counter("amended_spans", "Stored spans stored again, because later spans of their trace changed them.")
UNSETTLED_TRACES = _counter("unsettled_traces", "Traces decided on without their earlier spans: too much to read.")
STORAGE_INSERT_SECONDS = _histogram("storage_insert_duration_seconds", "One insert into the store.")
STORAGE_INSERT_FAILURES = _counter("storage_insert_failures", "Failed inserts.", "class")

CANARY_PROBES = _counter("canary_probes", "Spans the collector sent to itself.", "outcome")
CANARY_DELAY_SECONDS = _histogram("canary_delay_seconds", "From sending the canary's span to reading it.")

QUERY_SECONDS = _histogram("query_duration_seconds", "One query of the store.")
SLOW_QUERIES = _counter("slow_queries", "Queries slower than LIMELIGHT_SLOW_QUERY_S, by the route that asked.", "route")
EXPORTS = _counter("exports", "Files made of answers, by how they ended.", "format", "outcome")
MAINTENANCE_SECONDS = _histogram("maintenance_duration_seconds", "One turn of a maintenance task.", "task")
STORE_HELD_SECONDS = _histogram("store_held_seconds", "Time that inserts waited for the snapshot of a backup.")
MAINTENANCE_FAILURES = _counter("maintenance_failures", "Turns that failed; each is tried again.", "task")
RETENTION_DELETED_ROWS = _counter("retention_deleted_rows", "Rows that projects' own retention removed.", "table")
DELETIONS = _counter("deletions", "Deletions asked for by people, by how they ended.", "outcome")
ALERT_EVALUATIONS = _counter("alert_evaluations", "Evaluations of alert rules.", "outcome")
ALERT_LAG_SECONDS = _gauge("alert_lag_seconds", "Age of the newest evaluation of the alert rules.")
RULES_FILE_RELOADS = _counter("rules_file_reloads", "Times a changed rules file was read.", "outcome")
WEBHOOK_DELIVERIES = _counter("webhook_deliveries", "Webhook attempts.", "outcome")
LEADER = Gauge(
    "limelight_leader", "1 where this collector evaluates alerts and keeps the store in order.", registry=REGISTRY
)
LEADER.set(1)  # alone it always does

DURABILITY_MODE = Gauge("limelight_durability_mode", "1 for the mode in use.", ["mode"], registry=REGISTRY)
DURABILITY_MODE.labels(mode="fsync").set(1)


def watch_spool(spool: Spool, now_ns: Callable[[], int]) -> None:
    """Let the spool's gauges read `spool` at each scrape."""

    def lag() -> float:
        oldest = spool.oldest_received_ns
        return 0.0 if oldest is None else max(0.0, (now_ns() - oldest) / 1e9)

    QUEUE_SIZE.set_function(lambda: spool.pending_records)
    QUEUE_CAPACITY.set(spool.max_bytes)
    WAL_BYTES.set_function(lambda: spool.used_bytes)
    WAL_CAPACITY_BYTES.set(spool.max_bytes)
    WAL_OVER_SOFT_MARK.set_function(lambda: spool.over_soft_mark)
    DEADLETTER_RECORDS.set_function(lambda: spool.deadletter_records)
    INGEST_LAG_SECONDS.set_function(lag)


class LedgerCollector:
    """`limelight_ledger_items`: what became of every item, by signal and state, over all projects."""

    def __init__(self, read: Callable[[], dict[str, dict[str, dict[str, int]]]]) -> None:
        self._read = read

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The counts; nothing where the spool cannot be read."""
        text = "Items by what became of them: received is the sum of the others."
        family = GaugeMetricFamily("limelight_ledger_items", text, labels=("signal", "state"))
        totals: dict[tuple[str, str], int] = {}
        with contextlib.suppress(Unavailable):
            for signals in self._read().values():
                for signal, states in signals.items():
                    for state, items in states.items():
                        totals[signal, state] = totals.get((signal, state), 0) + items
        for labels, items in sorted(totals.items()):
            family.add_metric(labels, items)
        yield family


def watch_process(started_ns: int, now_ns: Callable[[], int]) -> None:
    """Let the process' gauges be read at each scrape."""
    page_bytes = os.sysconf("SC_PAGE_SIZE")

    def resident_bytes() -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * page_bytes

    PROCESS_UPTIME.set_function(lambda: (now_ns() - started_ns) / 1e9)
    if Path("/proc/self/statm").exists():
        PROCESS_MEMORY_RSS.set_function(resident_bytes)


def sampled_spans() -> int:
    """Spans of samples since this process started."""
    return int(REGISTRY.get_sample_value("limelight_sampled_spans_total") or 0)


def render() -> bytes:
    """The registry in the Prometheus text format."""
    return generate_latest(REGISTRY)


class OncePerMinute(logging.Filter):
    """Lets a warning or error of one kind (logger and message template) pass once a minute, counting the rest."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether `record` is written; it gains the field `suppressed` where others were not."""
        if record.levelno < logging.WARNING:
            return True
        kind = (record.name, str(record.msg))
        last, suppressed = self._seen.get(kind, (record.created - _QUIET_S, 0))
        if record.created - last < _QUIET_S:
            self._seen[kind] = (last, suppressed + 1)
            return False
        self._seen[kind] = (record.created, 0)
        if suppressed:
            record.fields = {**getattr(record, "fields", {}), "suppressed": suppressed}
        return True


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ts, level, event, the request's id, the caller's `fields`, and any traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """The line for `record`."""
        line: dict[str, Any] = {
            "ts": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **({"request_id": request_id} if (request_id := REQUEST_ID.get()) else {}),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)
