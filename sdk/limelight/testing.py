"""Limelight in tests: spans in memory, a fixed clock and ids, and a pytest fixture.

    def test_answer(limelight_spans):
        answer("hello")
        assert limelight_spans.named("chat gpt-4o")[0].attributes["gen_ai.usage.output_tokens"] == 3

The plugin is loaded by every pytest run of an environment that has Limelight, so importing it loads nothing heavy.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.id_generator import IdGenerator

    from limelight.otlp import Answer

START_NS = 1_700_000_000_000_000_000
"""What the fixed clock shows at first: nanoseconds since 1970. Each look at it is one millisecond later."""


@dataclass(frozen=True, slots=True)
class RecordedSpan:
    """One ended span as it was sent. Ids are lower-case hex, times nanoseconds; `events` are (name, attributes)."""

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    start_ns: int
    end_ns: int
    status: str
    status_message: str
    attributes: dict[str, Any]
    events: list[tuple[str, dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class RecordedPoint:
    """One point of a metric. A histogram has `count` values that sum up to `value`; `buckets` maps each upper bound in
    use (inf above the last) to its count. A plain sum has its `value` alone."""

    metric: str
    unit: str
    attributes: dict[str, Any]
    value: float
    count: int
    buckets: dict[float, int]


@dataclass(slots=True)
class Recorded:
    """What a program sent, decoded from its OTLP bodies; reading it flushes first."""

    bodies: list[tuple[str, bytes]] = field(default_factory=list[tuple[str, bytes]])
    resource: dict[str, Any] = field(default_factory=dict[str, Any])

    def spans(self) -> list[RecordedSpan]:
        """Every span ended so far, in the order they ended."""
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        found: list[RecordedSpan] = []
        for body in self._sent("/v1/traces"):
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                self.resource = attributes_of(resource.resource.attributes)
                found += [_recorded(span) for scope in resource.scope_spans for span in scope.spans]
        return sorted(found, key=lambda span: span.end_ns)

    def named(self, name: str) -> list[RecordedSpan]:
        """The spans of one name."""
        return [span for span in self.spans() if span.name == name]

    def only(self) -> RecordedSpan:
        """The one span there is; fails where there are more or none."""
        (span,) = self.spans()
        return span

    def scores(self) -> list[dict[str, Any]]:
        """Every score: its attributes, and `event`, `trace_id` and `span_id`."""
        from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

        return [
            _judgement(record)
            for body in self._sent("/v1/logs")
            for resource in ExportLogsServiceRequest.FromString(body).resource_logs
            for scope in resource.scope_logs
            for record in scope.log_records
        ]

    def metrics(self) -> list[RecordedPoint]:
        """The metrics so far, one point for each set of attributes: sums since the recording began."""
        from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

        bodies = self._sent("/v1/metrics")
        if not bodies:
            return []
        return [
            _point(metric, point)
            for resource in ExportMetricsServiceRequest.FromString(bodies[-1]).resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            for point in (metric.histogram.data_points or metric.sum.data_points)
        ]

    def _sent(self, path: str) -> list[bytes]:
        import limelight

        limelight.flush(10)
        return [body for sent_to, body in self.bodies if sent_to == path]


class _Memory:
    """Takes bodies as a collector would, and keeps them."""

    def __init__(self, recorded: Recorded) -> None:
        self._recorded = recorded

    def post(self, path: str, body: bytes, timeout_s: float) -> Answer:
        from limelight.otlp import Answer

        del timeout_s
        self._recorded.bodies.append((path, body))
        return Answer("ok")

    def close(self) -> None:
        return None


@contextlib.contextmanager
def recording(**settings: Any) -> Generator[Recorded]:
    """Run the SDK with `settings` of `init`, in memory, with a fixed clock and ids; then it is off and unpatched."""
    import limelight
    from limelight.config import resolve

    recorded = Recorded()
    ticks = itertools.count(START_NS, 1_000_000)
    instance = limelight.init.__self__
    instance.start(
        resolve(settings, {}),
        sender=lambda: _Memory(recorded),
        ids=_ids(),
        wall_ns=ticks.__next__,
        monotonic_ns=ticks.__next__,
        content_ns=lambda: 0,
    )
    try:
        yield recorded
    finally:
        limelight.uninstrument()
        limelight.shutdown(10)


@pytest.fixture
def limelight_spans() -> Iterator[Recorded]:
    """The spans the test's code sends, with every known library instrumented."""
    with recording() as recorded:
        yield recorded


def _ids() -> IdGenerator:
    from opentelemetry.sdk.trace.id_generator import IdGenerator

    class Counted(IdGenerator):
        """1, 2, 3 … for traces and for spans."""

        def __init__(self) -> None:
            self._traces, self._spans = itertools.count(1), itertools.count(1)

        def generate_trace_id(self) -> int:
            return next(self._traces)

        def generate_span_id(self) -> int:
            return next(self._spans)

    return Counted()


def _recorded(span: Any) -> RecordedSpan:
    return RecordedSpan(
        name=span.name,
        kind=("unset", "internal", "server", "client", "producer", "consumer")[span.kind],
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        status=("unset", "ok", "error")[span.status.code],
        status_message=span.status.message,
        attributes=attributes_of(span.attributes),
        events=[(event.name, attributes_of(event.attributes)) for event in span.events],
    )


def _point(metric: Any, point: Any) -> RecordedPoint:
    attributes = attributes_of(point.attributes)
    if metric.WhichOneof("data") == "sum":
        return RecordedPoint(metric.name, metric.unit, attributes, point.as_int, 0, {})
    bounds = [*point.explicit_bounds, float("inf")]
    buckets = {bound: count for bound, count in zip(bounds, point.bucket_counts, strict=True) if count}
    return RecordedPoint(metric.name, metric.unit, attributes, point.sum, point.count, buckets)


def _judgement(record: Any) -> dict[str, Any]:
    attributes = attributes_of(record.attributes)
    older = attributes.pop("event.name", "")  # where the installed protocol has no event names
    ids = {"trace_id": record.trace_id.hex(), "span_id": record.span_id.hex()}
    return {**attributes, "event": getattr(record, "event_name", older), **ids}


def attributes_of(pairs: Any) -> dict[str, Any]:
    """OTLP attributes as a dict."""
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    return None if kind is None else getattr(value, kind)
