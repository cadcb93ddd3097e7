"""Sampling by trace id that keeps errors: other traces are recorded too, held, and sent if a span in them fails.

The decision by id is OpenTelemetry's `TraceIdRatioBased`: services with one rate agree, and `traceparent` tells the
others. A held trace is one process's share of it: the spans below the first span that started here (its local root).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult, TraceIdRatioBased
from opentelemetry.trace import Link, SpanKind, StatusCode, TraceState
from opentelemetry.util.types import Attributes

from limelight import semconv

MAX_SPANS, MAX_BYTES = 5_000, 32 * 2**20
"""Most that is held of all traces together; beyond it the oldest trace loses what it holds."""
_MAX_OPEN, _MAX_KEPT = 20_000, 1_000


class ByTraceId(Sampler):
    """Samples the share `rate` of traces, marked with it, and records the others without sampling them."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._bound = TraceIdRatioBased.get_bound_for_rate(rate)

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """The decision for a span: by its trace id alone, whatever a foreign parent decided."""
        del name, kind, links, trace_state
        parent = trace.get_current_span(parent_context).get_span_context()
        state = parent.trace_state if parent.is_valid else None
        if trace_id & TraceIdRatioBased.TRACE_ID_LIMIT < self._bound:
            marked = {**(attributes or {}), semconv.LIMELIGHT_SAMPLE_RATE: self._rate}
            return SamplingResult(Decision.RECORD_AND_SAMPLE, marked, state)
        return SamplingResult(Decision.RECORD_ONLY, attributes, state)

    def get_description(self) -> str:
        """As OpenTelemetry wants it."""
        return f"LimelightByTraceId{{{self._rate}}}"


class _Share:
    """One trace's spans in this process that are neither sent nor dropped yet."""

    __slots__ = ("held", "is_kept", "is_over", "root_id")

    def __init__(self, root_id: int, is_kept: bool) -> None:
        self.root_id = root_id
        self.held: list[tuple[ReadableSpan, int]] = []
        self.is_kept = is_kept
        """A span failed: what was held is sent, and so is what still ends."""
        self.is_over = False
        """The local root ended well: what still ends is dropped, unless it failed."""


class Held:
    """The spans of traces that are not sampled. `send(span, size)` gets those of a trace in which one failed."""

    def __init__(
        self, send: Callable[[ReadableSpan, int], None], max_spans: int = MAX_SPANS, max_bytes: int = MAX_BYTES
    ) -> None:
        self._send = send
        self._max_spans, self._max_bytes = max_spans, max_bytes
        self.after_fork()

    def after_fork(self) -> None:
        """Hold nothing: the parent's traces are the parent's."""
        self._lock = threading.RLock()  # a collection in here may end a span
        self._open: dict[int, _Share] = {}
        self._holding: dict[int, _Share] = {}
        self._kept: dict[int, None] = {}
        self._spans = self._bytes = 0

    def started(self, span: ReadableSpan) -> None:
        """Note a span that is not sampled: it belongs to its parent's share, or is the root of a new one."""
        context, parent = span.context, span.parent
        if context is None:
            return
        with self._lock:
            share = None if parent is None else self._open.get(parent.span_id)
            self._open[context.span_id] = share or _Share(context.span_id, context.trace_id in self._kept)
            if len(self._open) > _MAX_OPEN:  # spans that are never ended
                self._open.pop(next(iter(self._open)))

    def ended(self, span: ReadableSpan, size: int) -> None:
        """Hold the span, or send or drop it with all that is held of its trace."""
        context = span.context
        if context is None:
            return
        with self._lock:
            share = self._open.pop(context.span_id, None) or _Share(context.span_id, context.trace_id in self._kept)
            if span.status.status_code is StatusCode.ERROR and not share.is_kept:
                share.is_kept = True
                self._remember(context.trace_id)
                for other, other_size in self._let_go(share):
                    self._send(_marked(other), other_size)
            if share.is_kept:
                self._send(_marked(span), size)
            elif context.span_id == share.root_id:
                share.is_over = True
                self._let_go(share)
            elif not share.is_over:
                self._hold(share, span, size)

    def _remember(self, trace_id: int) -> None:
        """Spans of this trace that start after its root ended are sent as well."""
        self._kept[trace_id] = None
        if len(self._kept) > _MAX_KEPT:
            self._kept.pop(next(iter(self._kept)))

    def _hold(self, share: _Share, span: ReadableSpan, size: int) -> None:
        share.held.append((span, size))
        self._holding[share.root_id] = share
        self._spans += 1
        self._bytes += size
        while self._holding and (self._spans > self._max_spans or self._bytes > self._max_bytes):
            self._let_go(next(iter(self._holding.values())))

    def _let_go(self, share: _Share) -> list[tuple[ReadableSpan, int]]:
        held, share.held = share.held, []
        self._holding.pop(share.root_id, None)
        self._spans -= len(held)
        self._bytes -= sum(size for _, size in held)
        return held


def _marked(span: ReadableSpan) -> ReadableSpan:
    """The span with the reason it is sent; an ended span cannot be changed."""
    return ReadableSpan(
        name=span.name,
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes={**(span.attributes or {}), semconv.LIMELIGHT_SAMPLED_FOR: "error"},
        events=span.events,
        links=span.links,
        kind=span.kind,
        status=span.status,
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )
