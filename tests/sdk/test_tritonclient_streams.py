"""gRPC streams of the real Triton clients against a scripted service: many responses, one span a request."""

from __future__ import annotations

import asyncio
import gc
import json
import queue
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from limelight import call
from limelight.testing import Recorded, recording

grpc = pytest.importorskip("grpc")
pytest.importorskip("tritonclient")
grpc_client = pytest.importorskip("tritonclient.grpc")
import tritonclient.grpc.aio as grpc_aio  # noqa: E402

import limelight  # noqa: E402
from sdk.triton_peer import TritonPeer, answer, streamed, tensor  # noqa: E402

EXCEPTION = "tritonclient.utils.InferenceServerException"


def prompt(text: str) -> list[Any]:
    return [tensor(grpc_client, "text_input", "BYTES", text.encode())]


def piece(request: Any, text: str, *, reason: str = "None", final: bool | None = False) -> Any:
    """A response as the vLLM backend sends it."""
    outputs = {
        "text_output": ("BYTES", [text.encode()]),
        "finish_reason": ("BYTES", [reason.encode()]),
        "num_input_tokens": ("UINT32", [4]),
        "num_output_tokens": ("UINT32", [1]),
    }
    return streamed(answer(outputs, request=request), final=final)


def final_flag(request: Any) -> Any:
    """The final flag alone, sent to those who asked to see it."""
    message = answer({}, request=request)
    message.model_version = ""
    return streamed(message, final=True)


def pieces(request: Any, *, flagged: bool | None = None) -> Iterator[Any]:
    asked = request.parameters["triton_enable_empty_final_response"].bool_param if flagged is None else flagged
    yield piece(request, "")
    yield piece(request, "Bl")
    yield piece(request, "ue", reason="stop")
    if asked:
        yield final_flag(request)


@pytest.fixture
def service() -> Iterator[TritonPeer]:
    with TritonPeer(lambda request, _context: pieces(request)) as running:
        yield running


class Told:
    """What a stream's callback is told, in order."""

    def __init__(self) -> None:
        self._told: queue.Queue[Any] = queue.Queue()

    def __call__(self, result: Any, error: Any) -> None:
        self._told.put((result, error))

    def next(self, count: int = 1) -> list[Any]:
        return [self._told.get(timeout=20) for _ in range(count)]

    def texts(self, count: int) -> list[str]:
        return [result.as_numpy("text_output")[0].decode() for result, _ in self.next(count)]


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def client(service: TritonPeer) -> Iterator[Any]:
    with grpc_client.InferenceServerClient(service.address) as made:
        yield made


def _check(span: Any, service: TritonPeer, **more: Any) -> None:
    seen = dict(span.attributes)
    assert (span.name, span.kind, span.status) == ("text_completion llm", "client", "unset")
    assert seen.pop("gen_ai.response.time_to_first_chunk") > 0
    assert json.loads(seen.pop("gen_ai.input.messages"))[0]["parts"][0]["content"] == "colour?"
    (said,) = json.loads(seen.pop("gen_ai.output.messages"))
    assert said == {"role": "assistant", "parts": [{"type": "text", "content": "Blue"}], "finish_reason": "stop"}
    assert seen == {
        "gen_ai.operation.name": "text_completion",
        "gen_ai.provider.name": "triton",
        "gen_ai.request.model": "llm",
        "gen_ai.request.stream": True,
        "gen_ai.response.model": "llm",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": 4,
        "gen_ai.usage.output_tokens": 3,
        "triton.model_version": "1",
        "server.address": "127.0.0.1",
        "server.port": service.port,
        **more,
    }


def test_many_responses_are_one_span(service: TritonPeer, client: Any, told: Told, spans: Recorded) -> None:
    client.start_stream(told)
    client.async_stream_infer("llm", prompt("colour?"), request_id="1", enable_empty_final_response=True)
    assert told.texts(3) == ["", "Bl", "ue"]
    ((last, _),) = told.next()
    assert last.get_response().parameters["triton_final_response"].bool_param
    span = spans.only()  # the stream is still open
    _check(span, service, **{"gen_ai.request.id": "1"})
    assert type(client._stream._response_iterator._inner).__name__ == "_MultiThreadedRendezvous"
    client.stop_stream()
    assert len(spans.spans()) == 1


def test_a_response_without_a_mark_or_with_a_final_one_is_the_last(
    service: TritonPeer, client: Any, told: Told, spans: Recorded
) -> None:
    client.start_stream(told)
    for final in (None, True):
        service.script = lambda request, _context, final=final: [piece(request, "x", final=final)]
        client.async_stream_infer("llm", prompt("p"), request_id=str(final))
        told.next()
    assert [span.attributes["gen_ai.usage.output_tokens"] for span in spans.spans()] == [1, 1]


def test_responses_find_their_request(service: TritonPeer, client: Any, told: Told, spans: Recorded) -> None:
    """By id, then by model, then by order: the second request is answered first."""
    held: list[Any] = []

    def script(request: Any, _context: Any) -> Iterator[Any]:
        held.append(request)
        if len(held) == 4:
            for one in (held[1], held[0], held[2], held[3]):
                yield piece(one, f"{one.model_name}{one.id}", final=True)

    service.script = script
    client.start_stream(told)
    for model, request_id in (("a", "1"), ("a", "2"), ("b", ""), ("c", "")):
        client.async_stream_infer(model, prompt("p"), request_id=request_id)
    told.next(4)
    ended = spans.spans()
    assert [(span.attributes["gen_ai.request.model"], span.attributes.get("gen_ai.request.id")) for span in ended] == [
        ("a", "2"),
        ("a", "1"),
        ("b", None),
        ("c", None),
    ]
    said = [json.loads(span.attributes["gen_ai.output.messages"])[0]["parts"][0]["content"] for span in ended]
    assert said == ["a2", "a1", "b", "c"]


def test_without_a_final_response_the_next_request_or_the_end_closes(
    service: TritonPeer, client: Any, told: Told, spans: Recorded
) -> None:
    client.start_stream(told)
    client.async_stream_infer("llm", prompt("colour?"))
    told.next(3)
    assert spans.spans() == []
    answered_ns = call.installed().wall_ns()
    client.async_stream_infer("llm", prompt("colour?"))
    first = spans.only()
    _check(first, service)
    assert first.end_ns <= answered_ns
    told.next(3)
    client.stop_stream()
    _, second = spans.spans()
    _check(second, service)


def test_a_pipeline_of_requests_is_answered_in_order(
    service: TritonPeer, client: Any, told: Told, spans: Recorded
) -> None:
    client.start_stream(told)
    for _ in range(20):
        client.async_stream_infer("llm", prompt("colour?"), enable_empty_final_response=True)
    told.next(80)
    for span in spans.spans():
        _check(span, service)
    assert len(spans.spans()) == 20


def test_an_error_of_the_model_fails_its_request_alone(
    service: TritonPeer, client: Any, told: Told, spans: Recorded
) -> None:
    def script(request: Any, _context: Any) -> Iterator[Any]:
        if request.inputs[0].name == "text_input" and b"break" in request.raw_input_contents[0]:
            yield piece(request, "Bl")
            yield streamed(answer({}, request=request), final=False, error="broken inside")
            yield final_flag(request)
        else:
            yield from pieces(request)

    service.script = script
    client.start_stream(told)
    for text in ("break", "colour?"):  # no ids: what follows the error must not be taken for the next one's
        client.async_stream_infer("llm", prompt(text), enable_empty_final_response=True)
    _, (result, error), *_ = told.next(7)
    broken, whole = spans.spans()
    assert (result, str(error)) == (None, "broken inside")
    assert (broken.status, broken.status_message, broken.attributes["error.type"]) == (
        "error",
        "broken inside",
        EXCEPTION,
    )
    assert broken.attributes["gen_ai.usage.output_tokens"] == 1
    _check(whole, service)


def test_an_unknown_model(service: TritonPeer, client: Any, told: Told, spans: Recorded) -> None:
    def script(request: Any, _context: Any) -> list[Any]:
        message = answer({}, id=request.id)
        message.model_version = ""
        return [streamed(message, error="Request for unknown model: 'nope' is not found")]

    service.script = script
    client.start_stream(told)
    client.async_stream_infer("nope", prompt("p"))
    told.next()
    span = spans.only()
    assert (span.name, span.status, span.attributes["error.type"]) == ("text_completion nope", "error", EXCEPTION)


def test_a_stream_that_breaks_fails_what_is_open(service: TritonPeer, client: Any, told: Told, spans: Recorded) -> None:
    asked = []

    def script(request: Any, context: Any) -> Iterator[Any]:
        asked.append(request)
        yield piece(request, "x", reason="stop" if request.id == "done" else "None")
        if len(asked) == 3:
            context.abort(grpc.StatusCode.UNAVAILABLE, "going down")

    service.script = script
    client.start_stream(told)
    for request_id in ("1", "done", "3"):
        client.async_stream_infer("llm", prompt("p"), request_id=request_id)
    _, _, _, (_, error) = told.next(4)
    ended = {span.attributes["gen_ai.request.id"]: span for span in spans.spans()}
    assert {name: span.status for name, span in ended.items()} == {"1": "error", "done": "unset", "3": "error"}
    assert ended["1"].status_message == str(error) == "[StatusCode.UNAVAILABLE] going down"
    assert ended["1"].attributes["error.type"] == EXCEPTION


def test_a_stream_the_caller_cancels(service: TritonPeer, client: Any, told: Told, spans: Recorded) -> None:
    hold = threading.Event()

    def script(request: Any, _context: Any) -> Iterator[Any]:
        yield piece(request, "x")
        hold.wait(20)

    service.script = script
    client.start_stream(told)
    for request_id in ("answered", "not yet"):
        client.async_stream_infer("llm", prompt("p"), request_id=request_id, enable_empty_final_response=True)
    told.next()
    client.stop_stream(cancel_requests=True)
    hold.set()
    ended = {span.attributes["gen_ai.request.id"]: span for span in spans.spans()}
    assert {name: span.status for name, span in ended.items()} == {"answered": "unset", "not yet": "error"}
    assert ended["not yet"].status_message.startswith("[StatusCode.CANCELLED]")


def test_a_refused_request_leaves_nothing_behind(service: TritonPeer, client: Any, told: Told, spans: Recorded) -> None:
    with pytest.raises(grpc_client.InferenceServerException, match="stream not available"):
        client.async_stream_infer("llm", prompt("p"))
    client.start_stream(told)
    with pytest.raises(grpc_client.InferenceServerException, match="version must be a string"):
        client.async_stream_infer("llm", prompt("p"), 3)
    client.async_stream_infer("llm", prompt("colour?"), enable_empty_final_response=True)
    told.next(4)
    first, second, third = spans.spans()
    assert [first.status, second.status] == ["error", "error"]
    _check(third, service)


def test_a_stream_from_before_is_left_alone(service: TritonPeer, client: Any, told: Told) -> None:
    client.start_stream(told)
    with recording() as recorded:
        client.async_stream_infer("llm", prompt("p"))
        told.next(3)
        client.stop_stream()
        assert recorded.spans() == []


def test_a_stream_outlives_the_sdk(service: TritonPeer, client: Any, told: Told) -> None:
    with recording():
        client.start_stream(told)
        client.async_stream_infer("llm", prompt("p"), enable_empty_final_response=True)
        assert told.texts(3) == ["", "Bl", "ue"]
        told.next()
    client.async_stream_infer("llm", prompt("p"), enable_empty_final_response=True)
    assert told.texts(3) == ["", "Bl", "ue"]


def test_a_streams_headers_carry_what_is_current(service: TritonPeer, client: Any, told: Told, spans: Recorded) -> None:
    headers = {"x-mine": "1"}
    with limelight.span("outer"):
        client.start_stream(told, headers=headers)
    client.async_stream_infer("llm", prompt("p"), enable_empty_final_response=True)
    told.next(4)
    outer, _ = spans.spans()
    assert service.metadata[0]["traceparent"] == f"00-{outer.trace_id}-{outer.span_id}-01"
    assert headers == {"x-mine": "1"}


def test_ticks_are_no_language(service: TritonPeer, client: Any, told: Told, spans: Recorded) -> None:
    def script(request: Any, _context: Any) -> Iterator[Any]:
        for tick in range(3):
            yield streamed(answer({"tick": ("INT32", [tick])}, request=request), final=False)
        yield final_flag(request)

    service.script = script
    client.start_stream(told)
    client.async_stream_infer("ticks", [tensor(grpc_client, "count", "INT32", 3)], enable_empty_final_response=True)
    told.next(4)
    span = spans.only()
    assert span.name == "infer ticks"
    assert span.attributes["limelight.kind"] == "inference"
    assert span.attributes["gen_ai.response.time_to_first_chunk"] > 0


def test_rows_of_a_batch_that_answer_apart(service: TritonPeer, client: Any, told: Told, spans: Recorded) -> None:
    """TensorRT-LLM answers each row with responses of its own."""

    def script(request: Any, _context: Any) -> Iterator[Any]:
        for row, text in ((0, b"a"), (1, b"x"), (0, b"b"), (1, b"y")):
            outputs = {
                "text_output": ("BYTES", [text]),
                "batch_index": ("INT32", [row]),
                "num_input_tokens": ("INT32", [3 + row]),
                "num_output_tokens": ("INT32", [1]),
            }
            yield streamed(answer(outputs, request=request), final=False)
        yield final_flag(request)

    service.script = script
    client.start_stream(told)
    client.async_stream_infer("llm", prompt("p"), enable_empty_final_response=True)
    told.next(5)
    seen = spans.only().attributes
    assert (seen["gen_ai.usage.input_tokens"], seen["gen_ai.usage.output_tokens"]) == (7, 4)
    said = [message["parts"][0]["content"] for message in json.loads(seen["gen_ai.output.messages"])]
    assert said == ["ab", "xy"]


# -- the asynchronous client -------------------------------------------------------------------------------------------
async def _requests(*given: dict[str, Any], hold: asyncio.Event | None = None) -> AsyncIterator[dict[str, Any]]:
    for one in given:
        yield {"model_name": "llm", **one}
    if hold is not None:
        await hold.wait()


async def test_stream_infer_is_one_span_a_request(service: TritonPeer, spans: Recorded) -> None:
    service.script = lambda request, _context: pieces(request, flagged=True)
    headers = {"x-mine": "1"}
    async with grpc_aio.InferenceServerClient(service.address) as client:
        given = _requests({"inputs": prompt("colour?")}, {"inputs": prompt("colour?"), "request_id": "2"})
        results = client.stream_infer(given, headers=headers)
        assert type(results).__name__ == "_ResponseIterator"
        received = [result.get_response().id async for result, _ in results]
    assert received == [""] * 4 + ["2"] * 4
    first, second = spans.spans()
    _check(first, service)
    _check(second, service, **{"gen_ai.request.id": "2"})
    assert service.metadata[0]["traceparent"] == f"00-{first.trace_id}-{first.span_id}-01"
    assert headers == {"x-mine": "1"}


async def test_without_a_final_response_stream_infer_ends_with_its_stream(service: TritonPeer, spans: Recorded) -> None:
    async with grpc_aio.InferenceServerClient(service.address) as client:
        received = [error async for _, error in client.stream_infer(_requests({"inputs": prompt("colour?")}))]
    assert received == [None] * 3
    _check(spans.only(), service)


async def test_a_stream_without_a_request_is_a_call(service: TritonPeer, spans: Recorded) -> None:
    async with grpc_aio.InferenceServerClient(service.address) as client:
        assert [pair async for pair in client.stream_infer(_requests())] == []
    span = spans.only()
    assert (span.name, span.status) == ("infer", "unset")


async def _leave(client: Any, way: str, given: Any) -> None:
    results = client.stream_infer(given)
    if way == "never":
        return
    if way == "cancel before":
        results.cancel()
        return
    async for _ in results:
        if way == "cancel":
            results.cancel()
            with pytest.raises(asyncio.CancelledError):
                await results.__anext__()
        break


@pytest.mark.parametrize("way", ["break", "never", "cancel", "cancel before"])
async def test_a_stream_left_early_is_one_ended_span(way: str, service: TritonPeer, spans: Recorded) -> None:
    hold = asyncio.Event()
    async with grpc_aio.InferenceServerClient(service.address) as client:
        await _leave(client, way, _requests({"inputs": prompt("p")}, hold=hold))
        gc.collect()
        hold.set()
    gc.collect()
    span = spans.only()
    assert span.status == "unset"
    assert call._open == {}


@pytest.mark.parametrize(("reason", "status"), [("None", "error"), ("stop", "unset")])
async def test_a_cancelled_reader_is_a_failed_call_unless_the_model_had_ended(
    reason: str, status: str, service: TritonPeer, spans: Recorded
) -> None:
    service.script = lambda request, _context: [piece(request, "x", reason=reason)]
    hold, received = asyncio.Event(), asyncio.Event()

    async def read(client: Any) -> None:
        async for _ in client.stream_infer(_requests({"inputs": prompt("p")}, hold=hold)):
            received.set()

    async with grpc_aio.InferenceServerClient(service.address) as client:
        task = asyncio.create_task(read(client))
        await received.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        hold.set()
    span = spans.only()
    assert span.status == status
    kind = "asyncio.exceptions.CancelledError" if status == "error" else None
    assert span.attributes.get("error.type") == kind


async def test_errors_of_stream_infer(service: TritonPeer, spans: Recorded) -> None:
    def script(request: Any, context: Any) -> Iterator[Any]:
        if request.id == "model":
            yield streamed(answer({}, request=request), final=True, error="model said no")
        else:
            context.abort(grpc.StatusCode.UNAVAILABLE, "going down")

    service.script = script
    async with grpc_aio.InferenceServerClient(service.address) as client:
        given = _requests({"inputs": prompt("p"), "request_id": "model"})
        ((_, error),) = [pair async for pair in client.stream_infer(given)]
        assert str(error) == "model said no"
        with pytest.raises(grpc.RpcError, match="going down"):
            [pair async for pair in client.stream_infer(_requests({"inputs": prompt("p")}))]
        with pytest.raises(asyncio.CancelledError):  # how gRPC tells of a bad request iterator
            [pair async for pair in client.stream_infer(_requests({"inputs": prompt("p"), "model_version": 3}))]
    told, broken, refused = spans.spans()
    assert (told.status_message, told.attributes["error.type"]) == ("model said no", EXCEPTION)
    assert broken.attributes["error.type"] == "grpc.aio.AioRpcError"
    assert refused.attributes["error.type"] == "asyncio.exceptions.CancelledError"


async def test_what_the_users_iterator_does_is_its_own(service: TritonPeer, spans: Recorded) -> None:
    """The iterator runs in a task of gRPC's: the stream's span is not current there, nothing is muted."""
    service.script = lambda request, _context: [piece(request, "x", final=True)]
    async with grpc_aio.InferenceServerClient(service.address) as client:

        async def given() -> AsyncIterator[dict[str, Any]]:
            with limelight.span("inside"):
                await client.infer("other", prompt("q"))
            yield {"model_name": "llm", "inputs": prompt("p")}

        def unary(request: Any, _context: Any) -> list[Any]:
            if request.model_name == "other":
                return [answer({"text_output": ("BYTES", [b"x"])}, request=request)]
            return [piece(request, "x", final=True)]

        service.script = unary
        assert len([pair async for pair in client.stream_infer(given())]) == 1
    other, inside, streamed_call = sorted(spans.spans(), key=lambda span: span.name != "text_completion other")
    assert inside.name == "inside"
    assert inside.parent_id == ""
    assert other.parent_id == inside.span_id
    assert streamed_call.name == "text_completion llm"
    carried = [metadata["traceparent"].split("-")[2] for metadata in service.metadata]
    assert carried == [other.span_id, streamed_call.span_id]


def test_capture_none_on_streams(service: TritonPeer, client: Any, told: Told) -> None:
    with recording(capture="none") as recorded:
        client.start_stream(told)
        client.async_stream_infer("llm", prompt("p"), enable_empty_final_response=True)
        told.next(4)
        seen = recorded.only().attributes
    assert seen["gen_ai.usage.output_tokens"] == 3
    assert not [name for name in seen if "messages" in name]
