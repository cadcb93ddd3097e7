"""Triton's clients: what their users do, over HTTP and gRPC, with callbacks and with iterators."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import AsyncIterator, Iterator
from typing import Any

import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
import tritonclient.http.aio

from sdk.journeys import Ask, Journey, Stream
from sdk.server import Peer, json_reply
from sdk.test_tritonclient import VALUES, as_json, inputs
from sdk.test_tritonclient_streams import pieces
from sdk.triton_peer import TritonPeer, answer, streamed

LIBRARY = "tritonclient"
HTTP, GRPC = tritonclient.http, tritonclient.grpc


def _script(request: Any, context: Any) -> Iterator[Any]:
    """Unary calls get the values, streams the pieces; a model of the name `broken` breaks."""
    if request.model_name == "unary":
        yield answer(VALUES, request=request)
    elif request.model_name == "broken":
        yield streamed(answer({}, request=request), final=False, error="broken inside")
        context.abort(tritonclient.grpc.grpc.StatusCode.UNAVAILABLE, "going down")
    else:
        yield from pieces(request, flagged=True)


class Desk:
    def __init__(self, peer: Peer, loop: asyncio.AbstractEventLoop) -> None:
        self.peer, self.loop = peer, loop
        self.service = TritonPeer(_script)
        self.service.__enter__()
        self.http = HTTP.InferenceServerClient(f"127.0.0.1:{peer.port}")
        self.grpc = GRPC.InferenceServerClient(self.service.address)
        self.ahttp, self.agrpc = loop.run_until_complete(self._asynchronous())

    async def _asynchronous(self) -> tuple[Any, Any]:
        return (
            tritonclient.http.aio.InferenceServerClient(f"127.0.0.1:{self.peer.port}"),
            tritonclient.grpc.aio.InferenceServerClient(self.service.address),
        )

    def close(self) -> None:
        self.http.close()
        self.grpc.close()
        self.loop.run_until_complete(self.ahttp.close())
        self.loop.run_until_complete(self.agrpc.close())
        self.service.__exit__()


def _result(result: Any) -> Any:
    return type(result).__name__, result.as_numpy("text_output").tolist(), result.as_numpy("num_output_tokens").tolist()


def plain(pair: Any) -> Any:
    """Of a response and an error."""
    result, error = pair
    if result is None or result.as_numpy("text_output") is None:
        return str(error)
    return _result(result), str(error)


def _infer(desk: Desk) -> Any:
    desk.peer.says(json_reply(as_json(VALUES)))
    return _result(desk.http.infer("llm", inputs(HTTP), request_id="1", headers={"x-mine": "1"}))


def _async_infer(desk: Desk) -> Any:
    desk.peer.says(json_reply(as_json(VALUES)))
    request = desk.http.async_infer("llm", inputs(HTTP), headers={"x-mine": "1"})
    return type(request).__name__, _result(request.get_result())


def _aio_infer(desk: Desk) -> Any:
    desk.peer.says(json_reply(as_json(VALUES)))
    return _result(desk.loop.run_until_complete(desk.ahttp.infer("llm", inputs(HTTP))))


def _refused(desk: Desk) -> Any:
    desk.peer.says(json_reply({"error": "unknown model"}, 404))
    return desk.http.infer("llm", inputs(HTTP))


def _async_refused(desk: Desk) -> Any:
    desk.peer.says(json_reply({"error": "unknown model"}, 404))
    return desk.http.async_infer("llm", inputs(HTTP)).get_result()


def _grpc_infer(desk: Desk) -> Any:
    return _result(desk.grpc.infer("unary", inputs(GRPC), headers={"x-mine": "1"}))


def _grpc_aio_infer(desk: Desk) -> Any:
    return _result(desk.loop.run_until_complete(desk.agrpc.infer("unary", inputs(GRPC))))


def _grpc_async_infer(desk: Desk) -> Any:
    told: queue.Queue[Any] = queue.Queue()
    context = desk.grpc.async_infer("unary", inputs(GRPC), lambda result, error: told.put((result, error)))
    return type(context).__name__, plain(told.get(timeout=20))


def _wrongly_called(desk: Desk) -> Any:
    return desk.grpc.infer("llm")


def _told(desk: Desk, count: int, *models: str) -> Any:
    """What a stream's callback is told, and that the stream can be stopped."""
    told: queue.Queue[Any] = queue.Queue()
    desk.grpc.start_stream(lambda result, error: told.put((result, error)), headers={"x-mine": "1"})
    for model in models:
        desk.grpc.async_stream_infer(model, inputs(GRPC), request_id=model)
    received = [plain(told.get(timeout=20)) for _ in range(count)]
    desk.grpc.stop_stream()
    return received


def _stream(desk: Desk) -> Any:
    return _told(desk, 8, "llm", "other")


def _broken_stream(desk: Desk) -> Any:
    return _told(desk, 6, "llm", "broken")


def _no_stream(desk: Desk) -> Any:
    return desk.grpc.async_stream_infer("llm", inputs(GRPC))


async def _given(*models: str) -> AsyncIterator[dict[str, Any]]:
    for model in models:
        yield {"model_name": model, "inputs": inputs(GRPC)}


def _open(desk: Desk) -> Any:
    return desk.agrpc.stream_infer(_given("llm"))


def _broken_aio_stream(desk: Desk) -> Any:
    async def read() -> list[Any]:
        received = []
        try:
            async for pair in desk.agrpc.stream_infer(_given("llm", "broken")):
                received.append(plain(pair))
        except Exception as error:
            received.append(type(error).__name__)
        return received

    return desk.loop.run_until_complete(read())


JOURNEYS = [
    Journey("infer", _infer),
    Journey("async infer", _async_infer),
    Journey("aio infer", _aio_infer),
    Journey("404", _refused),
    Journey("404 of async infer", _async_refused),
    Journey("grpc infer", _grpc_infer),
    Journey("grpc aio infer", _grpc_aio_infer),
    Journey("grpc async infer", _grpc_async_infer),
    Journey("wrong arguments", _wrongly_called),
    Journey("stream", _stream, calls=2),
    Journey("broken stream", _broken_stream, calls=2),
    Journey("no stream", _no_stream),
    Journey("broken aio stream", _broken_aio_stream, calls=2),
]
STREAMS = [Stream("aio stream", _open, plain, is_async=True, close=None)]


ASKS = [
    Ask(
        "infer",
        lambda desk, asked: _result(desk.http.infer(inputs=inputs(HTTP), **asked)),
        lambda: {"model_name": "llm", "request_id": "1", "headers": {"x-mine": "1"}, "parameters": {"max_tokens": 3}},
        json_reply(as_json(VALUES)),
    ),
    Ask(
        "grpc infer",
        lambda desk, asked: _result(desk.grpc.infer(inputs=inputs(GRPC), **asked)),
        lambda: {"model_name": "unary", "request_id": "1", "headers": {"x-mine": "1"}, "parameters": {"max_tokens": 3}},
        json_reply(as_json(VALUES)),
    ),
]
