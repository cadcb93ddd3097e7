"""`with_raw_response` and `with_streaming_response` of the real `openai` client: as the user reads, so we see."""

from __future__ import annotations

import gc
import json

import pytest

from limelight.testing import Recorded
from sdk.server import Peer, json_reply, sse_reply
from sdk.test_openai import (
    CHUNKS,
    COMPLETION,
    MESSAGES,
    RESPONSE,
    USAGE_CHUNK,
    _assert_usage,
    _async_client,
    _client,
    _events,
    _stream_reply,
)

openai = pytest.importorskip("openai")

ASKED = {"model": "gpt-4o", "messages": MESSAGES}
WITH_USAGE = {**ASKED, "stream": True, "stream_options": {"include_usage": True}}


def _output(attributes: dict) -> list[dict]:
    (message,) = json.loads(attributes["gen_ai.output.messages"])
    return message["parts"]


def _assert_streamed(attributes: dict) -> None:
    _assert_usage(attributes)
    assert attributes["gen_ai.request.stream"] is True
    assert attributes["gen_ai.response.time_to_first_chunk"] > 0
    assert attributes["gen_ai.response.id"] == "chatcmpl-1"
    assert attributes["gen_ai.response.finish_reasons"] == ["stop"]
    assert attributes["openai.response.service_tier"] == "default"
    assert _output(attributes) == [
        {"type": "text", "content": "Hello"},
        {"type": "tool_call", "id": "c1", "name": "f", "arguments": '{"a":1}'},
    ]


def test_whole_answers(peer: Peer, spans: Recorded) -> None:
    peer.says(json_reply(COMPLETION, **{"x-request-id": "r1"}))
    completions = _client(peer).chat.completions
    raw = completions.with_raw_response.create(**ASKED)
    assert raw.headers["x-request-id"] == "r1"
    assert raw.parse().choices[0].message.content == "Looking"
    with completions.with_streaming_response.create(**ASKED) as response:
        assert json.loads(response.read())["id"] == "chatcmpl-1"
    with completions.with_streaming_response.create(**ASKED) as response:
        assert response.parse().id == "chatcmpl-1"
    with completions.with_streaming_response.create(**ASKED) as response:
        assert json.loads("".join(response.iter_text()))["id"] == "chatcmpl-1"
    assert len(spans.spans()) == 4
    for span in spans.spans():
        _assert_usage(span.attributes)
        assert [part["type"] for part in _output(span.attributes)] == ["text", "tool_call"]
        assert not {"gen_ai.request.stream", "gen_ai.response.time_to_first_chunk"} & span.attributes.keys()


@pytest.mark.parametrize("way", ["parse", "iter_lines", "iter_bytes", "read"])
def test_streams_read_by_the_user(peer: Peer, spans: Recorded, way: str) -> None:
    peer.says(_stream_reply)
    with _client(peer).chat.completions.with_streaming_response.create(**WITH_USAGE) as response:
        if way == "parse":
            assert len(list(response.parse())) == len(CHUNKS) + 1
        elif way == "read":
            assert response.read().endswith(b"data: [DONE]\n\n")
        else:
            assert len(list(getattr(response, way)())) > 1
    _assert_streamed(spans.only().attributes)


def test_a_raw_stream_is_parsed_later(peer: Peer, spans: Recorded) -> None:
    peer.says(_stream_reply)
    raw = _client(peer).chat.completions.with_raw_response.create(**WITH_USAGE)
    assert spans.spans() == []
    stream = raw.parse()
    assert type(stream) is openai.Stream
    assert len(list(stream)) == len(CHUNKS) + 1
    _assert_streamed(spans.only().attributes)


def test_usage_is_not_asked_for_where_the_answer_could_not_be_hidden(peer: Peer, spans: Recorded) -> None:
    peer.says(_stream_reply)
    completions = _client(peer).chat.completions
    assert len(list(completions.with_raw_response.create(**ASKED, stream=True).parse())) == len(CHUNKS)
    with completions.with_streaming_response.create(**ASKED, stream=True) as response:
        response.read()
    assert not any("stream_options" in asked.json() for asked in peer.asked)
    for span in spans.spans():
        assert "gen_ai.usage.input_tokens" not in span.attributes
        assert _output(span.attributes)[0] == {"type": "text", "content": "Hello"}


async def test_the_asynchronous_client(peer: Peer, spans: Recorded) -> None:
    async with _async_client(peer) as client:
        completions = client.chat.completions
        peer.says(json_reply(COMPLETION))
        await completions.with_raw_response.create(**ASKED)
        async with completions.with_streaming_response.create(**ASKED) as response:
            assert (await response.parse()).id == "chatcmpl-1"
        peer.says(_stream_reply)
        async with completions.with_streaming_response.create(**WITH_USAGE) as response:
            assert len([line async for line in response.iter_lines()]) > len(CHUNKS)
        raw = await completions.with_raw_response.create(**WITH_USAGE)
        assert len([chunk async for chunk in raw.parse()]) == len(CHUNKS) + 1
    *whole, lines, parsed = spans.spans()
    for span in whole:
        _assert_usage(span.attributes)
    _assert_streamed(lines.attributes)
    _assert_streamed(parsed.attributes)


def test_closed_or_dropped_half_way(peer: Peer, spans: Recorded) -> None:
    peer.says(sse_reply(CHUNKS[:3], done=False))
    completions = _client(peer).chat.completions
    with completions.with_streaming_response.create(**WITH_USAGE) as response:
        next(response.iter_lines())
    raw = completions.with_raw_response.create(**WITH_USAGE)
    next(raw.parse())
    del raw
    gc.collect()
    with completions.with_streaming_response.create(**WITH_USAGE):
        pass
    assert len(spans.spans()) == 3
    for span in spans.spans():
        assert span.status == "unset"
        assert "gen_ai.usage.input_tokens" not in span.attributes


def test_a_cut_body_raises_as_ever_and_fails_the_span(peer: Peer, spans: Recorded) -> None:
    peer.says(sse_reply(CHUNKS[:3], done=False, cut=True))
    create = _client(peer).chat.completions.with_streaming_response.create
    with create(**WITH_USAGE) as response, pytest.raises(Exception, match=r"peer closed|incomplete") as caught:
        response.read()
    span = spans.only()
    assert span.status == "error"
    assert span.attributes["error.type"].endswith(type(caught.value).__qualname__)


def test_refused_and_failed_inside(peer: Peer, spans: Recorded) -> None:
    completions = _client(peer).chat.completions
    peer.says(json_reply({"error": {"message": "slow down", "code": "rate_limit"}}, 429))
    with pytest.raises(openai.RateLimitError):
        completions.with_raw_response.create(**ASKED)
    peer.says(sse_reply([CHUNKS[1], {"error": {"message": "overloaded", "code": "server_error"}}]))
    with completions.with_streaming_response.create(**WITH_USAGE) as response:
        response.read()
    refused, failed = spans.spans()
    assert (refused.status, refused.attributes["error.type"]) == ("error", "openai.RateLimitError")
    assert (failed.status, failed.status_message) == ("error", "overloaded")
    assert failed.attributes["error.type"] == "server_error"


def test_responses_and_embeddings(peer: Peer, spans: Recorded) -> None:
    client = _client(peer)
    end = {"type": "response.completed", "sequence_number": 3, "response": RESPONSE}
    peer.says(sse_reply(_events(end), named=True))
    with client.responses.with_streaming_response.create(model="m", input="hi", stream=True) as response:
        assert len(list(response.parse())) == 4
    data = [{"object": "embedding", "index": 0, "embedding": [0.1, 0.2]}]
    usage = {"prompt_tokens": 4, "total_tokens": 4}
    peer.says(json_reply({"object": "list", "model": "e-1", "data": data, "usage": usage}))
    client.embeddings.with_raw_response.create(model="e", input="a", encoding_format="float")
    streamed, embedded = (span.attributes for span in spans.spans())
    _assert_usage(streamed)
    assert streamed["gen_ai.response.time_to_first_chunk"] > 0
    assert (embedded["gen_ai.usage.input_tokens"], embedded["gen_ai.embeddings.dimension.count"]) == (4, 2)


def test_usage_that_comes_with_the_last_choice(peer: Peer, spans: Recorded) -> None:
    """As Mistral sends it, asked or not."""
    last = {**CHUNKS[-1], "usage": USAGE_CHUNK["usage"]}
    peer.says(sse_reply([*CHUNKS[:-1], last]))
    stream = _client(peer).chat.completions.create(**ASKED, stream=True)
    assert len(list(stream)) == len(CHUNKS)
    _assert_usage(spans.only().attributes)
