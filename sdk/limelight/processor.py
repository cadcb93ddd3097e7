"""What the OpenTelemetry SDK tells us of spans: each gets the context's attributes at its start, its end queues it."""

from __future__ import annotations

from opentelemetry import context as otel_context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor

from limelight import identity, semconv
from limelight.export import Exporter, after_fork
from limelight.guard import quiet
from limelight.otlp import Score
from limelight.otlp_spans import attributes_of
from limelight.sampling import Held


class Processor(SpanProcessor):
    """Gives every span of its provider the current context's attributes and queues it when it ends."""

    def __init__(self, exporter: Exporter, *, keep_errors: bool = False, baggage: bool = False) -> None:
        self._exporter = exporter
        self._with_baggage = baggage
        self._held: Held | None = None
        """The spans of traces that are not sampled, where errors among them are wanted."""
        if keep_errors:
            self._held = Held(exporter.put)
            after_fork(self._held)

    def on_start(self, span: Span, parent_context: otel_context.Context | None = None) -> None:
        """Set session, user, tags and the like; model calls also get the conversation id."""
        with quiet("setting context attributes"):
            if not self._exporter.is_running:
                self._exporter.start()
            attributes = identity.attributes(parent_context, with_baggage=self._with_baggage)
            if attributes:
                session = attributes.get(semconv.SESSION_ID)
                if session is not None and semconv.OPERATION_NAME in (span.attributes or {}):
                    attributes[semconv.CONVERSATION_ID] = session
                span.set_attributes(attributes)
            if self._held is not None and not _is_sampled(span):
                self._held.started(span)

    def on_end(self, span: ReadableSpan) -> None:
        """Queue a sampled span, hold another."""
        with quiet("queueing a span"):
            if _is_sampled(span):
                self._exporter.put(span, _size(span))
            elif self._held is not None:
                self._held.ended(span, _size(span))

    def shutdown(self) -> None:
        """Nothing: the exporter is closed by the instance that made it, within its own time limit."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Flush the exporter."""
        return self._exporter.flush(timeout_millis / 1000)


def _is_sampled(span: ReadableSpan) -> bool:
    return span.context is not None and span.context.trace_flags.sampled


def _size(span: ReadableSpan) -> int:
    """About how many bytes a span holds: its strings and a flat fee for the rest."""
    values = attributes_of(span).values()
    size = 500 + 60 * len(values) + sum([len(value) for value in values if isinstance(value, str)])
    return size + 5_000 * len(span.events)


def score_size(score: Score) -> int:
    """About how many bytes a score holds."""
    return 500 + len(score.explanation or "")
