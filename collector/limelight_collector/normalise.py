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

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from limelight import semconv as s
from limelight_collector import dialects, vocabulary
from limelight_collector.attributes import Attributes, dumps, parsed, read_attributes
from limelight_collector.batch import Score
from limelight_collector.classify import name_model, observation_type, operation
from limelight_collector.coalesce import coalesce
from limelight_collector.content import MODEL_TYPES, fill_content
from limelight_collector.content_events import NAMES as CONTENT_EVENTS
from limelight_collector.content_events import read_events
from limelight_collector.convert import MAX_INT64, as_float, as_text, converter
from limelight_collector.kept_time import clamp
from limelight_collector.response import exception_of, fill, fill_provider, fill_response
from limelight_collector.usage import as_object, read_cost, read_usage

Row = dict[str, Any]

OUTPUT_PARTS = "output_parts"
"""Beside the columns of a fresh row: the parts of its output messages, so that detectors need not decode them again."""

_MAX_UINT32 = 2**32 - 1
_MAX_STREAM_S = 86_400
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_SPAN_KINDS = ("", "internal", "server", "client", "producer", "consumer")
_TOKEN_SUMS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")
_EXCEPTION = "exception"
_STACKTRACE_MAX_CHARS = 4096
_INVENTORS = tuple(start for start, _ in dialects.INVENTED)
_PENDING = "pending_span"  # Logfire: the early copy of a span that will come whole


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
    sorted_ = coalesce(attributes.values)
    found = sorted_.columns
    row = _identity(source, scope, span, project_id, received_ns)
    scope_name = row["scope_name"]
    streamed_ns = _streamed_ns(attributes.values) if scope_name in vocabulary.TOLD_AT_THE_END else 0
    if streamed_ns:
        found["is_stream"] = True
    row.update(_times(span, received_ns, retention_ns, streamed_ns))
    row["environment"] = found.pop("environment", "") or source.environment
    row.update(found)
    row["observation_type"] = observation_type(attributes.values, span, scope_name, found)
    row["operation"] = operation(row, attributes.values)
    events = _events(row, span, attributes)
    if sorted_.objects:
        _objects(row, sorted_.objects)
    if scope_name.startswith(_INVENTORS):
        _forget_invented(row)
    name_model(row)
    row[OUTPUT_PARTS] = fill_content(row, {**events, **sorted_.content} if events else sorted_.content)
    if row["observation_type"] in MODEL_TYPES:
        fill_response(row, sorted_.content)
    elif row["observation_type"] == "tool":
        row["tool_name"] = row.get("tool_name") or _tool_name(span.name)
    _tokens(row)
    _speeds(row, attributes.values)
    for key in sorted_.dropped:
        del attributes.encoded[key]
    row["attributes"] = attributes.encoded
    row["dropped_attributes_count"] = min(span.dropped_attributes_count + attributes.dropped, _MAX_UINT32)
    return row


def sends_early_copies(scope: InstrumentationScope) -> bool:
    """Whether spans of this scope may be early copies (`is_pending`)."""
    return scope.name.startswith("logfire")


def is_pending(span: Span) -> bool:
    """Whether this is an early copy of a span that arrives whole later (Logfire's pending spans)."""
    return any(pair.key == "logfire.span_type" and pair.value.string_value == _PENDING for pair in span.attributes)


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


def _times(span: Span, received_ns: int, retention_ns: int, streamed_ns: int = 0) -> Row:
    """Start, moved into the range that is kept, and duration."""
    start = span.start_time_unix_nano - streamed_ns
    clamped = clamp(start, received_ns, retention_ns)
    return {
        "start_time": clamped,
        "duration_ns": min(max(0, span.end_time_unix_nano - start), MAX_INT64 - clamped),  # it ends within 64 bits
        "original_start_ns": min(start, MAX_INT64) if clamped != start else None,
    }


def _streamed_ns(attributes: dict[str, Any]) -> int:
    """Logfire tells of a stream when it has ended, in a span of no length: how long it took; 0 for other spans."""
    if attributes.get("logfire.span_type") != "log" or s.REQUEST_MODEL not in attributes:
        return 0
    duration_s = as_float(attributes.get("duration"))
    return round(duration_s * 1e9) if duration_s is not None and 0 < duration_s < _MAX_STREAM_S else 0


def rfc3339(time_ns: int) -> str:
    """`time_ns` since 1970 as RFC 3339 in UTC with nanoseconds; past the year 9999 it stays there."""
    seconds, nanos = divmod(min(time_ns, 253_402_300_799 * 10**9), 10**9)
    return f"{(_EPOCH + timedelta(seconds=seconds)).strftime('%Y-%m-%dT%H:%M:%S')}.{nanos:09d}Z"


# -- objects in attributes ---------------------------------------------------------------------------------------------
def _objects(row: Row, objects: dict[str, Any]) -> None:
    """What only usage, cost and parameter objects tell."""
    calls_model = row["observation_type"] in MODEL_TYPES
    for key in dialects.PARAMETER_OBJECTS:
        parameters = as_object(objects.get(key)) if calls_model and key in objects else None
        if parameters:
            fill(row, {column: _parameter(parameters, column) for column in dialects.PARAMETERS})
    for key in dialects.USAGE_OBJECTS:
        if key in objects:
            fill(row, read_usage(objects[key]))
    for key, name in dialects.USAGE_DETAILS.items():
        if key in objects:
            details = as_object(objects[key])
            fill(row, read_usage({name: details} if name else details))
    for key in dialects.PROVIDER_OBJECTS:
        if calls_model and key in objects:  # around the call it tells of the last of several
            fill_provider(row, objects[key])
    for key in dialects.COST_OBJECTS:
        if key in objects:
            fill(row, read_cost(objects[key]))


def _parameter(parameters: dict[str, Any], column: str) -> Any:
    given = next((parameters[key] for key in dialects.PARAMETERS[column] if parameters.get(key) is not None), None)
    return None if given is None else _CONVERT[column](given)


def _forget_invented(row: Row) -> None:
    """Remove what the emitter sends where the program set nothing."""
    for start, values in dialects.INVENTED:
        if row["scope_name"].startswith(start):
            for column, value in values.items():
                if row.get(column) == value:
                    del row[column]


def _tool_name(name: str) -> str:
    """The tool a span is named after, where nothing else names it."""
    name = name.rpartition("tools/call ")[2]  # MCP's Python SDK: "MCP send tools/call get_weather"
    return name.removeprefix("execute_tool ").removesuffix(".tool")


# -- numbers -----------------------------------------------------------------------------------------------------------
def _tokens(row: Row) -> None:
    """Canonical counts, and whose they are: a model call's own, an engine's, or a sum an outer span carries."""
    five, hour = row.get("cache_write_5m_tokens"), row.get("cache_write_1h_tokens")
    if five is not None or hour is not None:  # LangChain tells 0 beside the parts
        row["cache_write_tokens"] = max(row.get("cache_write_tokens") or 0, (five or 0) + (hour or 0))
    cached = (row.get("cache_read_tokens") or 0) + (row.get("cache_write_tokens") or 0)
    given = row.get("input_tokens")
    if given is not None and (cached > given or (cached and _counts_uncached(row))):
        row["raw_input_tokens"] = given
        row["input_tokens"] = given + cached
    kind = row["observation_type"]
    if kind in MODEL_TYPES or kind == "engine":
        row["usage_role"] = "engine" if kind == "engine" else "own"
        row["billable"] = kind != "engine"
        return
    sums = {f"aggregate_{name}": row.pop(name) for name in _TOKEN_SUMS if row.get(name) is not None}
    row.pop("cache_write_5m_tokens", None)
    row.pop("cache_write_1h_tokens", None)
    row.update(sums)
    is_sum = any(row.get(f"aggregate_{name}") is not None for name in _TOKEN_SUMS)
    row["usage_role"] = "aggregate" if is_sum else "none"
    row["billable"] = False


def _counts_uncached(row: Row) -> bool:
    """Whether the emitter counts Anthropic's input without its cache tokens, whatever the numbers look like."""
    return row["provider"] == "anthropic" and row["scope_name"].startswith(vocabulary.UNCACHED_INPUT_SCOPES)


def _speeds(row: Row, attributes: dict[str, Any]) -> None:
    """Streaming, time to first token and time per output token, in seconds."""
    engine = row["observation_type"] == "engine"
    if "ttft_s" not in row:
        for key in dialects.FIRST_TOKEN_TIMES:
            first_ns = _time_ns(parsed(attributes[key])) if key in attributes else None
            if first_ns is not None and first_ns >= row["start_time"]:
                row["ttft_s"] = (first_ns - row["start_time"]) / 1e9
                break
    if not engine and row.get("ttft_s") is not None and row["scope_name"] != s.SCOPE_NAME:
        if row.get("is_stream") is False:  # some emitters send the duration as TTFT of plain calls, and no time a token
            del row["ttft_s"]
            row.pop("tpot_s", None)
        else:  # ours says so itself: an engine in the process knows its first token without streaming it
            row["is_stream"] = True
    after_first = (row.get("output_tokens") or 0) - 1
    if after_first < 1:
        return
    decode, first = row.get("decode_s"), row.get("ttft_s")
    if engine and decode is not None:
        row["tpot_s"] = decode / after_first
    elif row.get("is_stream") and first is not None and row["duration_ns"] / 1e9 >= first:
        row["tpot_s"] = (row["duration_ns"] / 1e9 - first) / after_first


def _time_ns(value: Any) -> int | None:
    """Nanoseconds of an RFC 3339 time."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        return None
    return int((moment - _EPOCH) / timedelta(microseconds=1)) * 1000


# -- events, errors, scores --------------------------------------------------------------------------------------------
def _events(row: Row, span: Span, attributes: Attributes) -> dict[str, Any]:
    """Events and links as JSON; the error an exception event tells; returns the content that events carry."""
    events: list[dict[str, Any]] = []
    carrying: list[tuple[str, Any, dict[str, Any]]] = []
    first_ns = 0
    for event in span.events:
        if event.name in dialects.FIRST_TOKEN_EVENTS:
            first_ns = min(first_ns or event.time_unix_nano, event.time_unix_nano)
        if event.name in dialects.CHUNK_EVENTS or event.name.startswith(dialects.CHUNK_EVENTS_PREFIX):
            continue
        read = read_attributes(event.attributes)
        attributes.dropped += read.dropped
        if event.name == _EXCEPTION:
            _exception(row, read.values)
        elif event.name in CONTENT_EVENTS:
            carrying.append((event.name, None, read.values))
        events.append({"time": rfc3339(event.time_unix_nano), "name": event.name, "attributes": read.values})
    if first_ns >= span.start_time_unix_nano and first_ns and "ttft_s" not in row:
        row["ttft_s"] = (first_ns - span.start_time_unix_nano) / 1e9
    if row.get("error_type", "").startswith("<class '"):  # Semantic Kernel writes the class as Python shows it
        row["error_type"] = row["error_type"].removeprefix("<class '").removesuffix("'>")
    if row["status"] == "error" and not row.get("error_message"):
        row["error_message"] = span.status.message
    if row["observation_type"] == "engine":
        row.update(_phases(span))
    row["events"] = dumps(events) if events else ""
    row["links"] = _links(span) if span.links else ""
    return read_events(carrying) if carrying else {}


def _phases(span: Span) -> Row:
    """How long the phases took that an engine's events begin and end."""
    times = {event.name: event.time_unix_nano for event in span.events}
    return {
        column: (times[end] - times[start]) / 1e9
        for column, (start, end) in dialects.PHASE_EVENTS.items()
        if start in times and end in times and times[start] <= times[end]
    }


def _exception(row: Row, values: dict[str, Any]) -> None:
    kind, message = exception_of(values)
    row.setdefault("error_type", kind)
    row.setdefault("error_message", message)
    trace = values.get(s.EXCEPTION_STACKTRACE)
    if isinstance(trace, str) and len(trace) > _STACKTRACE_MAX_CHARS:
        values[s.EXCEPTION_STACKTRACE] = "…" + trace[-_STACKTRACE_MAX_CHARS:]  # the innermost frames are at the end


def _links(span: Span) -> str:
    return dumps(
        [
            {
                "trace_id": link.trace_id.hex(),
                "span_id": link.span_id.hex(),
                "attributes": read_attributes(link.attributes).values,
            }
            for link in span.links
        ]
    )


def span_scores(span: Span, project_id: str) -> Iterator[Score]:
    """Scores carried by a span as `gen_ai.evaluation.result` events."""
    for event in span.events:
        if event.name == s.EVENT_EVALUATION_RESULT:
            values = read_attributes(event.attributes).values
            score = _score(values, project_id, span.trace_id, span.span_id, event.time_unix_nano)
            if score is not None:
                yield score


def log_scores(request: ExportLogsServiceRequest, project_id: str, received_ns: int) -> Iterator[Score]:
    """Scores sent as log events; `log_records.evaluations` has let only such records pass."""
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


_CONVERT = {column: converter(column) for column in dialects.PARAMETERS}
