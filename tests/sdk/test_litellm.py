"""The real `litellm` over real clients and plain HTTP, against a local server: one span for each of its calls.

Runs where LiteLLM is installed (`make` gives it an environment of its own, since it pins an older `openai`).
"""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import inspect
import json
import os
import threading
from collections.abc import Iterator

import pytest

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # or its import looks for a newer price list
litellm = pytest.importorskip("litellm")
openai = pytest.importorskip("openai")

from limelight import call  # noqa: E402
from limelight.providers import litellm_names as names  # noqa: E402
from limelight.testing import Recorded, recording  # noqa: E402
from sdk.server import Peer, Reply, json_reply, sse_reply  # noqa: E402
from sdk.test_openai import CHUNKS, COMPLETION, MESSAGES, RESPONSE, USAGE_CHUNK, _events  # noqa: E402

pytestmark = [
    # LiteLLM's own: its objects hold what their types do not name, its clients and event loops outlive a test
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
]
needs_mcp = pytest.mark.skipif(importlib.util.find_spec("mcp") is None, reason="LiteLLM's responses need mcp")
HI = [{"role": "user", "content": "hi"}]
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}]
CLAUDE_USAGE = {"input_tokens": 20, "cache_read_input_tokens": 70, "cache_creation_input_tokens": 30}
CLAUDE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-5",
    "content": [{"type": "text", "text": "Hello"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {**CLAUDE_USAGE, "output_tokens": 45},
}
CLAUDE_EVENTS = [
    {
        "type": "message_start",
        "message": {**CLAUDE, "content": [], "stop_reason": None, "usage": {**CLAUDE_USAGE, "output_tokens": 1}},
    },
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hel"}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "lo"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 45}},
    {"type": "message_stop"},
]


@pytest.fixture(autouse=True)
def quiet_litellm() -> Iterator[None]:
    """LiteLLM prints where to give feedback for every error, and remembers answers of other tests nowhere."""
    litellm.suppress_debug_info = True
    yield
    litellm.cache = None


def _keys(peer: Peer) -> dict:
    return {"api_key": "k", "api_base": f"{peer.url}/v1", "max_retries": 0}


def _stream_reply() -> Reply:
    return sse_reply([*CHUNKS, USAGE_CHUNK])


def _assert_usage(attributes: dict) -> None:
    expected = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.response.model": "gpt-4o-2024",
        "gen_ai.response.id": "chatcmpl-1",
        "gen_ai.usage.input_tokens": 20,
        "gen_ai.usage.output_tokens": 7,
        "gen_ai.usage.cache_read.input_tokens": 8,
        "gen_ai.usage.cache_write.input_tokens": 4,
        "gen_ai.usage.reasoning.output_tokens": 3,
        "server.address": "127.0.0.1",
    }
    assert {name: attributes.get(name) for name in expected} == expected
    assert attributes["gen_ai.usage.cost"] > 0


STREAMED = [
    {"type": "text", "content": "Hello"},
    {"type": "tool_call", "id": "c1", "name": "f", "arguments": '{"a":1}'},
]


def test_a_completion_is_one_span_whatever_is_below(peer: Peer, spans: Recorded) -> None:
    peer.says(json_reply(COMPLETION))
    answer = litellm.completion(
        "openai/gpt-4o",
        MESSAGES,
        temperature=0.5,
        top_p=0.9,
        max_tokens=9,
        seed=7,
        stop=["x"],
        n=2,
        presence_penalty=0.1,
        frequency_penalty=0.2,
        response_format={"type": "json_object"},
        tools=TOOLS,
        **_keys(peer),
    )
    assert answer.choices[0].message.content == "Looking"
    span = spans.only()  # the openai library is instrumented too, and silent
    seen = span.attributes
    assert (span.name, span.kind, span.status) == ("chat gpt-4o", "client", "unset")
    _assert_usage(seen)
    assert seen["gen_ai.usage.cost"] == answer._hidden_params["response_cost"]
    expected = {
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.top_p": 0.9,
        "gen_ai.request.max_tokens": 9,
        "gen_ai.request.seed": 7,
        "gen_ai.request.stop_sequences": ["x"],
        "gen_ai.request.choice.count": 2,
        "gen_ai.request.presence_penalty": 0.1,
        "gen_ai.request.frequency_penalty": 0.2,
        "gen_ai.output.type": "json",
        "gen_ai.response.finish_reasons": ["tool_calls"],
        "server.port": peer.port,
    }
    assert {name: seen.get(name) for name in expected} == expected
    assert not {"gen_ai.request.stream", "limelight.cache_hit"} & seen.keys()
    system, user, assistant, tool = json.loads(seen["gen_ai.input.messages"])
    assert system == {"role": "system", "parts": [{"type": "text", "content": "be brief"}]}
    assert (user["parts"][1]["type"], user["parts"][1]["size"]) == ("blob", 5)
    assert assistant["parts"] == [{"type": "tool_call", "id": "c0", "name": "f", "arguments": "{}"}]
    assert tool["parts"] == [{"type": "tool_call_response", "id": "c0", "response": "42"}]
    (output,) = json.loads(seen["gen_ai.output.messages"])
    assert output["parts"] == [
        {"type": "text", "content": "Looking"},
        {"type": "tool_call", "id": "c1", "name": "weather", "arguments": '{"city":"Oslo"}'},
    ]
    assert json.loads(seen["gen_ai.tool.definitions"])[0]["function"]["name"] == "weather"


@pytest.mark.parametrize("options", [{}, {"stream_options": {"include_usage": True}}])
def test_a_stream_stays_the_librarys_own_object(peer: Peer, spans: Recorded, options: dict) -> None:
    peer.says(_stream_reply())
    stream = litellm.completion("openai/gpt-4o", HI, stream=True, **options, **_keys(peer))
    assert type(stream) is litellm.CustomStreamWrapper
    before = set(vars(stream))
    chunks = list(stream)
    assert not any("limelight" in name for name in {*vars(stream), *before})
    assert len(chunks) == len(CHUNKS) + bool(options)
    span = spans.only()
    _assert_usage(span.attributes)
    assert span.attributes["gen_ai.request.stream"] is True
    assert span.attributes["gen_ai.response.time_to_first_chunk"] > 0
    assert span.attributes["gen_ai.response.finish_reasons"] == ["stop"]
    assert json.loads(span.attributes["gen_ai.output.messages"])[0]["parts"] == STREAMED


async def test_asynchronously(peer: Peer, spans: Recorded) -> None:
    assert inspect.iscoroutinefunction(litellm.acompletion)
    peer.says(json_reply(COMPLETION), _stream_reply())
    await litellm.acompletion("openai/gpt-4o", HI, **_keys(peer))
    stream = await litellm.acompletion("openai/gpt-4o", HI, stream=True, **_keys(peer))
    assert type(stream) is litellm.CustomStreamWrapper
    assert len([chunk async for chunk in stream]) == len(CHUNKS)
    whole, streamed = spans.spans()
    _assert_usage(whole.attributes)
    _assert_usage(streamed.attributes)


def _assert_claude(attributes: dict) -> None:
    expected = {
        "gen_ai.provider.name": "anthropic",
        "gen_ai.request.model": "claude-sonnet-4-5",
        "gen_ai.response.model": "claude-sonnet-4-5",
        "gen_ai.usage.input_tokens": 120,
        "gen_ai.usage.output_tokens": 45,
        "gen_ai.usage.cache_read.input_tokens": 70,
        "gen_ai.usage.cache_write.input_tokens": 30,
        "gen_ai.response.finish_reasons": ["stop"],
    }
    assert {name: attributes.get(name) for name in expected} == expected
    # LiteLLM's own guess, and a split of the uncached tokens alone
    assert not {"gen_ai.usage.reasoning.output_tokens", "gen_ai.usage.text.input_tokens"} & attributes.keys()
    assert attributes["gen_ai.usage.cost"] == pytest.approx(0.0008685)
    assert json.loads(attributes["gen_ai.output.messages"])[0]["parts"] == [{"type": "text", "content": "Hello"}]


async def test_anthropic_over_plain_http(peer: Peer, spans: Recorded) -> None:
    keys = {"api_key": "k", "api_base": peer.url}
    events = sse_reply(CLAUDE_EVENTS, named=True, done=False)
    peer.says(json_reply(CLAUDE), events, json_reply(CLAUDE), events)
    litellm.completion("anthropic/claude-sonnet-4-5", HI, **keys)
    list(litellm.completion("claude-sonnet-4-5", HI, stream=True, **keys))
    await litellm.acompletion("anthropic/claude-sonnet-4-5", HI, **keys)
    stream = await litellm.acompletion("claude-sonnet-4-5", HI, stream=True, **keys)
    assert [chunk async for chunk in stream]
    for span in spans.spans():
        _assert_claude(span.attributes)
    assert len(spans.spans()) == 4


def test_usage_no_provider_sent_stays_unknown(peer: Peer, spans: Recorded) -> None:
    peer.says(sse_reply(CHUNKS))
    stream = litellm.completion("openai/gpt-4o", HI, stream=True, stream_options={"include_usage": True}, **_keys(peer))
    assert list(stream)[-1].usage is not None  # LiteLLM counts for itself
    seen = spans.only().attributes
    counted = {"gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens", "gen_ai.usage.cost"}
    assert not counted & seen.keys()


def _text(text: str, finish: str | None = None) -> dict:
    choice = {"index": 0, "text": text, "finish_reason": finish}
    return {
        "id": "c1",
        "object": "text_completion",
        "created": 1,
        "model": "gpt-3.5-turbo-instruct",
        "choices": [choice],
    }


async def test_text_completions(peer: Peer, spans: Recorded) -> None:
    model = "text-completion-openai/gpt-3.5-turbo-instruct"
    usage = {"prompt_tokens": 4, "completion_tokens": 1, "total_tokens": 5}
    whole = {**_text("Hello", "stop"), "usage": usage}
    pieces = sse_reply([_text("Hel"), _text("lo"), _text("", "stop")])
    peer.says(json_reply(whole), pieces, json_reply(whole))
    litellm.text_completion("hi", model, max_tokens=3, **_keys(peer))
    stream = litellm.text_completion(prompt="hi", model=model, stream=True, **_keys(peer))
    assert "".join(chunk.choices[0].text or "" for chunk in stream) == "Hello"
    await litellm.atext_completion(prompt="hi", model=model, **_keys(peer))
    first, streamed, third = spans.spans()
    for span in (first, streamed, third):
        assert span.name == "text_completion gpt-3.5-turbo-instruct"
        assert span.attributes["gen_ai.provider.name"] == "openai"
        assert json.loads(span.attributes["gen_ai.input.messages"])[0]["parts"] == [{"type": "text", "content": "hi"}]
        assert json.loads(span.attributes["gen_ai.output.messages"])[0]["parts"][0]["content"] == "Hello"
    for span in (first, third):
        assert (span.attributes["gen_ai.usage.input_tokens"], span.attributes["gen_ai.usage.output_tokens"]) == (4, 1)
    assert first.attributes["gen_ai.request.max_tokens"] == 3
    assert "gen_ai.usage.input_tokens" not in streamed.attributes  # LiteLLM says 0 of each


async def test_embeddings(peer: Peer, spans: Recorded) -> None:
    data = [{"object": "embedding", "index": 0, "embedding": [0.1, 0.2]}]
    usage = {"prompt_tokens": 4, "total_tokens": 4}
    peer.says(json_reply({"object": "list", "model": "text-embedding-3-small", "data": data, "usage": usage}))
    litellm.embedding("openai/text-embedding-3-small", ["a", "b"], dimensions=2, **_keys(peer))
    await litellm.aembedding(model="openai/text-embedding-3-small", input=["a", "b"], dimensions=2, **_keys(peer))
    for span in spans.spans():
        assert span.name == "embeddings text-embedding-3-small"
        assert span.attributes["gen_ai.usage.input_tokens"] == 4
        assert "gen_ai.usage.output_tokens" not in span.attributes
        assert span.attributes["gen_ai.embeddings.dimension.count"] == 2
        assert json.loads(span.attributes["limelight.input"]) == ["a", "b"]
        assert span.attributes["gen_ai.usage.cost"] > 0
    assert len(spans.spans()) == 2


def _response_events() -> Reply:
    return sse_reply(_events({"type": "response.completed", "sequence_number": 3, "response": RESPONSE}), named=True)


@needs_mcp
async def test_responses(peer: Peer, spans: Recorded) -> None:
    peer.says(json_reply(RESPONSE), _response_events(), json_reply(RESPONSE), _response_events())
    litellm.responses("hi", "openai/gpt-5", instructions="be brief", **_keys(peer))
    assert len(list(litellm.responses(input="hi", model="openai/gpt-5", stream=True, **_keys(peer)))) == 4
    await litellm.aresponses(input="hi", model="openai/gpt-5", **_keys(peer))
    stream = await litellm.aresponses(input="hi", model="openai/gpt-5", stream=True, **_keys(peer))
    assert len([event async for event in stream]) == 4
    ended = spans.spans()
    for span in ended:
        assert span.name == "chat gpt-5"
        assert span.attributes["gen_ai.usage.input_tokens"] == 20
        assert span.attributes["gen_ai.usage.cache_read.input_tokens"] == 8
        assert span.attributes["gen_ai.usage.reasoning.output_tokens"] == 3
        assert span.attributes["gen_ai.response.finish_reasons"] == ["tool_call"]
        assert span.attributes["gen_ai.usage.cost"] > 0
        (output,) = json.loads(span.attributes["gen_ai.output.messages"])
        assert [part["type"] for part in output["parts"]] == ["reasoning", "text", "tool_call"]
    first, streamed = ended[:2]
    assert json.loads(first.attributes["gen_ai.system_instructions"])[0]["content"] == "be brief"
    assert streamed.attributes["gen_ai.response.time_to_first_chunk"] > 0
    assert len(ended) == 4


async def test_a_routers_attempts_are_a_span_each(peer: Peer, spans: Recorded) -> None:
    keys = _keys(peer)
    router = litellm.Router(
        model_list=[
            {"model_name": "first", "litellm_params": {"model": "openai/gpt-4o", **keys}},
            {"model_name": "second", "litellm_params": {"model": "openai/gpt-4.1", **keys}},
        ],
        fallbacks=[{"first": ["second"]}],
        num_retries=0,
    )
    peer.says(json_reply({"error": {"message": "no"}}, 400), json_reply(COMPLETION))
    router.completion("first", HI)
    failed, answered = spans.spans()
    assert (failed.name, failed.status) == ("chat gpt-4o", "error")
    assert failed.attributes["error.type"] == "litellm.exceptions.BadRequestError"
    assert (answered.name, answered.status) == ("chat gpt-4.1", "unset")
    peer.says(_stream_reply())
    assert list(router.completion("second", HI, stream=True))
    peer.says(_stream_reply())
    stream = await router.acompletion("second", HI, stream=True)
    assert [chunk async for chunk in stream]
    for span in spans.spans()[2:]:
        assert span.attributes["gen_ai.usage.output_tokens"] == 7
    assert len(spans.spans()) == 4


async def test_fallbacks_and_retries_inside_a_call_are_that_call(peer: Peer, spans: Recorded) -> None:
    refusal = json_reply({"error": {"message": "slow down"}}, 429)
    peer.says(refusal, json_reply(COMPLETION))
    litellm.completion("openai/gpt-4.1", HI, fallbacks=["openai/gpt-4o"], **_keys(peer))
    peer.says(refusal, json_reply(COMPLETION))
    await litellm.acompletion("openai/gpt-4.1", HI, fallbacks=["openai/gpt-4o"], **_keys(peer))
    sync, asynchronous = spans.spans()
    for span in (sync, asynchronous):
        assert (span.name, span.status) == ("chat gpt-4.1", "unset")
        assert span.attributes["gen_ai.response.model"] == "gpt-4o-2024"
        assert span.attributes["gen_ai.usage.output_tokens"] == 7
    assert len(peer.asked) == 4


def test_fallbacks_where_no_loop_runs(peer: Peer, spans: Recorded) -> None:
    peer.says(json_reply({"error": {"message": "slow down"}}, 429), json_reply(COMPLETION))
    litellm.completion("openai/gpt-4.1", HI, fallbacks=["openai/gpt-4o"], **_keys(peer))
    assert spans.only().attributes["gen_ai.usage.output_tokens"] == 7


def test_an_answer_of_its_cache_has_no_tokens_of_its_own(peer: Peer, spans: Recorded) -> None:
    pytest.importorskip("fastapi")  # LiteLLM's cache imports parts of its proxy
    litellm.cache = litellm.Cache(type="local")
    peer.says(json_reply(COMPLETION))
    for _ in range(2):
        litellm.completion("openai/gpt-4o", HI, caching=True, **_keys(peer))
    assert len(peer.asked) == 1
    asked, cached = (span.attributes for span in spans.spans())
    _assert_usage(asked)
    assert cached["limelight.cache_hit"] is True
    assert not {"gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens", "gen_ai.usage.cost"} & cached.keys()
    assert json.loads(cached["gen_ai.output.messages"])[0]["parts"][0]["content"] == "Looking"


@pytest.mark.parametrize(
    ("status", "kind"), [(429, "RateLimitError"), (401, "AuthenticationError"), (500, "InternalServerError")]
)
async def test_errors_pass_unchanged_and_name_their_class(peer: Peer, spans: Recorded, status: int, kind: str) -> None:
    peer.says(json_reply({"error": {"message": "slow down"}}, status))
    expected = getattr(litellm, kind)
    with pytest.raises(expected, match="slow down"):
        litellm.completion("openai/gpt-4o", HI, **_keys(peer))
    with pytest.raises(expected, match="slow down"):
        litellm.completion("openai/gpt-4o", HI, stream=True, **_keys(peer))
    with pytest.raises(expected, match="slow down"):
        await litellm.acompletion("openai/gpt-4o", HI, **_keys(peer))
    failed = spans.spans()
    assert len(failed) == 3
    for span in failed:
        assert (span.status, span.attributes["error.type"]) == ("error", f"litellm.exceptions.{kind}")
        assert span.attributes["gen_ai.provider.name"] == "openai"
        assert span.events[0][1]["exception.type"] == f"litellm.exceptions.{kind}"


async def test_a_cut_stream_fails_with_what_had_come(peer: Peer, spans: Recorded) -> None:
    cut = sse_reply(CHUNKS[:3], done=False, cut=True)
    peer.says(cut)
    with pytest.raises(openai.APIError) as caught:
        list(litellm.completion("openai/gpt-4o", HI, stream=True, **_keys(peer)))
    stream = await litellm.acompletion("openai/gpt-4o", HI, stream=True, **_keys(peer))
    with pytest.raises(openai.APIError):
        [chunk async for chunk in stream]
    sync, asynchronous = spans.spans()
    for span in (sync, asynchronous):
        assert span.status == "error"
        assert span.attributes["error.type"].endswith(type(caught.value).__qualname__)
        assert "Hel" in span.attributes["gen_ai.output.messages"]
        assert "gen_ai.usage.output_tokens" not in span.attributes


async def test_break_close_and_collection_end_the_span_once(peer: Peer, spans: Recorded) -> None:
    litellm.disable_streaming_logging = True  # it hands the stream to a thread
    gc.collect()
    peer.says(_stream_reply())
    stream = litellm.completion("openai/gpt-4o", HI, stream=True, **_keys(peer))
    for chunk in stream:
        if chunk.choices[0].delta.content:
            break
    assert spans.spans() == []  # the user may still go on
    del stream, chunk
    closed = await litellm.acompletion("openai/gpt-4o", HI, stream=True, **_keys(peer))
    async for chunk in closed:
        if chunk.choices[0].delta.content:
            break
    await closed.aclose()
    gc.collect()
    litellm.disable_streaming_logging = False
    ended = spans.spans()
    assert [span.status for span in ended] == ["unset", "unset"]
    for span in ended:
        assert "Hel" in span.attributes["gen_ai.output.messages"]
        assert "gen_ai.usage.output_tokens" not in span.attributes


async def test_cancelling_a_stream_passes_and_fails_the_span(peer: Peer, spans: Recorded) -> None:
    reply = sse_reply(CHUNKS[:2], done=False)
    reply.hang = threading.Event()
    peer.says(reply)
    started = asyncio.Event()

    async def read() -> None:
        async for chunk in await litellm.acompletion("openai/gpt-4o", HI, stream=True, **_keys(peer)):
            if chunk.choices[0].delta.content:
                started.set()

    task = asyncio.create_task(read())
    await started.wait()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    reply.hang.set()
    span = spans.only()
    assert (span.status, span.attributes["error.type"]) == ("error", "asyncio.exceptions.CancelledError")


def test_a_stream_read_in_another_thread(peer: Peer, spans: Recorded) -> None:
    peer.says(_stream_reply())
    stream = litellm.completion("openai/gpt-4o", HI, stream=True, **_keys(peer))
    received: list = [next(stream)]
    thread = threading.Thread(target=lambda: received.extend(stream))
    thread.start()
    thread.join()
    assert len(received) == len(CHUNKS)
    _assert_usage(spans.only().attributes)
    assert call.muted() == frozenset()


def test_capture_none_keeps_counts_and_drops_content(peer: Peer) -> None:
    held = {"gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.tool.definitions"}
    with recording(capture="none") as recorded:
        peer.says(json_reply(COMPLETION), _stream_reply())
        litellm.completion("openai/gpt-4o", MESSAGES, tools=TOOLS, **_keys(peer))
        list(litellm.completion("openai/gpt-4o", MESSAGES, stream=True, **_keys(peer)))
        for span in recorded.spans():
            _assert_usage(span.attributes)
            assert not held & span.attributes.keys()
        assert len(recorded.spans()) == 2


@pytest.mark.parametrize(
    ("given", "resolved"),
    [
        (("openai/gpt-4o", None), ("openai", "gpt-4o")),
        (("gpt-4o", None), ("openai", "gpt-4o")),
        (("azure/my-deployment", None), ("azure.ai.openai", "my-deployment")),
        (("gemini/gemini-2.5-flash", None), ("gcp.gemini", "gemini-2.5-flash")),
        (("vertex_ai/gemini-2.5-pro", None), ("gcp.vertex_ai", "gemini-2.5-pro")),
        (("mistral/mistral-large-latest", None), ("mistral_ai", "mistral-large-latest")),
        (("xai/grok-4", None), ("x_ai", "grok-4")),
        (("openrouter/anthropic/claude-sonnet-4.5", None), ("openrouter", "anthropic/claude-sonnet-4.5")),
        (("ollama_chat/llama3.2", None), ("ollama", "llama3.2")),
        (("hosted_vllm/some/model", None), ("vllm", "some/model")),
        (("some/model", None), (None, "some/model")),
        (("some/model", "together_ai"), ("together", "some/model")),
        ((None, None), (None, None)),
    ],
)
def test_the_provider_and_the_bare_model(given: tuple, resolved: tuple) -> None:
    assert names.resolve(*given) == resolved


def test_a_provider_of_the_price_list_that_is_a_part_of_one() -> None:
    assert names.provider("vertex_ai-anthropic_models") == "gcp.vertex_ai"
    assert names.provider("cached_response") is None


def test_uninstrumenting_gives_the_library_back() -> None:
    from litellm import main

    wrapped = ("__next__", "__anext__", "aclose")

    def state() -> list:
        return [
            litellm.completion,
            litellm.acompletion,
            main.completion,
            *(vars(litellm.CustomStreamWrapper)[name] for name in wrapped),
        ]

    before = state()
    with recording():
        assert not any(one is other for one, other in zip(state(), before, strict=True))
    assert state() == before
