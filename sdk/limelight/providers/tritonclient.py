"""Triton's client (2.40 to 2.73): inference over HTTP and gRPC, synchronous, asynchronous and streamed.

Every inference is a span: `text_completion {model}` where text or token tensors are seen, else `infer {model}`. The
server's own spans hang below it: the trace context goes into a copy of the headers, after the user's own plugin.
"""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import Callable
from contextvars import ContextVar
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from opentelemetry import context as otel_context
from opentelemetry import trace

from limelight.around import Operation, wrap
from limelight.call import HTTP, Call, Recorder, abandon
from limelight.guard import quiet
from limelight.providers import tritonclient_calls as common
from limelight.providers import tritonclient_streams as streams

if TYPE_CHECKING:
    from limelight.patch import Patches

_MUTES = HTTP | {common.LIBRARY}
"""The client's own name too: that is how `wrap_plugin` knows it is inside a call of ours."""
_begun: ContextVar[tuple[Call, bool] | None] = ContextVar("limelight-triton-begun", default=None)
"""The call just started, and whether its headers came by position: for a request that leaves from another greenlet."""


def _start(
    names: tuple[str, ...], recorder: Recorder, client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Call:
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    return common.begin_given(recorder, client, given, is_stream=False)


def _start_elsewhere(
    names: tuple[str, ...], recorder: Recorder, client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Call:
    """As `_start`, and leaves the call for `_carrying_headers`."""
    call = _start(names, recorder, client, args, kwargs)
    _begun.set((call, "headers" in names[: len(args)]))
    return call


def _copied_headers(recorder: Recorder, _client: Any, kwargs: dict[str, Any]) -> dict[str, Any] | None:
    """The HTTP client writes into the headers it is given; a copy keeps the caller's as they are."""
    headers: Any = kwargs.get("headers")
    return {**kwargs, "headers": {**headers}} if type(headers) is dict and recorder.propagate != "none" else None


def _carrying_headers(recorder: Recorder, client: Any, kwargs: dict[str, Any]) -> dict[str, Any] | None:
    """For `async_infer`, which sends from a greenlet with a context of its own."""
    begun = _begun.get()
    _begun.set(None)
    if begun is None or begun[1]:
        return None
    if recorder.propagate == "none":
        return _copied_headers(recorder, client, kwargs)
    context = trace.set_span_in_context(begun[0].span, otel_context.get_current())
    given = kwargs.get("headers")
    headers = common.carried({} if given is None else given, context)
    return _copied_headers(recorder, client, kwargs) if headers is None else {**kwargs, "headers": headers}


def _read_http(call: Call, result: Any) -> None:
    common.responses_of(call).add_result(result)


def _read_grpc(call: Call, result: Any) -> None:
    common.responses_of(call).add(result.get_response())


def _finish(read: Callable[[Call, Any], None], call: Call, result: Any, _kwargs: Any, _asked: bool) -> None:
    with quiet("reading a response"):
        read(call, result)
    call.stop()


class _Pending:
    """A request of `async_infer` over HTTP: it has landed when its greenlet ends, and is read by `get_result`."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.has_landed = False

    def land(self, greenlet: Any) -> None:
        """The response is there, unread: it can be read only once, and by the user."""
        self.has_landed = True
        self.call.touch()
        if greenlet.exception is not None:
            self.call.fail(greenlet.exception)


_pending: weakref.WeakKeyDictionary[Any, _Pending] = weakref.WeakKeyDictionary()
"""The client's own request objects."""


def _finish_http_async(call: Call, request: Any, _kwargs: Any, _asked: bool) -> None:
    """The call ends when the response has landed; what it says is known once the user asks for it."""
    pending = _pending[request] = _Pending(call)
    weakref.finalize(request, abandon, call).atexit = False

    def landed(greenlet: Any) -> None:
        with quiet("noting a response"):
            pending.land(greenlet)

    greenlet = request._greenlet  # noqa: SLF001
    if greenlet.ready():  # a link would wait for the next turn of gevent's loop
        landed(greenlet)
    else:
        greenlet.link(landed)


def _wrap_get_result(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def get_result(request: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            result = original(request, *args, **kwargs)
        except BaseException as error:
            with quiet("recording a failure"):
                pending = _pending.get(request)
                if pending is not None and pending.has_landed:  # else it was a wait that ended, not the request
                    pending.call.fail(error)
            raise
        with quiet("reading a response"):
            pending = _pending.pop(request, None)
            if pending is not None:
                _read_http(pending.call, result)
                pending.call.stop(at_last_sign=pending.has_landed)
        return result

    return get_result


def _finish_grpc_async(call: Call, result: Any, _kwargs: Any, _asked: bool) -> None:
    """The call ends when the response is there, after the user's callback."""
    future = getattr(result, "_CallContext__grpc_future", None)
    if future is None:
        call.stop()
        return

    def done(ended: Any) -> None:
        with quiet("reading a response"):
            _read_future(call, ended)
        with quiet("ending a call"):
            call.stop()

    future.add_done_callback(done)


def _read_future(call: Call, future: Any) -> None:
    if future.cancelled():
        call.fail(common.cancelled_exception())
    elif (error := future.exception()) is not None:
        call.fail(common.as_server_exception(error))
    else:
        common.responses_of(call).add(future.result())


def _operation(client: Any, name: str, finish: Any, start: Any = _start, amend: Any = None) -> Operation:
    """Arguments are named as this version of the client does, `self` left out."""
    names = tuple(inspect.signature(getattr(client, name)).parameters)[1:]
    return Operation(common.LIBRARY, functools.partial(start, names), finish, amend, _MUTES)


def _replace(patches: Patches, client: Any, name: str, finish: Any, start: Any = _start, amend: Any = None) -> None:
    if hasattr(client, name):
        operation = _operation(client, name, finish, start, amend)
        patches.replace(client, name, functools.partial(wrap, operation=operation))


def instrument(patches: Patches, module: ModuleType) -> None:
    """Wrap one of the four clients."""
    client: Any = module.InferenceServerClient
    patches.replace(client, "_call_plugin", common.wrap_plugin)
    is_http = ".http" in module.__name__
    read, amend = (_read_http, _copied_headers) if is_http else (_read_grpc, None)
    _replace(patches, client, "infer", functools.partial(_finish, read), amend=amend)
    if module.__name__ == "tritonclient.http":
        _replace(patches, client, "async_infer", _finish_http_async, _start_elsewhere, _carrying_headers)
        patches.replace(module.InferAsyncRequest, "get_result", _wrap_get_result)
    elif module.__name__ == "tritonclient.grpc":
        _replace(patches, client, "async_infer", _finish_grpc_async)
        _replace(patches, client, "async_stream_infer", streams.sent_on_stream, streams.start_on_stream)
        patches.replace(client, "start_stream", streams.wrap_start)
        patches.replace(cast("Any", module)._infer_stream._InferStream, "_init_handler", streams.wrap_handler)  # noqa: SLF001
    elif module.__name__ == "tritonclient.grpc.aio":
        patches.replace(client, "stream_infer", streams.wrap_stream_infer)
        patches.replace(module, "_get_inference_request", streams.wrap_request)
