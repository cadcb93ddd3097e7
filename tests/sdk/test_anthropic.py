"""The real `anthropic` client against a local server: what the span says of whole answers."""

from __future__ import annotations

import json
import warnings
from inspect import signature

import pytest

from limelight.testing import Recorded, recording
from sdk.server import Peer, json_reply

anthropic = pytest.importorskip("anthropic")
pydantic = pytest.importorskip("pydantic")

USAGE = {
    "input_tokens": 20,
    "cache_read_input_tokens": 70,
    "cache_creation_input_tokens": 30,
    "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20},
    "output_tokens": 45,
    "output_tokens_details": {"thinking_tokens": 5},
    "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 0},
    "service_tier": "standard",
}
CITATION = {
    "type": "char_location",
    "cited_text": "warm",
    "document_index": 0,
    "document_title": "t",
    "start_char_index": 0,
    "end_char_index": 4,
}
SEARCH = {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "Oslo"}}
FOUND = {
    "type": "web_search_tool_result",
    "tool_use_id": "s1",
    "content": [{"type": "web_search_result", "title": "Oslo", "url": "https://o.example", "encrypted_content": "x"}],
}
TOOL_USE = {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Oslo"}}
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-next-20261101",
    "content": [
        {"type": "thinking", "thinking": "hm", "signature": "sig"},
        {"type": "redacted_thinking", "data": "c2VjcmV0"},
        {"type": "text", "text": "Looking", "citations": [CITATION]},
        SEARCH,
        FOUND,
        TOOL_USE,
    ],
    "stop_reason": "tool_use",
    "stop_sequence": None,
    "usage": USAGE,
}
PARTS = [
    {"type": "reasoning", "content": "hm"},
    {"type": "redacted_thinking", "size": 8},
    {"type": "text", "content": "Looking", "citations": [CITATION]},
    {
        "type": "server_tool_call",
        "id": "s1",
        "name": "web_search",
        "server_tool_call": {"type": "server_tool_use", "arguments": {"query": "Oslo"}},
    },
    {
        "type": "server_tool_call_response",
        "id": "s1",
        "server_tool_call_response": {"type": "web_search_tool_result", "content": FOUND["content"]},
    },
    {"type": "tool_call", "id": "t1", "name": "weather", "arguments": {"city": "Oslo"}},
]
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGVsbG8="}}
MESSAGES = [
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "what is this?"},
            IMAGE,
            {"type": "image", "source": {"type": "url", "url": "https://i.example/a.png"}},
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "warm"}, "title": "t"},
            {"type": "document", "source": {"type": "file", "file_id": "file_1"}},
        ],
    },
    {"role": "assistant", "content": [{"type": "tool_use", "id": "t0", "name": "f", "input": {}}]},
    {
        "role": "user",
        "content": [
            {"type": "tool_result", "tool_use_id": "t0", "content": [{"type": "text", "text": "42"}, IMAGE]},
            {"type": "tool_result", "tool_use_id": "t9", "content": "no", "is_error": True},
        ],
    },
]
ASKED = {"model": "claude-next", "max_tokens": 9, "messages": MESSAGES}


def _client(peer: Peer, **options):
    return anthropic.Anthropic(api_key="k", base_url=peer.url, max_retries=0, **options)


def _async_client(peer: Peer, **options):
    return anthropic.AsyncAnthropic(api_key="k", base_url=peer.url, max_retries=0, **options)


def _assert_usage(attributes: dict) -> None:
    expected = {
        "gen_ai.usage.input_tokens": 120,
        "gen_ai.usage.output_tokens": 45,
        "gen_ai.usage.cache_read.input_tokens": 70,
        "gen_ai.usage.cache_write.input_tokens": 30,
        "gen_ai.usage.reasoning.output_tokens": 5,
        "anthropic.usage.cache_creation.ephemeral_5m_input_tokens": 10,
        "anthropic.usage.cache_creation.ephemeral_1h_input_tokens": 20,
        "anthropic.response.service_tier": "standard",
        "limelight.usage.web_search_requests": 2,
        "limelight.usage.web_fetch_requests": 0,
    }
    assert {name: attributes.get(name) for name in expected} == expected


def _content(attributes: dict, name: str) -> list:
    return json.loads(attributes[f"gen_ai.{name}"])


def test_a_message_becomes_one_span(peer: Peer, spans: Recorded) -> None:
    peer.says(json_reply(MESSAGE))
    tools = [{"name": "weather", "input_schema": {"type": "object"}}]
    answer = _client(peer).messages.create(
        **ASKED,
        system=[{"type": "text", "text": "be brief"}],
        # not arguments of their own in every version
        extra_body={"temperature": 0, "top_p": 0.5, "top_k": 4, "service_tier": "standard_only"},
        stop_sequences=["x"],
        tools=tools,
    )
    assert answer.content[2].text == "Looking"
    span = spans.only()
    seen = span.attributes
    assert (span.name, span.kind, span.status) == ("chat claude-next", "client", "unset")
    _assert_usage(seen)
    expected = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "anthropic",
        "gen_ai.request.model": "claude-next",
        "gen_ai.request.max_tokens": 9,
        "gen_ai.request.temperature": 0,
        "gen_ai.request.top_p": 0.5,
        "gen_ai.request.top_k": 4,
        "gen_ai.request.stop_sequences": ["x"],
        "gen_ai.response.id": "msg_1",
        "gen_ai.response.model": "claude-next-20261101",
        "gen_ai.response.finish_reasons": ["tool_use"],
        "anthropic.request.service_tier": "standard_only",
        "server.address": "127.0.0.1",
        "server.port": peer.port,
    }
    assert {name: seen.get(name) for name in expected} == expected
    assert {"gen_ai.request.stream", "gen_ai.response.time_to_first_chunk", "gen_ai.output.type"}.isdisjoint(seen)
    assert _content(seen, "system_instructions") == [{"type": "text", "content": "be brief"}]
    assert _content(seen, "tool.definitions") == tools
    (output,) = _content(seen, "output.messages")
    assert output == {"role": "assistant", "parts": PARTS, "finish_reason": "tool_use"}


def test_what_was_asked_becomes_parts(peer: Peer, spans: Recorded) -> None:
    peer.says(json_reply(MESSAGE))
    _client(peer).messages.create(**ASKED, system="be brief")
    seen = spans.only().attributes
    assert _content(seen, "system_instructions") == [{"type": "text", "content": "be brief"}]
    asked, called, answered = _content(seen, "input.messages")
    image = {
        "type": "blob",
        "mime_type": "image/png",
        "size": 5,
        "sha256": "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
        "modality": "image",
    }
    assert asked == {
        "role": "user",
        "parts": [
            {"type": "text", "content": "what is this?"},
            image,
            {"type": "uri", "uri": "https://i.example/a.png", "modality": "image"},
            {"type": "text", "content": "warm", "title": "t"},
            {"type": "file", "file_id": "file_1", "modality": "document"},
        ],
    }
    assert called["parts"] == [{"type": "tool_call", "id": "t0", "name": "f", "arguments": {}}]
    assert answered["role"] == "user"
    assert answered["parts"] == [
        {"type": "tool_call_response", "id": "t0", "response": [{"type": "text", "content": "42"}, image]},
        {"type": "tool_call_response", "id": "t9", "response": "no", "is_error": True},
    ]


async def test_the_asynchronous_client_says_the_same(peer: Peer, spans: Recorded) -> None:
    peer.says(json_reply(MESSAGE))
    async with _async_client(peer) as client:
        await client.messages.create(**ASKED)
    _assert_usage(spans.only().attributes)


def test_a_message_without_cache_or_details(peer: Peer, spans: Recorded) -> None:
    plain = {**MESSAGE, "stop_reason": "max_tokens", "usage": {"input_tokens": 3, "output_tokens": 4}}
    peer.says(json_reply(plain))
    _client(peer).messages.create(**ASKED)
    seen = spans.only().attributes
    assert (seen["gen_ai.usage.input_tokens"], seen["gen_ai.usage.output_tokens"]) == (3, 4)
    assert seen["gen_ai.response.finish_reasons"] == ["max_tokens"]
    assert not [name for name in seen if "cache" in name or "reasoning" in name or "requests" in name]


def test_compactions_are_counted_beside_the_answer(peer: Peer, spans: Recorded) -> None:
    iterations = [
        {**USAGE, "type": "compaction", "input_tokens": 1000, "output_tokens": 50},
        {**USAGE, "type": "message"},
    ]
    peer.says(json_reply({**MESSAGE, "usage": {**USAGE, "iterations": iterations, "speed": "fast"}}))
    _client(peer).beta.messages.create(**ASKED)
    seen = spans.only().attributes
    _assert_usage(seen)
    assert seen["anthropic.usage.compaction.input_tokens"] == 1100
    assert seen["anthropic.usage.compaction.output_tokens"] == 50
    assert seen["limelight.response.speed"] == "fast"


def test_parse_and_beta(peer: Peer, spans: Recorded) -> None:
    class Answer(pydantic.BaseModel):
        city: str

    client = _client(peer)
    if not hasattr(client.messages, "parse"):
        pytest.skip("this version has no parse")
    peer.says(json_reply({**MESSAGE, "content": [{"type": "text", "text": '{"city":"Oslo"}'}]}))
    parsed = client.messages.parse(**ASKED, output_format=Answer)
    assert parsed.parsed_output.city == "Oslo"
    client.beta.messages.parse(**ASKED, output_format=Answer)
    for span in spans.spans():
        _assert_usage(span.attributes)
        assert span.attributes["gen_ai.output.type"] == "json"
    assert len(spans.spans()) == 2


def test_what_creates_no_message_has_no_span(peer: Peer, spans: Recorded) -> None:
    client = _client(peer)
    peer.says(json_reply({"input_tokens": 12}))
    assert client.beta.messages.count_tokens(model="m", messages=MESSAGES).input_tokens == 12
    peer.says(json_reply({"id": "b", "type": "message_batch", "processing_status": "ended"}))
    params = {"model": "m", "max_tokens": 1, "messages": []}
    client.beta.messages.batches.create(requests=[{"custom_id": "1", "params": params}])
    assert spans.spans() == []


def test_a_call_is_one_span_with_all_its_attempts(peer: Peer, spans: Recorded) -> None:
    overloaded = {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}
    peer.says(json_reply(overloaded, 529, **{"retry-after-ms": "1"}), json_reply(MESSAGE))
    _client(peer).with_options(max_retries=1).messages.create(**ASKED)
    assert len(peer.asked) == 2
    span = spans.only()
    assert span.status == "unset"
    _assert_usage(span.attributes)


@pytest.mark.parametrize(
    ("status", "kind", "raises"),
    [
        (400, "invalid_request_error", "BadRequestError"),
        (429, "rate_limit_error", "RateLimitError"),
        (500, "api_error", "InternalServerError"),
    ],
)
def test_errors_pass_unchanged(peer: Peer, spans: Recorded, status: int, kind: str, raises: str) -> None:
    peer.says(json_reply({"type": "error", "error": {"type": kind, "message": "slow down"}}, status))
    with pytest.raises(getattr(anthropic, raises), match="slow down"):
        _client(peer).messages.create(**ASKED)
    span = spans.only()
    assert (span.status, span.attributes["error.type"]) == ("error", f"anthropic.{raises}")
    assert "slow down" in span.status_message


def test_a_wrong_call_fails_as_ever_and_is_no_call(peer: Peer, spans: Recorded) -> None:
    with pytest.raises(TypeError, match="Missing required arguments"):
        _client(peer).messages.create(model="m")
    assert spans.spans() == []


def _deprecated() -> dict[str, str]:
    module = anthropic.resources.messages
    return getattr(module, "messages", module).DEPRECATED_MODELS  # a module of its own in the oldest versions


def test_warnings_still_point_at_the_users_line(peer: Peer, spans: Recorded) -> None:
    deprecated = next(iter(_deprecated()))
    peer.says(json_reply(MESSAGE))
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        _client(peer).messages.create(**{**ASKED, "model": deprecated})
    assert [warning.filename for warning in warned if warning.category is DeprecationWarning] == [__file__]
    assert spans.only().attributes["gen_ai.request.model"] == deprecated


def test_an_iterator_of_messages_is_the_users(peer: Peer, spans: Recorded) -> None:
    peer.says(json_reply(MESSAGE))
    messages = (message for message in MESSAGES)
    _client(peer).messages.create(model="m", max_tokens=1, messages=messages)
    assert len(peer.asked[0].json()["messages"]) == 3
    assert spans.only().attributes["gen_ai.operation.name"] == "chat"


def test_capture_none_keeps_counts_and_drops_content(peer: Peer) -> None:
    peer.says(json_reply(MESSAGE))
    with recording(capture="none") as recorded:
        _client(peer).messages.create(**ASKED, system="s", tools=[{"name": "f", "input_schema": {"type": "object"}}])
        seen = recorded.only().attributes
    _assert_usage(seen)
    held = ("input.messages", "output.messages", "system_instructions", "tool.definitions")
    assert not [name for name in held if f"gen_ai.{name}" in seen]


def test_vertex(peer: Peer, spans: Recorded) -> None:
    pytest.importorskip("google.auth")
    peer.says(json_reply(MESSAGE))
    client = anthropic.AnthropicVertex(region="r", project_id="p", access_token="t", base_url=peer.url, max_retries=0)
    client.messages.create(**ASKED)
    client.beta.messages.create(**ASKED)
    assert peer.asked[0].path == "/projects/p/locations/r/publishers/anthropic/models/claude-next:rawPredict"
    assert len(spans.spans()) == 2
    for span in spans.spans():
        assert span.name == "chat claude-next"
        assert span.attributes["gen_ai.provider.name"] == "gcp.vertex_ai"
        _assert_usage(span.attributes)


@pytest.mark.skipif("api_key" not in signature(anthropic.AnthropicBedrock).parameters, reason="needs botocore to sign")
def test_bedrock(peer: Peer, spans: Recorded) -> None:
    peer.says(json_reply(MESSAGE))
    client = anthropic.AnthropicBedrock(api_key="k", aws_region="r", base_url=peer.url, max_retries=0)
    client.messages.create(**ASKED)
    client.beta.messages.create(**ASKED)
    assert peer.asked[0].path == "/model/claude-next/invoke"
    assert len(spans.spans()) == 2
    for span in spans.spans():
        assert span.name == "chat claude-next"
        assert span.attributes["gen_ai.provider.name"] == "aws.bedrock"
        _assert_usage(span.attributes)


def test_uninstrumenting_gives_the_library_its_own_back() -> None:
    clients = anthropic._base_client
    own = [vars(kind)["request"] for kind in (clients.SyncAPIClient, clients.AsyncAPIClient)]
    tracer = vars(clients.BaseClient).get("_tracer")
    with recording():
        assert vars(clients.SyncAPIClient)["request"] is not own[0]
        assert tracer is None or vars(clients.BaseClient)["_tracer"] is not tracer
    assert [vars(kind)["request"] for kind in (clients.SyncAPIClient, clients.AsyncAPIClient)] == own
    assert vars(clients.BaseClient).get("_tracer") is tracer
