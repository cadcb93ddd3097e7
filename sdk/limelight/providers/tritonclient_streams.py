"""gRPC streams of Triton's clients: many requests go out, many responses come back, and each request is one span.

Responses are matched by request id and model; requests without an id in the order they were sent. A request is over
with its final response (`triton_final_response`), with an error, or with the stream. Where a decoupled model sends
the final flag alone and the caller did not ask to see it, the request ends, as of its last response, with the next
request of the same id and model, or with the stream.
"""

from __future__ import annotations

import functools
import itertools
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

from opentelemetry import context as otel_context
from opentelemetry import trace

from limelight import call as calls
from limelight import semconv
from limelight.call import Call, Recorder, abandon, muted
from limelight.guard import quiet
from limelight.providers import tritonclient_calls as common
from limelight.providers import tritonclient_fields as fields
from limelight.providers import tritonclient_tensors as tensors
from limelight.stream import AsyncSteps, Steps
from limelight.watch import Watch

_FINAL = "triton_final_response"
_ASKS_FINAL = "triton_enable_empty_final_response"


@dataclass(slots=True, eq=False)
class _Sent:
    """One request on its way."""

    call: Call
    responses: common.Responses
    watch: Watch
    id: str
    model: str
    waits_for_final: bool
    is_answered: bool = False
    is_failed: bool = False
    """Its span has ended, but responses may still come."""


class Requests:
    """The requests of one stream that are not over, and what becomes of them; watches the stream's responses."""

    def __init__(self) -> None:
        self._sent: dict[str, list[_Sent]] = {}
        self._lock = threading.Lock()  # between the caller's thread and the one that reads responses
        self._is_over = False

    def add(self, call: Call, request_id: str, model: str, *, waits_for_final: bool) -> None:
        """A request goes out."""
        responses = common.responses_of(call)
        sent = _Sent(call, responses, Watch(call, responses), request_id, model, waits_for_final)
        call.on_stop = functools.partial(self._stopped, sent)
        with self._lock:
            known = self._sent.setdefault(request_id, [])
            former = [one for one in known if one.model == model and one.is_answered and not one.waits_for_final]
            known.append(sent)
            is_over = self._is_over
        for one in former:
            one.call.stop(at_last_sign=True)
        if is_over:
            call.stop()

    def _stopped(self, sent: _Sent, call: Call) -> None:
        if not sent.is_failed:
            self._forget(sent)
        sent.responses.fill(call)

    def _forget(self, sent: _Sent) -> None:
        with self._lock:
            known = self._sent.get(sent.id, [])
            if sent in known:
                known.remove(sent)
            if not known:
                self._sent.pop(sent.id, None)

    def _find(self, message: Any) -> _Sent | None:
        with self._lock:
            model = message.model_name  # "" where the server does not know the model
            return next((one for one in self._sent.get(message.id, ()) if one.model == model or not model), None)

    def chunk(self, response: Any) -> None:
        """A `ModelStreamInferResponse` came."""
        message = response.infer_response
        sent = self._find(message)
        if sent is None:
            return
        goes_on = _FINAL in message.parameters and not message.parameters[_FINAL].bool_param
        if response.error_message:
            sent.is_failed = goes_on and sent.waits_for_final
            sent.watch.fail(common.server_exception(response.error_message))
        elif sent.is_failed:
            if not goes_on:
                self._forget(sent)
        else:
            sent.is_answered = True
            sent.watch.chunk(message)
            if not goes_on:
                sent.watch.end()

    def _rest(self) -> Iterator[_Sent]:
        """Those still open; no more are taken."""
        with self._lock:
            self._is_over = True
            rest = list(itertools.chain.from_iterable(self._sent.values()))
            self._sent.clear()
        return iter(rest)

    def end(self) -> None:
        """The stream is over, or the caller closed it."""
        for sent in self._rest():
            sent.call.stop(at_last_sign=sent.is_answered)

    def fail(self, error: BaseException) -> None:
        """The stream broke. What the caller left after some answers, or had ended by its own word, has not failed."""
        was_left, seen = self._seen(error)
        for sent in self._rest():
            if sent.is_answered and (was_left or sent.responses.is_finished):
                sent.call.stop(at_last_sign=True)
            else:
                sent.watch.fail(seen)

    def _seen(self, error: Any) -> tuple[bool, BaseException]:
        """Whether the caller cancelled the stream, and the exception its callback gets."""
        if not hasattr(error, "debug_error_string"):
            return False, error
        return "CANCELLED" in str(error.code()), common.as_server_exception(error)

    def abandon(self) -> None:
        """Nobody can read the responses any more. Takes no lock: it may run inside a collection."""
        self._is_over = True
        for sent in itertools.chain.from_iterable(list(self._sent.values())):
            abandon(sent.call)


_streams: weakref.WeakKeyDictionary[Any, Requests] = weakref.WeakKeyDictionary()
"""The client's own stream objects."""


def start_on_stream(
    names: tuple[str, ...], recorder: Recorder, client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Call | None:
    """Start the span of `async_stream_infer`; None on a stream that was opened before we came."""
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    stream = getattr(client, "_stream", None)
    requests = None if stream is None else _streams.get(stream)
    if stream is not None and requests is None:
        return None
    call = common.begin_given(recorder, client, given, is_stream=True)
    if requests is not None:
        waits = given.get("enable_empty_final_response") is True
        requests.add(call, given.get("request_id") or "", given["model_name"], waits_for_final=waits)
    return call


def sent_on_stream(_call: Call, _result: Any, _kwargs: dict[str, Any], _asked: bool) -> None:
    """Nothing to read yet: responses end the call."""


def wrap_handler(original: Callable[..., Any]) -> Callable[..., Any]:
    """`_InferStream._init_handler`, which hands the responses to the thread that reads them."""

    @functools.wraps(original)
    def started(stream: Any, response_iterator: Any) -> Any:
        steps = None
        with quiet("following a stream"):
            if calls.active(common.LIBRARY) is not None:
                requests = Requests()
                steps = Steps(response_iterator, cast("Any", requests), False)
                _streams[stream] = requests
        return original(stream, response_iterator if steps is None else steps)

    return started


def wrap_start(original: Callable[..., Any]) -> Callable[..., Any]:
    """`start_stream`: no call by itself, but its headers are those of all requests: they carry what is current."""

    @functools.wraps(original)
    def started(*args: Any, **kwargs: Any) -> Any:
        opening = token = None
        with quiet("opening a stream"):
            if calls.active(common.LIBRARY) is not None:
                opening = common.Opening(otel_context.get_current())
                token = common.announce(opening)
        try:
            return original(*args, **kwargs)
        finally:
            with quiet("opening a stream"):
                if opening is not None and token is not None:
                    common.opened(token, opening)

    return started


class AioRequests(Requests):
    """Those of one `stream_infer`: the first one's span starts with it, so that the headers can carry that span."""

    def __init__(self, recorder: Recorder, client: Any) -> None:
        super().__init__()
        self._recorder = recorder
        self._server = {**common.server_of(client), semconv.REQUEST_STREAM: True}
        first = common.begin(recorder, None, {}, self._server, list)
        self._first: Call | None = first
        self.opening = common.Opening(trace.set_span_in_context(first.span), self.requested)

    def requested(self, message: Any) -> None:
        """The client made a `ModelInferRequest` of what the user's iterator yielded."""
        names = fields.names_of(self._recorder.triton_tensors)
        values = fields.with_sampling(tensors.of_request(message, names), names)
        attributes = {
            **self._server,
            semconv.REQUEST_ID: message.id or None,
            semconv.TRITON_MODEL_VERSION: message.model_version or None,
        }
        shapes = functools.partial(tensors.shapes_of_request, message)
        call, self._first = self._first, None
        if call is None:
            call = common.begin(self._recorder, message.model_name, values, attributes, shapes)
        else:
            common.begin_again(call, self._recorder, message.model_name, values, attributes, shapes)
        waits = _ASKS_FINAL in message.parameters and message.parameters[_ASKS_FINAL].bool_param
        self.add(call, message.id, message.model_name, waits_for_final=waits)

    def end(self) -> None:
        """As for the synchronous stream; a stream without a request is a call too."""
        super().end()
        if self._first is not None:
            self._first.stop()

    def fail(self, error: BaseException) -> None:
        """The same."""
        super().fail(error)
        if self._first is not None:
            self._first.fail(error)

    def abandon(self) -> None:
        """The same."""
        super().abandon()
        if self._first is not None:
            abandon(self._first)

    def _seen(self, error: Any) -> tuple[bool, BaseException]:
        """The asynchronous client hands gRPC's own errors on; a cancelled task is a cancelled call."""
        return False, error


class _Lazily:
    """A gRPC call as an iterator, asked to iterate only when the user is: it then refuses to be read otherwise."""

    def __init__(self, grpc_call: Any) -> None:
        self._call = grpc_call

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)

    async def __anext__(self) -> Any:
        return await self._call.__aiter__().__anext__()


def wrap_stream_infer(original: Callable[..., Any]) -> Callable[..., Any]:
    """`stream_infer` of the asynchronous client. Its span is not made current: the user's iterator runs in between."""

    @functools.wraps(original)
    def streamed(*args: Any, **kwargs: Any) -> Any:
        requests = token = None
        with quiet("reading a request"):
            recorder = calls.active(common.LIBRARY)
            if recorder is not None:
                requests = AioRequests(recorder, args[0])
                token = common.announce(requests.opening)
        try:
            result = original(*args, **kwargs)
        except BaseException as error:
            with quiet("recording a failure"):
                if requests is not None:
                    requests.fail(error)
            raise
        finally:
            with quiet("opening a stream"):
                if requests is not None and token is not None:
                    common.opened(token, requests.opening)
        is_followed = requests is None
        with quiet("following a stream"):
            is_followed = requests is None or _follow(result, requests)
        if not is_followed and requests is not None:
            with quiet("ending a stream"):
                requests.end()
        return result

    return streamed


def _follow(result: Any, requests: AioRequests) -> bool:
    """Stand in for the gRPC call the client's iterator asks for responses; False where a version has none."""
    grpc_call = getattr(result, "_grpc_call", None)
    if grpc_call is None:
        return False
    steps = AsyncSteps(_Lazily(grpc_call), cast("Any", requests), False)

    def cancel(*args: Any, **kwargs: Any) -> Any:
        try:
            return grpc_call.cancel(*args, **kwargs)
        finally:
            with quiet("ending a stream"):
                requests.end()

    def collected() -> None:
        with quiet("ending a stream"):
            requests.abandon()

    cast("Any", steps).cancel = cancel
    weakref.finalize(steps, collected).atexit = False
    result._grpc_call = steps  # noqa: SLF001
    return True


def wrap_request(original: Callable[..., Any]) -> Callable[..., Any]:
    """The asynchronous client's `_get_inference_request`: what a stream's iterator yielded, as it goes out."""

    @functools.wraps(original)
    def made(*args: Any, **kwargs: Any) -> Any:
        request = original(*args, **kwargs)
        with quiet("reading a request"):
            opening = common.OPENING.get()
            if opening is not None and opening.requested is not None and common.LIBRARY not in muted():
                opening.requested(request)
        return request

    return made
