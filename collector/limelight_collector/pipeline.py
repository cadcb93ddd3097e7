"""The pipeline: what happens to telemetry, in order. Read this file first.

Before the acknowledgement (`accept`, a receiver's thread): validate -> spool. A 200 means: on disk, synced, and nothing
of it is dropped later. After it (`rows`, the writer's thread): decode -> normalise -> price -> flag; then one insert.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from limelight_collector import decode, metrics, normalise
from limelight_collector.batch import Flag, Score
from limelight_collector.enrich import flags
from limelight_collector.log_records import evaluations, log_rows
from limelight_collector.points import point_rows

if TYPE_CHECKING:
    from limelight_collector.auth import Principal
    from limelight_collector.services import Services
    from limelight_collector.spool import Record


@dataclass(frozen=True, slots=True)
class Accepted:
    """A valid request on its way to the disk: acknowledge once `durable` resolves; `rejected` items were left out."""

    spans: int
    rejected: int
    message: str
    durable: Future[bool] | None
    """None where there was nothing in it."""


@dataclass(slots=True)
class Rows:
    """What one spool record becomes: spans with their flags and scores, metric points, log records; as column dicts."""

    spans: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    flags: list[Flag] = field(default_factory=list[Flag])
    scores: list[Score] = field(default_factory=list[Score])
    points: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    logs: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])


def accept(
    services: Services,
    principal: Principal,
    signal: decode.Signal,
    payload: bytes,
    encoding: decode.Encoding,
    gzipped: bytes | None = None,
) -> Accepted:
    """Validate an inflated request, queue what can be stored; raises `Rejected`, fails `durable` with `Unavailable`.

    `gzipped` is the same request as it was sent, where it was sent so: it need not be compressed again.
    """
    valid = decode.validate(payload, encoding, signal)
    durable = None
    if valid.spans or valid.rejected:
        durable = services.spool.append(
            principal.project_id,
            signal,
            valid.payload,
            services.now_ns(),
            valid.spans,
            valid.rejected,
            gzipped=gzipped if valid.payload is payload else None,
        )
    return Accepted(valid.spans, valid.rejected, valid.message, durable)


def rows(record: Record, retention_ns: int, price: Callable[[dict[str, Any]], None]) -> Rows:
    """The stages after the spool for one record; `price` sets a row's cost columns."""
    found = Rows()
    request = decode.parse(record.payload, cast("decode.Signal", record.signal))
    if isinstance(request, ExportMetricsServiceRequest):
        found.points.extend(point_rows(request, record.project_id, record.received_ns, retention_ns))
        return found
    if isinstance(request, ExportLogsServiceRequest):
        found.logs.extend(log_rows(request, record.project_id, record.received_ns, retention_ns))
        found.scores.extend(normalise.log_scores(evaluations(request), record.project_id, record.received_ns))
        return found
    assert isinstance(request, ExportTraceServiceRequest)
    for resource_spans in request.resource_spans:
        source = normalise.read_resource(resource_spans.resource)
        for scope_spans in resource_spans.scope_spans:
            may_be_early = normalise.sends_early_copies(scope_spans.scope)
            for span in scope_spans.spans:
                if may_be_early and normalise.is_pending(span):
                    metrics.PENDING_SPANS.inc()
                    continue
                row = normalise.span_row(
                    source, scope_spans.scope, span, record.project_id, record.received_ns, retention_ns
                )
                price(row)
                found.spans.append(row)
                found.flags.extend(flags.detect(row, row.pop(normalise.OUTPUT_PARTS)))
                if row["events"]:
                    found.scores.extend(normalise.span_scores(span, record.project_id))
    return found
