"""The span's columns: one declaration each, read by the writer, the filter language, the API and the schema test.

A column that is unknown for a span holds its type's empty value (NULL, '' or []) and becomes JSON null at the edge.
Sources and conversions of the canonical ones: docs/dialects.md; the DDL: migrations/limelight_migrations/clickhouse.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

JsonKind = Literal["text", "hex", "time", "int", "float", "decimal", "bool", "list", "json", "map", "hidden"]


@dataclass(frozen=True, slots=True)
class Column:
    """One column of `spans`: its name, ClickHouse type, how it becomes JSON, and whether filters may name it."""

    name: str
    type: str
    json: JsonKind
    filterable: bool = True
    content: bool = False  # prompt or answer text: never in lists, only in one span or one trace


_LOW = "LowCardinality(String)"
_INT = "Nullable(UInt64)"
_FLOAT = "Nullable(Float64)"
_USD = "Nullable(Decimal(38, 18))"


def _many(type_: str, json: JsonKind, names: str) -> list[Column]:
    return [Column(name, type_, json) for name in names.split()]


COLUMNS: tuple[Column, ...] = (
    # identity; project_id is first in the key and in every query
    Column("project_id", _LOW, "hidden", filterable=False),
    Column("trace_id", "FixedString(16)", "hex"),
    Column("span_id", "FixedString(8)", "hex"),
    Column("parent_span_id", "FixedString(8)", "hex"),  # eight zero bytes = no parent
    Column("start_time", "DateTime64(9, 'UTC')", "time"),
    Column("duration_ns", "UInt64", "int"),
    Column("received_ns", "UInt64", "hidden", filterable=False),  # version: the newest copy of a span wins
    Column("original_start_ns", "Nullable(Int64)", "hidden", filterable=False),  # set where start_time was clamped
    *_many(_LOW, "text", "name span_kind status error_type service_name environment scope_name server_address"),
    *_many("String", "text", "status_message error_message"),
    # what it is
    *_many(_LOW, "text", "observation_type operation provider request_model response_model model_version service_tier"),
    Column("response_id", "String", "text"),
    Column("is_stream", "Nullable(Bool)", "bool"),
    Column("finish_reasons", f"Array({_LOW})", "list"),
    *_many(_FLOAT, "float", "request_temperature request_top_p"),
    *_many("Nullable(Int64)", "int", "request_max_tokens request_seed"),
    # tokens: canonical (input includes cache, output includes reasoning); see docs/dialects.md
    *_many(
        _INT,
        "int",
        "input_tokens output_tokens cache_read_tokens cache_write_tokens cache_write_5m_tokens cache_write_1h_tokens "
        "reasoning_tokens raw_input_tokens aggregate_input_tokens aggregate_output_tokens aggregate_cache_read_tokens "
        "aggregate_cache_write_tokens aggregate_reasoning_tokens",
    ),
    Column("usage_role", _LOW, "text"),  # own | aggregate | engine | duplicate | none
    Column("billable", "Bool", "bool"),
    Column("duplicate_of", "String", "text"),
    # money
    *_many(
        _USD,
        "decimal",
        "computed_cost_usd reported_cost_usd reported_cost_input_usd reported_cost_output_usd cost_usd",
    ),
    Column("cost_state", _LOW, "text"),  # provider_reported | computed | unpriced | '' where there is nothing to price
    # seconds
    *_many(
        _FLOAT,
        "float",
        "ttft_s tpot_s queue_s prefill_s decode_s inference_s e2e_s compute_input_s compute_infer_s compute_output_s",
    ),
    # content
    Column("system_instructions", "String", "text", content=True),
    Column("input_messages", "String", "json", content=True),
    Column("output_messages", "String", "json", content=True),
    Column("tool_calls", "String", "json", content=True),
    Column("tool_definition_names", f"Array({_LOW})", "list"),
    Column("input_text", "String", "text", content=True),
    Column("output_text", "String", "text", content=True),
    # one line of each for lists (preview.py), so that these need not read whole messages
    Column("input_preview", "String", "hidden", filterable=False, content=True),
    Column("output_preview", "String", "hidden", filterable=False, content=True),
    # tools, retrieval
    Column("tool_name", _LOW, "text"),
    Column("tool_call_id", "String", "text"),
    Column("tool_args", "String", "json", content=True),
    Column("tool_result", "String", "json", content=True),
    Column("retrieval_query", "String", "text", content=True),
    Column("retrieval_documents", "String", "json", content=True),
    # who, under which prompt
    *_many("String", "text", "session_id user_id end_user"),
    *_many(_LOW, "text", "agent_name workflow_name"),
    Column("function_id", "String", "text"),
    Column("tags", "Array(String)", "list"),
    Column("metadata", "String", "json", filterable=False),
    *_many(_LOW, "text", "prompt_name prompt_version"),
    Column("inherited", f"Array({_LOW})", "list", filterable=False),  # which of these another span says (identity.py)
    # engines and MCP
    Column("engine_request_id", "String", "text"),
    Column("mcp_method", _LOW, "text"),
    Column("mcp_session_id", "String", "text"),
    # raw: every value is its JSON encoding, so types survive
    Column("attributes", "Map(String, String)", "map", filterable=False, content=True),
    Column("resource", "Map(String, String)", "map", filterable=False, content=True),
    Column("events", "String", "json", filterable=False, content=True),  # [{time, name, attributes}]
    Column("links", "String", "json", filterable=False, content=True),  # [{trace_id, span_id, attributes}]
    Column("dropped_attributes_count", "UInt32", "int", filterable=False),
)

BY_NAME: dict[str, Column] = {column.name: column for column in COLUMNS}
