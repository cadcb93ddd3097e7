"""What emitters invent, leave out or tell in odd places, at the edges of the captured cases (test_golden.py)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from collector.ingest.otlp import NOW, SECOND, request, row, rows_of, span

LLM = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4o-mini"}


def scoped(scope: str, attributes: dict[str, Any], **given: Any) -> dict[str, Any]:
    """The row of one span of a library."""
    return rows_of(request(span(1, attributes, **given), scope=scope).SerializeToString()).spans[0]


@pytest.mark.parametrize(
    ("attributes", "operation"),
    [
        ({"openinference.span.kind": "LLM"}, "chat"),
        ({"openinference.span.kind": "RERANKER"}, "rerank"),
        ({"openinference.span.kind": "CHAIN"}, ""),
        ({"langsmith.span.kind": "retriever", "gen_ai.operation.name": "embeddings"}, "retrieval"),
        ({"llm.request.type": "completion", "gen_ai.request.model": "m"}, "text_completion"),
        ({"llm.request.type": "completion", "gen_ai.operation.name": "chat"}, "chat"),
        ({"gen_ai.operation.name": "embedding"}, "embeddings"),
        ({"gen_ai.operation.name": "agent_step"}, "agent_step"),
        ({"gen_ai.operation.name": "generate_content"}, "generate_content"),
        ({"http.request.method": "GET"}, ""),
    ],
)
def test_operations(attributes: dict[str, Any], operation: str) -> None:
    assert row(attributes)["operation"] == operation


def test_invented_parameters_are_forgotten_and_set_ones_kept() -> None:
    sent = {"gen_ai.request.temperature": 1.0, "gen_ai.request.seed": 0, "gen_ai.request.max_tokens": -1}
    columns = ("request_temperature", "request_seed", "request_max_tokens")
    found = scoped("openlit.instrumentation.openai", {**LLM, **sent})
    assert [found.get(column) for column in columns] == [None, None, None]
    found = scoped("openlit.instrumentation.openai", {**LLM, **{key: value + 2 for key, value in sent.items()}})
    assert [found.get(column) for column in columns] == [3.0, 2, 1]
    found = scoped("mine", {**LLM, **sent})
    assert [found.get(column) for column in columns] == [1.0, 0, -1]


def test_a_stream_that_logfire_tells_of_at_its_end_is_as_long_as_it_took() -> None:
    told = {**LLM, "logfire.span_type": "log", "duration": 0.25, "gen_ai.usage.output_tokens": 45}
    found = scoped("logfire.openai", told, start_time_unix_nano=NOW, end_time_unix_nano=NOW)
    assert (found["start_time"], found["duration_ns"], found["is_stream"]) == (NOW - SECOND // 4, SECOND // 4, True)
    for scope, attributes in (
        ("logfire.openai", {**told, "duration": -1}),
        ("logfire.openai", {**told, "duration": 1e30}),
        ("logfire", {"logfire.span_type": "log", "duration": 0.25}),
        ("mine", told),
    ):
        found = scoped(scope, attributes, start_time_unix_nano=NOW, end_time_unix_nano=NOW)
        assert (found["start_time"], found["duration_ns"], found.get("is_stream")) == (NOW, 0, None)


def test_only_the_opening_of_a_logfire_stream_is_no_call() -> None:
    opening = {**LLM, "logfire.span_type": "span"}
    assert scoped("logfire.openai", opening)["observation_type"] == "span"
    assert scoped("logfire.openai", {**opening, "gen_ai.usage.input_tokens": 1})["observation_type"] == "llm"
    assert scoped("logfire.openai", {**opening, "response_data": "{}"})["observation_type"] == "llm"
    assert scoped("logfire.mcp", {**opening, "mcp.method.name": "tools/call"})["observation_type"] == "tool"
    failed = scoped("logfire.openai", opening, status=Status(code=Status.STATUS_CODE_ERROR))
    assert failed["observation_type"] == "llm"


def test_tool_calls_and_answers_beside_the_parts() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    sent = [
        {"role": "assistant", "parts": [{"type": "text", "content": "Wait."}], "tool_calls": [call, call]},
        {"role": "tool", "parts": [{"type": "text", "content": "21"}], "tool_call_id": "c1"},
        {"role": "tool", "content": "plain"},
        {"role": "tool", "content": [{"type": "text", "text": "listed"}]},
    ]
    found = json.loads(row({**LLM, "gen_ai.input.messages": json.dumps(sent)})["input_messages"])
    assert [message["parts"] for message in found] == [
        [
            {"type": "text", "content": "Wait."},
            {"type": "tool_call", "id": "c1", "name": "f", "arguments": {"a": 1}},
        ],
        [{"type": "tool_call_response", "id": "c1", "response": 21}],
        [{"type": "tool_call_response", "response": "plain"}],
        [{"type": "text", "content": "listed"}],
    ]


def test_metadata_of_several_sources_is_one_and_the_best_source_wins() -> None:
    found = row(
        {
            "metadata": '{"team": "blue", "tier": "5"}',
            "langfuse.observation.metadata.attempt": "1",
            "langfuse.trace.metadata.team": '"red"',
            "langfuse.trace.metadata.attempt": "2",
        }
    )
    assert json.loads(found["metadata"]) == {"team": "blue", "tier": "5", "attempt": 1}
    assert row({"metadata": "plain", "langfuse.trace.metadata.team": '"red"'})["metadata"] == '"plain"'


def test_a_response_without_its_vectors() -> None:
    answer = {"data": [{"embedding": [0.5]}], "model": "text-embedding-3-small", "usage": {"prompt_tokens": 3}}
    found = row({"openinference.span.kind": "EMBEDDING", "output.value": json.dumps(answer)})
    assert (found["response_model"], found["input_tokens"], found["output_text"]) == ("text-embedding-3-small", 3, "")
