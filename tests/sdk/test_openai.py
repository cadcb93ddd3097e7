"""The real `openai` client against a local server: what the span says, and that the user notices nothing."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
import weakref

import pytest

from limelight.testing import Recorded, recording
from sdk.server import Peer, Reply, json_reply, sse_reply

openai = pytest.importorskip("openai")
pydantic = pytest.importorskip("pydantic")

MESSAGES = [
    {"role": "system", "content": "be brief"},
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "what is this?"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGVsbG8="}},
        ],
    },
    {
        "role": "assistant",
        "tool_calls": [{"id": "c0", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
    },
    {"role": "tool", "tool_call_id": "c0", "content": "42"},
]
USAGE = {
    "prompt_tokens": 20,
    "completion_tokens": 7,
    "total_tokens": 27,
    "prompt_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 3},
}
HEAD = {"id": "chatcmpl-1", "created": 1, "model": "gpt-4o-2024", "service_tier": "default", "system_fingerprint": "fp"}
TOOL_CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Oslo"}'}}
COMPLETION = {
    **HEAD,
    "object": "chat.completion",
    "choices": [
        {
            "index": 0,
            "finish_reason": "tool_calls",
            "message": {"role": "assistant", "content": "Looking", "tool_calls": [TOOL_CALL]},
        }
    ],
    "usage": USAGE,
    "timings": {"prompt_ms": 250.0, "predicted_ms": 500.0},
}


def _chunk(delta: dict, finish: str | None = None) -> dict:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {**HEAD, "object": "chat.completion.chunk", "choices": [choice]}


CHUNKS = [
    _chunk({"role": "assistant", "content": ""}),
    _chunk({"content": "Hel"}),
    _chunk({"content": "lo"}),
    _chunk({"tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}}]}),
    _chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"a":1}'}}]}),
    _chunk({}, "stop"),
]
USAGE_CHUNK = {**HEAD, "object": "chat.completion.chunk", "choices": [], "usage": USAGE}


def _client(peer: Peer, **options):
    return openai.OpenAI(api_key="k", base_url=f"{peer.url}/v1", max_retries=0, **options)


def _async_client(peer: Peer):
    return openai.AsyncOpenAI(api_key="k", base_url=f"{peer.url}/v1", max_retries=0)


def _stream_reply(asked) -> Reply:
    """As OpenAI does: the usage chunk only where it was asked for."""
    wanted = (asked.json().get("stream_options") or {}).get("include_usage")
    return sse_reply([*CHUNKS, USAGE_CHUNK] if wanted else CHUNKS)


def _assert_usage(attributes: dict) -> None:
    assert attributes["gen_ai.usage.input_tokens"] == 20
    assert attributes["gen_ai.usage.output_tokens"] == 7
    assert attributes["gen_ai.usage.cache_read.input_tokens"] == 8
    assert attributes["gen_ai.usage.cache_write.input_tokens"] == 4
    assert attributes["gen_ai.usage.reasoning.output_tokens"] == 3


def test_a_chat_completion_becomes_one_span(peer: Peer, spans: Recorded) -> None:
    peer.says(json_reply(COMPLETION))
    answer = _client(peer).chat.completions.create(
        model="gpt-4o",
        messages=MESSAGES,
        temperature=0,
        max_tokens=9,
        seed=7,
        stop="x",
        tools=[{"type": "function", "function": {"name": "weather", "parameters": {}}}],
    )
    assert answer.choices[0].message.content == "Looking"
    span = spans.only()
    seen = span.attributes
    assert (span.name, span.kind, span.status) == ("chat gpt-4o", "client", "unset")
    _assert_usage(seen)
    expected = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.request.temperature": 0,
        "gen_ai.request.max_tokens": 9,
        "gen_ai.request.seed": 7,
        "gen_ai.request.stop_sequences": ["x"],
        "gen_ai.response.id": "chatcmpl-1",
        "gen_ai.response.model": "gpt-4o-2024",
        "gen_ai.response.finish_reasons": ["tool_calls"],
        "openai.response.service_tier": "default",
        "openai.response.system_fingerprint": "fp",
        "gen_ai.latency.time_in_model_prefill": 0.25,
        "gen_ai.latency.time_in_model_decode": 0.5,
        "server.address": "127.0.0.1",
        "server.port": peer.port,
    }
    assert {name: seen.get(name) for name in expected} == expected
    assert "gen_ai.request.stream" not in seen
    inputs = json.loads(seen["gen_ai.input.messages"])
    assert inputs[0] == {"role": "system", "parts": [{"type": "text", "content": "be brief"}]}
    image = inputs[1]["parts"][1]
    assert (image["type"], image["mime_type"], image["size"]) == ("blob", "image/png", 5)
    assert inputs[2]["parts"] == [{"type": "tool_call", "id": "c0", "name": "f", "arguments": "{}"}]
    assert inputs[3]["parts"] == [{"type": "tool_call_response", "id": "c0", "response": "42"}]
    (output,) = json.loads(seen["gen_ai.output.messages"])
    assert [part["type"] for part in output["parts"]] == ["text", "tool_call"]
    assert output["parts"][1]["arguments"] == '{"city":"Oslo"}'


async def test_the_asynchronous_client_says_the_same(peer: Peer, spans: Recorded) -> None:
    peer.says(json_reply(COMPLETION))
    async with _async_client(peer) as client:
        await client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
    _assert_usage(spans.only().attributes)


def test_a_stream_is_the_vendors_own_object_and_shows_no_extra_chunk(peer: Peer, spans: Recorded) -> None:
    peer.says(_stream_reply)
    stream = _client(peer).chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True)
    assert type(stream) is openai.Stream
    seen = [chunk.model_dump(exclude_unset=True) for chunk in stream]
    assert seen == CHUNKS
    assert peer.asked[0].json()["stream_options"] == {"include_usage": True}
    span = spans.only()
    _assert_usage(span.attributes)
    assert span.attributes["gen_ai.request.stream"] is True
    assert span.attributes["gen_ai.response.time_to_first_chunk"] > 0
    (output,) = json.loads(span.attributes["gen_ai.output.messages"])
    assert output["parts"] == [
        {"type": "text", "content": "Hello"},
        {"type": "tool_call", "id": "c1", "name": "f", "arguments": '{"a":1}'},
    ]
    assert output["finish_reason"] == "stop"


@pytest.mark.parametrize("options", [{"include_usage": True}, {"include_usage": False}])
def test_the_users_own_wish_about_usage_is_respected(peer: Peer, spans: Recorded, options: dict) -> None:
    peer.says(_stream_reply)
    stream = _client(peer).chat.completions.create(model="m", messages=[], stream=True, stream_options=options)
    assert len(list(stream)) == len(CHUNKS) + options["include_usage"]
    assert peer.asked[0].json()["stream_options"] == options


def test_usage_is_not_asked_for_when_switched_off(peer: Peer) -> None:
    peer.says(_stream_reply)
    with recording(request_stream_usage=False) as recorded:
        list(_client(peer).chat.completions.create(model="m", messages=[], stream=True))
        assert "stream_options" not in peer.asked[0].json()
        assert "gen_ai.usage.input_tokens" not in recorded.only().attributes


async def test_an_asynchronous_stream(peer: Peer, spans: Recorded) -> None:
    peer.says(_stream_reply)
    async with _async_client(peer) as client:
        stream = await client.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True)
        assert type(stream) is openai.AsyncStream
        assert [chunk.model_dump(exclude_unset=True) async for chunk in stream] == CHUNKS
    _assert_usage(spans.only().attributes)


def test_break_then_close_ends_the_span_once_with_what_was_seen(peer: Peer, spans: Recorded) -> None:
    peer.says(_stream_reply)
    with _client(peer).chat.completions.create(model="m", messages=[], stream=True) as stream:
        for chunk in stream:
            if chunk.choices[0].delta.content:
                break
        assert spans.spans() == []  # the user may still go on
        next(stream)
    span = spans.only()
    assert json.loads(span.attributes["gen_ai.output.messages"])[0]["parts"][0]["content"] == "Hello"
    assert "gen_ai.usage.output_tokens" not in span.attributes
    assert span.status == "unset"


def test_an_abandoned_stream_ends_when_it_is_collected(peer: Peer, spans: Recorded) -> None:
    peer.says(_stream_reply)
    stream = _client(peer).chat.completions.create(model="m", messages=[], stream=True)
    next(stream)
    del stream
    gc.collect()
    assert spans.only().status == "unset"


def test_a_stream_that_was_read_is_freed_without_the_collector(peer: Peer) -> None:
    """Where the library itself frees it: openai 2's responses refer to themselves."""
    freed = _is_freed(peer)
    with recording() as spans:
        assert _is_freed(peer) == freed
        assert spans.only().status == "unset"


def _is_freed(peer: Peer) -> bool:
    peer.says(_stream_reply)
    stream = _client(peer).chat.completions.create(model="m", messages=[], stream=True)
    response = weakref.ref(stream.response)
    gc.disable()
    try:
        assert len(list(stream)) > 1
        assert "close" not in vars(stream.response)
        del stream
        return response() is None
    finally:
        gc.enable()


def test_a_cut_stream_raises_what_it_always_raised_and_fails_the_span(peer: Peer, spans: Recorded) -> None:
    peer.says(sse_reply(CHUNKS[:3], done=False, cut=True))
    stream = _client(peer).chat.completions.create(model="m", messages=[], stream=True)
    received: list = []
    with pytest.raises(Exception, match=r"peer closed|incomplete|Connection") as caught:
        received.extend(iter(stream.__next__, None))
    span = spans.only()
    assert span.status == "error"
    assert span.attributes["error.type"].endswith(type(caught.value).__qualname__)
    assert "Hello" in span.attributes["gen_ai.output.messages"]


async def test_cancelling_a_stream_passes_and_fails_the_span(peer: Peer, spans: Recorded) -> None:
    reply = sse_reply(CHUNKS[:2], done=False)
    reply.hang = threading.Event()
    peer.says(reply)
    started = asyncio.Event()

    async def read() -> None:
        async with _async_client(peer) as client:
            stream = await client.chat.completions.create(model="m", messages=[], stream=True)
            async for chunk in stream:
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


def test_errors_pass_unchanged_and_name_their_class(peer: Peer, spans: Recorded) -> None:
    peer.says(json_reply({"error": {"message": "slow down", "code": "rate_limit"}}, 429))
    with pytest.raises(openai.RateLimitError):
        _client(peer).chat.completions.create(model="m", messages=[])
    span = spans.only()
    assert (span.status, span.attributes["error.type"]) == ("error", "openai.RateLimitError")
    assert "slow down" in span.status_message
    assert span.events[0][1]["exception.type"] == "openai.RateLimitError"


def test_raw_and_streaming_responses_stay_untouched(peer: Peer, spans: Recorded) -> None:
    client = _client(peer)
    peer.says(json_reply(COMPLETION, **{"x-request-id": "r1"}))
    raw = client.chat.completions.with_raw_response.create(model="m", messages=[])
    assert raw.headers["x-request-id"] == "r1"
    assert raw.parse().choices[0].message.content == "Looking"
    _assert_usage(spans.only().attributes)
    with client.chat.completions.with_streaming_response.create(model="m", messages=[]) as response:
        assert json.loads(response.read())["id"] == "chatcmpl-1"
    peer.says(_stream_reply)
    raw = client.chat.completions.with_raw_response.create(model="m", messages=[], stream=True)
    assert len(list(raw.parse())) == len(CHUNKS)
    assert "stream_options" not in peer.asked[-1].json()
    assert len(spans.spans()) == 3


def test_the_stream_and_parse_helpers_keep_working(peer: Peer, spans: Recorded) -> None:
    class Answer(pydantic.BaseModel):
        city: str

    client = _client(peer)
    peer.says(_stream_reply)
    with client.chat.completions.stream(model="m", messages=[]) as stream:
        assert stream.get_final_completion().choices[0].message.content == "Hello"
    message = {"role": "assistant", "content": '{"city":"Oslo"}'}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    peer.says(json_reply({**COMPLETION, "choices": [choice]}))
    parsed = client.chat.completions.parse(model="m", messages=[], response_format=Answer)
    assert parsed.choices[0].message.parsed.city == "Oslo"
    streamed, whole = spans.spans()
    _assert_usage(streamed.attributes)
    assert whole.attributes["gen_ai.output.type"] == "json"


RESPONSE_USAGE = {
    "input_tokens": 20,
    "output_tokens": 7,
    "total_tokens": 27,
    "input_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 4},
    "output_tokens_details": {"reasoning_tokens": 3},
}
TEXT = {"type": "output_text", "text": "Hello", "annotations": []}
RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "model": "gpt-5",
    "status": "completed",
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
    "output": [
        {"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "thinking"}]},
        {"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": [TEXT]},
        {
            "type": "function_call",
            "id": "f",
            "call_id": "c1",
            "name": "weather",
            "arguments": "{}",
            "status": "completed",
        },
    ],
    "usage": RESPONSE_USAGE,
}
INPUT = [
    {"role": "user", "content": [{"type": "input_text", "text": "hi"}]},
    {"type": "function_call", "call_id": "c0", "name": "f", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "c0", "output": "42"},
]


def test_a_response_becomes_one_span(peer: Peer, spans: Recorded) -> None:
    peer.says(json_reply(RESPONSE))
    answer = _client(peer).responses.create(
        model="gpt-5", input=INPUT, instructions="be brief", reasoning={"effort": "low"}
    )
    assert answer.output_text == "Hello"
    seen = spans.only().attributes
    _assert_usage(seen)
    assert seen["gen_ai.response.finish_reasons"] == ["tool_call"]
    assert seen["gen_ai.request.reasoning.level"] == "low"
    assert json.loads(seen["gen_ai.system_instructions"]) == [{"type": "text", "content": "be brief"}]
    roles = [(message["role"], message["parts"][0]["type"]) for message in json.loads(seen["gen_ai.input.messages"])]
    assert roles == [("user", "text"), ("assistant", "tool_call"), ("tool", "tool_call_response")]
    (output,) = json.loads(seen["gen_ai.output.messages"])
    assert [part["type"] for part in output["parts"]] == ["reasoning", "text", "tool_call"]


def _events(end: dict | None) -> list[dict]:
    start = {
        "type": "response.created",
        "sequence_number": 0,
        "response": {**RESPONSE, "status": "in_progress", "output": []},
    }
    delta = {
        "type": "response.output_text.delta",
        "item_id": "m",
        "output_index": 1,
        "content_index": 0,
        "logprobs": [],
    }
    deltas = [{**delta, "sequence_number": n, "delta": text} for n, text in ((1, "Hel"), (2, "lo"))]
    return [start, *deltas, *([end] if end else [])]


def test_a_streamed_response_whole_and_cut_short(peer: Peer, spans: Recorded) -> None:
    client = _client(peer)
    peer.says(
        sse_reply(_events({"type": "response.completed", "sequence_number": 3, "response": RESPONSE}), named=True)
    )
    assert len(list(client.responses.create(model="gpt-5", input="hi", stream=True))) == 4
    peer.says(sse_reply(_events(None), named=True))
    list(client.responses.create(model="gpt-5", input="hi", stream=True))
    whole, cut = (span.attributes for span in spans.spans())
    _assert_usage(whole)
    assert whole["gen_ai.response.time_to_first_chunk"] > 0
    assert json.loads(cut["gen_ai.output.messages"])[0]["parts"] == [{"type": "text", "content": "Hello"}]
    assert cut["gen_ai.response.id"] == "resp_1"
    assert "gen_ai.usage.input_tokens" not in cut


def test_a_response_that_failed_inside_a_200_is_an_error(peer: Peer, spans: Recorded) -> None:
    failed = {**RESPONSE, "status": "failed", "output": [], "error": {"code": "server_error", "message": "broke"}}
    peer.says(json_reply(failed))
    _client(peer).responses.create(model="gpt-5", input="hi")
    span = spans.only()
    assert (span.status, span.status_message, span.attributes["error.type"]) == ("error", "broke", "server_error")


def test_embeddings(peer: Peer, spans: Recorded) -> None:
    data = [{"object": "embedding", "index": 0, "embedding": [0.1, 0.2, 0.3]}]
    peer.says(
        json_reply({"object": "list", "model": "e-1", "data": data, "usage": {"prompt_tokens": 4, "total_tokens": 4}})
    )
    _client(peer).embeddings.create(model="e", input=["a", "b"], encoding_format="float")
    span = spans.only()
    assert span.name == "embeddings e"
    assert span.attributes["gen_ai.usage.input_tokens"] == 4
    assert "gen_ai.usage.output_tokens" not in span.attributes
    assert span.attributes["gen_ai.embeddings.dimension.count"] == 3


def test_capture_none_keeps_counts_and_drops_content(peer: Peer) -> None:
    peer.says(json_reply(COMPLETION), _stream_reply)
    with recording(capture="none") as recorded:
        client = _client(peer)
        client.chat.completions.create(
            model="m", messages=MESSAGES, tools=[{"type": "function", "function": {"name": "f"}}]
        )
        list(client.chat.completions.create(model="m", messages=MESSAGES, stream=True))
        for span in recorded.spans():
            _assert_usage(span.attributes)
            held = {"gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.tool.definitions"}
            assert not held & span.attributes.keys()


@pytest.mark.parametrize(
    ("host", "port", "provider"),
    [
        ("api.openai.com", None, "openai"),
        ("my.openai.azure.com", None, "azure.ai.openai"),
        ("api.groq.com", None, "groq"),
        ("localhost", 11434, "ollama"),
        ("evil-api.groq.com.example", None, "openai"),
        ("10.0.0.1", 8000, "openai"),
    ],
)
def test_the_provider_is_known_by_its_address(host: str, port: int | None, provider: str) -> None:
    from limelight.providers.openai import provider_of

    assert provider_of(host, port) == provider
