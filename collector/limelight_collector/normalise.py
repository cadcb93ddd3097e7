"""Normalise: one OTLP span of any dialect becomes one row of canonical columns.

The rules behind the numbers (which count includes which, whose usage is a sum) and the sources of each column are in
docs/dialects.md; the names are data in dialects.py. Nothing here reads the clock: a replay gives the same row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import urlsplit

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from limelight import semconv as s
from limelight_collector import dialects, messages, metrics
from limelight_collector.attributes import Attributes, dumps, parsed, read_attributes
from limelight_collector.batch import Score
from limelight_collector.convert import MAX_INT64, as_float, as_text, converter

Row = dict[str, Any]

_MAX_UINT32 = 2**32 - 1
_HOUR_NS = 3600 * 10**9
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_SPAN_KINDS = ("", "internal", "server", "client", "producer", "consumer")
_MODEL_TYPES = frozenset({"llm", "embedding", "rerank"})
_TOKEN_SUMS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")
_EXCEPTION = "exception"


@dataclass(frozen=True, slots=True)
class Source:
    """What a resource says about all of its spans."""

    encoded: dict[str, str]
    service_name: str
    environment: str


def read_resource(resource: Resource) -> Source:
    """The resource's attributes, read once for all of its spans."""
    found = read_attributes(resource.attributes)
    environment = found.values.get(s.DEPLOYMENT_ENVIRONMENT_NAME) or found.values.get("deployment.environment")
    return Source(found.encoded, as_text(found.values.get(s.SERVICE_NAME)) or "", as_text(environment) or "")


def span_row(
    source: Source, scope: InstrumentationScope, span: Span, project_id: str, received_ns: int, retention_ns: int
) -> Row:
    """The row of one span; `retention_ns` is the oldest age a start time may have."""
    attributes = read_attributes(span.attributes)
    found = coalesce(attributes.values)
    row = _identity(source, scope, span, project_id, received_ns)
    row.update(_times(span, received_ns, retention_ns))
    row["environment"] = found.pop("environment", "") or source.environment
    row.update(found)
    row["observation_type"] = _observation_type(attributes.values, span, scope, found)
    _model(row)
    _content(row, attributes.values)
    _tokens(row)
    _speeds(row)
    _events(row, span, attributes)
    row["attributes"] = attributes.encoded
    row["dropped_attributes_count"] = min(span.dropped_attributes_count + attributes.dropped, _MAX_UINT32)
    return row


def coalesce(attributes: dict[str, Any]) -> Row:
    """Columns that are one value, each from its best source that holds a usable one."""
    found: Row = {}
    ranks: dict[str, int] = {}
    for key, value in attributes.items():
        for column, rank in _BY_KEY.get(key, ()):
            if rank < ranks.get(column, 1000):
                converted = _CONVERT[column](value)
                if converted is None or converted == "" or converted == []:
                    continue
                if key in dialects.SCALES:
                    converted *= dialects.SCALES[key]
                found[column] = converted
                ranks[column] = rank
    return found


# -- identity and time -------------------------------------------------------------------------------------------------
def _identity(source: Source, scope: InstrumentationScope, span: Span, project_id: str, received_ns: int) -> Row:
    return {
        "project_id": project_id,
        "trace_id": span.trace_id,
        "span_id": span.span_id,
        "parent_span_id": span.parent_span_id or bytes(8),
        "received_ns": received_ns,
        "name": span.name,
        "span_kind": _SPAN_KINDS[span.kind] if 0 <= span.kind < len(_SPAN_KINDS) else "",
        "status": "error" if span.status.code == Status.STATUS_CODE_ERROR else "ok",
        "status_message": span.status.message,
        "service_name": source.service_name,
        "scope_name": scope.name,
        "resource": source.encoded,
    }


def _times(span: Span, received_ns: int, retention_ns: int) -> Row:
    """Start within [received − retention, received + 1 h]; the bounds are whole hours, so that a retry of the span
    within the hour lands on the same key."""
    start = span.start_time_unix_nano
    oldest = -(-(received_ns - retention_ns) // _HOUR_NS) * _HOUR_NS
    newest = (received_ns + _HOUR_NS) // _HOUR_NS * _HOUR_NS
    clamped = min(max(start, oldest), newest)
    if clamped != start:
        metrics.CLAMPED_TIMESTAMPS.inc()
    return {
        "start_time": clamped,
        "duration_ns": max(0, span.end_time_unix_nano - start),
        "original_start_ns": min(start, MAX_INT64) if clamped != start else None,
    }


def rfc3339(time_ns: int) -> str:
    """`time_ns` since 1970 as RFC 3339 in UTC with nanoseconds; past the year 9999 it stays there."""
    seconds, nanos = divmod(min(time_ns, 253_402_300_799 * 10**9), 10**9)
    return f"{(_EPOCH + timedelta(seconds=seconds)).strftime('%Y-%m-%dT%H:%M:%S')}.{nanos:09d}Z"


# -- what it is --------------------------------------------------------------------------------------------------------
def _observation_type(attributes: dict[str, Any], span: Span, scope: InstrumentationScope, found: Row) -> str:
    for key in dialects.KIND_KEYS:
        kind = dialects.KINDS.get(str(attributes.get(key, "")).lower())
        if kind:
            return kind
    vercel = attributes.get("ai.operationId")
    if isinstance(vercel, str):
        inner = vercel.rpartition(".")[2]
        return {"doGenerate": "llm", "doStream": "llm", "doEmbed": "embedding", "toolCall": "tool"}.get(inner, "chain")
    if span.name == "llm_request" or scope.name == "triton-server":
        return "engine"
    if found.get("mcp_method") == "tools/call":
        return "tool"
    operation = str(found.get("operation", "")).lower()
    if operation in dialects.OPERATIONS:
        return dialects.OPERATIONS[operation]
    if operation.endswith(("_memory", "_memory_store")):
        return "memory"
    kind = attributes.get(s.LIMELIGHT_KIND) or attributes.get("llm.request.type")
    if isinstance(kind, str) and kind.lower() in dialects.KINDS:
        return dialects.KINDS[kind.lower()]
    has_model = "request_model" in found or "response_model" in found
    return "llm" if has_model and ("input_tokens" in found or "output_tokens" in found) else "span"


def _model(row: Row) -> None:
    """Provider, models, server and finish reasons in their canonical words."""
    address = row.get("server_address", "")
    if "://" in address:
        address = row["server_address"] = urlsplit(address).hostname or ""
    provider = row.get("provider", "").lower()
    provider = dialects.PROVIDERS.get(provider) or dialects.PROVIDERS.get(provider.partition(".")[0]) or provider
    if provider.startswith("openai."):  # Vercel: openai.chat, openai.responses
        provider = "openai"
    model = row.get("response_model") or row.get("request_model") or ""
    if not provider and row["observation_type"] in _MODEL_TYPES:
        provider = dialects.HOSTS.get(address, "")
        if not provider and not address:
            provider = next((name for prefix, name in dialects.MODEL_PREFIXES if model.startswith(prefix)), "")
    if not provider and row["observation_type"] == "engine":
        provider = "triton" if row["scope_name"] == "triton-server" else "vllm"
    row["provider"] = provider
    if "response_model" in row and "request_model" not in row:
        row["request_model"] = row["response_model"]


def _fold(reason: str) -> str:
    word = reason.removeprefix("FinishReason.").strip().lower().replace("-", "_")
    return dialects.FINISH_REASONS.get(word, word)


# -- content -----------------------------------------------------------------------------------------------------------
def _content(row: Row, attributes: dict[str, Any]) -> None:
    """Messages, texts, tools and retrieval; JSON text in the columns that hold JSON."""
    found = _sources(attributes)
    given = messages.read_messages(found["input_messages"], "user")
    answer = messages.read_messages(found["output_messages"], "assistant")
    instructions = messages.read_instructions(found["system_instructions"])
    if given:
        row["input_messages"] = dumps(given)
        instructions = instructions or messages.system_text(given)
    else:
        row["input_text"] = _as_text(found["input_messages"] or found["input_text"])
    if answer:
        row["output_messages"] = dumps(answer)
        calls = messages.tool_calls(answer)
        row["tool_calls"] = dumps(calls) if calls else ""
        row.setdefault("finish_reasons", messages.finish_reasons(answer))
    else:
        row["output_text"] = _as_text(found["output_messages"] or found["output_text"])
    row["system_instructions"] = instructions
    row["finish_reasons"] = [_fold(reason) for reason in row.get("finish_reasons", ())]
    row["tool_definition_names"] = messages.tool_names(found["tool_definitions"])
    for column in ("tool_args", "tool_result", "metadata"):
        row[column] = _as_json(found[column])
    if row["observation_type"] == "tool":
        row["tool_args"] = row["tool_args"] or _as_json(row.get("input_text"))
        row["tool_result"] = row["tool_result"] or _as_json(row.get("output_text"))
    documents = parsed(found["retrieval_documents"])
    row["retrieval_documents"] = dumps(_documents(documents)) if isinstance(documents, list) and documents else ""


def _documents(documents: list[Any]) -> list[dict[str, Any]]:
    """`[{id, score, content, metadata}]` without nulls; a document that is no object is its content."""
    return [
        {key: value for key, value in document.items() if value is not None}
        if isinstance(document, dict)
        else {"content": document}
        for document in documents
    ]


def _sources(attributes: dict[str, Any]) -> Row:
    """The best source of each kind of content, as sent; None where there is none."""
    found: Row = dict.fromkeys(dialects.CONTENT)
    for column in {column for key in attributes.keys() & _CONTENT_BY_KEY.keys() for column, _ in _CONTENT_BY_KEY[key]}:
        values = (attributes.get(key) for key in dialects.CONTENT[column])
        found[column] = next((value for value in values if value not in (None, "")), None)
    return found


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else dumps(value)


def _as_json(value: Any) -> str:
    return "" if value in (None, "") else dumps(parsed(value))


# -- numbers -----------------------------------------------------------------------------------------------------------
def _tokens(row: Row) -> None:
    """Canonical counts, and whose they are: a model call's own, an engine's, or a sum an outer span carries."""
    five, hour = row.get("cache_write_5m_tokens"), row.get("cache_write_1h_tokens")
    if row.get("cache_write_tokens") is None and (five is not None or hour is not None):
        row["cache_write_tokens"] = (five or 0) + (hour or 0)
    cached = (row.get("cache_read_tokens") or 0) + (row.get("cache_write_tokens") or 0)
    given = row.get("input_tokens")
    if given is not None and cached > given:  # the emitter counts input without the cache (OpenLIT, MS Agent Framework)
        row["raw_input_tokens"] = given
        row["input_tokens"] = given + cached
    kind = row["observation_type"]
    if kind in _MODEL_TYPES or kind == "engine":
        row["usage_role"] = "engine" if kind == "engine" else "own"
        row["billable"] = kind != "engine"
        return
    sums = {f"aggregate_{name}": row.pop(name) for name in _TOKEN_SUMS if row.get(name) is not None}
    row.pop("cache_write_5m_tokens", None)
    row.pop("cache_write_1h_tokens", None)
    row.update(sums)
    row["usage_role"] = "aggregate" if sums else "none"
    row["billable"] = False


def _speeds(row: Row) -> None:
    """Streaming, time to first token and time per output token, in seconds."""
    engine = row["observation_type"] == "engine"
    if not engine and row.get("ttft_s") is not None:
        if row.get("is_stream") is False:  # some emitters send the duration as TTFT of plain calls
            del row["ttft_s"]
        else:
            row["is_stream"] = True
    after_first = (row.get("output_tokens") or 0) - 1
    if after_first < 1:
        return
    decode, first = row.get("decode_s"), row.get("ttft_s")
    if engine and decode is not None:
        row["tpot_s"] = decode / after_first
    elif row.get("is_stream") and first is not None and row["duration_ns"] / 1e9 >= first:
        row["tpot_s"] = (row["duration_ns"] / 1e9 - first) / after_first


# -- events, errors, scores --------------------------------------------------------------------------------------------
def _events(row: Row, span: Span, attributes: Attributes) -> None:
    """Events and links as JSON; error type and message from attributes, the exception event, the status."""
    events: list[dict[str, Any]] = []
    for event in span.events:
        read = read_attributes(event.attributes)
        attributes.dropped += read.dropped
        events.append({"time": rfc3339(event.time_unix_nano), "name": event.name, "attributes": read.values})
        if event.name == _EXCEPTION:
            row.setdefault("error_type", as_text(read.values.get(s.EXCEPTION_TYPE)) or "")
            row.setdefault("error_message", as_text(read.values.get(s.EXCEPTION_MESSAGE)) or "")
    if row["status"] == "error" and not row.get("error_message"):
        row["error_message"] = span.status.message
    row["events"] = dumps(events) if events else ""
    links = [
        {
            "trace_id": link.trace_id.hex(),
            "span_id": link.span_id.hex(),
            "attributes": read_attributes(link.attributes).values,
        }
        for link in span.links
    ]
    row["links"] = dumps(links) if links else ""


def span_scores(span: Span, project_id: str) -> Iterator[Score]:
    """Scores carried by a span as `gen_ai.evaluation.result` events."""
    for event in span.events:
        if event.name == s.EVENT_EVALUATION_RESULT:
            values = read_attributes(event.attributes).values
            score = _score(values, project_id, span.trace_id, span.span_id, event.time_unix_nano)
            if score is not None:
                yield score


def log_scores(request: ExportLogsServiceRequest, project_id: str, received_ns: int) -> Iterator[Score]:
    """Scores sent as log events; `decode` has let only such records pass."""
    for resource_logs in request.resource_logs:
        for scope_logs in resource_logs.scope_logs:
            for record in scope_logs.log_records:
                time_ns = record.time_unix_nano or record.observed_time_unix_nano or received_ns
                values = read_attributes(record.attributes).values
                score = _score(values, project_id, record.trace_id, record.span_id or bytes(8), time_ns)
                if score is not None:
                    yield score


def _score(values: dict[str, Any], project_id: str, trace_id: bytes, span_id: bytes, time_ns: int) -> Score | None:
    """The score in an event's attributes; None without a name. Its id is made of its content: a retry is the same."""
    name = as_text(values.get(s.EVALUATION_NAME))
    if not name:
        return None
    value, label = as_float(values.get(s.EVALUATION_SCORE_VALUE)), as_text(values.get(s.EVALUATION_SCORE_LABEL)) or ""
    identity = dumps([project_id, trace_id.hex(), span_id.hex(), name, value, label, time_ns])
    return Score(
        project_id=project_id,
        trace_id=trace_id,
        span_id=span_id,
        name=name,
        value=value,
        label=label,
        explanation=as_text(values.get(s.EVALUATION_EXPLANATION)) or "",
        source="sdk",
        created_ns=min(time_ns, MAX_INT64),
        score_id=hashlib.sha256(identity.encode()).hexdigest()[:32],
    )


_CONVERT = {column: converter(column) for column in dialects.ALIASES}


def _by_key(table: dict[str, tuple[str, ...]]) -> dict[str, list[tuple[str, int]]]:
    """Column and rank of each source: a span has fewer attributes than the tables have names."""
    found: dict[str, list[tuple[str, int]]] = {}
    for column, keys in table.items():
        for rank, key in enumerate(keys):
            found.setdefault(key, []).append((column, rank))
    return found


_BY_KEY = _by_key(dialects.ALIASES)
_CONTENT_BY_KEY = _by_key(dialects.CONTENT)
