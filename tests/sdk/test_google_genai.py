"""The real `google-genai` client against a local server: one span a request, and functions run outside of it."""

from __future__ import annotations

import asyncio
import gc
import inspect
import json
import threading

import pytest
from opentelemetry import trace

import limelight
from limelight import call
from limelight.testing import Recorded, recording
from sdk.server import Peer, json_reply, sse_reply

genai = pytest.importorskip("google.genai")

from google.genai import errors, types  # noqa: E402

from limelight.providers import google_genai_parts as parts  # noqa: E402

# the library's own: it builds on aiohttp where that is installed
pytestmark = pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")

USAGE = {
    "promptTokenCount": 20,
    "cachedContentTokenCount": 8,
    "toolUsePromptTokenCount": 5,
    "candidatesTokenCount": 7,
    "thoughtsTokenCount": 3,
    "totalTokenCount": 35,
    "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 12}, {"modality": "IMAGE", "tokenCount": 8}],
    "toolUsePromptTokensDetails": [{"modality": "TEXT", "tokenCount": 5}],
    "candidatesTokensDetails": [{"modality": "TEXT", "tokenCount": 7}],
}
HEAD = {"modelVersion": "gemini-2.5-flash-001", "responseId": "r1"}
CALL = {"functionCall": {"id": "c1", "name": "weather", "args": {"city": "Oslo"}}}


def _candidate(*found: dict, finish: str | None = None, index: int = 0) -> dict:
    candidate = {"content": {"role": "model", "parts": list(found)}, "index": index}
    return {**candidate, "finishReason": finish} if finish else candidate


ANSWER = {
    **HEAD,
    "candidates": [_candidate({"text": "hm", "thought": True}, {"text": "Hello"}, CALL, finish="STOP")],
    "usageMetadata": USAGE,
}
CHUNKS = [
    {**HEAD, "candidates": [_candidate({"text": "hm", "thought": True})], "usageMetadata": {"promptTokenCount": 20}},
    {**HEAD, "candidates": [_candidate({"text": "Hel"})], "usageMetadata": {**USAGE, "candidatesTokenCount": 2}},
    {**HEAD, "candidates": [_candidate({"text": "lo"})]},
    {**HEAD, "candidates": [_candidate(CALL)]},
    {**HEAD, "candidates": [_candidate({"text": ""}, finish="STOP")], "usageMetadata": USAGE},
]
TEXT_ANSWER = {**HEAD, "candidates": [_candidate({"text": "12 degrees"}, finish="STOP")], "usageMetadata": USAGE}
CONTENTS = [
    {
        "role": "user",
        "parts": [{"text": "what is this?"}, {"inlineData": {"mimeType": "image/png", "data": "aGVsbG8="}}],
    },
    types.Content(role="model", parts=[types.Part.from_function_call(name="f", args={"a": 1})]),
    types.Content(role="user", parts=[types.Part.from_function_response(name="f", response={"result": 42})]),
]


def _client(peer: Peer, **options) -> genai.Client:
    return genai.Client(api_key="k", http_options={"base_url": peer.url}, **options)


def _stream_reply():
    return sse_reply(CHUNKS, done=False)


def _assert_answer(attributes: dict) -> None:
    expected = {
        "gen_ai.operation.name": "generate_content",
        "gen_ai.provider.name": "gcp.gemini",
        "gen_ai.request.model": "gemini-2.5-flash",
        "gen_ai.response.model": "gemini-2.5-flash-001",
        "gen_ai.response.id": "r1",
        "gen_ai.response.finish_reasons": ["STOP"],
        "gen_ai.usage.input_tokens": 25,
        "gen_ai.usage.output_tokens": 10,
        "gen_ai.usage.cache_read.input_tokens": 8,
        "gen_ai.usage.reasoning.output_tokens": 3,
        "gen_ai.usage.text.input_tokens": 17,
        "gen_ai.usage.image.input_tokens": 8,
        "gen_ai.usage.text.output_tokens": 7,
        "server.address": "127.0.0.1",
    }
    assert {name: attributes.get(name) for name in expected} == expected
    assert "gen_ai.usage.audio.input_tokens" not in attributes
    (output,) = json.loads(attributes["gen_ai.output.messages"])
    assert output == {
        "role": "assistant",
        "parts": [
            {"type": "reasoning", "content": "hm"},
            {"type": "text", "content": "Hello"},
            {"type": "tool_call", "id": "c1", "name": "weather", "arguments": {"city": "Oslo"}},
        ],
        "finish_reason": "STOP",
    }


def test_an_answer_becomes_one_span(peer: Peer, spans: Recorded) -> None:
    peer.says(json_reply(ANSWER))
    with _client(peer) as client:
        answer = client.models.generate_content(
            model="models/gemini-2.5-flash",
            contents=CONTENTS,
            config={
                "temperature": 0.5,
                "top_p": 0.9,
                "top_k": 40,
                "max_output_tokens": 9,
                "seed": 7,
                "stop_sequences": ["x"],
                "candidate_count": 2,
                "presence_penalty": 0.1,
                "frequency_penalty": 0.2,
                "system_instruction": "be brief",
                "response_mime_type": "application/json",
                "thinking_config": {"thinking_level": "LOW"},
                "tools": [{"function_declarations": [{"name": "weather", "description": "of a city"}]}],
            },
        )
    assert answer.candidates[0].content.parts[1].text == "Hello"
    span = spans.only()
    seen = span.attributes
    assert (span.name, span.kind, span.status) == ("generate_content gemini-2.5-flash", "client", "unset")
    _assert_answer(seen)
    expected = {
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.top_p": 0.9,
        "gen_ai.request.top_k": 40,
        "gen_ai.request.max_tokens": 9,
        "gen_ai.request.seed": 7,
        "gen_ai.request.stop_sequences": ["x"],
        "gen_ai.request.choice.count": 2,
        "gen_ai.request.presence_penalty": 0.1,
        "gen_ai.request.frequency_penalty": 0.2,
        "gen_ai.request.reasoning.level": "LOW",
        "gen_ai.output.type": "json",
        "server.port": peer.port,
    }
    assert {name: seen.get(name) for name in expected} == expected
    assert not {"gen_ai.request.stream", "gen_ai.response.time_to_first_chunk"} & seen.keys()
    assert json.loads(seen["gen_ai.system_instructions"]) == [{"type": "text", "content": "be brief"}]
    user, model, tool = json.loads(seen["gen_ai.input.messages"])
    assert user["parts"][0] == {"type": "text", "content": "what is this?"}
    image = user["parts"][1]
    assert (image["type"], image["mime_type"], image["size"], image["modality"]) == ("blob", "image/png", 5, "image")
    assert model == {"role": "assistant", "parts": [{"type": "tool_call", "name": "f", "arguments": {"a": 1}}]}
    assert tool == {
        "role": "tool",
        "parts": [{"type": "tool_call_response", "name": "f", "response": {"result": 42}}],
    }
    (definition,) = json.loads(seen["gen_ai.tool.definitions"])
    assert (definition["name"], definition["description"]) == ("weather", "of a city")


def test_a_stream_stays_a_generator_and_its_last_usage_counts(peer: Peer, spans: Recorded) -> None:
    peer.says(_stream_reply())
    with _client(peer) as client:
        stream = client.models.generate_content_stream(model="gemini-2.5-flash", contents="hi")
        assert inspect.isgenerator(stream)
        assert spans.spans() == []
        assert len(list(stream)) == len(CHUNKS)
    span = spans.only()
    _assert_answer(span.attributes)
    assert span.attributes["gen_ai.request.stream"] is True
    assert span.attributes["gen_ai.response.time_to_first_chunk"] > 0


async def test_the_asynchronous_client(peer: Peer, spans: Recorded) -> None:
    peer.says(json_reply(ANSWER), _stream_reply())
    async with _client(peer).aio as client:
        await client.models.generate_content(model="gemini-2.5-flash", contents="hi")
        stream = await client.models.generate_content_stream(model="gemini-2.5-flash", contents="hi")
        assert inspect.isasyncgen(stream)
        assert len([chunk async for chunk in stream]) == len(CHUNKS)
    whole, streamed = spans.spans()
    _assert_answer(whole.attributes)
    _assert_answer(streamed.attributes)
    assert streamed.attributes["gen_ai.response.time_to_first_chunk"] > 0


def _weather(seen: list) -> object:
    def weather(city: str) -> str:
        """The weather of a city."""
        seen.append((trace.get_current_span().get_span_context().span_id, call.muted()))
        with limelight.span("look up"):
            return f"12 degrees in {city}"

    return weather


@pytest.mark.parametrize("streamed", [False, True])
def test_a_function_the_library_calls_runs_between_the_spans(peer: Peer, spans: Recorded, streamed: bool) -> None:
    seen: list = []
    reply = (lambda body: sse_reply([body], done=False)) if streamed else json_reply
    peer.says(
        reply({**HEAD, "candidates": [_candidate(CALL, finish="STOP")], "usageMetadata": USAGE}), reply(TEXT_ANSWER)
    )
    with _client(peer) as client, limelight.span("turn") as turn:
        config = types.GenerateContentConfig(tools=[_weather(seen)])
        if streamed:
            list(client.models.generate_content_stream(model="gemini-2.5-flash", contents="hi", config=config))
        else:
            client.models.generate_content(model="gemini-2.5-flash", contents="hi", config=config)
    del turn
    # by their starts: a streamed call is still open while the library calls the function it asked for
    outer, first, function, second = sorted(spans.spans(), key=lambda span: span.start_ns)
    assert [span.name for span in (first, function, second)] == [
        "generate_content gemini-2.5-flash",
        "look up",
        "generate_content gemini-2.5-flash",
    ]
    assert {span.parent_id for span in (first, function, second)} == {outer.span_id}
    assert seen == [(int(outer.span_id, 16), frozenset())]
    roles = [message["role"] for message in json.loads(second.attributes["gen_ai.input.messages"])]
    assert roles == ["user", "assistant", "tool"]
    definition = json.loads(first.attributes["gen_ai.tool.definitions"])[0]
    assert (definition["name"], definition["description"]) == ("weather", "The weather of a city.")


async def test_an_asynchronous_function_runs_between_the_spans(peer: Peer, spans: Recorded) -> None:
    seen: list = []
    peer.says(
        json_reply({**HEAD, "candidates": [_candidate(CALL, finish="STOP")], "usageMetadata": USAGE}),
        json_reply(TEXT_ANSWER),
    )

    async def weather(city: str) -> str:
        """The weather of a city."""
        seen.append((trace.get_current_span().get_span_context().span_id, call.muted()))
        return "12 degrees"

    async with _client(peer).aio as client:
        config = types.GenerateContentConfig(tools=[weather])
        await client.models.generate_content(model="gemini-2.5-flash", contents="hi", config=config)
    assert len(spans.spans()) == 2
    assert seen == [(0, frozenset())]


def test_a_chat_sends_its_history(peer: Peer, spans: Recorded) -> None:
    peer.says(json_reply(TEXT_ANSWER), sse_reply([TEXT_ANSWER], done=False))
    with _client(peer) as client:
        chat = client.chats.create(model="gemini-2.5-flash")
        chat.send_message("hi")
        list(chat.send_message_stream("and now?"))
    first, second = spans.spans()
    assert len(json.loads(first.attributes["gen_ai.input.messages"])) == 1
    assert [message["role"] for message in json.loads(second.attributes["gen_ai.input.messages"])] == [
        "user",
        "assistant",
        "user",
    ]


def test_embeddings_on_both_services(peer: Peer, spans: Recorded) -> None:
    peer.says(
        json_reply({"embeddings": [{"values": [0.1, 0.2, 0.3]}, {"values": [0.1, 0.2, 0.3]}]}),
        json_reply(
            {"predictions": [{"embeddings": {"values": [0.1, 0.2], "statistics": {"token_count": 4}}} for _ in "ab"]}
        ),
    )
    with _client(peer) as client:
        client.models.embed_content(model="gemini-embedding-001", contents=["a", "b"])
    client = genai.Client(vertexai=True, api_key="k", http_options={"base_url": peer.url})
    client.models.embed_content(model="text-embedding-005", contents=["a", "b"], config={"output_dimensionality": 2})
    client.close()
    plain, vertex = spans.spans()
    assert plain.name == "embeddings gemini-embedding-001"
    assert plain.attributes["gen_ai.provider.name"] == "gcp.gemini"
    assert plain.attributes["gen_ai.embeddings.dimension.count"] == 3
    assert "gen_ai.usage.input_tokens" not in plain.attributes
    assert json.loads(plain.attributes["limelight.input"]) == ["a", "b"]
    assert vertex.attributes["gen_ai.provider.name"] == "gcp.vertex_ai"
    assert vertex.attributes["gen_ai.usage.input_tokens"] == 8
    assert vertex.attributes["gen_ai.embeddings.dimension.count"] == 2


async def test_embeddings_asynchronously(peer: Peer, spans: Recorded) -> None:
    peer.says(json_reply({"embeddings": [{"values": [0.1, 0.2]}]}))
    async with _client(peer).aio as client:
        await client.models.embed_content(model="gemini-embedding-001", contents="a")
    assert spans.only().attributes["limelight.input"] == "a"


def test_vertex_names_its_model_by_resource(peer: Peer, spans: Recorded) -> None:
    peer.says(json_reply(TEXT_ANSWER))
    client = genai.Client(vertexai=True, api_key="k", http_options={"base_url": peer.url})
    client.models.generate_content(model="publishers/google/models/gemini-2.5-pro", contents="hi")
    client.close()
    seen = spans.only().attributes
    assert (seen["gen_ai.provider.name"], seen["gen_ai.request.model"]) == ("gcp.vertex_ai", "gemini-2.5-pro")


def test_a_refused_prompt_says_why(peer: Peer, spans: Recorded) -> None:
    blocked = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 4}, **HEAD}
    peer.says(json_reply(blocked), sse_reply([blocked], done=False))
    with _client(peer) as client:
        client.models.generate_content(model="m", contents="hi")
        list(client.models.generate_content_stream(model="m", contents="hi"))
    for span in spans.spans():
        assert span.status == "unset"
        assert span.attributes["gen_ai.response.finish_reasons"] == ["SAFETY"]
        assert span.attributes["gen_ai.usage.input_tokens"] == 4
        assert not {"gen_ai.usage.output_tokens", "gen_ai.output.messages"} & span.attributes.keys()


def test_a_raw_answer_is_read_from_its_bytes(peer: Peer, spans: Recorded) -> None:
    peer.says(json_reply(ANSWER))
    with _client(peer) as client:
        config = types.GenerateContentConfig(should_return_http_response=True)
        answer = client.models.generate_content(model="gemini-2.5-flash", contents="hi", config=config)
    assert json.loads(answer.sdk_http_response.body)["responseId"] == "r1"
    _assert_answer(spans.only().attributes)


@pytest.mark.parametrize(("status", "kind"), [(429, "ClientError"), (400, "ClientError"), (503, "ServerError")])
def test_errors_pass_unchanged_and_name_their_class(peer: Peer, spans: Recorded, status: int, kind: str) -> None:
    refusal = {"error": {"code": status, "message": "slow down", "status": "RESOURCE_EXHAUSTED"}}
    peer.says(json_reply(refusal, status))
    with _client(peer) as client:
        with pytest.raises(getattr(errors, kind), match="slow down"):
            client.models.generate_content(model="m", contents="hi")
        with pytest.raises(getattr(errors, kind), match="slow down"):
            list(client.models.generate_content_stream(model="m", contents="hi"))
    failed = spans.spans()
    assert len(failed) == 2
    for span in failed:
        assert (span.status, span.attributes["error.type"]) == ("error", f"google.genai.errors.{kind}")
        assert "gen_ai.usage.input_tokens" not in span.attributes


def test_a_cut_stream_fails_with_what_had_come(peer: Peer, spans: Recorded) -> None:
    peer.says(sse_reply(CHUNKS[:3], done=False, cut=True))
    with _client(peer) as client, pytest.raises(Exception, match=r"peer closed|incomplete|Connection") as caught:
        list(client.models.generate_content_stream(model="m", contents="hi"))
    span = spans.only()
    assert span.status == "error"
    assert span.attributes["error.type"].endswith(type(caught.value).__qualname__)
    assert json.loads(span.attributes["gen_ai.output.messages"])[0]["parts"][-1]["content"] in {"Hel", "Hello"}


def test_break_close_and_a_stream_never_started(peer: Peer, spans: Recorded) -> None:
    gc.collect()
    peer.says(_stream_reply())
    with _client(peer) as client:
        for chunk in client.models.generate_content_stream(model="m", contents="hi"):
            if chunk.text:
                break
        closed = client.models.generate_content_stream(model="m", contents="hi")
        next(closed)
        closed.close()
        client.models.generate_content_stream(model="m", contents="hi")  # no step: nothing was asked
        gc.collect()
    ended = spans.spans()
    assert [span.status for span in ended] == ["unset", "unset"]
    assert len(peer.asked) == 2


async def test_cancelling_a_stream_passes_and_fails_the_span(peer: Peer, spans: Recorded) -> None:
    reply = sse_reply(CHUNKS[:2], done=False)
    reply.hang = threading.Event()
    peer.says(reply)
    started = asyncio.Event()

    async def read() -> None:
        async with _client(peer).aio as client:
            async for chunk in await client.models.generate_content_stream(model="m", contents="hi"):
                if chunk.text:
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
    peer.says(json_reply(ANSWER), _stream_reply())
    held = {"gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.tool.definitions", "gen_ai.system_instructions"}
    with recording(capture="none") as recorded, _client(peer) as client:
        config = types.GenerateContentConfig(system_instruction="be brief", tools=[types.Tool(google_search={})])
        client.models.generate_content(model="m", contents=CONTENTS, config=config)
        list(client.models.generate_content_stream(model="m", contents=CONTENTS))
        for span in recorded.spans():
            assert span.attributes["gen_ai.usage.output_tokens"] == 10
            assert not held & span.attributes.keys()


TEXT = {"type": "text", "content": "a"}


@pytest.mark.parametrize(
    ("contents", "expected"),
    [
        ("a", [{"role": "user", "parts": [TEXT]}]),
        (["a", types.Part(text="a")], [{"role": "user", "parts": [TEXT, TEXT]}]),
        ([["a"], "a"], [{"role": "user", "parts": [TEXT]}, {"role": "user", "parts": [TEXT]}]),
        ({"parts": [{"text": "a"}]}, [{"role": "user", "parts": [TEXT]}]),
        (
            [types.Part.from_uri(file_uri="gs://b/x.mp3", mime_type="audio/mpeg")],
            [
                {
                    "role": "user",
                    "parts": [{"type": "uri", "uri": "gs://b/x.mp3", "mime_type": "audio/mpeg", "modality": "audio"}],
                }
            ],
        ),
        (
            types.File(uri="https://f/1", mime_type="application/pdf"),
            [
                {
                    "role": "user",
                    "parts": [
                        {"type": "uri", "uri": "https://f/1", "mime_type": "application/pdf", "modality": "file"}
                    ],
                }
            ],
        ),
        (iter(["a"]), [{"role": "user", "parts": [{"type": "custom"}]}]),
        (None, []),
    ],
)
def test_what_a_user_may_pass(contents: object, expected: list) -> None:
    made = parts.of_contents(contents)
    for message in made:
        for part in message["parts"]:
            if part["type"] == "custom":
                del part["content"]
    assert made == expected


def test_code_the_provider_ran_is_a_tool_call_of_its_own() -> None:
    code = {"executableCode": {"code": "1+1", "language": "PYTHON"}}
    result = {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "2"}}
    called, answered = parts.of_contents({"role": "model", "parts": [code, result]})[0]["parts"]
    assert called["server_tool_call"] == {"type": "code_execution", "code": "1+1", "language": "PYTHON"}
    assert answered["server_tool_call_response"]["output"] == "2"


def test_uninstrumenting_gives_the_library_back() -> None:
    from google.genai.models import AsyncModels, Models

    names = ("_generate_content", "_generate_content_stream", "_embed_content")
    before = [vars(owner)[name] for owner in (Models, AsyncModels) for name in names]
    with recording():
        assert all(vars(owner)[name] not in before for owner in (Models, AsyncModels) for name in names)
    assert [vars(owner)[name] for owner in (Models, AsyncModels) for name in names] == before
