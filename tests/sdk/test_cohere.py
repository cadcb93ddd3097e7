"""The real `cohere` client, both versions of its API, against a local server."""

from __future__ import annotations

import asyncio
import gc
import inspect
import json
import threading

import pytest

from limelight.testing import Recorded, recording
from sdk.server import Peer, Reply, json_reply, ndjson_reply, sse_reply

cohere = pytest.importorskip("cohere")

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
        "tool_plan": "ask f",
        "tool_calls": [{"id": "c0", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
    },
    {"role": "tool", "tool_call_id": "c0", "content": "42"},
]
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]
USAGE = {
    "billed_units": {"input_tokens": 20.0, "output_tokens": 7.0},
    "tokens": {"input_tokens": 214.0, "output_tokens": 9.0},
    "cached_tokens": 16.0,
}
TOOL_CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Oslo"}'}}
ANSWER = {
    "id": "r1",
    "finish_reason": "TOOL_CALL",
    "message": {
        "role": "assistant",
        "tool_plan": "I look.",
        "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "Hello"}],
        "tool_calls": [TOOL_CALL],
    },
    "usage": USAGE,
}


def _content(index: int, kind: str, **content: str) -> dict:
    return {"type": kind, "index": index, "delta": {"message": {"content": content}}}


EVENTS = [
    {"type": "message-start", "id": "r1", "delta": {"message": {"role": "assistant", "content": []}}},
    {"type": "tool-plan-delta", "delta": {"message": {"tool_plan": "I "}}},
    {"type": "tool-plan-delta", "delta": {"message": {"tool_plan": "look."}}},
    _content(0, "content-start", type="thinking", thinking=""),
    _content(0, "content-delta", thinking="hm"),
    {"type": "content-end", "index": 0},
    _content(1, "content-start", type="text", text=""),
    _content(1, "content-delta", text="Hel"),
    _content(1, "content-delta", text="lo"),
    {"type": "content-end", "index": 1},
    {
        "type": "tool-call-start",
        "index": 0,
        "delta": {
            "message": {
                "tool_calls": {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": ""}}
            }
        },
    },
    {
        "type": "tool-call-delta",
        "index": 0,
        "delta": {"message": {"tool_calls": {"function": {"arguments": '{"city":"Oslo"}'}}}},
    },
    {"type": "tool-call-end", "index": 0},
    {"type": "message-end", "delta": {"finish_reason": "TOOL_CALL", "usage": USAGE}},
]
RANKED = {
    "id": "k1",
    "results": [{"index": 1, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.1}],
    "meta": {"billed_units": {"search_units": 1}},
}
EMBEDDED = {
    "id": "e1",
    "embeddings": {"float": [[0.1, 0.2, 0.3]]},
    "texts": ["a"],
    "response_type": "embeddings_by_type",
    "meta": {"billed_units": {"input_tokens": 4}},
}
LEGACY_ANSWER = {
    "text": "Hello",
    "generation_id": "g1",
    "response_id": "r1",
    "finish_reason": "COMPLETE",
    "tool_calls": [{"name": "weather", "parameters": {"city": "Oslo"}}],
    "meta": USAGE,
}
LEGACY_EVENTS = [
    {"event_type": "stream-start", "generation_id": "g1", "is_finished": False},
    {"event_type": "text-generation", "text": "Hel", "is_finished": False},
    {"event_type": "text-generation", "text": "lo", "is_finished": False},
    {"event_type": "stream-end", "is_finished": True, "finish_reason": "COMPLETE", "response": LEGACY_ANSWER},
]


def _options(peer: Peer) -> dict:
    knows_retries = "max_retries" in inspect.signature(cohere.ClientV2.__init__).parameters
    return {"api_key": "k", "base_url": peer.url, **({"max_retries": 0} if knows_retries else {})}


def _client(peer: Peer):
    return cohere.ClientV2(**_options(peer))


def _async_client(peer: Peer):
    return cohere.AsyncClientV2(**_options(peer))


def _stream_reply() -> Reply:
    return sse_reply(EVENTS, named=True)


def _assert_answer(attributes: dict) -> None:
    expected = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "cohere",
        "gen_ai.response.id": "r1",
        "gen_ai.response.finish_reasons": ["TOOL_CALL"],
        "gen_ai.usage.input_tokens": 20,
        "gen_ai.usage.output_tokens": 7,
        "gen_ai.usage.cache_read.input_tokens": 16,
        "server.address": "127.0.0.1",
    }
    assert {name: attributes.get(name) for name in expected} == expected
    assert type(attributes["gen_ai.usage.input_tokens"]) is int
    (output,) = json.loads(attributes["gen_ai.output.messages"])
    assert output == {
        "role": "assistant",
        "parts": [
            {"type": "reasoning", "content": "I look."},
            {"type": "reasoning", "content": "hm"},
            {"type": "text", "content": "Hello"},
            {"type": "tool_call", "id": "c1", "name": "weather", "arguments": '{"city":"Oslo"}'},
        ],
        "finish_reason": "TOOL_CALL",
    }


def test_an_answer_becomes_one_span(peer: Peer, spans: Recorded) -> None:
    peer.says(json_reply(ANSWER))
    with _client(peer) as client:
        answer = client.chat(
            model="command-a-03-2025",
            messages=MESSAGES,
            temperature=0.5,
            p=0.9,
            k=40,
            max_tokens=9,
            seed=7,
            stop_sequences=["x"],
            presence_penalty=0.1,
            frequency_penalty=0.2,
            response_format={"type": "json_object"},
            tools=TOOLS,
            documents=["a fact", {"id": "d2", "data": {"text": "another"}}],
        )
    assert answer.message.content[1].text == "Hello"
    span = spans.only()
    seen = span.attributes
    assert (span.name, span.kind, span.status) == ("chat command-a-03-2025", "client", "unset")
    _assert_answer(seen)
    expected = {
        "gen_ai.request.model": "command-a-03-2025",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.top_p": 0.9,
        "gen_ai.request.top_k": 40,
        "gen_ai.request.max_tokens": 9,
        "gen_ai.request.seed": 7,
        "gen_ai.request.stop_sequences": ["x"],
        "gen_ai.request.presence_penalty": 0.1,
        "gen_ai.request.frequency_penalty": 0.2,
        "gen_ai.output.type": "json",
        "server.port": peer.port,
    }
    assert {name: seen.get(name) for name in expected} == expected
    assert not {"gen_ai.request.stream", "gen_ai.response.time_to_first_chunk"} & seen.keys()
    system, user, assistant, tool = json.loads(seen["gen_ai.input.messages"])
    assert system == {"role": "system", "parts": [{"type": "text", "content": "be brief"}]}
    image = user["parts"][1]
    assert (image["type"], image["mime_type"], image["size"]) == ("blob", "image/png", 5)
    assert assistant["parts"] == [
        {"type": "reasoning", "content": "ask f"},
        {"type": "tool_call", "id": "c0", "name": "f", "arguments": "{}"},
    ]
    assert tool["parts"] == [{"type": "tool_call_response", "id": "c0", "response": "42"}]
    assert json.loads(seen["gen_ai.retrieval.documents"]) == [
        {"id": "0", "content": "a fact"},
        {"id": "d2", "content": {"text": "another"}},
    ]
    assert json.loads(seen["gen_ai.tool.definitions"])[0]["function"]["name"] == "weather"


def test_a_stream_stays_a_generator(peer: Peer, spans: Recorded) -> None:
    peer.says(_stream_reply())
    with _client(peer) as client:
        stream = client.chat_stream(model="m", messages=MESSAGES)
        assert inspect.isgenerator(stream)
        assert len(list(stream)) == len(EVENTS)
    span = spans.only()
    _assert_answer(span.attributes)
    assert span.attributes["gen_ai.request.stream"] is True
    assert span.attributes["gen_ai.response.time_to_first_chunk"] > 0


async def test_the_asynchronous_client(peer: Peer, spans: Recorded) -> None:
    peer.says(json_reply(ANSWER), _stream_reply())
    async with _async_client(peer) as client:
        await client.chat(model="m", messages=MESSAGES)
        stream = client.chat_stream(model="m", messages=MESSAGES)
        assert inspect.isasyncgen(stream)
        assert len([event async for event in stream]) == len(EVENTS)
    whole, streamed = spans.spans()
    _assert_answer(whole.attributes)
    _assert_answer(streamed.attributes)


def test_a_client_made_before_is_observed_and_so_is_a_raw_answer(peer: Peer) -> None:
    peer.says(json_reply(ANSWER))
    with _client(peer) as client, recording() as recorded:
        client.chat(model="m", messages=MESSAGES)
        raw = client.with_raw_response.chat(model="m", messages=MESSAGES)
        assert raw.data.id == "r1"
        for span in recorded.spans():
            _assert_answer(span.attributes)
        assert len(recorded.spans()) == 2


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        ({"billed_units": {"input_tokens": 5, "output_tokens": 2}, "cached_tokens": 16}, (5, 2, None)),
        ({"tokens": {"input_tokens": 71, "output_tokens": 2}, "cached_tokens": 16}, (71, 2, 16)),
        ({"billed_units": {"input_tokens": 0, "output_tokens": 2}, "tokens": {"input_tokens": 9}}, (0, 2, None)),
        (None, (None, None, None)),
    ],
)
def test_what_is_billed_is_what_counts(peer: Peer, spans: Recorded, usage: dict | None, counts: tuple) -> None:
    peer.says(json_reply({**ANSWER, "usage": usage}))
    with _client(peer) as client:
        client.chat(model="m", messages=MESSAGES)
    seen = spans.only().attributes
    names = ("gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens", "gen_ai.usage.cache_read.input_tokens")
    assert tuple(seen.get(name) for name in names) == counts


async def test_a_rerank_says_what_it_found(peer: Peer, spans: Recorded) -> None:
    peer.says(json_reply(RANKED))
    documents = ["Oslo", {"id": "d2", "text": "Rome"}]
    with _client(peer) as client:
        client.rerank(model="rerank-v3.5", query="Italy?", documents=documents, top_n=2)
    async with _async_client(peer) as asynchronous:
        await asynchronous.rerank(model="rerank-v3.5", query="Italy?", documents=documents, top_n=2)
    for span in spans.spans():
        seen = span.attributes
        assert (span.name, span.kind) == ("rerank rerank-v3.5", "client")
        expected = {
            "gen_ai.operation.name": "rerank",
            "gen_ai.provider.name": "cohere",
            "gen_ai.retrieval.query.text": "Italy?",
            "gen_ai.retrieval.top_k": 2,
            "limelight.usage.search_units": 1,
            "gen_ai.response.id": "k1",
        }
        assert {name: seen.get(name) for name in expected} == expected
        assert json.loads(seen["gen_ai.retrieval.documents"]) == [
            {"id": "d2", "score": 0.9, "content": "Rome"},
            {"id": "0", "score": 0.1, "content": "Oslo"},
        ]
        assert "gen_ai.usage.input_tokens" not in seen
    assert len(spans.spans()) == 2


async def test_embeddings(peer: Peer, spans: Recorded) -> None:
    peer.says(json_reply(EMBEDDED))
    with _client(peer) as client:
        client.embed(model="embed-v4.0", input_type="search_query", texts=["a"], embedding_types=["float"])
    async with _async_client(peer) as asynchronous:
        await asynchronous.embed(model="embed-v4.0", input_type="search_query", texts=["a"], embedding_types=["float"])
    for span in spans.spans():
        assert span.name == "embeddings embed-v4.0"
        assert span.attributes["gen_ai.usage.input_tokens"] == 4
        assert span.attributes["gen_ai.embeddings.dimension.count"] == 3
        assert span.attributes["gen_ai.request.encoding_formats"] == ["float"]
        assert json.loads(span.attributes["limelight.input"]) == ["a"]
        assert "gen_ai.usage.output_tokens" not in span.attributes
    assert len(spans.spans()) == 2


def test_version_1_of_the_api(peer: Peer, spans: Recorded) -> None:
    peer.says(json_reply(LEGACY_ANSWER), ndjson_reply(LEGACY_EVENTS))
    history = [{"role": "USER", "message": "hi"}, {"role": "CHATBOT", "message": "hello"}]
    results = [{"call": {"name": "f", "parameters": {}}, "outputs": [{"a": 1}]}]
    with cohere.Client(**_options(peer)) as client:
        client.chat(
            message="weather?", model="command-r", chat_history=history, preamble="be brief", tool_results=results
        )
        assert len(list(client.chat_stream(message="weather?", model="command-r"))) == len(LEGACY_EVENTS)
    whole, streamed = spans.spans()
    for span in (whole, streamed):
        seen = span.attributes
        assert span.name == "chat command-r"
        assert seen["gen_ai.response.id"] == "r1"
        assert seen["gen_ai.response.finish_reasons"] == ["COMPLETE"]
        assert (seen["gen_ai.usage.input_tokens"], seen["gen_ai.usage.output_tokens"]) == (20, 7)
        assert json.loads(seen["gen_ai.output.messages"])[0]["parts"] == [
            {"type": "text", "content": "Hello"},
            {"type": "tool_call", "name": "weather", "arguments": {"city": "Oslo"}},
        ]
    assert json.loads(whole.attributes["gen_ai.system_instructions"]) == [{"type": "text", "content": "be brief"}]
    asked = json.loads(whole.attributes["gen_ai.input.messages"])
    assert [message["role"] for message in asked] == ["user", "assistant", "user", "tool"]
    assert asked[3]["parts"] == [{"type": "tool_call_response", "name": "f", "response": [{"a": 1}]}]
    assert streamed.attributes["gen_ai.response.time_to_first_chunk"] > 0


async def test_version_1_asynchronously_and_generate_and_batched_embeddings(peer: Peer, spans: Recorded) -> None:
    generated = {"id": "g1", "generations": [{"id": "x", "text": "Hello"}], "meta": USAGE}
    floats = {"id": "e1", "response_type": "embeddings_floats", "embeddings": [[0.1, 0.2]] * 96, "texts": []}
    peer.says(
        json_reply(LEGACY_ANSWER),
        json_reply(generated),
        json_reply(RANKED),
        json_reply({**floats, "meta": {"billed_units": {"input_tokens": 4}}}),
    )
    async with cohere.AsyncClient(**_options(peer)) as asynchronous:
        await asynchronous.chat(message="weather?", model="command-r")
    with cohere.Client(**_options(peer)) as client:
        client.generate(prompt="hi", model="command")
        client.rerank(model="rerank-v3.5", query="Italy?", documents=["Oslo", "Rome"])
        client.embed(texts=["a"] * 97, model="embed-english-v3.0", input_type="search_query")
    chat, generate, rerank, embed = spans.spans()
    assert chat.attributes["gen_ai.usage.output_tokens"] == 7
    assert generate.name == "text_completion command"
    assert json.loads(generate.attributes["gen_ai.output.messages"])[0]["parts"][0]["content"] == "Hello"
    assert rerank.attributes["limelight.usage.search_units"] == 1
    assert len(peer.asked) == 5  # two batches of texts, one call of the user
    assert embed.attributes["gen_ai.usage.input_tokens"] == 8
    assert embed.attributes["gen_ai.embeddings.dimension.count"] == 2


@pytest.mark.parametrize(
    ("status", "kind"),
    [(429, "TooManyRequestsError"), (400, "BadRequestError"), (500, "InternalServerError")],
)
def test_errors_pass_unchanged_and_name_their_class(peer: Peer, spans: Recorded, status: int, kind: str) -> None:
    peer.says(json_reply({"message": "slow down"}, status))
    with _client(peer) as client:
        with pytest.raises(getattr(cohere.errors, kind)):
            client.chat(model="m", messages=MESSAGES)
        with pytest.raises(getattr(cohere.errors, kind)):
            list(client.chat_stream(model="m", messages=MESSAGES))
    failed = spans.spans()
    assert len(failed) == 2
    for span in failed:
        assert span.status == "error"
        assert span.attributes["error.type"].endswith(f".{kind}")
        assert "slow down" in span.status_message


def test_a_stream_that_ends_in_an_error_of_the_models_is_an_error(peer: Peer, spans: Recorded) -> None:
    end = {"type": "message-end", "delta": {"finish_reason": "ERROR", "error": "broke"}}
    peer.says(sse_reply([*EVENTS[:2], end], named=True))
    with _client(peer) as client:
        list(client.chat_stream(model="m", messages=MESSAGES))
    span = spans.only()
    assert (span.status, span.status_message, span.attributes["error.type"]) == ("error", "broke", "ERROR")


def test_a_cut_stream_fails_with_what_had_come(peer: Peer, spans: Recorded) -> None:
    peer.says(sse_reply(EVENTS[:9], named=True, done=False, cut=True))
    with _client(peer) as client, pytest.raises(Exception, match=r"peer closed|incomplete|Connection") as caught:
        list(client.chat_stream(model="m", messages=MESSAGES))
    span = spans.only()
    assert span.status == "error"
    assert span.attributes["error.type"].endswith(type(caught.value).__qualname__)
    assert "Hel" in span.attributes["gen_ai.output.messages"]
    assert "gen_ai.usage.output_tokens" not in span.attributes


def test_break_close_collection_and_a_stream_never_started(peer: Peer, spans: Recorded) -> None:
    gc.collect()
    peer.says(_stream_reply())
    with _client(peer) as client:
        for event in client.chat_stream(model="m", messages=MESSAGES):
            if event.type == "content-delta":
                break
        closed = client.chat_stream(model="m", messages=MESSAGES)
        next(closed)
        closed.close()
        unused = client.chat_stream(model="m", messages=MESSAGES)
        del unused
        gc.collect()
    ended = spans.spans()
    assert [span.status for span in ended] == ["unset"] * 3
    assert not any("gen_ai.usage.output_tokens" in span.attributes for span in ended)


async def test_cancelling_a_stream_passes_and_fails_the_span(peer: Peer, spans: Recorded) -> None:
    reply = sse_reply(EVENTS[:9], named=True, done=False)
    reply.hang = threading.Event()
    peer.says(reply)
    started = asyncio.Event()

    async def read() -> None:
        async with _async_client(peer) as client:
            async for event in client.chat_stream(model="m", messages=MESSAGES):
                if event.type == "content-delta":
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


def test_capture_none_keeps_counts_and_drops_content(peer: Peer) -> None:
    peer.says(json_reply(ANSWER), _stream_reply(), json_reply(RANKED), json_reply(EMBEDDED))
    held = {
        "gen_ai.input.messages",
        "gen_ai.output.messages",
        "gen_ai.tool.definitions",
        "gen_ai.retrieval.documents",
        "gen_ai.retrieval.query.text",
        "limelight.input",
    }
    with recording(capture="none") as recorded, _client(peer) as client:
        client.chat(model="m", messages=MESSAGES, tools=TOOLS, documents=["a fact"])
        list(client.chat_stream(model="m", messages=MESSAGES))
        client.rerank(model="r", query="q", documents=["Oslo", "Rome"])
        client.embed(model="e", input_type="search_query", texts=["a"], embedding_types=["float"])
        *chats, rerank, embed = recorded.spans()
        assert [span.attributes["gen_ai.usage.output_tokens"] for span in chats] == [7, 7]
        assert rerank.attributes["limelight.usage.search_units"] == 1
        assert embed.attributes["gen_ai.usage.input_tokens"] == 4
        assert not any(held & span.attributes.keys() for span in (*chats, rerank, embed))


def test_uninstrumenting_gives_the_library_back() -> None:
    from cohere.v2.client import V2Client
    from cohere.v2.raw_client import RawV2Client

    before = RawV2Client.chat, V2Client.chat_stream, cohere.Client.embed
    with recording():
        assert RawV2Client.chat is not before[0]
    assert (RawV2Client.chat, V2Client.chat_stream, cohere.Client.embed) == before
