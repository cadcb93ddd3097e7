"""The real clients against a real Triton server: our counts are its tensors', and its own spans hang below ours."""

from __future__ import annotations

import asyncio
import json
import os
import queue
import secrets
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

import limelight
from backends.conftest import _free_port
from limelight import call
from limelight.testing import Recorded
from sdk.server import Peer, json_reply

if os.environ.get("LIMELIGHT_REQUIRE_BACKENDS") != "1":
    pytest.importorskip("tritonclient")
import tritonclient.grpc as grpc_client
import tritonclient.grpc.aio as grpc_aio
import tritonclient.http as http_client
import tritonclient.http.aio as http_aio

pytestmark = pytest.mark.backend

PYTHON = Path(__file__).parents[2] / ".cache" / "triton" / "bin" / "python"
START = Path(__file__).with_name("triton") / "start.py"
EXCEPTION = "tritonclient.utils.InferenceServerException"
PROMPT = "the quick brown fox jumps over the lazy dog"


@dataclass
class Triton:
    """A running server, and the receiver of its traces."""

    http: str
    grpc: str
    traces: Peer

    def spans(self, trace_id: str) -> list[dict[str, Any]]:
        """The server's spans of a trace, as OTLP JSON, once one whole request has come.

        This server loses the traces of some gRPC requests (about one in fifty, whatever its settings), so a test asks
        more than once, and looks at those that came.
        """
        found: list[dict[str, Any]] = []
        for _ in range(1000):
            found = [span for span in self._received() if span["traceId"] == trace_id]
            roots = {span["spanId"] for span in found if span["name"] == "InferRequest"}
            if any(span["parentSpanId"] in roots for span in found):
                return found
            time.sleep(0.02)
        raise AssertionError(f"the server told of {[span['name'] for span in found]}")

    def _received(self) -> Iterator[dict[str, Any]]:
        for asked in list(self.traces.asked):
            for resource in asked.json()["resourceSpans"]:
                for scope in resource["scopeSpans"]:
                    yield from scope["spans"]


def _ready(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(600):
        assert server.poll() is None, log.read_text()[-4000:]
        try:
            with urllib.request.urlopen(f"http://{url}/v2/health/ready", timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(log.read_text()[-4000:])


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:
    """One server for all tests: it starts in seconds, but stops in as many."""
    if not PYTHON.exists():
        message = f"not installed: {PYTHON}"
        if os.environ.get("LIMELIGHT_REQUIRE_BACKENDS") == "1":
            pytest.fail(message)
        pytest.skip(message)
    work = tmp_path_factory.mktemp("triton")
    log = work / "server.log"
    http, grpc, metrics = (str(_free_port()) for _ in range(3))
    with Peer() as traces, log.open("wb") as output:
        traces.says(json_reply({}))
        arguments = [str(work / "server"), http, grpc, metrics, f"{traces.url}/v1/traces"]
        with subprocess.Popen([str(PYTHON), str(START), *arguments], stdout=output, stderr=output) as server:
            try:
                _ready(f"127.0.0.1:{http}", server, log)
                yield Triton(f"127.0.0.1:{http}", f"127.0.0.1:{grpc}", traces)
            finally:
                server.send_signal(signal.SIGINT)
                server.wait(60)


@pytest.fixture
def trace_id() -> Iterator[str]:
    """A trace of the test's own: the recorded ids count from one, and the server outlives a test."""
    trace_id = secrets.randbits(128) | 1
    parent = SpanContext(trace_id, secrets.randbits(64) | 1, is_remote=True, trace_flags=TraceFlags(1))
    token = otel_context.attach(trace.set_span_in_context(NonRecordingSpan(parent)))
    yield f"{trace_id:032x}"
    otel_context.detach(token)


def _tensor(library: Any, name: str, datatype: str, array: Any) -> Any:
    made = library.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array)
    return made


def _text(library: Any, prompt: str, *shape: int) -> Any:
    return _tensor(library, "text_input", "BYTES", np.array([prompt.encode()], dtype=object).reshape(shape or (1,)))


def _llm(library: Any, prompt: str = PROMPT, *, limit: int = 6, stream: bool = False) -> list[Any]:
    flags = ["return_finish_reason", "return_num_input_tokens", "return_num_output_tokens", "return_perf_metrics"]
    return [
        _text(library, prompt),
        _tensor(library, "max_tokens", "INT32", np.array([limit], dtype=np.int32)),
        _tensor(library, "temperature", "FP32", np.array([0.7], dtype=np.float32)),
        *(_tensor(library, flag, "BOOL", np.array([True])) for flag in (*flags, *(["stream"] if stream else []))),
    ]


def _number(result: Any, name: str) -> int:
    return int(result.as_numpy(name)[0])


def _word(result: Any, name: str) -> str:
    return result.as_numpy(name)[0].decode()


def _assert_equal(span: Any, result: Any) -> None:
    """Every number of the span is the one the model returned."""
    seen = span.attributes
    assert (span.name, span.kind, span.status) == ("text_completion llm", "client", "unset")
    assert seen["gen_ai.provider.name"] == "triton"
    assert seen["gen_ai.request.temperature"] == 0.7
    assert seen["gen_ai.request.max_tokens"] == 6
    assert seen["gen_ai.usage.input_tokens"] == _number(result, "num_input_tokens") > 6
    assert seen["gen_ai.usage.output_tokens"] == _number(result, "num_output_tokens") == 6
    assert seen["gen_ai.response.finish_reasons"] == [_word(result, "finish_reason")] == ["length"]
    said = json.loads(seen["gen_ai.output.messages"])[0]["parts"][0]["content"]
    assert said == _word(result, "text_output")
    arrival, scheduled, first, last = (
        _number(result, f"{name}_time_ns") for name in ("arrival", "first_scheduled", "first_token", "last_token")
    )
    assert seen["gen_ai.latency.time_in_queue"] == (scheduled - arrival) / 1e9
    assert seen["gen_ai.latency.time_in_model_prefill"] == (first - scheduled) / 1e9
    assert seen["gen_ai.latency.time_to_first_token"] == (first - arrival) / 1e9
    assert seen["gen_ai.latency.time_in_model_decode"] == (last - first) / 1e9
    assert seen["gen_ai.latency.e2e"] == (last - arrival) / 1e9


def _ended(recorded: Recorded, count: int) -> list[Any]:
    """gRPC's own thread ends some calls just after it has told the user."""
    for _ in range(1000):
        if not call._open:
            break
        threading.Event().wait(0.01)
    ended = recorded.spans()
    assert len(ended) == count, [span.name for span in ended]
    return ended


def _below(triton: Triton, trace_id: str, ours: list[Any]) -> list[dict[str, Any]]:
    """The server's spans; its `InferRequest`s are children of ours."""
    theirs = triton.spans(trace_id)
    roots = {span["parentSpanId"] for span in theirs if span["name"] == "InferRequest"}
    assert roots <= {span.span_id for span in ours}
    return theirs


def _sync_calls(triton: Triton) -> list[Any]:
    told: queue.Queue[Any] = queue.Queue()
    with (
        http_client.InferenceServerClient(triton.http) as http,
        grpc_client.InferenceServerClient(triton.grpc) as grpc,
    ):
        results = [
            http.infer("llm", _llm(http_client)),
            http.async_infer("llm", _llm(http_client)).get_result(),
            grpc.infer("llm", _llm(grpc_client)),
        ]
        grpc.async_infer("llm", _llm(grpc_client), lambda result, error: told.put((result, error)))
        result, error = told.get(timeout=20)
        assert error is None
    return [*results, result]


async def _async_calls(triton: Triton) -> list[Any]:
    async with (
        http_aio.InferenceServerClient(triton.http) as http,
        grpc_aio.InferenceServerClient(triton.grpc) as grpc,
    ):
        return [await http.infer("llm", _llm(http_client)), await grpc.infer("llm", _llm(grpc_client))]


def test_every_way_to_call_says_what_the_model_said(triton: Triton, spans: Recorded) -> None:
    results = [*_sync_calls(triton), *asyncio.run(_async_calls(triton))]
    ours = sorted(_ended(spans, 6), key=lambda span: span.start_ns)
    for span, result in zip(ours, results, strict=True):
        _assert_equal(span, result)


def _infer(triton: Triton) -> None:
    with http_client.InferenceServerClient(triton.http) as client:
        client.infer("llm", _llm(http_client))


def _async_infer(triton: Triton) -> None:
    with http_client.InferenceServerClient(triton.http) as client:
        client.async_infer("llm", _llm(http_client)).get_result()


def _aio_infer(triton: Triton) -> None:
    async def run() -> None:
        async with http_aio.InferenceServerClient(triton.http) as client:
            await client.infer("llm", _llm(http_client))

    asyncio.run(run())


def _grpc_infer(triton: Triton) -> None:
    with grpc_client.InferenceServerClient(triton.grpc) as client:
        client.infer("llm", _llm(grpc_client))


def _grpc_async_infer(triton: Triton) -> None:
    told = threading.Event()
    with grpc_client.InferenceServerClient(triton.grpc) as client:
        client.async_infer("llm", _llm(grpc_client), lambda result, error: told.set())
        assert told.wait(20)


def _grpc_aio_infer(triton: Triton) -> None:
    async def run() -> None:
        async with grpc_aio.InferenceServerClient(triton.grpc) as client:
            await client.infer("llm", _llm(grpc_client))

    asyncio.run(run())


def _grpc_aio_stream(triton: Triton) -> None:
    async def run() -> None:
        async with grpc_aio.InferenceServerClient(triton.grpc) as client:
            assert [error async for _, error in client.stream_infer(_given(PROMPT))]

    asyncio.run(run())


@pytest.mark.parametrize(
    "way",
    [_infer, _async_infer, _aio_infer, _grpc_infer, _grpc_async_infer, _grpc_aio_infer, _grpc_aio_stream],
    ids=lambda way: way.__name__,
)
def test_the_servers_spans_hang_below_ours(way: Any, triton: Triton, trace_id: str, spans: Recorded) -> None:
    for _ in range(5):
        way(triton)
    ours = _ended(spans, 5)
    assert {span.trace_id for span in ours} == {trace_id}
    theirs = _below(triton, trace_id, ours)
    assert {"InferRequest", "compute"} < {span["name"] for span in theirs}


def test_the_servers_spans_of_a_stream_hang_below_what_opened_it(
    triton: Triton, trace_id: str, spans: Recorded
) -> None:
    with grpc_client.InferenceServerClient(triton.grpc) as client:
        with limelight.span("opening"):
            stream = Stream(client)
        for _ in range(5):
            stream.ask(enable_empty_final_response=True)
            stream.until_final()
    opening, *ours = spans.spans()
    assert {span.name for span in ours} == {"text_completion llm_stream"}
    _below(triton, trace_id, [opening])


def test_an_ensembles_spans_hang_below_ours(triton: Triton, trace_id: str, spans: Recorded) -> None:
    with http_client.InferenceServerClient(triton.http) as client:
        result = client.infer("ensemble", [_text(http_client, "hi", 1, 1)], request_id="mine")
    ours = spans.only()
    assert json.loads(ours.attributes["gen_ai.output.messages"])[0]["parts"][0]["content"] == "echo: HI"
    assert result.as_numpy("text_output")[0][0] == b"echo: HI"
    assert ours.attributes["gen_ai.request.id"] == "mine"
    theirs = _below(triton, trace_id, [ours])
    assert {"InferRequest", "ensemble", "upper", "echo"} <= {span["name"] for span in theirs}
    assert "gen_ai.usage.output_tokens" not in ours.attributes


def test_a_model_without_language(triton: Triton, spans: Recorded) -> None:
    numbers = np.array([[1.0, 2.0]], dtype=np.float32)
    with grpc_client.InferenceServerClient(triton.grpc) as client:
        result = client.infer("add", [_tensor(grpc_client, name, "FP32", numbers) for name in "ab"])
    assert result.as_numpy("sum").tolist() == [[2.0, 4.0]]
    span = spans.only()
    assert (span.name, span.attributes["limelight.kind"]) == ("infer add", "inference")


def test_failures_are_the_servers(triton: Triton, trace_id: str, spans: Recorded) -> None:
    messages = []
    for library, address in ((http_client, triton.http), (grpc_client, triton.grpc)):
        with library.InferenceServerClient(address) as client:
            for model, prompt in (("echo", _text(library, "fail", 1, 1)), ("nope", _text(library, "x"))):
                with pytest.raises(library.InferenceServerException) as caught:
                    client.infer(model, [prompt])
                messages.append(str(caught.value))
    ours = spans.spans()
    assert [span.status_message for span in ours] == messages
    assert [message.partition(" ")[0] for message in messages] == [
        "[500]",
        "[404]",
        "[StatusCode.INTERNAL]",
        "[StatusCode.NOT_FOUND]",
    ]
    assert {span.attributes["error.type"] for span in ours} == {EXCEPTION}
    _below(triton, trace_id, [span for span in ours if "echo" in span.name])  # an unknown model has no span there


class Stream:
    """A stream of the synchronous client, and what its callback is told."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._told: queue.Queue[Any] = queue.Queue()
        client.start_stream(lambda result, error: self._told.put((result, error)))

    def ask(self, prompt: str = PROMPT, **options: Any) -> None:
        given = _llm(grpc_client, prompt, limit=options.pop("limit", 6), stream=True)
        self._client.async_stream_infer("llm_stream", given, **options)

    def next(self) -> Any:
        return self._told.get(timeout=20)

    def until_final(self) -> list[Any]:
        """The results and errors up to the final response, which itself says nothing more."""
        received = []
        while True:
            result, error = self.next()
            if result is not None and result.get_response().parameters["triton_final_response"].bool_param:
                return received
            received.append((result, error))


@pytest.fixture
def stream(triton: Triton, spans: Recorded) -> Iterator[Stream]:
    """Opened while the SDK runs: a stream from before is left alone."""
    with grpc_client.InferenceServerClient(triton.grpc) as client:
        yield Stream(client)
        client.stop_stream(cancel_requests=True)


def _assert_stream(span: Any, results: list[Any]) -> None:
    seen = span.attributes
    assert (span.name, span.status) == ("text_completion llm_stream", "unset")
    assert seen["gen_ai.request.stream"] is True
    assert seen["gen_ai.response.time_to_first_chunk"] > 0
    assert seen["gen_ai.usage.input_tokens"] == _number(results[-1], "num_input_tokens")
    assert seen["gen_ai.usage.output_tokens"] == sum(_number(result, "num_output_tokens") for result in results) > 1
    assert seen["gen_ai.response.finish_reasons"] == [_word(results[-1], "finish_reason")]
    said = json.loads(seen["gen_ai.output.messages"])[0]["parts"][0]["content"]
    assert said == "".join(_word(result, "text_output") for result in results)


def test_a_decoupled_stream_is_one_span(stream: Stream, spans: Recorded) -> None:
    stream.ask(request_id="1", enable_empty_final_response=True)
    results = [result for result, _ in stream.until_final()]
    _assert_stream(spans.only(), results)


def test_requests_on_one_stream_are_told_apart(stream: Stream, spans: Recorded) -> None:
    for request_id in "123":
        stream.ask(PROMPT * int(request_id), request_id=request_id, limit=4 + int(request_id))
    results: dict[str, list[Any]] = {"1": [], "2": [], "3": []}
    for _ in range(5 + 6 + 7):
        result, _ = stream.next()
        results[result.get_response().id].append(result)
    assert spans.spans() == []
    stream._client.stop_stream()
    for span in _ended(spans, 3):
        _assert_stream(span, results[span.attributes["gen_ai.request.id"]])


def test_a_failure_inside_a_stream(stream: Stream, spans: Recorded) -> None:
    stream.ask("please break this", enable_empty_final_response=True)
    stream.ask("fail", enable_empty_final_response=True)
    stream.ask(enable_empty_final_response=True)
    broken, failed = stream.until_final(), stream.until_final()
    whole = [result for result, _ in stream.until_final()]
    inside, before, after = spans.spans()
    assert [str(error) for _, error in (broken[-1], failed[-1])] == ["broken inside", "model said no"]
    assert [span.status_message for span in (inside, before)] == ["broken inside", "model said no"]
    assert {span.attributes["error.type"] for span in (inside, before)} == {EXCEPTION}
    assert inside.attributes["gen_ai.usage.output_tokens"] == 2
    _assert_stream(after, whole)


def test_a_stream_that_is_cancelled(stream: Stream, spans: Recorded) -> None:
    stream.ask("slow and long and slow and long", request_id="answered", limit=60)
    stream.next()
    stream._client.stop_stream(cancel_requests=True)
    span = _ended(spans, 1)[0]
    assert span.status == "unset"
    assert 0 < span.attributes["gen_ai.usage.output_tokens"] < 60
    assert "gen_ai.response.finish_reasons" not in span.attributes


def test_an_unknown_model_on_a_stream(stream: Stream, spans: Recorded) -> None:
    stream._client.async_stream_infer("nope", [_text(grpc_client, "x")])
    _, error = stream.next()
    assert spans.only().status_message == str(error)


async def _given(*prompts: str, hold: asyncio.Event | None = None) -> AsyncIterator[dict[str, Any]]:
    for prompt in prompts:
        given = _llm(grpc_client, prompt, stream=True, limit=40 if "slow" in prompt else 6)
        yield {"model_name": "llm_stream", "inputs": given, "request_id": prompt}
    if hold is not None:
        await hold.wait()


async def test_an_asynchronous_stream(triton: Triton, spans: Recorded) -> None:
    async with grpc_aio.InferenceServerClient(triton.grpc) as client:
        results = [result async for result, _ in client.stream_infer(_given(PROMPT))]
    _assert_stream(spans.only(), results)


async def test_an_asynchronous_stream_of_many(triton: Triton, trace_id: str, spans: Recorded) -> None:
    opened: list[Any] = []
    for turn in range(1, 6):
        async with grpc_aio.InferenceServerClient(triton.grpc) as client:
            pairs = client.stream_infer(_given("the fox is brown and quick", "fail", "the other dog is not known"))
            received = [(result, error) async for result, error in pairs]
        ended = {span.attributes["gen_ai.request.id"]: span for span in spans.spans()[3 * (turn - 1) :]}
        assert len(ended) == 3
        assert [span.status for span in ended.values()].count("error") == 1
        for name, span in ended.items():
            if name != "fail":
                answers = [result for result, error in received if not error]
                _assert_stream(span, [result for result in answers if result.get_response().id == name])
        opened.append(min(ended.values(), key=lambda span: span.span_id))  # the one that started with the stream
    _below(triton, trace_id, opened)


@pytest.mark.parametrize("way", ["break", "cancel"])
async def test_an_asynchronous_stream_left_early(way: str, triton: Triton, spans: Recorded) -> None:
    hold = asyncio.Event()
    async with grpc_aio.InferenceServerClient(triton.grpc) as client:
        results = client.stream_infer(_given("slow and long and slow and long", hold=hold))
        async for result, _ in results:
            first = _number(result, "num_output_tokens")
            if way == "cancel":
                results.cancel()
            break
        del results
        hold.set()
    span = spans.only()
    assert span.status == "unset"
    assert span.attributes["gen_ai.usage.output_tokens"] >= first


def _post(triton: Triton, model: str, verb: str, body: dict[str, Any]) -> Any:
    httpx = pytest.importorskip("httpx")
    return httpx.post(f"http://{triton.http}/v2/models/{model}/{verb}", json=body)


BODY = {
    "text_input": PROMPT,
    "max_tokens": 6,
    "stream": True,
    "return_finish_reason": True,
    "return_num_input_tokens": True,
    "return_num_output_tokens": True,
}


def test_generate_over_plain_http(triton: Triton, trace_id: str, spans: Recorded) -> None:
    whole = _post(triton, "llm", "generate", BODY).json()
    events = _post(triton, "llm_stream", "generate_stream", BODY).text.split("\n\n")
    parsed = [json.loads(event.removeprefix("data: ")) for event in events if event.strip()]
    ours = spans.spans()
    first, second = (span.attributes for span in ours)
    assert first["gen_ai.usage.input_tokens"] == second["gen_ai.usage.input_tokens"] == whole["num_input_tokens"]
    assert first["gen_ai.usage.output_tokens"] == whole["num_output_tokens"] == 6
    assert second["gen_ai.usage.output_tokens"] == sum(event["num_output_tokens"] for event in parsed) == 6
    assert first["gen_ai.response.finish_reasons"] == second["gen_ai.response.finish_reasons"] == ["length"]
    said = [json.loads(seen["gen_ai.output.messages"])[0]["parts"][0]["content"] for seen in (first, second)]
    assert said == [whole["text_output"], "".join(event["text_output"] for event in parsed)]
    _below(triton, trace_id, ours)


def test_generate_fails_over_plain_http(triton: Triton, spans: Recorded) -> None:
    refused = _post(triton, "llm", "generate", {**BODY, "text_input": "fail"})
    broken = _post(triton, "llm_stream", "generate_stream", {**BODY, "text_input": "please break this"})
    assert (refused.status_code, broken.status_code) == (400, 200)
    first, second = spans.spans()
    assert (first.status, second.status) == ("error", "error")
    assert second.status_message == "broken inside"
    assert second.attributes["gen_ai.usage.output_tokens"] == 2


def test_nothing_is_asked_of_the_server_but_what_the_user_asks(triton: Triton, spans: Recorded) -> None:
    def counts() -> dict[str, int]:
        with urllib.request.urlopen(f"http://{triton.http}/v2/models/stats", timeout=5) as response:
            stats = json.load(response)["model_stats"]
        return {model["name"]: model["inference_count"] for model in stats}

    before = counts()
    with http_client.InferenceServerClient(triton.http) as client:
        client.infer("llm", _llm(http_client))
    after = counts()
    assert {name: after[name] - before[name] for name in after if after[name] != before[name]} == {"llm": 1}
    assert len(spans.spans()) == 1
