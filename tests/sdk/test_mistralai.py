"""The real `mistralai` client against a local server, and its own telemetry beside ours."""

from __future__ import annotations

import asyncio
import gc
import json
import threading

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from limelight.testing import Recorded, recording
from sdk.server import Peer, json_reply, sse_reply

mistralai = pytest.importorskip("mistralai.client")
pydantic = pytest.importorskip("pydantic")

MESSAGES = [
    {"role": "system", "content": "be brief"},
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "what is this?"},
            {"type": "image_url", "image_url": "data:image/png;base64,aGVsbG8="},
            {"type": "document_url", "document_url": "https://d/1.pdf"},
        ],
    },
    {"role": "assistant", "tool_calls": [{"id": "c0", "function": {"name": "f", "arguments": "{}"}}]},
    {"role": "tool", "tool_call_id": "c0", "content": "42"},
]
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]
USAGE = {
    "prompt_tokens": 20,
    "completion_tokens": 7,
    "total_tokens": 27,
    "prompt_tokens_details": {"cached_tokens": 8},
}
HEAD = {"id": "m1", "model": "mistral-large-2512", "created": 1}
TOOL_CALL = {"id": "c1", "function": {"name": "weather", "arguments": '{"city":"Oslo"}'}, "index": 0}
THINKING = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
ANSWER = {
    **HEAD,
    "object": "chat.completion",
    "choices": [
        {
            "index": 0,
            "finish_reason": "tool_calls",
            "message": {
                "role": "assistant",
                "content": [THINKING, {"type": "text", "text": "Hello"}],
                "tool_calls": [TOOL_CALL],
            },
        }
    ],
    "usage": USAGE,
}


def _chunk(delta: dict, finish: str | None = None, **more) -> dict:
    return {**HEAD, "object": "chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more}


CHUNKS = [
    _chunk({"role": "assistant", "content": ""}),
    _chunk({"content": [THINKING]}),
    _chunk({"content": "Hel"}),
    _chunk({"content": "lo"}),
    _chunk({"tool_calls": [TOOL_CALL]}, "tool_calls", usage=USAGE),
]
EMBEDDING = {
    **HEAD,
    "object": "list",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.1, 0.2, 0.3]}],
    "usage": {"prompt_tokens": 4, "total_tokens": 4, "completion_tokens": 0},
}


def _client(peer: Peer, **options):
    return mistralai.Mistral(api_key="k", server_url=peer.url, **options)


def _stream_reply():
    return sse_reply(CHUNKS)


def _assert_answer(attributes: dict) -> None:
    expected = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "mistral_ai",
        "gen_ai.response.id": "m1",
        "gen_ai.response.model": "mistral-large-2512",
        "gen_ai.response.finish_reasons": ["tool_calls"],
        "gen_ai.usage.input_tokens": 20,
        "gen_ai.usage.output_tokens": 7,
        "gen_ai.usage.cache_read.input_tokens": 8,
        "server.address": "127.0.0.1",
    }
    assert {name: attributes.get(name) for name in expected} == expected
    (output,) = json.loads(attributes["gen_ai.output.messages"])
    assert output == {
        "role": "assistant",
        "parts": [
            {"type": "reasoning", "content": "hm"},
            {"type": "text", "content": "Hello"},
            {"type": "tool_call", "id": "c1", "name": "weather", "arguments": '{"city":"Oslo"}'},
        ],
        "finish_reason": "tool_calls",
    }


def test_an_answer_becomes_one_span(peer: Peer, spans: Recorded) -> None:
    peer.says(json_reply(ANSWER))
    with _client(peer) as client:
        client.chat.complete(
            model="mistral-large-latest",
            messages=MESSAGES,
            temperature=0.5,
            top_p=0.9,
            max_tokens=9,
            random_seed=7,
            stop=["x"],
            n=2,
            presence_penalty=0.1,
            frequency_penalty=0.2,
            reasoning_effort="high",
            response_format={"type": "json_object"},
            tools=TOOLS,
        )
    span = spans.only()
    seen = span.attributes
    assert (span.name, span.kind, span.status) == ("chat mistral-large-latest", "client", "unset")
    _assert_answer(seen)
    expected = {
        "gen_ai.request.model": "mistral-large-latest",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.top_p": 0.9,
        "gen_ai.request.max_tokens": 9,
        "gen_ai.request.seed": 7,
        "gen_ai.request.stop_sequences": ["x"],
        "gen_ai.request.choice.count": 2,
        "gen_ai.request.presence_penalty": 0.1,
        "gen_ai.request.frequency_penalty": 0.2,
        "gen_ai.request.reasoning.level": "high",
        "gen_ai.output.type": "json",
        "server.port": peer.port,
    }
    assert {name: seen.get(name) for name in expected} == expected
    assert not {"gen_ai.request.stream", "gen_ai.response.time_to_first_chunk"} & seen.keys()
    system, user, assistant, tool = json.loads(seen["gen_ai.input.messages"])
    assert system == {"role": "system", "parts": [{"type": "text", "content": "be brief"}]}
    text, image, document = user["parts"]
    assert text == {"type": "text", "content": "what is this?"}
    assert (image["type"], image["mime_type"], image["size"]) == ("blob", "image/png", 5)
    assert document == {"type": "uri", "uri": "https://d/1.pdf", "modality": "file"}
    assert assistant["parts"] == [{"type": "tool_call", "id": "c0", "name": "f", "arguments": "{}"}]
    assert tool["parts"] == [{"type": "tool_call_response", "id": "c0", "response": "42"}]
    assert json.loads(seen["gen_ai.tool.definitions"])[0]["function"]["name"] == "weather"


def test_a_stream_stays_the_librarys_own_object(peer: Peer, spans: Recorded) -> None:
    peer.says(_stream_reply())
    with _client(peer) as client, client.chat.stream(model="m", messages=MESSAGES) as stream:
        assert type(stream) is mistralai.utils.eventstreaming.EventStream
        assert len(list(stream)) == len(CHUNKS)
    span = spans.only()
    _assert_answer(span.attributes)
    assert span.attributes["gen_ai.request.stream"] is True
    assert span.attributes["gen_ai.response.time_to_first_chunk"] > 0


async def test_the_asynchronous_methods(peer: Peer, spans: Recorded) -> None:
    peer.says(json_reply(ANSWER), _stream_reply())
    async with _client(peer) as client:
        await client.chat.complete_async(model="m", messages=MESSAGES)
        stream = await client.chat.stream_async(model="m", messages=MESSAGES)
        assert type(stream) is mistralai.utils.eventstreaming.EventStreamAsync
        assert len([event async for event in stream]) == len(CHUNKS)
    whole, streamed = spans.spans()
    _assert_answer(whole.attributes)
    _assert_answer(streamed.attributes)


def test_messages_of_an_iterator_are_left_to_the_library(peer: Peer, spans: Recorded) -> None:
    peer.says(json_reply(ANSWER))
    with _client(peer) as client:
        client.chat.complete(model="m", messages=(message for message in MESSAGES))
    assert len(peer.asked[0].json()["messages"]) == len(MESSAGES)
    assert "gen_ai.input.messages" not in spans.only().attributes


def test_parsing_is_one_call(peer: Peer, spans: Recorded) -> None:
    class Answer(pydantic.BaseModel):
        city: str

    message = {"role": "assistant", "content": '{"city":"Oslo"}'}
    peer.says(json_reply({**ANSWER, "choices": [{"index": 0, "finish_reason": "stop", "message": message}]}))
    with _client(peer) as client:
        parsed = client.chat.parse(Answer, model="m", messages=MESSAGES)
    assert parsed.choices[0].message.parsed == Answer(city="Oslo")
    assert spans.only().attributes["gen_ai.output.type"] == "json"


def test_agents_and_fill_in_the_middle(peer: Peer, spans: Recorded) -> None:
    peer.says(json_reply(ANSWER), _stream_reply(), json_reply(ANSWER), _stream_reply())
    with _client(peer) as client:
        client.agents.complete(agent_id="a1", messages=MESSAGES)
        list(client.agents.stream(agent_id="a1", messages=MESSAGES))
        client.fim.complete(model="codestral", prompt="def f(", suffix="return 1")
        list(client.fim.stream(model="codestral", prompt="def f("))
    agent, agent_stream, fim, fim_stream = spans.spans()
    for span in (agent, agent_stream):
        _assert_answer(span.attributes)
        assert (span.name, span.attributes["gen_ai.agent.id"]) == ("chat", "a1")
    assert fim.name == fim_stream.name == "text_completion codestral"
    assert json.loads(fim.attributes["gen_ai.input.messages"])[0]["parts"] == [
        {"type": "text", "content": "def f("},
        {"type": "suffix", "content": "return 1"},
    ]
    for span in (fim, fim_stream):
        assert span.attributes["gen_ai.usage.output_tokens"] == 7


async def test_embeddings(peer: Peer, spans: Recorded) -> None:
    peer.says(json_reply(EMBEDDING))
    async with _client(peer) as client:
        client.embeddings.create(model="mistral-embed", inputs=["a", "b"])
        await client.embeddings.create_async(model="mistral-embed", inputs="a", output_dimension=3)
    several, one = spans.spans()
    for span in (several, one):
        assert span.name == "embeddings mistral-embed"
        assert span.attributes["gen_ai.usage.input_tokens"] == 4
        assert "gen_ai.usage.output_tokens" not in span.attributes
        assert span.attributes["gen_ai.embeddings.dimension.count"] == 3
    assert json.loads(several.attributes["limelight.input"]) == ["a", "b"]
    assert one.attributes["limelight.input"] == "a"


def test_counts_that_are_not_sent_stay_unknown(peer: Peer, spans: Recorded) -> None:
    peer.says(json_reply({**ANSWER, "usage": {"prompt_tokens": 20}}))
    with _client(peer) as client:
        answer = client.chat.complete(model="m", messages=MESSAGES)
    assert answer.usage.completion_tokens == 0  # the library's default
    seen = spans.only().attributes
    assert seen["gen_ai.usage.input_tokens"] == 20
    assert "gen_ai.usage.output_tokens" not in seen


def test_tool_calls_in_one_piece_without_index_are_kept_apart(peer: Peer, spans: Recorded) -> None:
    calls = [
        {"id": f"c{n}", "function": {"name": "weather", "arguments": {"city": city}}}
        for n, city in enumerate(("Oslo", "Rome"))
    ]
    peer.says(sse_reply([_chunk({"tool_calls": calls}, "tool_calls", usage=USAGE)]))
    with _client(peer) as client:
        list(client.chat.stream(model="m", messages=MESSAGES))
    (output,) = json.loads(spans.only().attributes["gen_ai.output.messages"])
    assert output["parts"] == [
        {"type": "tool_call", "id": "c0", "name": "weather", "arguments": '{"city": "Oslo"}'},
        {"type": "tool_call", "id": "c1", "name": "weather", "arguments": '{"city": "Rome"}'},
    ]


@pytest.mark.parametrize("status", [429, 401, 500])
def test_errors_pass_unchanged_and_name_their_class(peer: Peer, spans: Recorded, status: int) -> None:
    peer.says(json_reply({"message": "slow down"}, status))
    with _client(peer) as client:
        with pytest.raises(mistralai.errors.SDKError):
            client.chat.complete(model="m", messages=MESSAGES)
        with pytest.raises(mistralai.errors.SDKError):
            client.chat.stream(model="m", messages=MESSAGES)
    for span in spans.spans():
        assert span.status == "error"
        assert span.attributes["error.type"] == "mistralai.client.errors.sdkerror.SDKError"
    assert len(spans.spans()) == 2


def test_a_cut_stream_fails_with_what_had_come(peer: Peer, spans: Recorded) -> None:
    peer.says(sse_reply(CHUNKS[:4], done=False, cut=True))
    with _client(peer) as client, pytest.raises(Exception, match=r"peer closed|incomplete|Connection") as caught:
        list(client.chat.stream(model="m", messages=MESSAGES))
    span = spans.only()
    assert span.status == "error"
    assert span.attributes["error.type"].endswith(type(caught.value).__qualname__)
    assert json.loads(span.attributes["gen_ai.output.messages"])[0]["parts"][1]["content"] in {"Hel", "Hello"}
    assert "gen_ai.usage.output_tokens" not in span.attributes


def test_break_close_and_collection_end_the_span_once(peer: Peer, spans: Recorded) -> None:
    gc.collect()
    peer.says(_stream_reply())
    with _client(peer) as client:
        with client.chat.stream(model="m", messages=MESSAGES) as stream:
            for event in stream:
                if event.data.choices[0].delta.content:
                    break
            assert spans.spans() == []  # the user may still go on
        abandoned = client.chat.stream(model="m", messages=MESSAGES)
        next(abandoned)
        del abandoned
        gc.collect()
    closed, collected = spans.spans()
    assert closed.status == collected.status == "unset"
    assert "gen_ai.usage.output_tokens" not in closed.attributes


async def test_cancelling_a_stream_passes_and_fails_the_span(peer: Peer, spans: Recorded) -> None:
    reply = sse_reply(CHUNKS[:3], done=False)
    reply.hang = threading.Event()
    peer.says(reply)
    started = asyncio.Event()

    async def read() -> None:
        async with _client(peer) as client:
            async for event in await client.chat.stream_async(model="m", messages=MESSAGES):
                if event.data.choices[0].delta.content:
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
    peer.says(json_reply(ANSWER), _stream_reply(), json_reply(EMBEDDING))
    held = {"gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.tool.definitions", "limelight.input"}
    with recording(capture="none") as recorded, _client(peer) as client:
        client.chat.complete(model="m", messages=MESSAGES, tools=TOOLS)
        list(client.chat.stream(model="m", messages=MESSAGES))
        client.embeddings.create(model="e", inputs="a")
        *chats, embedding = recorded.spans()
        assert [span.attributes["gen_ai.usage.output_tokens"] for span in chats] == [7, 7]
        assert embedding.attributes["gen_ai.usage.input_tokens"] == 4
        assert not any(held & span.attributes.keys() for span in (*chats, embedding))


def _names(exporter: InMemorySpanExporter) -> list[str]:
    return [span.name for span in exporter.get_finished_spans()]


@pytest.mark.parametrize("streamed", [False, True])
def test_the_librarys_own_spans_do_not_double_ours(peer: Peer, streamed: bool) -> None:
    provider, exporter = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    client = _client(peer)
    from mistralai.extra.observability import configure_telemetry

    configure_telemetry(client, provider=provider, redaction=False)

    def use() -> str:
        peer.says(_stream_reply() if streamed else json_reply(ANSWER))
        if streamed:
            list(client.chat.stream(model="m", messages=MESSAGES))
        else:
            client.chat.complete(model="m", messages=MESSAGES)
        return peer.asked[-1].headers["traceparent"]

    with client:
        with recording(tracer_provider=provider):
            sent = use()
            (ours,) = exporter.get_finished_spans()
            assert ours.instrumentation_scope.name == "limelight"
            # what the library passes on is our span
            assert sent.startswith(f"00-{ours.context.trace_id:032x}-{ours.context.span_id:016x}-")
        exporter.clear()
        use()
        assert len(_names(exporter)) == 1  # without us its own is back
        exporter.clear()
        with recording():
            use()
        assert len(_names(exporter)) == 1  # where ours go elsewhere, the user keeps what was asked for


def test_uninstrumenting_gives_the_library_back() -> None:
    from mistralai.client._hooks import tracing
    from mistralai.client.chat import Chat

    before = Chat.complete, Chat.stream_async, tracing.get_traced_request_and_span
    with recording():
        assert Chat.complete is not before[0]
        assert tracing.get_traced_request_and_span is not before[2]
    assert (Chat.complete, Chat.stream_async, tracing.get_traced_request_and_span) == before
