"""Canonical columns: the numbers that decide cost, and the shapes people read."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from collector.ingest.otlp import NOW, RETENTION, SECOND, TRACE, any_value, logs, pairs, request, row, rows_of, span
from limelight_collector import coalesce, normalise
from limelight_collector.attributes import MAX_ATTRIBUTES, MAX_VALUE_CHARS, TRUNCATED
from limelight_collector.batch import Batch
from limelight_collector.dialects import ALIASES, CONTENT
from limelight_collector.messages import read_messages
from limelight_collector.store.columns import BY_NAME

LLM = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4o-mini"}
USAGE = {"gen_ai.usage.input_tokens": 120, "gen_ai.usage.output_tokens": 45}


def event(name: str, attributes: dict[str, Any], at: int = NOW) -> Span.Event:
    return Span.Event(name=name, time_unix_nano=at, attributes=pairs(attributes))


def text(content: str) -> dict[str, str]:
    return {"type": "text", "content": content}


def test_every_alias_feeds_a_column() -> None:
    assert set(ALIASES) <= set(BY_NAME)
    assert set(CONTENT) - {"tool_definitions"} <= set(BY_NAME)


def test_a_newest_dialect_call_fills_its_columns() -> None:
    found = row(
        {
            **LLM,
            **USAGE,
            "gen_ai.response.model": "gpt-4o-mini-2024-07-18",
            "gen_ai.response.id": "r1",
            "gen_ai.response.finish_reasons": ["stop"],
            "gen_ai.usage.cache_read.input_tokens": 64,
            "gen_ai.usage.reasoning.output_tokens": 5,
            "gen_ai.request.temperature": 0.5,
            "gen_ai.request.max_tokens": 100,
            "gen_ai.request.seed": -1,
            "gen_ai.request.stream": True,
            "gen_ai.response.time_to_first_chunk": 0.12,
            "gen_ai.conversation.id": "s",
            "user.id": "u",
            "server.address": "api.openai.com",
            "limelight.tags": ["a", "b"],
            "limelight.metadata": '{"tier": "gold"}',
            "gen_ai.prompt.name": "support",
            "openai.response.service_tier": "default",
        },
        kind=3,
    )
    expected = {
        "observation_type": "llm",
        "operation": "chat",
        "provider": "openai",
        "request_model": "gpt-4o-mini",
        "response_model": "gpt-4o-mini-2024-07-18",
        "response_id": "r1",
        "finish_reasons": ["stop"],
        "input_tokens": 120,
        "output_tokens": 45,
        "cache_read_tokens": 64,
        "reasoning_tokens": 5,
        "request_temperature": 0.5,
        "request_max_tokens": 100,
        "request_seed": -1,
        "is_stream": True,
        "ttft_s": 0.12,
        "tpot_s": pytest.approx((1 - 0.12) / 44),
        "session_id": "s",
        "user_id": "u",
        "server_address": "api.openai.com",
        "tags": ["a", "b"],
        "metadata": '{"tier":"gold"}',
        "prompt_name": "support",
        "service_tier": "default",
        "usage_role": "own",
        "billable": True,
        "span_kind": "client",
        "status": "ok",
        "duration_ns": SECOND,
        "cost_usd": Decimal("0.000040200000000000"),
        "cost_state": "computed",
    }
    assert {key: found[key] for key in expected} == expected
    assert "raw_input_tokens" not in found


def test_a_plain_span_has_no_model_columns() -> None:
    found = row({"http.request.method": "GET", "n": 1, "ok": True})
    assert (found["observation_type"], found["usage_role"], found["billable"]) == ("span", "none", False)
    assert found["attributes"] == {"http.request.method": '"GET"', "n": "1", "ok": "true"}
    batch = Batch()
    batch.append(found)
    unknown = (
        "input_tokens",
        "is_stream",
        "cost_usd",
        "session_id",
        "input_messages",
        "request_model",
        "finish_reasons",
    )
    assert [batch.columns[name][0] for name in unknown] == [None, None, None, "", "", "", []]


@pytest.mark.parametrize(
    ("attributes", "kind"),
    [
        ({"gen_ai.operation.name": "embeddings"}, "embedding"),
        ({"gen_ai.operation.name": "execute_tool"}, "tool"),
        ({"gen_ai.operation.name": "invoke_agent"}, "agent"),
        ({"gen_ai.operation.name": "invoke_workflow"}, "workflow"),
        ({"gen_ai.operation.name": "search_memory"}, "memory"),
        ({"gen_ai.operation.name": "retrieval"}, "retrieval"),
        ({"openinference.span.kind": "RETRIEVER", "gen_ai.operation.name": "embeddings"}, "retrieval"),
        ({"traceloop.span.kind": "task"}, "chain"),
        ({"limelight.kind": "guardrail"}, "guardrail"),
        ({"limelight.kind": "retriever"}, "retrieval"),
        ({"mcp.method.name": "tools/call"}, "tool"),
        ({"ai.operationId": "ai.streamText.doStream"}, "llm"),
        ({"ai.operationId": "ai.generateText"}, "chain"),
        ({"llm.request.type": "chat"}, "llm"),
        ({"gen_ai.request.model": "m", **USAGE}, "llm"),
        ({"gen_ai.request.model": "m"}, "span"),
        ({"limelight.kind": 7}, "span"),
    ],
)
def test_observation_types(attributes: dict[str, Any], kind: str) -> None:
    assert row(attributes)["observation_type"] == kind


@pytest.mark.parametrize(
    ("given", "read", "write", "total", "raw"),
    [
        (120, 70, 30, 120, None),
        (20, 70, 30, 120, 20),
        (100, 70, 30, 100, None),
        (0, 5, 0, 5, 0),
        (10, None, None, 10, None),
    ],
)
def test_input_includes_the_cache(given: int, read: Any, write: Any, total: int, raw: Any) -> None:
    sent = {"cache_read.input_tokens": read, "cache_creation.input_tokens": write, "input_tokens": given}
    usage = {f"gen_ai.usage.{key}": value for key, value in sent.items() if value is not None}
    found = row({**LLM, **usage})
    assert (found["input_tokens"], found.get("raw_input_tokens")) == (total, raw)


def test_cache_writes_by_lifetime_add_up() -> None:
    prefix = "anthropic.usage.cache_creation.ephemeral_"
    found = row({**LLM, **USAGE, prefix + "5m_input_tokens": 10, prefix + "1h_input_tokens": 20})
    assert (found["cache_write_tokens"], found["cache_write_5m_tokens"], found["cache_write_1h_tokens"]) == (30, 10, 20)


def test_sums_of_agents_are_not_their_own() -> None:
    found = row({"gen_ai.operation.name": "invoke_agent", "gen_ai.request.model": "gpt-4o-mini", **USAGE})
    assert (found["usage_role"], found["aggregate_input_tokens"], found["aggregate_output_tokens"]) == (
        "aggregate",
        120,
        45,
    )
    assert (found.get("input_tokens"), found.get("cost_usd"), found["billable"]) == (None, None, False)


def test_an_engine_span_is_not_billed_and_has_its_times() -> None:
    usage = {"gen_ai.usage.prompt_tokens": 10, "gen_ai.usage.completion_tokens": 11}
    times = {
        "time_in_queue": 0.1,
        "time_in_model_prefill": 0.2,
        "time_in_model_decode": 0.5,
        "time_to_first_token": 0.3,
    }
    latencies = {f"gen_ai.latency.{key}": value for key, value in times.items()}
    found = row({**usage, **latencies, "gen_ai.request.id": "cmpl-1"}, name="llm_request", kind=2)
    assert (found["observation_type"], found["usage_role"], found["provider"]) == ("engine", "engine", "vllm")
    assert (found["input_tokens"], found["output_tokens"], found["billable"]) == (10, 11, False)
    assert (found["queue_s"], found["prefill_s"], found["ttft_s"], found["tpot_s"]) == (0.1, 0.2, 0.3, 0.05)
    assert found["engine_request_id"] == "cmpl-1"


def test_ttft_of_a_plain_call_is_ignored() -> None:
    found = row({**LLM, **USAGE, "gen_ai.request.stream": False, "gen_ai.response.time_to_first_chunk": 1.0})
    assert "ttft_s" not in found
    assert "tpot_s" not in found
    assert row({**LLM, "ai.response.msToFirstChunk": 250})["ttft_s"] == 0.25


@pytest.mark.parametrize(
    ("attributes", "provider"),
    [
        ({"gen_ai.provider.name": "OpenAI"}, "openai"),
        ({"gen_ai.system": "az.ai.openai"}, "azure.ai.openai"),
        ({"gen_ai.system": "openai.chat"}, "openai"),
        ({"gen_ai.provider.name": "gcp.vertex_ai"}, "gcp.vertex_ai"),
        ({"gen_ai.provider.name": "vertex_ai"}, "gcp.vertex_ai"),
        ({"gen_ai.provider.name": "langchain"}, "langchain"),
        ({"server.address": "https://api.groq.com/v1"}, "groq"),
        ({"server.address": "localhost"}, ""),
        ({}, "openai"),
    ],
)
def test_providers(attributes: dict[str, Any], provider: str) -> None:
    model = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o-mini"}
    assert row({**model, **attributes})["provider"] == provider


@pytest.mark.parametrize(
    ("sent", "folded"),
    [
        (["stop"], ["stop"]),
        ('["tool-calls"]', ["tool_call"]),
        ("FinishReason.MAX_TOKENS", ["length"]),
        ("end_turn", ["stop"]),
        (["SAFETY", "odd"], ["content_filter", "odd"]),
    ],
)
def test_finish_reasons_are_folded(sent: Any, folded: list[str]) -> None:
    assert row({**LLM, "gen_ai.response.finish_reasons": sent})["finish_reasons"] == folded


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("12", 12),
        (12.0, 12),
        (-1, None),
        (1.5, None),
        (True, None),
        ("x", None),
        (math.inf, None),
        ("9" * 30, None),
        (2**62, None),
        ([1], None),
    ],
)
def test_counts_in_the_wild(sent: Any, kept: Any) -> None:
    assert row({**LLM, "gen_ai.usage.input_tokens": sent}).get("input_tokens") == kept


def test_the_first_usable_source_wins() -> None:
    usage = {"gen_ai.usage.prompt_tokens": 3, "gen_ai.usage.input_tokens": "unknown", "llm.token_count.prompt": 9}
    assert row({**LLM, **usage})["input_tokens"] == 3


# -- content -----------------------------------------------------------------------------------------------------------
def test_messages_are_parts_with_parsed_tool_arguments() -> None:
    given = [
        {"role": "system", "parts": [text("Be brief.")]},
        {"role": "user", "parts": [{**text("Weather?"), "extra": None}]},
    ]
    call = {"type": "tool_call", "id": "c1", "name": "weather", "arguments": '{"city": "Paris"}'}
    answer = [{"role": "assistant", "parts": [call], "finish_reason": "tool_calls"}]
    tools = [{"type": "function", "name": "weather"}, {"type": "function", "function": {"name": "time"}}]
    found = row(
        {
            **LLM,
            "gen_ai.input.messages": json.dumps(given),
            "gen_ai.output.messages": answer,  # structured, as events carry it
            "gen_ai.tool.definitions": json.dumps(tools),
        }
    )
    parsed = {**call, "arguments": {"city": "Paris"}}
    assert json.loads(found["input_messages"])[1] == {"role": "user", "parts": [text("Weather?")]}
    assert json.loads(found["output_messages"])[0]["parts"] == [parsed]
    assert json.loads(found["tool_calls"]) == [{"id": "c1", "name": "weather", "arguments": {"city": "Paris"}}]
    assert found["system_instructions"] == "Be brief."
    assert found["finish_reasons"] == ["tool_call"]
    assert found["tool_definition_names"] == ["weather", "time"]


def test_openai_shaped_messages_become_parts() -> None:
    function = {"name": "f", "arguments": "{}"}
    given = [
        {"role": "user", "content": [{"type": "text", "text": "hi"}, {"type": "image_url", "image_url": {"url": "u"}}]},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function", "function": function}]},
        {"role": "tool", "tool_call_id": "1", "content": '{"x": 1}'},
        {"role": "assistant", "content": "done", "refusal": None},
    ]
    parts = [
        message["parts"]
        for message in json.loads(row({**LLM, "gen_ai.input.messages": json.dumps(given)})["input_messages"])
    ]
    assert parts == [
        [text("hi"), {"type": "uri", "uri": "u", "modality": "image"}],
        [{"type": "tool_call", "id": "1", "name": "f", "arguments": {}}],
        [{"type": "tool_call_response", "id": "1", "response": {"x": 1}}],
        [text("done")],
    ]


@pytest.mark.parametrize("sent", ["plain words", "{broken", "[" * 5_000, "17", "9" * 5_000])
def test_what_is_no_message_list_stays_text(sent: str) -> None:
    found = row({**LLM, "gen_ai.input.messages": sent})
    assert (found.get("input_messages", ""), found["input_text"]) == ("", sent)


def test_messages_as_large_as_the_cap_are_still_messages() -> None:
    sent = json.dumps([{"role": "user", "parts": [text('"' * (MAX_VALUE_CHARS // 2 - 100))]}])
    assert MAX_VALUE_CHARS - 200 < len(sent) <= MAX_VALUE_CHARS
    found = row({**LLM, "gen_ai.input.messages": sent})
    assert (json.loads(found["input_messages"])[0]["role"], found["dropped_attributes_count"]) == ("user", 0)


@pytest.mark.parametrize("depth", [90, 200, 330, 480, 700, 960, 20_000])
@pytest.mark.parametrize(
    "key", ["gen_ai.tool.call.arguments", "gen_ai.input.messages", "limelight.metadata", "limelight.tags"]
)
def test_no_depth_of_json_costs_a_span(depth: int, key: str) -> None:
    for opening, closing in (("[", "]"), ('{"a":', "}")):
        assert row({**LLM, key: opening * depth + "1" + closing * depth})["name"] == "work"


def test_half_surrogates_and_nan_in_json_can_be_stored() -> None:
    sent = '[{"role": "user", "parts": [{"type": "text", "content": "a\\ud800b", "score": NaN, "n": 1e999}]}]'
    found = row({**LLM, "gen_ai.input.messages": sent})["input_messages"]
    found.encode()
    assert json.loads(found)[0]["parts"][0] == {**text("a?b"), "score": "NaN", "n": "1e999"}


def test_instructions_tools_and_retrieval() -> None:
    assert (
        row({**LLM, "gen_ai.system_instructions": json.dumps([text("a"), text("b")])})["system_instructions"] == "a\nb"
    )
    call = {"gen_ai.tool.name": "t", "gen_ai.tool.call.arguments": '{"a":1}', "gen_ai.tool.call.result": "sunny"}
    tool = row({"gen_ai.operation.name": "execute_tool", **call})
    assert (tool["tool_name"], tool["tool_args"], tool["tool_result"]) == ("t", '{"a":1}', '"sunny"')
    observed = row({"limelight.kind": "tool", "limelight.input": '{"q": 1}', "limelight.output": "[1]"})
    assert (observed["tool_args"], observed["input_text"]) == ('{"q":1}', '{"q": 1}')
    documents = '[{"id": "1", "score": 0.5, "content": null}, "text"]'
    found = row(
        {
            "gen_ai.operation.name": "retrieval",
            "gen_ai.retrieval.documents": documents,
            "gen_ai.retrieval.query.text": "q",
        }
    )
    assert json.loads(found["retrieval_documents"]) == [{"id": "1", "score": 0.5}, {"content": "text"}]
    assert found["retrieval_query"] == "q"


# -- raw, time, errors, scores -----------------------------------------------------------------------------------------
def test_raw_values_keep_their_types() -> None:
    sent = {
        "i": 1,
        "f": 1.5,
        "s": "ü\n",
        "b": True,
        "l": [1, "x"],
        "m": {"k": None},
        "raw": b"\x00\x01",
        "nan": math.nan,
    }
    found = {key: json.loads(value) for key, value in row(sent)["attributes"].items()}
    assert found == {**sent, "raw": "base64:AAE=", "nan": "NaN"}


def test_caps_cut_and_count() -> None:
    found = row({f"k{number:03}": number for number in range(MAX_ATTRIBUTES + 10)}, dropped_attributes_count=2)
    assert (len(found["attributes"]), found["dropped_attributes_count"]) == (MAX_ATTRIBUTES, 12)
    assert row({"k" * number: 1 for number in range(300)}, dropped_attributes_count=2**32 - 1)[
        "dropped_attributes_count"
    ] == (2**32 - 1)
    found = row({"big": "x" * (MAX_VALUE_CHARS + 5), "list": ["y" * MAX_VALUE_CHARS] * 2, "small": 1})
    assert found["dropped_attributes_count"] == 2
    assert json.loads(found["attributes"]["big"]) == "x" * MAX_VALUE_CHARS + TRUNCATED
    found = row({f"k{number}": "z" * (MAX_VALUE_CHARS - 10) for number in range(6)})
    assert sum(map(len, found["attributes"].values())) < 4.1 * MAX_VALUE_CHARS


@pytest.mark.parametrize("start", [0, NOW, 2**64 - 1])
def test_a_span_ends_within_64_bits(start: int) -> None:
    found = row({}, start_time_unix_nano=start, end_time_unix_nano=2**64 - 1)
    assert found["start_time"] + found["duration_ns"] <= 2**63 - 1


@pytest.mark.parametrize("start", [0, NOW - 31 * 86_400 * SECOND, NOW + 2 * 3_600 * SECOND, 2**64 - 1])
def test_absurd_times_are_clamped_and_kept(start: int) -> None:
    found = row({}, start_time_unix_nano=start, end_time_unix_nano=0)
    assert NOW - RETENTION <= found["start_time"] <= NOW + 3_600 * SECOND
    assert (found["original_start_ns"], found["duration_ns"]) == (min(start, 2**63 - 1), 0)


def test_a_retry_an_instant_later_lands_on_the_same_start() -> None:
    bounds = [
        normalise._times(span(1, start_time_unix_nano=1), NOW + ns, RETENTION)["start_time"] for ns in (0, SECOND)
    ]
    assert bounds[0] == bounds[1]


def test_errors_come_from_attribute_event_or_status() -> None:
    failed = Status(code=Status.STATUS_CODE_ERROR, message="it broke")
    exception = event("exception", {"exception.type": "ValueError", "exception.message": "bad"})
    found = row({"error.type": "openai.RateLimitError"}, status=failed, events=[exception])
    assert (found["status"], found["error_type"], found["error_message"]) == ("error", "openai.RateLimitError", "bad")
    found = row({}, status=failed, events=[exception])
    assert (found["error_type"], found["status_message"]) == ("ValueError", "it broke")
    assert row({}, status=failed)["error_message"] == "it broke"
    first = json.loads(found["events"])[0]
    assert first["time"].endswith("Z")
    assert first == {"time": normalise.rfc3339(NOW), "name": "exception", "attributes": {"exception.type": "ValueError",
                     "exception.message": "bad"}}  # fmt: skip


def test_times_have_nanoseconds() -> None:
    assert normalise.rfc3339(1_700_000_000_123_456_789) == "2023-11-14T22:13:20.123456789Z"
    assert normalise.rfc3339(2**64 - 1) == "2554-07-21T23:34:33.709551615Z"


def test_links_and_resource() -> None:
    link = Span.Link(trace_id=TRACE, span_id=b"12345678", attributes=pairs({"k": 1}))
    whole = request(
        span(1, links=[link]), resource={"service.name": "shop", "deployment.environment": "prod"}, scope="lib"
    )
    found = rows_of(whole.SerializeToString()).spans[0]
    assert json.loads(found["links"]) == [
        {"trace_id": TRACE.hex(), "span_id": b"12345678".hex(), "attributes": {"k": 1}}
    ]
    assert (found["service_name"], found["environment"], found["scope_name"]) == ("shop", "prod", "lib")
    assert found["resource"]["service.name"] == '"shop"'


def test_scores_from_span_and_log_events_have_stable_ids() -> None:
    said = {
        "gen_ai.evaluation.name": "helpful",
        "gen_ai.evaluation.score.value": 0.5,
        "gen_ai.evaluation.explanation": "so",
    }
    whole = request(span(1, events=[event("gen_ai.evaluation.result", said)])).SerializeToString()
    one = rows_of(whole).scores[0]
    two = rows_of(logs({**said, "event.name": "gen_ai.evaluation.result"}).SerializeToString(), "logs").scores[0]
    assert one == two
    assert (one.name, one.value, one.label, one.explanation, one.span_id) == (
        "helpful",
        0.5,
        "",
        "so",
        bytes(7) + b"\x01",
    )
    assert any_value(None).WhichOneof("value") is None


def test_an_early_copy_of_a_span_is_not_kept() -> None:
    early = request(
        span(1, {"logfire.span_type": "pending_span"}), span(2, {"logfire.span_type": "span"}), scope="logfire.openai"
    )
    assert [row["span_id"] for row in rows_of(early.SerializeToString()).spans] == [span(2).span_id]


def test_names_of_any_number_and_length_are_read_and_only_usual_ones_remembered() -> None:
    before = coalesce._remembered.cache_info().currsize  # pyright: ignore[reportPrivateUsage]
    long = {f"gen_ai.prompt.{n}.{'x' * 40}": "y" for n in range(90)}
    found = coalesce.coalesce({**long, "gen_ai.request.model": "m", "hidden_params": "secret"})
    assert found.columns == {"request_model": "m"}
    assert found.dropped == ["hidden_params"]
    assert len(found.content["gen_ai.prompt.*"]) == 90
    assert coalesce._remembered.cache_info().currsize == before  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize(
    "part",
    [{"type": "text", "content": "a"}, {"content": "a", "type": "text"}, {"type": "text", "content": "a", "x": 1}],
)
@pytest.mark.parametrize("message", [{"role": "user"}, {"role": "human"}, {"role": ""}, {"role": "user", "name": None}])
@pytest.mark.parametrize("reason", [{}, {"finish_reason": "stop"}, {"finish_reason": None}, {"finish_reason": ""}])
def test_messages_of_the_conventions_are_what_any_others_become(
    part: dict[str, Any], message: dict[str, Any], reason: dict[str, Any]
) -> None:
    (found,) = read_messages([{**message, "parts": [part], **reason}], "user") or []
    assert found == {"role": "user", "parts": [part], **(reason if reason.get("finish_reason") else {})}
