"""The clients of managed APIs against `llmock`, a peer that speaks their protocols and breaks on demand.

Counts are the peer's; what is checked is that ours are those the client library itself reports, and that each call,
whole, streamed, refused or cut, leaves exactly one span.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from backends.conftest import _free_port, _require
from limelight.testing import Recorded

# google-genai builds on aiohttp where that is installed, in a way that aiohttp discourages
pytestmark = [
    pytest.mark.backend,
    pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning"),
]
ROOT = Path(__file__).parents[2]
QUESTION = "Name a colour."
MESSAGES: list[Any] = [{"role": "user", "content": QUESTION}]
Counts = tuple[int | None, int | None]


def _environment(name: str) -> Path:
    """The programs of an environment under `.cache`; a missing one is a failure where backends are required."""
    programs = ROOT / ".cache" / name / "bin"
    if not (programs / "python").exists():
        message = f"no environment: .cache/{name} (make backends)"
        if os.environ.get("LIMELIGHT_REQUIRE_BACKENDS") == "1":
            pytest.fail(message)
        pytest.skip(message)
    return programs


def _ask(url: str, body: bytes | None = None) -> bytes:
    with urllib.request.urlopen(urllib.request.Request(url, body), timeout=10) as answer:
        return answer.read()


@pytest.fixture(scope="module")
def llmock() -> Iterator[str]:
    """The peer, until the module's tests are over; yields its base address."""
    port = _free_port()
    base = f"http://127.0.0.1:{port}"
    command = [str(_environment("llmock") / "llmock"), "serve", "--host", "127.0.0.1", "--port", str(port)]
    with subprocess.Popen([*command, "--log-level", "warning"], stdout=subprocess.DEVNULL) as process:
        try:
            for _ in range(300):
                assert process.poll() is None, "llmock did not start"
                try:
                    _ask(f"{base}/_llmock/scenario")
                    break
                except OSError:
                    time.sleep(0.1)
            yield base
        finally:
            process.terminate()


@pytest.fixture
def peer(llmock: str) -> Iterator[str]:
    """The peer without faults left by another test."""
    yield llmock
    _ask(f"{llmock}/_llmock/reset", b"")


def _script(peer: str, **behavior: Any) -> None:
    """What happens to the next request."""
    _ask(f"{peer}/_llmock/scenario", json.dumps({"behaviors": [behavior]}).encode())


class OpenAI:
    library, model = "openai", "gpt-4o"

    def __init__(self, base: str) -> None:
        import openai

        self.options = {"api_key": "k", "base_url": f"{base}/v1", "max_retries": 0}
        self.client = openai.OpenAI(**self.options)
        self.aio = openai.AsyncOpenAI

    @staticmethod
    def counts(usage: Any) -> Counts:
        return usage.prompt_tokens, usage.completion_tokens

    def plain(self) -> Counts:
        return self.counts(self.client.chat.completions.create(model=self.model, messages=MESSAGES).usage)

    def streamed(self) -> Counts:
        chunks = list(
            self.client.chat.completions.create(
                model=self.model, messages=MESSAGES, stream=True, stream_options={"include_usage": True}
            )
        )
        return self.counts(chunks[-1].usage)

    async def asynchronous(self) -> Counts:
        async with self.aio(**self.options) as client:
            return self.counts((await client.chat.completions.create(model=self.model, messages=MESSAGES)).usage)


class Anthropic:
    library, model = "anthropic", "claude-opus-4-6"

    def __init__(self, base: str) -> None:
        import anthropic

        self.options = {"api_key": "k", "base_url": f"{base}/anthropic", "max_retries": 0}
        self.client = anthropic.Anthropic(**self.options)
        self.aio = anthropic.AsyncAnthropic
        self.asked = {"model": self.model, "messages": MESSAGES, "max_tokens": 64}

    @staticmethod
    def counts(usage: Any) -> Counts:
        return usage.input_tokens, usage.output_tokens

    def plain(self) -> Counts:
        return self.counts(self.client.messages.create(**self.asked).usage)

    def streamed(self) -> Counts:
        with self.client.messages.stream(**self.asked) as stream:
            return self.counts(stream.get_final_message().usage)

    async def asynchronous(self) -> Counts:
        async with self.aio(**self.options) as client:
            return self.counts((await client.messages.create(**self.asked)).usage)


class Google:
    library, model = "google.genai", "gemini-2.5-flash"

    def __init__(self, base: str) -> None:
        from google import genai

        # its default version of the API is one the peer does not speak
        self.client = genai.Client(api_key="k", http_options={"base_url": f"{base}/gemini", "api_version": "v1beta"})

    @staticmethod
    def counts(usage: Any) -> Counts:
        return usage.prompt_token_count, usage.candidates_token_count

    def plain(self) -> Counts:
        return self.counts(self.client.models.generate_content(model=self.model, contents=QUESTION).usage_metadata)

    def streamed(self) -> Counts:
        chunks = list(self.client.models.generate_content_stream(model=self.model, contents=QUESTION))
        return self.counts(chunks[-1].usage_metadata)

    async def asynchronous(self) -> Counts:
        async with self.client.aio as client:
            answer = await client.models.generate_content(model=self.model, contents=QUESTION)
            return self.counts(answer.usage_metadata)


class Mistral:
    library, model = "mistralai", "mistral-large-latest"

    def __init__(self, base: str) -> None:
        from mistralai.client import Mistral

        self.client = Mistral(api_key="k", server_url=f"{base}/mistral")
        self.asked = {"model": self.model, "messages": MESSAGES}

    @staticmethod
    def counts(usage: Any) -> Counts:
        return usage.prompt_tokens, usage.completion_tokens

    def plain(self) -> Counts:
        return self.counts(self.client.chat.complete(**self.asked).usage)

    def streamed(self) -> Counts:
        with self.client.chat.stream(**self.asked) as stream:
            last = list(stream)[-1].data
        return self.counts(last.usage) if last.usage else (None, None)  # the peer, unlike Mistral, sends none

    async def asynchronous(self) -> Counts:
        async with self.client as client:
            return self.counts((await client.chat.complete_async(**self.asked)).usage)


class Cohere:
    library, model = "cohere", "command-a-03-2025"

    def __init__(self, base: str) -> None:
        import cohere

        self.options = {"api_key": "k", "base_url": f"{base}/cohere", "max_retries": 0}
        self.client = cohere.ClientV2(**self.options)
        self.aio = cohere.AsyncClientV2
        self.asked = {"model": self.model, "messages": MESSAGES}

    @staticmethod
    def counts(usage: Any) -> Counts:
        return usage.billed_units.input_tokens, usage.billed_units.output_tokens

    def plain(self) -> Counts:
        return self.counts(self.client.chat(**self.asked).usage)

    def streamed(self) -> Counts:
        events = list(self.client.chat_stream(**self.asked))
        return self.counts(next(event.delta.usage for event in events if event.type == "message-end"))

    async def asynchronous(self) -> Counts:
        async with self.aio(**self.options) as client:
            return self.counts((await client.chat(**self.asked)).usage)


CLIENTS = [OpenAI, Anthropic, Google, Mistral, Cohere]


@pytest.fixture(params=CLIENTS, ids=lambda client: client.library)
def client(request: pytest.FixtureRequest, peer: str, spans: Recorded) -> Any:
    """A client, made after the SDK was started."""
    _require(request.param.library)
    return request.param(peer)


def _assert_counts(attributes: dict, reported: Counts) -> None:
    counted = attributes.get("gen_ai.usage.input_tokens"), attributes.get("gen_ai.usage.output_tokens")
    assert counted == reported
    assert all(count > 0 for count in reported if count is not None)


def test_our_counts_are_those_the_client_reports(client: Any, spans: Recorded) -> None:
    reported = [client.plain(), client.streamed(), asyncio.run(client.asynchronous())]
    ended = spans.spans()
    for span, counts in zip(ended, reported, strict=True):
        assert span.name.endswith(f" {client.model}")
        assert span.status == "unset"
        _assert_counts(span.attributes, counts)
        assert json.loads(span.attributes["gen_ai.output.messages"])[0]["parts"][0]["content"]
        assert span.attributes["gen_ai.response.finish_reasons"]
    assert ["gen_ai.response.time_to_first_chunk" in span.attributes for span in ended] == [False, True, False]


@pytest.mark.parametrize("use", ["plain", "streamed"])
def test_a_refusal_is_one_failed_span(client: Any, peer: str, spans: Recorded, use: str) -> None:
    _script(peer, type="fail", status=429)
    with pytest.raises(Exception, match=r"429|rate|limit|slow") as caught:
        getattr(client, use)()
    span = spans.only()
    assert span.status == "error"
    assert span.attributes["error.type"].endswith(type(caught.value).__qualname__)
    assert "gen_ai.usage.output_tokens" not in span.attributes


def test_a_stream_cut_half_way_is_one_failed_span(client: Any, peer: str, spans: Recorded) -> None:
    _script(peer, type="stream_fault", kind="disconnect", after_chunks=3)
    with pytest.raises(Exception, match=r"peer closed|incomplete|[Cc]onnection") as caught:
        client.streamed()
    span = spans.only()
    assert span.status == "error"
    assert span.attributes["error.type"].endswith(type(caught.value).__qualname__)


def _litellm(peer: str) -> SimpleNamespace:
    python = _environment("litellm") / "python"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "sdk")}
    script = str(Path(__file__).with_name("litellm_calls.py"))
    done = subprocess.run(
        [str(python), "-W", "ignore", script, peer], capture_output=True, text=True, timeout=120, env=environment
    )
    assert done.returncode == 0, done.stderr
    return SimpleNamespace(**json.loads(done.stdout.splitlines()[-1]))


def test_litellm_reports_what_our_spans_say(peer: str) -> None:
    seen = _litellm(peer)
    assert seen.swallowed == {}
    for use in seen.uses:
        ((name, status, attributes),) = use["spans"]
        if use["use"] == "streamed mistral":  # the peer sends no usage there, and LiteLLM counts by itself
            assert status == "unset"
            assert use["counts"][0] > 0
            assert not {"gen_ai.usage.input_tokens", "gen_ai.usage.cost"} & attributes.keys()
        elif "counts" in use:
            read, written = use["counts"]
            assert status == "unset", use["use"]
            assert attributes["gen_ai.usage.input_tokens"] == read > 0, use["use"]
            assert attributes.get("gen_ai.usage.output_tokens") == written, use["use"]
            assert "/" not in name
        else:
            assert status == "error", use["use"]
            assert attributes["error.type"].endswith(use["error"])
    assert {use["use"]: use.get("error") for use in seen.uses if "error" in use}.keys() == {
        "refused openai",
        "cut openai",
    }
