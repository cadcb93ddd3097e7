"""Bodies and events of Triton's `/generate` and `/generate_stream`, as they were on the wire, to spans."""

from __future__ import annotations

import json
from typing import Any

import pytest

from limelight import call, wire
from limelight.providers import triton_generate as generate
from limelight.testing import Recorded, recording

BODY = {
    "id": "42",
    "text_input": "Name a colour.",
    "parameters": {"stream": True, "max_tokens": 8, "temperature": 0, "top_p": 0.9, "seed": 7, "stop": ["\n"]},
}
ANSWER = {
    "finish_reason": "length",
    "model_name": "llm",
    "model_version": "1",
    "num_input_tokens": 4,
    "num_output_tokens": 8,
    "text_output": "Blue, I think.",
}
EVENTS = [
    {**ANSWER, "text_output": "", "num_output_tokens": 0, "finish_reason": "None"},
    {**ANSWER, "text_output": "Bl", "num_output_tokens": 1, "finish_reason": "None"},
    {**ANSWER, "text_output": "ue", "num_output_tokens": 2},
]
TARGET = generate.Target("llm", None, is_stream=False)
STREAM = generate.Target("llm", "3", is_stream=True)


def _run(target: generate.Target, body: Any, *events: Any) -> list[bool]:
    recorder = call.installed()
    assert recorder is not None
    started = generate.start(recorder, target, body, {"server.address": "h"})
    chunks = generate.Chunks(recorder, target, body, started.records_content)
    started.on_stop = chunks.fill
    carries = [chunks.add(event) for event in events]
    started.stop()
    return carries


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v2/models/llm/generate", generate.Target("llm", None, False)),
        ("/v2/models/my%20llm/versions/3/generate_stream", generate.Target("my llm", "3", True)),
        ("/gateway/v2/models/llm/generate", generate.Target("llm", None, False)),
        ("/v2/models/llm/infer", None),
        ("/v2/models/llm/generate/more", None),
        ("/v2/models//generate", None),
    ],
)
def test_targets(path: str, expected: generate.Target | None) -> None:
    assert generate.target(path) == expected


def test_a_whole_answer(spans: Recorded) -> None:
    recorder = call.installed()
    assert recorder is not None
    started = generate.start(recorder, TARGET, BODY, {"server.address": "h", "server.port": 8000})
    generate.read_answer(started, recorder, TARGET, BODY, ANSWER)
    started.stop()
    span = spans.only()
    assert (span.name, span.kind) == ("text_completion llm", "client")
    inputs, outputs = (json.loads(span.attributes.pop(f"gen_ai.{way}.messages")) for way in ("input", "output"))
    assert inputs == [{"role": "user", "parts": [{"type": "text", "content": "Name a colour."}]}]
    assert outputs == [
        {"role": "assistant", "parts": [{"type": "text", "content": "Blue, I think."}], "finish_reason": "length"}
    ]
    assert span.attributes == {
        "gen_ai.operation.name": "text_completion",
        "gen_ai.provider.name": "triton",
        "gen_ai.request.model": "llm",
        "gen_ai.request.id": "42",
        "gen_ai.request.max_tokens": 8,
        "gen_ai.request.temperature": 0,
        "gen_ai.request.top_p": 0.9,
        "gen_ai.request.seed": 7,
        "gen_ai.request.stop_sequences": ["\n"],
        "gen_ai.response.model": "llm",
        "gen_ai.response.finish_reasons": ["length"],
        "gen_ai.usage.input_tokens": 4,
        "gen_ai.usage.output_tokens": 8,
        "triton.model_version": "1",
        "server.address": "h",
        "server.port": 8000,
    }


def test_events_add_up(spans: Recorded) -> None:
    assert _run(STREAM, {"text_input": "hi", "sampling_parameters": '{"temperature":"0.5"}'}, *EVENTS) == [
        False,
        True,
        True,
    ]
    seen = spans.only().attributes
    assert seen["gen_ai.request.stream"] is True
    assert seen["gen_ai.request.temperature"] == 0.5
    assert seen["gen_ai.usage.input_tokens"] == 4
    assert seen["gen_ai.usage.output_tokens"] == 3
    assert seen["gen_ai.response.finish_reasons"] == ["length"]
    assert json.loads(seen["gen_ai.output.messages"])[0]["parts"][0]["content"] == "Blue"


def test_an_error_after_a_200_fails_the_span(spans: Recorded) -> None:
    _run(STREAM, BODY, EVENTS[1], {"error": "model said no"})
    span = spans.only()
    assert (span.status, span.status_message, span.attributes["error.type"]) == ("error", "model said no", "error")
    assert json.loads(span.attributes["gen_ai.output.messages"])[0]["parts"][0]["content"] == "Bl"


def test_chunks_read_the_bytes_of_a_stream(spans: Recorded) -> None:
    recorder = call.installed()
    assert recorder is not None
    started = generate.start(recorder, STREAM, BODY, {})
    chunks = generate.Chunks(recorder, STREAM, BODY, True)
    decoder = wire.decoder("text/event-stream; charset=utf-8")
    body = b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in EVENTS)
    events = [*decoder.feed(body[:40]), *decoder.feed(body[40:]), *decoder.end()]
    assert [chunks.add(event) for event in events] == [False, True, True]
    chunks.fill(started)
    started.stop()
    assert spans.only().attributes["gen_ai.usage.output_tokens"] == 3


@pytest.mark.parametrize("body", [None, [], "text", {"parameters": 7}, {"text_input": None}, {"text_input": 3}])
def test_what_is_no_request_costs_nothing(body: Any, spans: Recorded) -> None:
    assert _run(TARGET, body, None, 7, {}, {"text_output": 3, "num_output_tokens": "x"}) == [False] * 4
    seen = spans.only().attributes
    assert not [name for name in seen if "usage" in name or "messages" in name]


def test_tensor_names_of_your_own() -> None:
    names = {"input_text": "question", "output_text": ["answer"], "output_tokens_total": "num_output_tokens"}
    with recording(triton_tensors=names) as recorded:
        events = [{"answer": "a", "num_output_tokens": 1}, {"answer": "b", "num_output_tokens": 2}]
        _run(STREAM, {"question": "why?"}, *events)
        seen = recorded.only().attributes
    assert json.loads(seen["gen_ai.input.messages"])[0]["parts"][0]["content"] == "why?"
    assert json.loads(seen["gen_ai.output.messages"])[0]["parts"][0]["content"] == "ab"
    assert seen["gen_ai.usage.output_tokens"] == 2


def test_an_unknown_field_is_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    with recording(triton_tensors={"output": "answer"}):
        _run(TARGET, {"text_input": "x"})
    assert "'output' is none of" in caplog.text


def test_capture_none_keeps_counts_and_drops_content() -> None:
    with recording(capture="none") as recorded:
        _run(STREAM, BODY, *EVENTS)
        seen = recorded.only().attributes
    assert seen["gen_ai.usage.output_tokens"] == 3
    assert not {"gen_ai.input.messages", "gen_ai.output.messages"} & seen.keys()
