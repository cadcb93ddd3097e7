"""What every call to Triton shares: how its span starts, how its answers are read, and the trace context it carries."""

from __future__ import annotations

import functools
import importlib
import urllib.parse
from collections.abc import Callable, Mapping
from contextvars import ContextVar, Token
from typing import Any, cast

from opentelemetry import context as otel_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from limelight import call as calls
from limelight import semconv
from limelight.call import Call, Recorder, model_call, muted
from limelight.guard import quiet
from limelight.providers import tritonclient_fields as fields
from limelight.providers import tritonclient_tensors as tensors
from limelight.values import is_a, word

LIBRARY = "tritonclient"
_INFER = "infer"
_TRACEPARENT = "traceparent"
_PROPAGATOR = TraceContextTextMapPropagator()


class Responses(fields.Answers):
    """Answers read from gRPC messages, or from a result of the HTTP client."""

    def add(self, chunk: Any) -> bool:
        """Take a `ModelInferResponse`; True where it carries content."""
        self.head(chunk.model_name, chunk.model_version)
        return self.take(tensors.of_response(chunk, self.names), has_outputs=len(chunk.outputs) > 0)

    def add_result(self, result: Any) -> None:
        """Take an `InferResult` of the HTTP client."""
        answer = result.get_response()
        self.head(answer.get("model_name"), answer.get("model_version"))
        self.take(tensors.of_result(result, self.names), has_outputs=True)


def responses_of(call: Call) -> Responses:
    """The reader that `begin` gave a call."""
    return cast("Responses", cast("Any", call.on_stop).__self__)


def begin(
    recorder: Recorder,
    model: str | None,
    values: fields.Values,
    attributes: dict[str, Any],
    shapes: Callable[[], list[dict[str, Any]]],
) -> Call:
    """Start the span of one request; `shapes` describes tensors where there is no text to show."""
    names = fields.names_of(recorder.triton_tensors)
    is_language = fields.is_language(values, names)
    known = {**_request_fields(values, names), **attributes}
    if is_language:
        call = model_call(recorder, fields.OPERATION, model, known)
    else:
        call = model_call(recorder, _INFER, model, {**known, semconv.OPERATION_NAME: None})
        call.request = None  # what is no language model's has no place in its metrics
    _describe(call, names, model, values, is_language, shapes)
    return call


def begin_again(
    call: Call,
    recorder: Recorder,
    model: str,
    values: fields.Values,
    attributes: dict[str, Any],
    shapes: Callable[[], list[dict[str, Any]]],
) -> None:
    """Tell a call, which had to start before its request was known, what it is."""
    names = fields.names_of(recorder.triton_tensors)
    is_language = fields.is_language(values, names)
    operation = fields.OPERATION if is_language else None
    call.span.update_name(f"{operation or _INFER} {model}")
    known = {semconv.OPERATION_NAME: operation, semconv.REQUEST_MODEL: model}
    known = {**_request_fields(values, names), **known, **attributes}
    call.request = known if is_language else None
    for name, value in known.items():
        call.set(name, value)
    _describe(call, names, model, values, is_language, shapes)


def _request_fields(values: fields.Values, names: fields.Names) -> dict[str, Any]:
    return {**fields.request_fields(values, names), semconv.PROVIDER_NAME: fields.PROVIDER}


def _describe(
    call: Call,
    names: fields.Names,
    model: str | None,
    values: fields.Values,
    is_language: bool,
    shapes: Callable[[], list[dict[str, Any]]],
) -> None:
    call.on_stop = Responses(names, call.records_content, values, model, language=is_language).fill
    if is_language and call.records_content:
        call.set_messages(semconv.INPUT_MESSAGES, fields.input_messages(values, names))
    elif call.records_content:
        call.set_value(semconv.LIMELIGHT_INPUT, shapes() or None, as_json=True)


def begin_given(recorder: Recorder, client: Any, given: Mapping[str, Any], *, is_stream: bool) -> Call:
    """Start the span of a request made with `InferInput`s: `given` are the method's arguments by name."""
    names = fields.names_of(recorder.triton_tensors)
    inputs = given.get("inputs")
    parameters = tensors.of_parameters(given.get("parameters"), names)
    values = fields.with_sampling({**parameters, **tensors.of_inputs(inputs, names)}, names)
    attributes = {
        **server_of(client),
        semconv.REQUEST_ID: word(given.get("request_id")) or None,
        semconv.TRITON_MODEL_VERSION: word(given.get("model_version")) or None,
    }
    if is_stream:
        attributes[semconv.REQUEST_STREAM] = True
    return begin(
        recorder,
        word(given.get("model_name")),
        values,
        attributes,
        functools.partial(tensors.shapes_of_inputs, inputs),
    )


def server_of(client: Any) -> dict[str, Any]:
    """Address and port of a client's server; unknown ones are left out."""
    url = getattr(client, "_parsed_url", None)
    if url is not None:
        return {semconv.SERVER_ADDRESS: word(url.host), semconv.SERVER_PORT: url.port}
    base = getattr(client, "_url", None)
    if type(base) is str:
        return _address(urllib.parse.urlsplit(base).netloc, 443 if base.startswith("https:") else 80)
    inner: Any = getattr(getattr(client, "_channel", None), "_channel", None)
    target = getattr(inner, "target", None)
    if callable(target):  # a method of the synchronous channel, an attribute of the asynchronous one
        target = target()
    return _channel_address(target) if isinstance(target, bytes) else {}


@functools.lru_cache(maxsize=256)
def _channel_address(target: bytes) -> dict[str, Any]:
    """Of a channel's target: `dns:///host:port`, `host:port`, `ipv4:host:port`; a socket's path has no address."""
    text = target.decode("utf-8", "replace")
    if text.startswith(("unix:", "unix-abstract:")):
        return {}
    return _address(text.rpartition("/")[2].removeprefix("dns:").removeprefix("ipv4:").removeprefix("ipv6:"), 443)


def _address(netloc: str, default_port: int) -> dict[str, Any]:
    try:
        parts = urllib.parse.urlsplit(f"//{netloc}")
        return {semconv.SERVER_ADDRESS: parts.hostname, semconv.SERVER_PORT: parts.port or default_port}
    except ValueError:
        return {}


def server_exception(message: str) -> Exception:
    """The exception the client makes of an error inside a stream."""
    return importlib.import_module("tritonclient.utils").InferenceServerException(msg=message)


def cancelled_exception() -> Exception:
    """The exception the client makes of a call its caller cancelled."""
    return importlib.import_module("tritonclient.grpc._utils").get_cancelled_error()


def as_server_exception(error: Any) -> BaseException:
    """The exception the client makes of a gRPC error: what the user sees."""
    client = importlib.import_module("tritonclient.grpc._utils")
    if "CANCELLED" in str(error.code()):
        return client.get_cancelled_error(error.details())
    return client.get_error_grpc(error)


class Opening:
    """A stream being opened: the context its headers carry while the client's method runs, None afterwards."""

    def __init__(self, context: otel_context.Context, requested: Callable[[Any], None] | None = None) -> None:
        self.context: otel_context.Context | None = context
        self.requested = requested
        """Told of each `ModelInferRequest` the client makes for the stream."""


OPENING: ContextVar[Opening | None] = ContextVar("limelight-triton-opening", default=None)


def announce(opening: Opening) -> Token[Opening | None]:
    """Let what the client's method calls, and the task it starts, know of the stream being opened."""
    return OPENING.set(opening)


def opened(token: Token[Opening | None], opening: Opening) -> None:
    """The method has returned: nothing more is carried for it. A task it started goes on knowing the stream."""
    opening.context = None
    OPENING.reset(token)


def _context_to_carry() -> otel_context.Context | None:
    """The context of the call that is being made; for other requests (health, statistics) only where all carry it."""
    recorder = calls.audible()
    if recorder is None or recorder.propagate == "none":
        return None
    if recorder.propagate == "all" or LIBRARY in muted():
        return otel_context.get_current()
    opening = OPENING.get()
    return None if opening is None else opening.context


def carried(headers: Any, context: otel_context.Context) -> dict[str, Any] | None:
    """A copy of the headers with the trace context; None where the caller's own has it, or there is none to carry."""
    if not is_a(headers, dict):
        return None
    own = cast("dict[Any, Any]", dict.copy(headers))
    if any((word(name) or "").lower() == _TRACEPARENT for name in own):
        return None
    carrier: dict[str, Any] = {}
    _PROPAGATOR.inject(carrier, context)
    return {**carrier, **own} if carrier else None


def wrap_plugin(original: Callable[..., Any]) -> Callable[..., Any]:
    """`_call_plugin`, the last step before any request: the user's plugin runs first and may set its own headers."""

    @functools.wraps(original)
    def called(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        with quiet("carrying the trace context"):
            request = args[1]
            context = _context_to_carry()
            headers = None if context is None else carried(request.headers, context)
            if headers is not None:
                request.headers = headers
        return result

    return called
