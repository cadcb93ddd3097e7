"""OTLP requests, running services and an in-memory store for the ingest tests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from limelight_collector import pipeline
from limelight_collector.auth import SCOPES, Principal, authenticate
from limelight_collector.batch import Batch
from limelight_collector.enrich.cost import Prices
from limelight_collector.services import Services
from limelight_collector.settings import Settings
from limelight_collector.spool import Record, Spool
from limelight_collector.store import Rows

NOW = 1_795_000_000_000_000_000
"""The fixed clock, 2026-11-18, in nanoseconds."""
SECOND = 10**9
RETENTION = 30 * 86_400 * SECOND
TRACE = bytes(range(1, 17))


def any_value(value: Any) -> AnyValue:
    """A Python value as an AnyValue."""
    if value is None:
        return AnyValue()
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    if isinstance(value, bytes):
        return AnyValue(bytes_value=value)
    found = AnyValue()
    if isinstance(value, list):
        found.array_value.SetInParent()
        found.array_value.values.extend(any_value(item) for item in value)
    elif isinstance(value, dict):
        found.kvlist_value.SetInParent()
        found.kvlist_value.values.extend(pairs(value))
    else:
        found.string_value = value
    return found


def pairs(attributes: dict[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=key, value=any_value(value)) for key, value in attributes.items()]


def span(number: int = 1, said: dict[str, Any] | None = None, /, **given: Any) -> Span:
    """Span `number` of trace `TRACE`, one second long, with the attributes `said`; `given` overrides its fields."""
    fields: dict[str, Any] = {
        "trace_id": TRACE,
        "span_id": number.to_bytes(8, "big"),
        "name": "work",
        "start_time_unix_nano": NOW - 2 * SECOND,
        "end_time_unix_nano": NOW - SECOND,
        "attributes": pairs(said or {}),
        **given,
    }
    return Span(**fields)


def request(*spans: Span, resource: dict[str, Any] | None = None, scope: str = "") -> ExportTraceServiceRequest:
    """A request with one resource and one scope."""
    found = ExportTraceServiceRequest()
    resource_spans = found.resource_spans.add()
    resource_spans.resource.attributes.extend(pairs(resource or {}))
    scope_spans = resource_spans.scope_spans.add()
    scope_spans.scope.name = scope
    scope_spans.spans.extend(spans)
    return found


def logs(*records: dict[str, Any], trace_id: bytes = TRACE) -> ExportLogsServiceRequest:
    """A logs request with one record for each dict of attributes."""
    found = ExportLogsServiceRequest()
    for attributes in records:
        record = found.resource_logs.add().scope_logs.add().log_records.add()
        record.trace_id, record.span_id, record.time_unix_nano = trace_id, (1).to_bytes(8, "big"), NOW
        record.attributes.extend(pairs(attributes))
    return found


def metrics_request(
    *found: Metric, resource: dict[str, Any] | None = None, scope: str = ""
) -> ExportMetricsServiceRequest:
    """A metrics request with one resource and one scope."""
    whole = ExportMetricsServiceRequest()
    resource_metrics = whole.resource_metrics.add()
    resource_metrics.resource.attributes.extend(pairs(resource or {}))
    scope_metrics = resource_metrics.scope_metrics.add()
    scope_metrics.scope.name = scope
    scope_metrics.metrics.extend(found)
    return whole


def rows_of(payload: bytes, signal: str = "traces", project: str = "p") -> pipeline.Rows:
    """What the writer makes of a payload."""
    record = Record(1, project, signal, NOW, 1, payload)
    return pipeline.rows(record, RETENTION, PRICES.for_project(project))


PRICES = Prices()


def row(attributes: dict[str, Any], **given: Any) -> dict[str, Any]:
    """The row of one span with these attributes."""
    return rows_of(request(span(1, attributes, **given)).SerializeToString()).spans[0]


class MemoryStore:
    """A store that keeps rows as the reader would see them; `refuse` may raise for a batch before anything is kept."""

    def __init__(self, refuse: Callable[[Batch], None] = lambda _: None) -> None:
        self.refuse = refuse
        self.spans: dict[tuple[str, bytes, bytes], dict[str, Any]] = {}
        self.scores: dict[str, Any] = {}
        self.points: dict[tuple[str, str, int, int], dict[str, Any]] = {}
        self.logs: dict[tuple[str, bytes], dict[str, Any]] = {}
        self.inserts = 0
        self._lock = threading.Lock()

    def insert(self, batch: Batch) -> None:
        self.inserts += 1
        self.refuse(batch)
        with self._lock:
            for index in range(len(batch)):
                found = {name: values[index] for name, values in batch.columns.items()}
                self.spans[found["project_id"], found["trace_id"], found["span_id"]] = found
            self.scores.update({score.score_id: score for score in batch.scores})
            self.points.update({(r["project_id"], r["metric"], r["series_id"], r["time"]): r for r in batch.points})
            self.logs.update({(r["project_id"], r["log_id"]): r for r in batch.logs})

    def query(self, sql: str, parameters: Any = None, *, max_rows: int | None = None) -> Rows:
        """Knows of no earlier spans: the trace-level stage has tests on the real store."""
        return Rows(["count", "first", "last"], [(0, 0, 0)]) if "count()" in sql else Rows()

    def stream(self, sql: str, parameters: Any = None) -> Iterator[list[tuple[Any, ...]]]:
        """Nor of any trace."""
        return iter(())


KEYS = {
    "ingest-key": Principal("p", frozenset({"ingest"}), "k1"),
    "read-key": Principal("p", frozenset({"read"}), "k2"),
    "other-key": Principal("other", SCOPES, "k3"),
}
AUTH = {"authorization": "Bearer ingest-key"}


@contextmanager
def running(path: Path, *, spool: Spool | None = None, **settings: Any) -> Iterator[Services]:
    """Services over a real spool in `path`, with the keys of `KEYS`; store and control are not part of ingest."""
    spool = spool or Spool(path / "spool.db", max_bytes=settings.get("spool_max_bytes", 2**30), min_free_bytes=0)
    spool.start()
    try:
        yield Services(
            settings=Settings(data_dir=path, **settings),
            store=None,  # type: ignore[arg-type]
            control=None,  # type: ignore[arg-type]
            spool=spool,
            now_ns=lambda: NOW,
            authenticate=lambda header: authenticate(header, keys_required=True, find_key=KEYS.get),
            checks=dict,
            degraded=lambda: False,
        )
    finally:
        spool.stop()
