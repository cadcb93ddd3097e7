"""A real vLLM server with a tiny model, called through `openai`: our counts are its counters, its span is our child."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from backends.vllm.needs import QUIET, require
from limelight.testing import Recorded, _recorded
from sdk.server import Peer, otlp_reply

openai = pytest.importorskip("openai")

pytestmark = [pytest.mark.backend, pytest.mark.timeout(600), pytest.mark.filterwarnings("ignore")]

MESSAGES: Any = [{"role": "user", "content": "Count to five."}]
MODEL = "tiny"


@dataclass
class Server:
    """A running server: its base address, and the OTLP receiver that it sends its own spans to."""

    base: str
    receiver: Peer

    def counter(self, name: str) -> int:
        """One of its counters, summed over its labels."""
        with urllib.request.urlopen(f"{self.base}/metrics") as answer:
            lines = re.findall(rf"^vllm:{name}(?:{{[^}}]*}})? (\S+)$", answer.read().decode(), re.MULTILINE)
        assert lines, f"no counter {name}"
        return round(sum(map(float, lines)))

    def own_spans(self, request_ids: Collection[str]) -> list[Any]:
        """The `llm_request` spans of these requests, waiting for all of them.

        Spans of earlier tests come whenever the server's exporter sends them: only the request's id tells them apart.
        """
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        for _ in range(200):
            requests = [ExportTraceServiceRequest.FromString(asked.body) for asked in list(self.receiver.asked)]
            found = [
                _recorded(span)
                for request in requests
                for resource in request.resource_spans
                for scope in resource.scope_spans
                for span in scope.spans
                if span.name == "llm_request"
            ]
            asked_for = [span for span in found if span.attributes["gen_ai.request.id"] in request_ids]
            if len(asked_for) >= len(request_ids):
                return asked_for
            time.sleep(0.1)
        pytest.fail(f"spans of {sorted(request_ids)} were awaited, {len(found)} others came")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The OpenAI-compatible server with everything on that tells of single requests."""
    require("vllm")
    from backends.conftest import _free_port
    from backends.vllm.tiny_model import kept

    port = _free_port()
    with Peer() as receiver:
        receiver.says(otlp_reply())
        command = [
            *(sys.executable, "-P", "-m", "vllm.entrypoints.openai.api_server"),
            *("--host", "127.0.0.1", "--port", str(port), "--model", str(kept()), "--served-model-name", MODEL),
            *("--dtype", "float32", "--max-model-len", "512", "--enforce-eager", "--max-num-seqs", "8"),
            *("--otlp-traces-endpoint", f"{receiver.url}/v1/traces"),
            *("--enable-prompt-tokens-details", "--enable-per-request-metrics"),
        ]
        environment = {
            **os.environ,
            **QUIET,
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }
        log = Path(os.environ.get("TMPDIR", "/tmp")) / f"vllm-server-{port}.log"
        with (
            log.open("wb") as output,
            subprocess.Popen(command, env=environment, stdout=output, stderr=output) as process,
        ):
            try:
                base = f"http://127.0.0.1:{port}"
                _await(base, process, log)
                yield Server(base, receiver)
            finally:
                process.terminate()
                process.wait(60)


def _await(base: str, process: Any, log: Path) -> None:
    for _ in range(3000):
        assert process.poll() is None, log.read_text()[-4000:]
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{base}/health"):
            return
        threading.Event().wait(0.1)
    pytest.fail(f"vLLM did not start: {log.read_text()[-4000:]}")


@pytest.fixture
def client(server: Server) -> Iterator[Any]:
    with openai.OpenAI(api_key="none", base_url=f"{server.base}/v1", max_retries=0) as made:
        yield made


def _assert_usage(seen: dict[str, Any], usage: Any) -> None:
    assert seen["gen_ai.usage.input_tokens"] == usage.prompt_tokens
    assert seen["gen_ai.usage.output_tokens"] == usage.completion_tokens
    assert seen["gen_ai.usage.cache_read.input_tokens"] == (usage.prompt_tokens_details.cached_tokens or 0)


def test_counts_equal_each_answer_and_the_servers_counters(server: Server, client: Any, spans: Recorded) -> None:
    before = {name: server.counter(name) for name in ("prompt_tokens_total", "generation_tokens_total")}
    usages = []
    create = client.chat.completions.create
    for limit in (3, 7):
        usages.append(create(model=MODEL, messages=MESSAGES, max_tokens=limit).usage)
        options = {"include_usage": True, "continuous_usage_stats": limit == 7}
        chunks = list(create(model=MODEL, messages=MESSAGES, max_tokens=limit, stream=True, stream_options=options))
        usages.append(chunks[-1].usage)
    unasked = list(create(model=MODEL, messages=MESSAGES, max_tokens=5, stream=True))
    assert all(chunk.choices for chunk in unasked)  # the usage we asked for is ours alone
    usages.append(client.completions.create(model=MODEL, prompt="def f(", max_tokens=4).usage)
    usages.append(asyncio.run(_asynchronous(server)))
    said = [span.attributes for span in spans.spans()]
    assert len(said) == 7
    told = [seen for seen in said if seen["gen_ai.usage.output_tokens"] != 5]
    for seen, usage in zip(told, usages, strict=True):
        _assert_usage(seen, usage)
    for name, attribute in (("prompt_tokens_total", "input"), ("generation_tokens_total", "output")):
        told_tokens = sum(seen[f"gen_ai.usage.{attribute}_tokens"] for seen in said)
        assert told_tokens == server.counter(name) - before[name]


async def _asynchronous(server: Server) -> Any:
    async with openai.AsyncOpenAI(api_key="none", base_url=f"{server.base}/v1") as client:
        return (await client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=6)).usage


def test_the_server_is_recognised_and_tells_its_times(client: Any, spans: Recorded) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=5)
    chunks = list(client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=5, stream=True))
    assert chunks[-1].choices[0].finish_reason == "length"
    whole, streamed = spans.spans()
    for span in (whole, streamed):
        seen = span.attributes
        assert (span.name, span.kind, seen["gen_ai.provider.name"]) == (f"chat {MODEL}", "client", "vllm")
        assert seen["openai.response.system_fingerprint"] == answer.system_fingerprint
        assert seen["gen_ai.response.finish_reasons"] == ["length"]
        for name in ("time_in_queue", "time_in_model_prefill", "time_in_model_decode"):
            assert seen[f"gen_ai.latency.{name}"] > 0
    metrics = answer.metrics
    assert whole.attributes["gen_ai.latency.time_in_model_decode"] == metrics["generation_time_ms"] / 1000
    assert streamed.attributes["gen_ai.response.time_to_first_chunk"] > 0


def test_two_choices(server: Server, client: Any, spans: Recorded) -> None:
    prompt_tokens = server.counter("prompt_tokens_total")
    answer = client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=5, n=2, seed=1)
    seen = spans.only().attributes
    _assert_usage(seen, answer.usage)
    assert seen["gen_ai.request.choice.count"] == 2
    assert len(seen["gen_ai.response.finish_reasons"]) == 2
    # the engine runs the prompt once for each choice; the answer, which is what is billed, counts it once
    assert server.counter("prompt_tokens_total") - prompt_tokens == 2 * seen["gen_ai.usage.input_tokens"]


def test_the_servers_own_span_is_a_child_of_ours(server: Server, client: Any, spans: Recorded) -> None:
    client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=3)
    list(client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=4, stream=True))
    asyncio.run(_asynchronous(server))
    ours = {span.attributes["gen_ai.response.id"]: span for span in spans.spans()}
    assert len(ours) == 3
    own = server.own_spans(ours)
    assert len(own) == 3
    for span in own:
        mine = ours[span.attributes["gen_ai.request.id"]]
        assert (span.trace_id, span.parent_id, span.kind) == (mine.trace_id, mine.span_id, "server")
        assert span.attributes["gen_ai.usage.prompt_tokens"] == mine.attributes["gen_ai.usage.input_tokens"]
        assert span.attributes["gen_ai.usage.completion_tokens"] == mine.attributes["gen_ai.usage.output_tokens"]
        for name in ("time_in_queue", "time_in_model_prefill", "time_in_model_decode"):
            expected = span.attributes[f"gen_ai.latency.{name}"]
            assert mine.attributes[f"gen_ai.latency.{name}"] == pytest.approx(expected)


def test_errors(client: Any, spans: Recorded) -> None:
    client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=1)
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="nobody", messages=MESSAGES)
    with pytest.raises(openai.BadRequestError, match="maximum context length"):
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "word " * 2000}])
    _, missing, long = spans.spans()
    assert (missing.status, missing.attributes["error.type"]) == ("error", "openai.NotFoundError")
    assert (long.status, long.attributes["error.type"]) == ("error", "openai.BadRequestError")
    assert long.attributes["gen_ai.provider.name"] == "vllm"  # known from its earlier answers
    assert missing.attributes["gen_ai.provider.name"] == "openai"  # for all that is known
    assert "gen_ai.usage.input_tokens" not in long.attributes


def test_a_stream_left_early_is_aborted_and_counts_nothing(server: Server, client: Any, spans: Recorded) -> None:
    with client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=400, stream=True) as stream:
        for chunk in stream:
            if chunk.choices[0].delta.content:
                break
    seen = spans.only().attributes
    assert seen["gen_ai.response.time_to_first_chunk"] > 0
    assert "gen_ai.usage.output_tokens" not in seen
    for _ in range(100):
        if server.counter("num_requests_running") == 0:
            return
        time.sleep(0.1)
    pytest.fail("the server goes on with a request nobody reads")


def test_the_responses_api(client: Any, spans: Recorded) -> None:
    answer = client.responses.create(model=MODEL, input="hi", max_output_tokens=16)
    seen = spans.only().attributes
    assert seen["gen_ai.provider.name"] == "vllm"
    assert seen["gen_ai.usage.input_tokens"] == answer.usage.input_tokens
    assert seen["gen_ai.usage.output_tokens"] == answer.usage.output_tokens
