"""The real clients of Triton, unary calls: HTTP against a scripted server, gRPC against a scripted service."""

from __future__ import annotations

import asyncio
import gc
import json
import queue
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from limelight import call
from limelight.testing import Recorded, recording
from sdk.server import Peer, json_reply

grpc = pytest.importorskip("grpc")
pytest.importorskip("tritonclient")
http_client = pytest.importorskip("tritonclient.http")
grpc_client = pytest.importorskip("tritonclient.grpc")
import tritonclient.grpc.aio as grpc_aio  # noqa: E402
import tritonclient.http.aio as http_aio  # noqa: E402

import limelight  # noqa: E402
from sdk.triton_peer import TritonPeer, answer, tensor  # noqa: E402

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
VALUES = {
    "text_output": ("BYTES", [b"Blue, I think."]),
    "finish_reason": ("BYTES", [b"length"]),
    "num_input_tokens": ("UINT32", [4]),
    "num_output_tokens": ("UINT32", [8]),
    "arrival_time_ns": ("INT64", [1_790_000_000_000_000_000]),
    "first_scheduled_time_ns": ("INT64", [1_790_000_000_250_000_000]),
    "first_token_time_ns": ("INT64", [1_790_000_000_750_000_000]),
    "last_token_time_ns": ("INT64", [1_790_000_002_750_000_000]),
}
EXPECTED = {
    "gen_ai.operation.name": "text_completion",
    "gen_ai.provider.name": "triton",
    "gen_ai.request.model": "llm",
    "gen_ai.request.id": "42",
    "gen_ai.request.max_tokens": 8,
    "gen_ai.request.temperature": 0.7,
    "gen_ai.request.top_p": 0.9,
    "gen_ai.request.top_k": 5,
    "gen_ai.request.seed": 7,
    "gen_ai.request.stop_sequences": ["\n", "END"],
    "gen_ai.response.model": "llm",
    "gen_ai.response.finish_reasons": ["length"],
    "gen_ai.usage.input_tokens": 4,
    "gen_ai.usage.output_tokens": 8,
    "gen_ai.latency.time_in_queue": 0.25,
    "gen_ai.latency.time_in_model_prefill": 0.5,
    "gen_ai.latency.time_to_first_token": 0.75,
    "gen_ai.latency.time_in_model_decode": 2.0,
    "gen_ai.latency.time_in_model_inference": 2.5,
    "gen_ai.latency.e2e": 2.75,
    "triton.model_version": "1",
    "server.address": "127.0.0.1",
}


def as_json(outputs: dict[str, tuple[str, list[Any]]], model: str = "llm", **parameters: Any) -> dict[str, Any]:
    """The answer of the HTTP server, all of it JSON."""
    described = [
        {
            "name": name,
            "datatype": datatype,
            "shape": [len(values)],
            "data": [value.decode() if isinstance(value, bytes) else value for value in values],
            **({"parameters": parameters} if parameters else {}),
        }
        for name, (datatype, values) in outputs.items()
    ]
    return {"model_name": model, "model_version": "1", "outputs": described}


def inputs(library: Any, prompt: bytes = b"Name a colour.", **how: Any) -> list[Any]:
    return [
        tensor(library, "text_input", "BYTES", prompt, **how),
        tensor(library, "max_tokens", "INT32", 8, **how),
        tensor(library, "temperature", "FP32", 0.7, **how),
        tensor(library, "top_p", "FP32", 0.9, **how),
        tensor(library, "top_k", "INT32", 5, **how),
        tensor(library, "random_seed", "INT64", 7, **how),
        tensor(library, "stop_words", "BYTES", b"\n", b"END", **how),
    ]


@pytest.fixture
def service() -> Iterator[TritonPeer]:
    with TritonPeer(lambda request, _context: [answer(VALUES, request=request)]) as running:
        yield running


@pytest.fixture
def http(peer: Peer) -> Iterator[Any]:
    with http_client.InferenceServerClient(f"127.0.0.1:{peer.port}") as client:
        yield client


@pytest.fixture
def stub(service: TritonPeer) -> Iterator[Any]:
    with grpc_client.InferenceServerClient(service.address) as client:
        yield client


def _check(span: Any, port: int) -> None:
    seen = dict(span.attributes)
    given, said = (json.loads(seen.pop(f"gen_ai.{way}.messages")) for way in ("input", "output"))
    assert (span.name, span.kind, span.status) == ("text_completion llm", "client", "unset")
    assert seen == {**EXPECTED, "server.port": port}
    assert given == [{"role": "user", "parts": [{"type": "text", "content": "Name a colour."}]}]
    part = {"type": "text", "content": "Blue, I think."}
    assert said == [{"role": "assistant", "parts": [part], "finish_reason": "length"}]


def _traceparent(span: Any) -> str:
    return f"00-{span.trace_id}-{span.span_id}-01"


@pytest.mark.parametrize("binary", [True, False])
def test_infer_over_http(binary: bool, peer: Peer, http: Any, spans: Recorded) -> None:
    peer.says(json_reply(as_json(VALUES)))
    headers = {"X-Mine": "1"}
    result = http.infer("llm", inputs(http_client, binary_data=binary), request_id="42", headers=headers)
    assert type(result) is http_client.InferResult
    assert result.as_numpy("text_output").tolist() == ["Blue, I think."]
    span = spans.only()
    _check(span, peer.port)
    assert headers == {"X-Mine": "1"}
    assert peer.asked[0].headers["traceparent"] == _traceparent(span)
    assert peer.asked[0].headers["x-mine"] == "1"


async def test_infer_over_asynchronous_http(peer: Peer, spans: Recorded) -> None:
    peer.says(json_reply(as_json(VALUES)))
    headers = {"X-Mine": "1"}
    async with http_aio.InferenceServerClient(f"127.0.0.1:{peer.port}") as client:
        await client.infer("llm", inputs(http_client), "", None, "42", headers=headers)
    span = spans.only()
    _check(span, peer.port)
    assert headers == {"X-Mine": "1"}
    assert peer.asked[0].headers["traceparent"] == _traceparent(span)


def test_infer_over_grpc(service: TritonPeer, stub: Any, spans: Recorded) -> None:
    headers = {"x-mine": "1"}
    result = stub.infer("llm", inputs(grpc_client), request_id="42", headers=headers)
    assert type(result) is grpc_client.InferResult
    span = spans.only()
    _check(span, service.port)
    assert headers == {"x-mine": "1"}
    assert service.metadata[0]["traceparent"] == _traceparent(span)
    assert service.metadata[0]["x-mine"] == "1"


async def test_infer_over_asynchronous_grpc(service: TritonPeer, spans: Recorded) -> None:
    async with grpc_aio.InferenceServerClient(service.address) as client:
        await client.infer("llm", inputs(grpc_client), request_id="42")
    span = spans.only()
    _check(span, service.port)
    assert service.metadata[0]["traceparent"] == _traceparent(span)


def test_async_infer_over_http_ends_with_its_response(peer: Peer, http: Any, spans: Recorded) -> None:
    peer.says(json_reply(as_json(VALUES)))
    headers = {"X-Mine": "1"}
    request = http.async_infer("llm", inputs(http_client), request_id="42", headers=headers)
    assert type(request) is http_client.InferAsyncRequest
    request._greenlet.join()
    landed_ns = call.installed().wall_ns()
    request.get_result()
    span = spans.only()
    _check(span, peer.port)
    assert span.end_ns <= landed_ns
    assert headers == {"X-Mine": "1"}
    assert peer.asked[0].headers["traceparent"] == _traceparent(span)


def test_async_infer_over_http_without_headers_or_with_positional_ones(peer: Peer, http: Any, spans: Recorded) -> None:
    peer.says(json_reply(as_json(VALUES)))
    http.async_infer("llm", inputs(http_client)).get_result()
    options = ("", None, "", 0, False, False, 0, None)
    http.async_infer("llm", inputs(http_client), *options, {"X-Mine": "1"}).get_result()
    first, _ = spans.spans()
    assert peer.asked[0].headers["traceparent"] == _traceparent(first)
    assert "traceparent" not in peer.asked[1].headers
    assert peer.asked[1].headers["x-mine"] == "1"


def test_async_infer_whose_result_nobody_asks_for(peer: Peer, http: Any, spans: Recorded) -> None:
    peer.says(json_reply(as_json(VALUES)))
    request = http.async_infer("llm", inputs(http_client))
    request._greenlet.join()
    del request
    gc.collect()
    span = spans.only()
    assert span.status == "unset"
    assert "gen_ai.usage.output_tokens" not in span.attributes


def test_a_wait_that_ends_does_not_end_the_call(peer: Peer, http: Any, spans: Recorded) -> None:
    hold = threading.Event()
    reply = json_reply(as_json(VALUES))
    reply.hold = hold
    peer.says(reply)
    request = http.async_infer("llm", inputs(http_client), request_id="42")
    with pytest.raises(http_client.InferenceServerException, match="failed to obtain"):
        request.get_result(block=False)
    assert spans.spans() == []
    hold.set()
    request.get_result()
    _check(spans.only(), peer.port)


@pytest.mark.parametrize("status", [400, 404, 429, 500])
def test_refused_over_http(status: int, peer: Peer, http: Any, spans: Recorded) -> None:
    peer.says(json_reply({"error": "model said no"}, status))
    with pytest.raises(http_client.InferenceServerException, match="model said no"):
        http.infer("llm", inputs(http_client))
    request = http.async_infer("llm", inputs(http_client))
    with pytest.raises(http_client.InferenceServerException, match="model said no"):
        request.get_result()
    for span in spans.spans():
        assert (span.status, span.status_message) == ("error", f"[{status}] model said no")
        assert span.attributes["error.type"] == "tritonclient.utils.InferenceServerException"
        assert "gen_ai.usage.input_tokens" not in span.attributes


def test_a_server_that_is_not_there(spans: Recorded) -> None:
    with http_client.InferenceServerClient("127.0.0.1:9") as client:
        with pytest.raises(ConnectionRefusedError):
            client.infer("llm", inputs(http_client))
        with pytest.raises(ConnectionRefusedError):
            client.async_infer("llm", inputs(http_client)).get_result()
    with (
        grpc_client.InferenceServerClient("127.0.0.1:9") as client,
        pytest.raises(grpc_client.InferenceServerException, match="UNAVAILABLE"),
    ):
        client.infer("llm", inputs(grpc_client))
    kinds = [span.attributes["error.type"] for span in spans.spans()]
    assert kinds == [
        "ConnectionRefusedError",
        "ConnectionRefusedError",
        "tritonclient.utils.InferenceServerException",
    ]


def test_wrong_arguments_are_the_clients_to_refuse(http: Any, stub: Any, spans: Recorded) -> None:
    for client in (http, stub):
        with pytest.raises(TypeError):
            client.infer("llm")
        with pytest.raises(http_client.InferenceServerException, match="version must be a string"):
            client.infer("llm", [], 3)
    assert [span.status for span in spans.spans()] == ["error"] * 4


def _refuse(code: Any) -> Any:
    def script(_request: Any, context: Any) -> Any:
        context.abort(code, "not today")

    return script


def test_refused_over_grpc(service: TritonPeer, stub: Any, spans: Recorded) -> None:
    service.script = _refuse(grpc.StatusCode.NOT_FOUND)
    with pytest.raises(grpc_client.InferenceServerException, match="not today"):
        stub.infer("llm", inputs(grpc_client))
    told: queue.Queue[Any] = queue.Queue()
    stub.async_infer("llm", inputs(grpc_client), lambda result, error: told.put((result, error)))
    result, error = told.get(timeout=20)
    assert result is None

    async def asynchronous() -> None:
        async with grpc_aio.InferenceServerClient(service.address) as client:
            with pytest.raises(grpc_client.InferenceServerException, match="not today"):
                await client.infer("llm", inputs(grpc_client))

    asyncio.run(asynchronous())
    ended = _spans(spans, 3)
    for span in ended:
        assert (
            (span.status, span.status_message) == ("error", "[StatusCode.NOT_FOUND] not today") == ("error", str(error))
        )
        assert span.attributes["error.type"] == "tritonclient.utils.InferenceServerException"


def _spans(recorded: Recorded, count: int) -> list[Any]:
    """The ended spans once there are `count` of them: gRPC's own thread ends some after it has told the user."""
    for _ in range(2000):
        if not call._open:
            break
        threading.Event().wait(0.01)
    ended = recorded.spans()
    assert len(ended) == count
    return ended


def test_async_infer_over_grpc(service: TritonPeer, stub: Any, spans: Recorded) -> None:
    told: queue.Queue[Any] = queue.Queue()
    context = stub.async_infer(
        "llm", inputs(grpc_client), lambda result, error: told.put((result, error)), request_id="42"
    )
    assert type(context).__name__ == "CallContext"
    result, error = told.get(timeout=20)
    assert (result.as_numpy("num_output_tokens").tolist(), error) == ([8], None)
    (span,) = _spans(spans, 1)
    _check(span, service.port)
    assert service.metadata[0]["traceparent"] == _traceparent(span)


def test_async_infer_over_grpc_cancelled(service: TritonPeer, stub: Any, spans: Recorded) -> None:
    hold = threading.Event()

    def script(request: Any, _context: Any) -> Any:
        hold.wait(20)
        return [answer(VALUES, request=request)]

    service.script = script
    told: queue.Queue[Any] = queue.Queue()
    stub.async_infer("llm", inputs(grpc_client), lambda result, error: told.put((result, error))).cancel()
    _, error = told.get(timeout=20)
    hold.set()
    (span,) = _spans(spans, 1)
    assert (span.status, span.status_message) == ("error", str(error))


async def test_a_cancelled_task_is_a_failed_call(service: TritonPeer, peer: Peer, spans: Recorded) -> None:
    hold = threading.Event()
    reply = json_reply(as_json(VALUES))
    reply.hold = hold
    peer.says(reply)

    def script(request: Any, _context: Any) -> Any:
        hold.wait(20)
        return [answer(VALUES, request=request)]

    service.script = script
    async with (
        http_aio.InferenceServerClient(f"127.0.0.1:{peer.port}") as http,
        grpc_aio.InferenceServerClient(service.address) as stub,
    ):
        for waiting in (http.infer("llm", inputs(http_client)), stub.infer("llm", inputs(grpc_client))):
            task = asyncio.create_task(waiting)
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        hold.set()
    assert [span.attributes["error.type"] for span in spans.spans()] == ["asyncio.exceptions.CancelledError"] * 2


def test_a_model_without_language(peer: Peer, http: Any, spans: Recorded) -> None:
    peer.says(json_reply(as_json({"sum": ("FP32", [3.0, 5.0])}, "add")))
    numbers = [tensor(http_client, name, "FP32", 1.0, 2.0, shape=[1, 2]) for name in "ab"]
    http.infer("add", numbers, model_version="1")
    span = spans.only()
    described = [{"name": name, "datatype": "FP32", "shape": [1, 2]} for name in "ab"]
    assert (span.name, span.kind) == ("infer add", "client")
    assert json.loads(span.attributes.pop("limelight.input")) == described
    assert span.attributes == {
        "gen_ai.provider.name": "triton",
        "gen_ai.request.model": "add",
        "gen_ai.response.model": "add",
        "triton.model_version": "1",
        "limelight.kind": "inference",
        "server.address": "127.0.0.1",
        "server.port": peer.port,
    }
    assert [point.metric for point in spans.metrics() if point.metric.startswith("gen_ai")] == []


def test_a_model_whose_answer_alone_is_text(service: TritonPeer, stub: Any, spans: Recorded) -> None:
    stub.infer("speech", [tensor(grpc_client, "samples", "FP32", 0.1, 0.2)])
    span = spans.only()
    assert span.name == "text_completion speech"
    assert span.attributes["gen_ai.operation.name"] == "text_completion"
    assert span.attributes["gen_ai.usage.output_tokens"] == 8
    assert "limelight.kind" not in span.attributes


def test_tensors_in_shared_memory_are_not_touched(peer: Peer, http: Any, stub: Any, spans: Recorded) -> None:
    shared = as_json({"text_output": ("BYTES", [])}, shared_memory_region="r", shared_memory_byte_size=64)
    del shared["outputs"][0]["data"]
    peer.says(json_reply(shared))
    for library, client in ((http_client, http), (grpc_client, stub)):
        prompt = library.InferInput("text_input", [1], "BYTES")
        prompt.set_shared_memory("region", 64)
        client.infer("llm", [prompt, tensor(library, "max_tokens", "INT32", 8)])
    over_http, over_grpc = spans.spans()
    assert over_http.name == "infer llm"
    assert "gen_ai.input.messages" not in over_grpc.attributes
    assert over_grpc.attributes["gen_ai.request.max_tokens"] == 8


def test_counts_of_a_batch_and_of_several_sequences_add_up(service: TritonPeer, stub: Any, spans: Recorded) -> None:
    outputs = {
        "text_output": ("BYTES", [b"a", b"b"]),
        "finish_reason": ("BYTES", [b"stop", b"length"]),
        "num_input_tokens": ("UINT32", [3, 4]),
        "num_output_tokens": ("UINT32", [5, 6]),
    }
    service.script = lambda request, _context: [answer(outputs, request=request)]
    prompts = tensor(grpc_client, "text_input", "BYTES", b"p", b"q", shape=[2, 1])
    limits = tensor(grpc_client, "max_tokens", "INT32", 5, 6, shape=[2, 1])
    stub.infer("llm", [prompts, limits])
    seen = spans.only().attributes
    assert (seen["gen_ai.usage.input_tokens"], seen["gen_ai.usage.output_tokens"]) == (7, 11)
    assert seen["gen_ai.response.finish_reasons"] == ["stop", "length"]
    assert "gen_ai.request.max_tokens" not in seen
    texts = [message["parts"][0]["content"] for message in json.loads(seen["gen_ai.input.messages"])]
    assert texts == ["p", "q"]
    said = json.loads(seen["gen_ai.output.messages"])
    assert [(message["parts"][0]["content"], message["finish_reason"]) for message in said] == [
        ("a", "stop"),
        ("b", "length"),
    ]


@pytest.mark.parametrize(("excluded", "expected"), [(True, 6), (False, None)])
def test_a_length_that_may_hold_the_prompt_is_no_count(
    excluded: bool, expected: int | None, service: TritonPeer, stub: Any, spans: Recorded
) -> None:
    outputs = {"output_ids": ("INT32", [1] * 6), "sequence_length": ("INT32", [6])}
    service.script = lambda request, _context: [answer(outputs, request=request)]
    ids = tensor(grpc_client, "input_ids", "INT32", 1, 2, 3)
    limit = tensor(grpc_client, "request_output_len", "INT32", 9)
    stub.infer("tensorrt_llm", [ids, limit, tensor(grpc_client, "exclude_input_in_output", "BOOL", excluded)])
    span = spans.only()
    assert span.name == "text_completion tensorrt_llm"
    assert span.attributes.get("gen_ai.usage.output_tokens") == expected
    assert span.attributes["gen_ai.request.max_tokens"] == 9


def test_stamps_that_cannot_be_exact_are_left_out(service: TritonPeer, stub: Any, spans: Recorded) -> None:
    stamps = {name: ("FP32", [1.79e18]) for name in VALUES if name.endswith("_ns")}
    service.script = lambda request, _context: [answer({**VALUES, **stamps}, request=request)]
    stub.infer("llm", inputs(grpc_client))
    assert not [name for name in spans.only().attributes if "latency" in name]


def test_sampling_parameters_in_one_string_and_request_parameters(stub: Any, spans: Recorded) -> None:
    given = b'{"temperature": "0", "max_tokens": 20, "n": 2, "stop": ["x"]}'
    stub.infer(
        "llm",
        [
            tensor(grpc_client, "text_input", "BYTES", b"hi"),
            tensor(grpc_client, "sampling_parameters", "BYTES", given),
            tensor(grpc_client, "image", "BYTES", b"aGVsbG8="),
            tensor(grpc_client, "image_url_input", "BYTES", b"https://h/i.png"),
        ],
        parameters={"top_p": "0.5", "mine": "x"},
    )
    seen = spans.only().attributes
    expected = {"temperature": 0, "max_tokens": 20, "choice.count": 2, "top_p": 0.5, "stop_sequences": ["x"]}
    assert {name: seen.get(f"gen_ai.request.{name}") for name in expected} == expected
    (message,) = json.loads(seen["gen_ai.input.messages"])
    text, image, uri = message["parts"]
    assert text == {"type": "text", "content": "hi"}
    assert (image["type"], image["size"], image["modality"]) == ("blob", 5, "image")
    assert uri == {"type": "uri", "uri": "https://h/i.png", "modality": "image"}


def test_tensor_names_of_your_own(service: TritonPeer) -> None:
    outputs = {"answer": ("BYTES", [b"42"]), "tokens_in": ("INT32", [3]), "tokens_out": ("INT32", [1])}
    service.script = lambda request, _context: [answer(outputs, request=request)]
    names = {"input_text": "question", "output_text": "answer", "input_tokens": "tokens_in"}
    with (
        recording(triton_tensors={**names, "output_tokens": ["tokens_out"]}) as recorded,
        grpc_client.InferenceServerClient(service.address) as client,
    ):
        client.infer("own", [tensor(grpc_client, "question", "BYTES", b"why?")])
        seen = recorded.only().attributes
    assert json.loads(seen["gen_ai.input.messages"])[0]["parts"][0]["content"] == "why?"
    assert json.loads(seen["gen_ai.output.messages"])[0]["parts"][0]["content"] == "42"
    assert (seen["gen_ai.usage.input_tokens"], seen["gen_ai.usage.output_tokens"]) == (3, 1)


@pytest.mark.parametrize("name", ["traceparent", "TraceParent"])
def test_the_callers_own_trace_context_wins(name: str, peer: Peer, http: Any, spans: Recorded) -> None:
    peer.says(json_reply(as_json(VALUES)))
    http.infer("llm", inputs(http_client), headers={name: PARENT})
    http.async_infer("llm", inputs(http_client), headers={name: PARENT}).get_result()
    assert [asked.headers["traceparent"] for asked in peer.asked] == [PARENT] * 2
    assert len(spans.spans()) == 2


def test_a_plugins_trace_context_wins(service: TritonPeer, stub: Any, spans: Recorded) -> None:
    class Plugin(grpc_client.InferenceServerClientPlugin):
        def __call__(self, request: Any) -> None:
            request.headers["traceparent"] = PARENT

    stub.register_plugin(Plugin())
    stub.infer("llm", inputs(grpc_client))
    assert service.metadata[0]["traceparent"] == PARENT
    assert len(spans.spans()) == 1


def test_no_trace_context_where_none_is_wanted(service: TritonPeer, peer: Peer) -> None:
    peer.says(json_reply(as_json(VALUES)))
    with (
        recording(propagate="none"),
        grpc_client.InferenceServerClient(service.address) as stub,
        http_client.InferenceServerClient(f"127.0.0.1:{peer.port}") as http,
    ):
        headers = {"X-Mine": "1"}
        stub.infer("llm", inputs(grpc_client))
        http.infer("llm", inputs(http_client), headers=headers)
        http.async_infer("llm", inputs(http_client), headers=headers).get_result()
        assert "traceparent" not in headers  # what else is in it is the client's own
    assert "traceparent" not in service.metadata[0]
    assert not [asked for asked in peer.asked if "traceparent" in asked.headers]


def test_capture_none_keeps_counts_and_drops_content(service: TritonPeer) -> None:
    with recording(capture="none") as recorded, grpc_client.InferenceServerClient(service.address) as client:
        client.infer("llm", inputs(grpc_client), request_id="42")
        client.infer("add", [tensor(grpc_client, "a", "FP32", 1.0)])
        language, _ = recorded.spans()
    assert language.attributes == {**EXPECTED, "server.port": service.port}


@pytest.mark.swallows
def test_hostile_arguments_cost_an_error_of_ours_only(stub: Any, spans: Recorded) -> None:
    class Hostile:
        def __getattr__(self, name: str) -> Any:
            raise RuntimeError(name)

        def __iter__(self) -> Any:
            raise RuntimeError("__iter__")

        __len__ = __eq__ = __bool__ = __iter__
        __hash__ = None

    taken = []

    def once() -> Iterator[Any]:
        for one in inputs(grpc_client):
            taken.append(one)
            yield one

    stub.infer("llm", once())
    assert len(taken) == 7
    for bad in (Hostile(), [Hostile()]):
        with pytest.raises(RuntimeError):
            stub.infer("llm", bad)
    assert next(span.status for span in spans.spans()) == "unset"
    assert call._open == {}


def test_the_span_is_current_below_and_gone_afterwards(service: TritonPeer, stub: Any, spans: Recorded) -> None:
    with limelight.span("outer"):
        stub.infer("llm", inputs(grpc_client))
    inner, outer = spans.spans()
    assert (inner.name, inner.parent_id) == ("text_completion llm", outer.span_id)


def test_uninstrument_gives_back_the_identical_functions() -> None:
    from tritonclient.grpc import _infer_stream

    owners = [
        (module.InferenceServerClient, name)
        for module in (http_client, http_aio, grpc_client, grpc_aio)
        for name in ("infer", "async_infer", "async_stream_infer", "start_stream", "stream_infer", "_call_plugin")
    ]
    owners += [
        (http_client.InferAsyncRequest, "get_result"),
        (_infer_stream._InferStream, "_init_handler"),
        (grpc_aio, "_get_inference_request"),
    ]
    before = [vars(owner).get(name) for owner, name in owners]
    with recording():
        changed = [vars(owner).get(name) is not was for (owner, name), was in zip(owners, before, strict=True)]
        assert sum(changed) == 16
    assert [vars(owner).get(name) for owner, name in owners] == before
