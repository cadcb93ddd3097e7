"""The real `anthropic` client against a local server: streams, raw and streaming responses, and how they end."""

from __future__ import annotations

import asyncio
import gc
import json
import threading

import pytest

from limelight.testing import Recorded, recording
from sdk.server import Peer, json_reply, sse_reply
from sdk.test_anthropic import ASKED, CITATION, MESSAGE, PARTS, SEARCH, _assert_usage, _async_client, _client, _content

anthropic = pytest.importorskip("anthropic")

ANSWERED = MESSAGE["content"]
START = {
    **MESSAGE,
    "content": [],
    "stop_reason": None,
    "usage": {
        "input_tokens": 20,
        "cache_read_input_tokens": 70,
        "cache_creation_input_tokens": 30,
        "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20},
        "output_tokens": 1,
        "service_tier": "standard",
    },
}
END_USAGE = {
    "output_tokens": 45,
    "output_tokens_details": {"thinking_tokens": 5},
    "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 0},
}


def _block(index: int, start: dict, *deltas: dict) -> list[dict]:
    return [
        {"type": "content_block_start", "index": index, "content_block": start},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def _json_delta(text: str) -> dict:
    return {"type": "input_json_delta", "partial_json": text}


THINKING = [
    {"type": "thinking_delta", "thinking": "h"},
    {"type": "thinking_delta", "thinking": "m"},
    {"type": "signature_delta", "signature": "sig"},
]
TEXT = [
    {"type": "text_delta", "text": "Look"},
    {"type": "text_delta", "text": "ing"},
    {"type": "citations_delta", "citation": CITATION},
]
EVENTS = [
    {"type": "message_start", "message": START},
    {"type": "ping"},
    *_block(0, {"type": "thinking", "thinking": "", "signature": ""}, *THINKING),
    *_block(1, ANSWERED[1]),
    *_block(2, {"type": "text", "text": ""}, *TEXT),
    *_block(3, {**SEARCH, "input": {}}, _json_delta('{"query":'), _json_delta(' "Oslo"}')),
    *_block(4, ANSWERED[4]),
    *_block(5, {**ANSWERED[5], "input": {}}, _json_delta(""), _json_delta('{"city": "O'), _json_delta('slo"}')),
    {
        "type": "message_delta",
        "delta": {"stop_reason": "tool_use", "stop_sequence": None},
        "usage": {**END_USAGE, "output_tokens": 30},
    },
    {"type": "message_delta", "delta": {"stop_reason": None, "stop_sequence": None}, "usage": END_USAGE},
    {"type": "message_stop"},
]
SHORT = [
    {"type": "message_start", "message": START},
    *_block(0, {"type": "text", "text": ""}, *TEXT[:2]),
]


def _stream_reply(**options):
    return sse_reply(EVENTS, done=False, named=True, **options)


def _assert_streamed(attributes: dict) -> None:
    _assert_usage(attributes)
    assert attributes["gen_ai.response.id"] == "msg_1"
    assert attributes["gen_ai.response.finish_reasons"] == ["tool_use"]
    assert attributes["gen_ai.request.stream"] is True
    assert attributes["gen_ai.response.time_to_first_chunk"] > 0
    (output,) = _content(attributes, "output.messages")
    assert output == {"role": "assistant", "parts": PARTS, "finish_reason": "tool_use"}


def test_a_stream_is_the_vendors_own_object(peer: Peer, spans: Recorded) -> None:
    peer.says(_stream_reply())
    stream = _client(peer).messages.create(**ASKED, stream=True)
    assert type(stream) is anthropic.Stream
    assert [event.type for event in stream] == [event["type"] for event in EVENTS if event["type"] != "ping"]
    _assert_streamed(spans.only().attributes)


async def test_an_asynchronous_stream(peer: Peer, spans: Recorded) -> None:
    peer.says(_stream_reply())
    async with _async_client(peer) as client:
        stream = await client.messages.create(**ASKED, stream=True)
        assert type(stream) is anthropic.AsyncStream
        assert len([event async for event in stream]) == len(EVENTS) - 1
    _assert_streamed(spans.only().attributes)


def test_the_stream_helper(peer: Peer, spans: Recorded) -> None:
    client = _client(peer)
    peer.says(_stream_reply())
    with client.messages.stream(**ASKED) as stream:
        assert "".join(stream.text_stream) == "Looking"
    with client.messages.stream(**ASKED) as stream:
        assert stream.get_final_message().content[-1].input == {"city": "Oslo"}
    assert len(spans.spans()) == 2
    for span in spans.spans():
        _assert_streamed(span.attributes)


async def test_the_asynchronous_stream_helper(peer: Peer, spans: Recorded) -> None:
    peer.says(_stream_reply())
    async with _async_client(peer) as client:
        async with client.messages.stream(**ASKED) as stream:
            assert "".join([text async for text in stream.text_stream]) == "Looking"
        async with client.messages.stream(**ASKED) as stream:
            await stream.get_final_message()
    assert len(spans.spans()) == 2
    for span in spans.spans():
        _assert_streamed(span.attributes)


@pytest.mark.skipif(not hasattr(anthropic.resources.beta.messages.Messages, "stream"), reason="came with 0.50")
async def test_the_stream_helpers_of_the_beta(peer: Peer, spans: Recorded) -> None:
    peer.says(_stream_reply())
    with _client(peer).beta.messages.stream(**ASKED) as stream:
        assert stream.get_final_text() == "Looking"
    async with _async_client(peer) as client, client.beta.messages.stream(**ASKED) as stream:
        await stream.get_final_message()
    assert len(spans.spans()) == 2
    for span in spans.spans():
        _assert_streamed(span.attributes)


def test_a_helper_that_is_never_entered_asks_for_nothing(peer: Peer, spans: Recorded) -> None:
    manager = _client(peer).messages.stream(**ASKED)
    del manager
    gc.collect()
    assert peer.asked == []
    assert spans.spans() == []


def test_what_is_known_before_the_end(peer: Peer, spans: Recorded) -> None:
    peer.says(sse_reply(SHORT, done=False, named=True))
    with _client(peer).messages.create(**ASKED, stream=True) as stream:
        for event in stream:
            if event.type == "content_block_stop":
                break
        assert spans.spans() == []
    seen = spans.only().attributes
    assert seen["gen_ai.usage.input_tokens"] == 120
    assert seen["gen_ai.usage.cache_read.input_tokens"] == 70
    assert "gen_ai.usage.output_tokens" not in seen  # the start's count of 1 is a placeholder
    assert "gen_ai.response.finish_reasons" not in seen
    assert _content(seen, "output.messages")[0]["parts"] == [{"type": "text", "content": "Looking"}]
    assert spans.only().status == "unset"


def test_running_totals_replace_each_other(peer: Peer, spans: Recorded) -> None:
    """As servers with the same protocol count: nothing known at the start, the input's counts at the end."""
    usage = {**END_USAGE, "input_tokens": 8, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 0}
    start = {**START, "usage": {"input_tokens": 0, "output_tokens": 0}}
    end = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage}
    peer.says(sse_reply([{"type": "message_start", "message": start}, end], done=False, named=True))
    list(_client(peer).messages.create(**ASKED, stream=True))
    seen = spans.only().attributes
    assert seen["gen_ai.usage.input_tokens"] == 12
    assert seen["gen_ai.usage.output_tokens"] == 45
    assert "anthropic.usage.cache_creation.ephemeral_5m_input_tokens" not in seen


def test_arguments_cut_short_stay_text(peer: Peer, spans: Recorded) -> None:
    cut = [*SHORT, *_block(1, {**ANSWERED[5], "input": {}}, _json_delta('{"city": "O'))]
    peer.says(sse_reply(cut, done=False, named=True))
    list(_client(peer).messages.create(**ASKED, stream=True))
    (output,) = _content(spans.only().attributes, "output.messages")
    assert output["parts"][1]["arguments"] == '{"city": "O'


def test_a_cut_stream_raises_as_ever_and_fails_the_span(peer: Peer, spans: Recorded) -> None:
    peer.says(sse_reply(SHORT, done=False, named=True, cut=True))
    with pytest.raises(Exception, match=r"peer closed|incomplete|Connection") as caught:
        list(_client(peer).messages.create(**ASKED, stream=True))
    span = spans.only()
    assert span.status == "error"
    assert span.attributes["error.type"].endswith(type(caught.value).__qualname__)
    assert "Looking" in span.attributes["gen_ai.output.messages"]


def test_an_error_event_raises_as_ever_and_fails_the_span(peer: Peer, spans: Recorded) -> None:
    def raised() -> str:
        with pytest.raises(anthropic.APIStatusError, match="busy") as caught:
            list(_client(peer).messages.create(**ASKED, stream=True))
        return type(caught.value).__name__

    error = {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}
    peer.says(sse_reply([*SHORT, error], done=False, named=True))
    kind = raised()
    gc.collect()
    span = spans.only()
    # the latter in the oldest versions, which are followed by the body: what the bytes say
    assert (span.status, span.attributes["error.type"] in {f"anthropic.{kind}", "overloaded_error"}) == ("error", True)


@pytest.mark.skipif(not hasattr(anthropic, "beta_tool"), reason="this version has no tool runner")
def test_each_turn_of_a_tool_runner_is_a_call(peer: Peer, spans: Recorded) -> None:
    @anthropic.beta_tool
    def weather(city: str) -> str:
        """Tell the weather.

        Args:
            city: where
        """
        return f"rain in {city}"

    ended = {**MESSAGE, "content": [{"type": "text", "text": "Rain."}], "stop_reason": "end_turn"}
    peer.says(json_reply({**MESSAGE, "content": [ANSWERED[5]]}), json_reply(ended))
    asked = [{"role": "user", "content": "weather?"}]
    runner = _client(peer).beta.messages.tool_runner(model="m", max_tokens=9, tools=[weather], messages=asked)
    assert runner.until_done().stop_reason == "end_turn"
    first, second = spans.spans()
    assert first.attributes["gen_ai.response.finish_reasons"] == ["tool_use"]
    assert second.attributes["gen_ai.response.finish_reasons"] == ["end_turn"]
    answer = _content(second.attributes, "input.messages")[-1]["parts"][0]
    assert (answer["type"], answer["id"]) == ("tool_call_response", "t1")
    for span in (first, second):
        _assert_usage(span.attributes)


async def test_cancelling_a_stream_passes_and_fails_the_span(peer: Peer, spans: Recorded) -> None:
    reply = sse_reply(SHORT, done=False, named=True)
    reply.hang = threading.Event()
    peer.says(reply)
    started = asyncio.Event()

    async def read() -> None:
        async with _async_client(peer) as client, client.messages.stream(**ASKED) as stream:
            async for _ in stream.text_stream:
                started.set()

    task = asyncio.create_task(read())
    await started.wait()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    reply.hang.set()
    assert (spans.only().status, len(spans.spans())) == ("error", 1)
    assert spans.only().attributes["error.type"] == "asyncio.exceptions.CancelledError"


def test_a_dropped_stream_is_closed_as_soon_as_without_us(peer: Peer) -> None:
    """The library keeps its streams out of reference cycles, so that dropping one closes its connection at once."""

    def dropped() -> bool:
        peer.says(sse_reply(SHORT, done=False, named=True))
        stream = client.messages.create(**ASKED, stream=True)
        next(stream)
        response = stream.response
        del stream
        return response.is_closed

    client = _client(peer)
    gc.collect()
    gc.disable()
    try:
        expected = dropped()
        with recording() as recorded:
            assert dropped() == expected
            gc.collect()  # older versions make the cycle themselves
            assert recorded.only().status == "unset"
    finally:
        gc.enable()


def test_a_dropped_raw_response_ends_its_span(peer: Peer, spans: Recorded) -> None:
    peer.says(sse_reply(SHORT, done=False, named=True))
    raw = _client(peer).messages.with_raw_response.create(**ASKED, stream=True)
    next(raw.http_response.iter_lines())
    del raw
    gc.collect()
    assert spans.only().attributes["gen_ai.usage.input_tokens"] == 120


@pytest.mark.parametrize("way", ["parse", "iter_lines", "read", "closed early"])
def test_raw_and_streaming_responses_of_streams(peer: Peer, spans: Recorded, way: str) -> None:
    client = _client(peer)
    peer.says(_stream_reply())
    with client.messages.with_streaming_response.create(**ASKED, stream=True) as response:
        if way == "parse":
            assert len(list(response.parse())) == len(EVENTS) - 1
        elif way == "iter_lines":
            assert '"message_stop"' in "".join(response.iter_lines())
        elif way == "read":
            assert response.read().startswith(b"event: message_start")
    if way == "closed early":
        assert "gen_ai.usage.input_tokens" not in spans.only().attributes
    else:
        _assert_streamed(spans.only().attributes)


def test_raw_responses(peer: Peer, spans: Recorded) -> None:
    client = _client(peer)
    peer.says(json_reply(MESSAGE, **{"request-id": "r1"}))
    raw = client.messages.with_raw_response.create(**ASKED)
    assert raw.headers["request-id"] == "r1"
    assert raw.parse().id == "msg_1"
    with client.beta.messages.with_streaming_response.create(**ASKED) as response:
        assert json.loads(response.read())["id"] == "msg_1"
    peer.says(_stream_reply())
    raw = client.messages.with_raw_response.create(**ASKED, stream=True)
    assert len(list(raw.parse())) == len(EVENTS) - 1
    whole, unread, streamed = spans.spans()
    for span in (whole, unread):
        _assert_usage(span.attributes)
        assert _content(span.attributes, "output.messages")[0]["parts"] == PARTS
        assert "gen_ai.response.time_to_first_chunk" not in span.attributes
    _assert_streamed(streamed.attributes)


async def test_asynchronous_raw_responses(peer: Peer, spans: Recorded) -> None:
    async with _async_client(peer) as client:
        peer.says(json_reply(MESSAGE))
        await client.messages.with_raw_response.create(**ASKED)
        async with client.messages.with_streaming_response.create(**ASKED) as response:
            assert (await response.parse()).id == "msg_1"
        peer.says(_stream_reply())
        async with client.messages.with_streaming_response.create(**ASKED, stream=True) as response:
            async for _ in response.iter_lines():
                pass
    whole, unread, streamed = spans.spans()
    for span in (whole, unread):
        _assert_usage(span.attributes)
    _assert_streamed(streamed.attributes)


def test_an_error_event_in_a_raw_stream(peer: Peer, spans: Recorded) -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}
    peer.says(sse_reply([*SHORT, error], done=False, named=True))
    with _client(peer).messages.with_streaming_response.create(**ASKED, stream=True) as response:
        response.read()
    span = spans.only()
    assert (span.status, span.status_message, span.attributes["error.type"]) == ("error", "busy", "overloaded_error")


def test_capture_none_keeps_counts_of_streams(peer: Peer) -> None:
    peer.says(_stream_reply())
    with recording(capture="none") as recorded:
        list(_client(peer).messages.create(**ASKED, stream=True))
        seen = recorded.only().attributes
    _assert_usage(seen)
    assert seen["gen_ai.response.time_to_first_chunk"] > 0
    assert not {"gen_ai.input.messages", "gen_ai.output.messages"} & seen.keys()
