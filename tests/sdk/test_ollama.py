"""The real `ollama` client against a local server with recorded answers."""

from __future__ import annotations

import gc
import inspect
import json

import pytest

from limelight.testing import Recorded
from sdk.server import Peer, json_reply, ndjson_reply

ollama = pytest.importorskip("ollama")

COUNTS = {
    "done": True,
    "done_reason": "length",
    "total_duration": 165_575_090,
    "load_duration": 1_000_000,
    "prompt_eval_count": 31,
    "prompt_eval_duration": 134_805_000,
    "eval_count": 3,
    "eval_duration": 26_267_000,
}
MESSAGES = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}]
TOOL_CALL = {"function": {"name": "weather", "arguments": {"city": "Oslo"}}}


def _line(content: str = "", **message) -> dict:
    return {"model": "smollm2", "done": False, "message": {"role": "assistant", "content": content, **message}}


STREAM = [_line(thinking="hm"), _line("Hel"), _line("lo", tool_calls=[TOOL_CALL]), {**_line(), **COUNTS}]
ANSWER = {**_line("Hello", thinking="hm", tool_calls=[TOOL_CALL]), **COUNTS}


def _assert_answer(attributes: dict) -> None:
    expected = {
        "gen_ai.provider.name": "ollama",
        "gen_ai.usage.input_tokens": 31,
        "gen_ai.usage.output_tokens": 3,
        "gen_ai.response.finish_reasons": ["length"],
        "gen_ai.latency.time_in_model_prefill": 0.134805,
        "gen_ai.latency.time_in_model_decode": 0.026267,
        "limelight.model.load_duration": 0.001,
    }
    assert {name: attributes.get(name) for name in expected} == expected
    (output,) = json.loads(attributes["gen_ai.output.messages"])
    assert output["parts"] == [
        {"type": "reasoning", "content": "hm"},
        {"type": "text", "content": "Hello"},
        {"type": "tool_call", "name": "weather", "arguments": {"city": "Oslo"}},
    ]


def test_chat(peer: Peer, spans: Recorded) -> None:
    peer.says(json_reply(ANSWER))
    options = {"temperature": 0.5, "num_predict": 3, "seed": 1, "top_k": 40}
    answer = ollama.Client(peer.url).chat("smollm2", MESSAGES, options=options)
    assert answer.message.content == "Hello"
    span = spans.only()
    assert (span.name, span.kind) == ("chat smollm2", "client")
    _assert_answer(span.attributes)
    assert span.attributes["gen_ai.request.max_tokens"] == 3
    assert span.attributes["gen_ai.request.top_k"] == 40
    assert span.attributes["server.port"] == peer.port
    assert json.loads(span.attributes["gen_ai.input.messages"])[1]["parts"] == [{"type": "text", "content": "hi"}]


def test_a_chat_stream_stays_a_generator(peer: Peer, spans: Recorded) -> None:
    peer.says(ndjson_reply(STREAM))
    stream = ollama.Client(peer.url).chat("smollm2", MESSAGES, stream=True)
    assert inspect.isgenerator(stream)
    assert "".join(chunk.message.content for chunk in stream) == "Hello"
    span = spans.only()
    _assert_answer(span.attributes)
    assert span.attributes["gen_ai.response.time_to_first_chunk"] > 0


async def test_the_asynchronous_client(peer: Peer, spans: Recorded) -> None:
    peer.says(json_reply(ANSWER), ndjson_reply(STREAM))
    assert inspect.iscoroutinefunction(ollama.AsyncClient.chat)
    client = ollama.AsyncClient(peer.url)
    await client.chat("smollm2", MESSAGES)
    stream = await client.chat("smollm2", MESSAGES, stream=True)
    assert inspect.isasyncgen(stream)
    assert "".join([chunk.message.content async for chunk in stream]) == "Hello"
    await client.close()
    for span in spans.spans():
        _assert_answer(span.attributes)


def test_generate_and_embed(peer: Peer, spans: Recorded) -> None:
    peer.says(
        json_reply({"model": "smollm2", "response": "Hello", **COUNTS}),
        ndjson_reply(
            [{"model": "smollm2", "response": "Hello", "done": False}, {"model": "smollm2", "response": "", **COUNTS}]
        ),
        json_reply({"model": "e", "embeddings": [[0.1, 0.2]], "prompt_eval_count": 4, "load_duration": 10}),
    )
    client = ollama.Client(peer.url)
    client.generate("smollm2", "hi", system="be brief")
    list(client.generate("smollm2", "hi", stream=True))
    client.embed("e", ["a"])
    whole, streamed, embedded = (span.attributes for span in spans.spans())
    for seen in (whole, streamed):
        assert json.loads(seen["gen_ai.output.messages"])[0]["parts"] == [{"type": "text", "content": "Hello"}]
        assert seen["gen_ai.usage.output_tokens"] == 3
    assert json.loads(whole["gen_ai.system_instructions"])[0]["content"] == "be brief"
    assert embedded["gen_ai.operation.name"] == "embeddings"
    assert (embedded["gen_ai.usage.input_tokens"], embedded["gen_ai.embeddings.dimension.count"]) == (4, 2)


def test_a_count_the_server_leaves_out_stays_unknown(peer: Peer, spans: Recorded) -> None:
    cached = {name: value for name, value in ANSWER.items() if not name.startswith("prompt_eval")}
    peer.says(json_reply(cached))
    ollama.Client(peer.url).chat("smollm2", MESSAGES)
    assert "gen_ai.usage.input_tokens" not in spans.only().attributes


def test_a_cold_start_is_visible(peer: Peer, spans: Recorded) -> None:
    cold = {**ANSWER, "load_duration": 2_500_000_000}
    peer.says(json_reply(cold))
    ollama.Client(peer.url).chat("smollm2", MESSAGES)
    seen = spans.only().attributes
    assert seen["limelight.model.load_duration"] == 2.5
    assert seen["gen_ai.latency.e2e"] == 0.16557509


def test_system_one_answers_questions(peer: Peer, spans: Recorded) -> None:
    if not hasattr(ollama.Client, "systemone"):
        pytest.skip("this version of the client has no systemone")
    usage = {"input_tokens": 12, "output_tokens": 3}
    answers = {"polite": {"type": "noul", "noul": 0.9}}
    peer.says(json_reply({"model": "one", "answers": answers, "usage": usage}))
    questions = {"polite": {"type": "noul", "instructions": "Is it polite?"}}
    ollama.Client(peer.url).systemone("one", "Thank you!", questions)
    span = spans.only()
    assert span.name == "generate_content one"
    assert span.attributes["gen_ai.usage.input_tokens"] == 12
    assert span.attributes["gen_ai.usage.output_tokens"] == 3
    assert json.loads(span.attributes["limelight.input"]) == {"state": "Thank you!", "questions": questions}
    assert json.loads(span.attributes["limelight.output"])["polite"]["noul"] == 0.9


def test_break_and_collection_and_a_stream_never_started(peer: Peer, spans: Recorded) -> None:
    gc.collect()  # earlier tests' garbage: a warning raised while it goes would keep the frames below alive
    peer.says(ndjson_reply(STREAM))
    client = ollama.Client(peer.url)
    for chunk in client.chat("smollm2", MESSAGES, stream=True):
        if chunk.message.content:
            break
    unused = client.chat("smollm2", MESSAGES, stream=True)
    del unused
    gc.collect()
    broken, never = sorted(spans.spans(), key=lambda span: span.span_id)
    assert broken.status == never.status == "unset"
    assert "gen_ai.usage.output_tokens" not in broken.attributes
    assert "Hel" in broken.attributes["gen_ai.output.messages"]


def test_errors_whole_and_mid_stream(peer: Peer, spans: Recorded) -> None:
    client = ollama.Client(peer.url)
    peer.says(
        json_reply({"error": "model 'x' not found"}, 404), ndjson_reply([_line("Hel"), {"error": "out of memory"}])
    )
    with pytest.raises(ollama.ResponseError, match="not found"):
        client.chat("x", MESSAGES)
    with pytest.raises(ollama.ResponseError, match="out of memory"):
        list(client.chat("smollm2", MESSAGES, stream=True))
    for span in spans.spans():
        assert (span.status, span.attributes["error.type"]) == ("error", "ollama.ResponseError")


def test_the_modules_functions(peer: Peer, spans: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ollama._client, "_client", ollama.Client(peer.url)._client)
    peer.says(json_reply(ANSWER))
    ollama.chat("smollm2", MESSAGES)
    _assert_answer(spans.only().attributes)
