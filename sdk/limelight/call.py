"""Call: one observed operation and its one OpenTelemetry span. Start, add fields, then stop or fail exactly once.

The span is never left current across a `yield`; a provider makes it current only around the user's own call. Fields are
collected in a dict and written in one go, which costs a third of setting them one by one.
"""

from __future__ import annotations

import threading
from array import array
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer

from limelight import errors, semconv
from limelight.content import Content, RedactFailed
from limelight.guard import quiet, report, warn_once
from limelight.metrics import Metrics

_STACK_CHARS = 4096
_NAME_CHARS = 256
_READING, _RECORDING = quiet("reading a stream's chunks"), quiet("recording an error")
_COUNTING, _WRITING = quiet("counting a call"), quiet("writing attributes")


@dataclass(slots=True)
class Recorder:
    """What calls need of the running SDK: where spans go, what content may be kept, the clocks (nanoseconds)."""

    tracer: Tracer
    content: Content | None
    """None where content is not captured."""
    ask_stream_usage: bool
    wall_ns: Callable[[], int]
    monotonic_ns: Callable[[], int]
    metrics: Metrics | None = None
    error_text: Content = field(default_factory=Content)
    """What error messages pass, also where content is not captured."""
    triton_tensors: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """The setting of that name: what else Triton models name their tensors."""
    http_hosts: tuple[str, ...] | None = None
    """The setting of that name: whose plain HTTP calls are traced; None: any host's."""
    baggage: bool = False
    """The setting of that name: whether session, user, tags and prompt travel with the trace."""
    propagate: str = "auto"
    """The setting of that name: which outgoing requests carry the trace."""


class _Begun(threading.local):
    """The id of the call that this thread started last: no more, so that nothing is kept alive."""

    call: int = 0


_current: Recorder | None = None
_begun = _Begun()
_open: dict[int, Call] = {}
_abandoned: deque[Call] = deque()
_reaping = threading.RLock()  # a signal handler may flush while this thread reaps


def install(recorder: Recorder | None) -> None:
    """Make `recorder` the one all patches and decorators use; None switches them to calling through."""
    global _current
    _current = recorder


def installed() -> Recorder | None:
    """The running recorder, or None before `init`, after `shutdown` and when disabled."""
    return _current


HTTP = frozenset({"httpx", "requests", "aiohttp"})
"""The HTTP clients that providers stand on: muted inside a provider's own call."""
_MUTED = otel_context.create_key("limelight-muted")


def audible() -> Recorder | None:
    """The recorder, or None also where this context's instrumentation is suppressed (our own requests)."""
    recorder = _current
    if recorder is None or otel_context.get_value(otel_context._SUPPRESS_INSTRUMENTATION_KEY):  # pyright: ignore[reportPrivateUsage]  # noqa: SLF001  the API has no public name for it
        return None
    return recorder


def active(library: str) -> Recorder | None:
    """The recorder, or None also where this context's instrumentation is suppressed, or `library`'s muted."""
    recorder = _current
    if recorder is None:
        return None
    context = otel_context.get_current()  # once: this runs for every call of every library
    if context.get(otel_context._SUPPRESS_INSTRUMENTATION_KEY):  # pyright: ignore[reportPrivateUsage]  # noqa: SLF001
        return None
    names: Any = context.get(_MUTED)
    return None if names and library in names else recorder


def muted() -> frozenset[str]:
    """The libraries whose calls, in this context, are part of an outer call of ours."""
    names: Any = otel_context.get_value(_MUTED)
    return names or frozenset()


def begin(start: Callable[..., Call | None], *arguments: Any) -> Call | None:
    """What `start` starts. Where it fails after that, on what it was about to read, the span that is there is kept."""
    _begun.call = 0
    try:
        return start(*arguments)
    except Exception as error:
        report("reading a request", error)
        return _open.get(_begun.call)


class Call:
    """One operation under observation; every method may be called after the end and then does nothing."""

    __slots__ = (
        "_fields",
        "_monotonic_ns",
        "_previous",
        "_recorder",
        "_start_ns",
        "asked",
        "clock_ns",
        "gaps_ns",
        "last_ns",
        "on_stop",
        "records_content",
        "request",
        "span",
    )

    def __init__(self, recorder: Recorder, span: Span, start_ns: int, monotonic_ns: int) -> None:
        self._recorder = recorder
        self._start_ns = start_ns
        self.clock_ns = recorder.monotonic_ns
        self._monotonic_ns = self.last_ns = monotonic_ns
        self._fields: dict[str, Any] = {}
        self._previous: otel_context.Context | None = None
        self.span = span
        self.records_content = recorder.content is not None and span.is_recording()
        """Whether prompts and answers are wanted: capture is on and this span is sampled."""
        self.gaps_ns: array[int] | None = None
        """The times between chunks from the first that carried content, where they are counted."""
        self.request: dict[str, Any] | None = None
        """The attributes a model request started with: its metrics' dimensions; None for what is no model request."""
        self.asked: Any = None
        """What the provider that started the call wants to know again when its answer comes."""
        self.on_stop: Callable[[Call], None] | None = None
        """Writes what is known so far (a stream's chunks) just before the span ends."""
        _open[id(self)] = self
        _begun.call = id(self)

    @classmethod
    def start(
        cls,
        recorder: Recorder,
        name: str,
        attributes: dict[str, Any],
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        start_ns: int | None = None,
    ) -> Call:
        """Start a span as a child of the current one, now or at the given wall time; None attributes are left out."""
        start_ns = recorder.wall_ns() if start_ns is None else start_ns
        monotonic_ns = recorder.monotonic_ns()  # beside the wall clock: what starting a span costs is part of it
        known = {key: value for key, value in attributes.items() if value is not None}
        span = recorder.tracer.start_span(name, kind=kind, attributes=known, start_time=start_ns)
        return cls(recorder, span, start_ns, monotonic_ns)

    def set(self, name: str, value: Any) -> None:
        """Set one attribute; None is "unknown" and sets nothing."""
        if value is not None:
            self._fields[name] = value

    def set_messages(self, name: str, messages: list[dict[str, Any]]) -> None:
        """Set messages or parts as JSON where content is captured; an empty list sets nothing."""
        if messages:
            self._set_content(name, Content.messages, messages)

    def set_value(self, name: str, value: Any, *, as_json: bool = False) -> None:
        """Set captured text or JSON of any value; None sets nothing."""
        if value is not None:
            self._set_content(name, Content.json if as_json else Content.value, value)

    def _set_content(self, name: str, serialise: Callable[[Content, Any], str], value: Any) -> None:
        content = self._recorder.content
        if content is None or not self.records_content:
            return
        try:
            self._fields[name] = serialise(content, value)
        except RedactFailed as error:
            warn_once("redact", "redact failed (%s): this content is dropped, its span is kept", error)
            self._fields[semconv.LIMELIGHT_CONTENT_DROPPED] = "redact_failed"

    def touch(self) -> None:
        """Note that the operation was alive just now: an abandoned stream ends at its last chunk."""
        now_ns = self._recorder.monotonic_ns()
        if self.gaps_ns is not None:
            self.gaps_ns.append(now_ns - self.last_ns)
        self.last_ns = now_ns

    def first_chunk(self) -> None:
        """Note the first content of a stream: time to first chunk, from sending, in seconds."""
        self._fields[semconv.RESPONSE_TIME_TO_FIRST_CHUNK] = (self._recorder.monotonic_ns() - self._monotonic_ns) / 1e9
        if self.request is not None and self._recorder.metrics is not None:
            self.gaps_ns = array("q")

    def enter(self, mutes: frozenset[str] = frozenset()) -> None:
        """Make the span current, and the libraries `mutes` silent, for the code that runs until `leave`."""
        self._previous = previous = otel_context.get_current()
        if mutes:
            outer: Any = previous.get(_MUTED)
            previous = otel_context.Context({**previous, _MUTED: mutes | outer if outer else mutes})
        otel_context.attach(trace.set_span_in_context(self.span, previous))

    def leave(self) -> None:
        """Restore what was current; nothing where another context runs now (a task closed elsewhere)."""
        # the context is set back, not detached by token: a token may belong to another context and would raise
        if self._previous is not None and trace.get_current_span() is self.span:
            otel_context.attach(self._previous)
        self._previous = None

    @property
    def recorder(self) -> Recorder:
        """The recorder that the call was started under."""
        return self._recorder

    @property
    def start_ns(self) -> int:
        """When the operation began: wall time, nanoseconds."""
        return self._start_ns

    def stop(self, *, at_last_sign: bool = False, end_ns: int | None = None) -> None:
        """End the span now; at the last `touch`, or at the wall time `end_ns` that an engine tells."""
        if end_ns is None:
            self._end(None, self._wall(self.last_ns if at_last_sign else None))
        else:
            self._end(None, end_ns)

    def fail(self, error: BaseException) -> None:
        """End the span as failed: status, `error.type` (the full class name) and an exception event."""
        self._end(error, self._wall(None))

    def _wall(self, monotonic_ns: int | None) -> int:
        """Wall time of a monotonic time, or of now: as the monotonic clock has run since the start."""
        return self._start_ns + (monotonic_ns or self._recorder.monotonic_ns()) - self._monotonic_ns

    def refuse(self, error_type: str, message: str) -> None:
        """Mark the span as failed without an exception (a response that says it failed); the span stays open."""
        self._fields[semconv.ERROR_TYPE] = error_type
        self.span.set_status(Status(StatusCode.ERROR, _clean(self._recorder, message, self._fields)))

    def _end(self, error: BaseException | None, end_ns: int) -> None:
        if _open.pop(id(self), None) is None:  # the one gate: popping is atomic, so threads and the collector agree
            return
        try:
            if self.on_stop is not None:
                with _READING:
                    self.on_stop(self)
            if error is not None:
                with _RECORDING:
                    self._fields.update(record_error(self.span, self._recorder, error, end_ns))
            if self.request is not None and self._recorder.metrics is not None:
                with _COUNTING:
                    self._recorder.metrics.record(
                        self.request, self._fields, (end_ns - self._start_ns) / 1e9, self.gaps_ns
                    )
            with _WRITING:
                self.span.set_attributes(self._fields)
        finally:
            self.span.end(end_ns)


def record_error(span: Span, recorder: Recorder, error: BaseException, at_ns: int | None = None) -> dict[str, Any]:
    """Give a span the status and the event of an exception; the attributes to set with them are returned."""
    name = errors.class_name(error)
    fields: dict[str, Any] = {semconv.ERROR_TYPE: name}
    message = _clean(recorder, errors.message(error), fields)
    # cut only after it is clean: half a secret is none that a redactor knows
    stack = _clean(recorder, errors.stack(error), fields)[-_STACK_CHARS:]
    span.set_status(Status(StatusCode.ERROR, message))
    attributes = {
        semconv.EXCEPTION_TYPE: name,
        semconv.EXCEPTION_MESSAGE: message,
        semconv.EXCEPTION_STACKTRACE: stack,
    }
    span.add_event("exception", attributes, timestamp=at_ns)
    return fields


def _clean(recorder: Recorder, text: str, fields: dict[str, Any]) -> str:
    """Error text may quote a prompt: it passes `redact` like content, and is dropped where that fails."""
    try:
        return recorder.error_text.text(text)
    except RedactFailed:
        fields[semconv.LIMELIGHT_CONTENT_DROPPED] = "redact_failed"
        return ""


def model_call(
    recorder: Recorder,
    operation: str,
    model: str | None,
    attributes: dict[str, Any],
    *,
    remote: bool = True,
    start_ns: int | None = None,
) -> Call:
    """Start the span of a model request: `{operation} {model}`, CLIENT where it leaves the process."""
    kind = SpanKind.CLIENT if remote else SpanKind.INTERNAL
    name = f"{operation} {model[:_NAME_CHARS]}" if model else operation
    attributes = {
        semconv.OPERATION_NAME: operation,
        semconv.REQUEST_MODEL: model,
        semconv.LIMELIGHT_NESTED_IN: _nested_in(),
        **attributes,
    }
    call = Call.start(recorder, name, attributes, kind=kind, start_ns=start_ns)
    call.request = attributes
    return call


_INFERENCE = frozenset({"chat", "text_completion", "generate_content", "embeddings"})


def _nested_in() -> str | None:
    """Scope name of another vendor's span of this very call, where that is the current span."""
    span: Any = trace.get_current_span()
    if span is trace.INVALID_SPAN:
        return None
    with quiet("looking for another vendor's span"):
        scope = getattr(span, "instrumentation_scope", None)
        if scope is None or scope.name == semconv.SCOPE_NAME or not span.is_recording():
            return None
        attributes = span.attributes or {}
        is_inference = (
            attributes.get(semconv.OPERATION_NAME) in _INFERENCE
            or attributes.get("openinference.span.kind") in {"LLM", "EMBEDDING"}
            or "llm.request.type" in attributes  # OpenLLMetry
        )
        return str(scope.name) if is_inference else None
    return None


def abandon(call: Call) -> None:
    """Hand over a call nobody will end (its stream was collected). Takes no lock: it may run inside a collection."""
    _abandoned.append(call)


def reap() -> None:
    """End abandoned calls at their last sign of life; the export worker and `flush` do this."""
    with _reaping:  # so that a `flush` does not overtake the worker, which may be about to end one
        while _abandoned:
            with quiet("ending an abandoned stream"):
                _abandoned.popleft().stop(at_last_sign=True)


def stop_all() -> None:
    """End every call still open: the process is leaving."""
    reap()
    for call in list(_open.values()):
        with quiet("ending an open span"):
            call.stop()


def forget_all() -> None:
    """Drop every open call without a trace: in a forked child they are the parent's."""
    global _reaping
    _open.clear()
    _abandoned.clear()
    _reaping = threading.RLock()
