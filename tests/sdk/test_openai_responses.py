"""The Responses API through the real `openai` client: helpers, streams cut mid-way, fetched responses."""

from __future__ import annotations

import json

import pytest

from limelight.testing import Recorded, recording
from sdk.server import Peer, json_reply, sse_reply
from sdk.test_openai import CHUNKS, MESSAGES, RESPONSE, TEXT, _assert_usage, _async_client, _client, _events
from sdk.test_openai import _stream_reply as chat_reply

openai = pytest.importorskip("openai")
pydantic = pytest.importorskip("pydantic")

if not hasattr(openai.OpenAI, "responses") and not hasattr(openai.resources, "Responses"):
    pytest.skip("responses came with 1.66", allow_module_level=True)

COMPLETED = {"type": "response.completed", "sequence_number": 9, "response": RESPONSE}
REASONING = {"type": "reasoning", "id": "r", "summary": []}
CALL = {
    "type": "function_call",
    "id": "f",
    "call_id": "c1",
    "name": "weather",
    "arguments": "",
    "status": "in_progress",
}
DONE = {"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": [TEXT]}


def _event(kind: str, index: int, **more) -> dict:
    return {"type": f"response.{kind}", "sequence_number": 1, "output_index": index, "item_id": "i", **more}


CUT = [
    _events(None)[0],
    _event("output_item.added", 0, item=REASONING),
    _event("reasoning_summary_text.delta", 0, summary_index=0, delta="h"),
    _event("reasoning_summary_text.delta", 0, summary_index=0, delta="m"),
    _event("output_item.added", 1, item={**DONE, "content": [], "status": "in_progress"}),
    _event("output_text.delta", 1, content_index=0, delta="Hel", logprobs=[]),
    _event("output_item.done", 1, item=DONE),
    _event("output_item.added", 2, item=CALL),
    _event("function_call_arguments.delta", 2, delta='{"city":'),
]
CUT_PARTS = [
    {"type": "reasoning", "content": "hm"},
    {"type": "text", "content": "Hello"},
    {"type": "tool_call", "id": "c1", "name": "weather", "arguments": '{"city":'},
]


def _parts(attributes: dict) -> list[dict]:
    return json.loads(attributes["gen_ai.output.messages"])[0]["parts"]


def test_a_stream_cut_mid_way_keeps_what_has_arrived(peer: Peer, spans: Recorded) -> None:
    client = _client(peer)
    peer.says(sse_reply(CUT, named=True, done=False))
    assert len(list(client.responses.create(model="m", input="hi", stream=True))) == len(CUT)
    with client.responses.with_streaming_response.create(model="m", input="hi", stream=True) as response:
        response.read()
    peer.says(sse_reply(CUT, named=True, done=False, cut=True))
    with pytest.raises(Exception, match=r"peer closed|incomplete|Connection"):
        list(client.responses.create(model="m", input="hi", stream=True))
    ended, raw, cut = spans.spans()
    for span in (ended, raw, cut):
        assert _parts(span.attributes) == CUT_PARTS
        assert span.attributes["gen_ai.response.id"] == "resp_1"
        assert not {"gen_ai.usage.input_tokens", "gen_ai.response.finish_reasons"} & span.attributes.keys()
    assert [ended.status, raw.status, cut.status] == ["unset", "unset", "error"]


@pytest.mark.parametrize(
    ("status", "more", "finish"),
    [
        ("incomplete", {"incomplete_details": {"reason": "max_output_tokens"}}, ["length"]),
        ("incomplete", {"incomplete_details": {"reason": "content_filter"}}, ["content_filter"]),
        ("failed", {"error": {"code": "server_error", "message": "broke"}}, ["error"]),
    ],
)
def test_other_ends_of_a_stream(peer: Peer, spans: Recorded, status: str, more: dict, finish: list) -> None:
    end = {"type": f"response.{status}", "sequence_number": 9, "response": {**RESPONSE, "status": status, **more}}
    peer.says(sse_reply(_events(end), named=True))
    list(_client(peer).responses.create(model="m", input="hi", stream=True))
    span = spans.only()
    _assert_usage(span.attributes)
    assert span.attributes["gen_ai.response.finish_reasons"] == finish
    assert span.status == ("error" if status == "failed" else "unset")


def test_an_error_event(peer: Peer, spans: Recorded) -> None:
    error = {"type": "error", "sequence_number": 2, "code": "rate_limit_exceeded", "message": "slow", "param": None}
    peer.says(sse_reply(_events(error), named=True))
    list(_client(peer).responses.create(model="m", input="hi", stream=True))
    span = spans.only()
    assert (span.status, span.status_message) == ("error", "slow")
    assert span.attributes["error.type"] == "rate_limit_exceeded"


def test_cache_writes_by_lifetime_and_conversations(peer: Peer, spans: Recorded) -> None:
    details = {**RESPONSE["usage"]["input_tokens_details"]}
    details["cache_write_tokens_details"] = {"ttl_30m_tokens": 3, "ttl_12h_tokens": 1}
    usage = {**RESPONSE["usage"], "input_tokens_details": details}
    peer.says(json_reply({**RESPONSE, "usage": usage, "service_tier": "priority"}))
    _client(peer).responses.create(
        model="m", input="hi", previous_response_id="resp_0", extra_body={}, max_output_tokens=5, service_tier="auto"
    )
    seen = spans.only().attributes
    _assert_usage(seen)
    expected = {
        "limelight.usage.cache_write.ttl_30m_input_tokens": 3,
        "limelight.usage.cache_write.ttl_12h_input_tokens": 1,
        "gen_ai.request.previous_response.id": "resp_0",
        "gen_ai.request.max_tokens": 5,
        "openai.response.service_tier": "priority",
    }
    assert {name: seen.get(name) for name in expected} == expected
    assert "openai.request.service_tier" not in seen


def test_a_background_response_is_fetched_without_being_counted_again(peer: Peer, spans: Recorded) -> None:
    client = _client(peer)
    queued = {**RESPONSE, "status": "queued", "output": [], "usage": None}
    peer.says(json_reply(queued), json_reply(RESPONSE))
    client.responses.create(model="gpt-5", input="hi", background=True)
    client.responses.retrieve("resp_1")
    peer.says(sse_reply([*CUT, COMPLETED], named=True))
    with client.responses.with_raw_response.retrieve("resp_1", stream=True).parse() as stream:
        assert len(list(stream)) == len(CUT) + 1
    started, fetched, streamed = spans.spans()
    assert not {"gen_ai.usage.input_tokens", "gen_ai.response.finish_reasons"} & started.attributes.keys()
    for span in (fetched, streamed):
        assert (span.name, span.attributes["gen_ai.operation.name"]) == ("fetch_response", "fetch_response")
        assert span.attributes["gen_ai.response.id"] == "resp_1"
        assert span.attributes["gen_ai.response.model"] == "gpt-5"
        assert span.attributes["gen_ai.response.finish_reasons"] == ["tool_call"]
        assert [part["type"] for part in _parts(span.attributes)] == ["reasoning", "text", "tool_call"]
        assert not [name for name in span.attributes if name.startswith("gen_ai.usage.")]


async def test_the_stream_and_parse_helpers(peer: Peer, spans: Recorded) -> None:
    class Answer(pydantic.BaseModel):
        city: str

    client = _client(peer)
    if not hasattr(client.responses, "stream"):
        pytest.skip("this version has no helper")
    peer.says(sse_reply(_helped(), named=True))
    with client.responses.stream(model="gpt-5", input="hi") as stream:
        assert stream.get_final_response().output_text == "Hello"
    async with _async_client(peer) as other, other.responses.stream(model="gpt-5", input="hi") as stream:
        assert (await stream.get_final_response()).output_text == "Hello"
    said = {**DONE, "content": [{**TEXT, "text": '{"city":"Oslo"}'}]}
    peer.says(json_reply({**RESPONSE, "output": [said]}))
    assert client.responses.parse(model="gpt-5", input="hi", text_format=Answer).output_parsed.city == "Oslo"
    *streamed, parsed = spans.spans()
    assert len(streamed) == 2
    for span in streamed:
        _assert_usage(span.attributes)
        assert span.attributes["gen_ai.response.time_to_first_chunk"] > 0
    _assert_usage(parsed.attributes)
    assert parsed.attributes["gen_ai.output.type"] == "json"


def _helped() -> list[dict]:
    """A stream in which every item is announced, as the helper wants it."""
    added = _event("output_item.added", 0, item={**DONE, "content": [], "status": "in_progress"})
    part = _event("content_part.added", 0, content_index=0, part={**TEXT, "text": ""})
    delta = _event("output_text.delta", 0, content_index=0, delta="Hello", logprobs=[])
    return [_events(None)[0], added, part, delta, {**COMPLETED, "response": {**RESPONSE, "output": [DONE]}}]


async def test_the_stream_helper_of_chat(peer: Peer, spans: Recorded) -> None:
    peer.says(chat_reply)
    client = _client(peer)
    chat = client.chat.completions if hasattr(client.chat.completions, "stream") else client.beta.chat.completions
    manager = chat.stream(model="m", messages=MESSAGES)
    assert peer.asked == []
    del manager
    async with _async_client(peer) as async_client:
        owner = async_client if chat is client.chat.completions else async_client.beta
        async with owner.chat.completions.stream(model="m", messages=MESSAGES) as stream:
            kinds = [event.type async for event in stream]
            assert kinds.count("chunk") == len(CHUNKS)
            assert (await stream.get_final_completion()).choices[0].message.content == "Hello"
    _assert_usage(spans.only().attributes)


def test_capture_none_keeps_counts_and_drops_content(peer: Peer) -> None:
    peer.says(sse_reply(CUT, named=True, done=False), json_reply(RESPONSE))
    with recording(capture="none") as recorded:
        list(_client(peer).responses.create(model="m", input="hi", stream=True))
        _client(peer).responses.create(model="m", input="hi", instructions="be brief")
        cut, whole = (span.attributes for span in recorded.spans())
    _assert_usage(whole)
    for seen in (cut, whole):
        held = ("input.messages", "output.messages", "system_instructions")
        assert not [name for name in held if f"gen_ai.{name}" in seen]
