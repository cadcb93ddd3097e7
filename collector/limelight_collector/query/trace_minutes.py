"""What each trace did in each minute, by service, environment and status: what lists of traces are made of.

A *place* is a number that orders spans; its lower half is the span's id, so that no two are equal.
"""

from __future__ import annotations

from limelight_collector.query.filter import And, Compare, Exists, Name, Node, named
from limelight_collector.query.filter_sql import Sql
from limelight_collector.query.ids import NO_SPAN, SPAN_BYTES
from limelight_collector.query.measures import REQUESTS
from limelight_collector.query.minutes import MinuteTable

START = "toUnixTimestamp64Nano(start_time)"
NOWHERE = (1 << 128) - 1
"""The place of no span."""

_SPAN = "toUInt128(reinterpretAsUInt64(reverse(span_id)))"
_IS_ROOT = f"parent_span_id = {NO_SPAN}"
_NOWHERE = "bitNot(toUInt128(0))"


def _place(order: str) -> str:
    return f"bitOr(bitShiftLeft(toUInt128({order}), 64), {_SPAN})"


def _telling(time: str, kind: str) -> str:
    """The place of a span in what a list shows of a trace: what its root says, else its model calls, else any text."""
    rank = f"multiIf({_IS_ROOT}, 0, observation_type = 'llm', 1, 2)"
    order = f"toUInt64({rank}) * {1 << 62:d} + toUInt64({time})"
    return f"if({kind}_preview = '' AND {kind}_messages = '' AND {kind}_text = '', {_NOWHERE}, {_place(order)})"


_FIRST = _place(f"toUInt64({START})")
_ROOT_FIRST = _place(f"toUInt64({START}) + if({_IS_ROOT}, toUInt64(0), toUInt64({1 << 63:d}))")
_ASKED = _telling(START, "input")
_ANSWERED = _telling(f"{(1 << 62) - 1:d} - {START}", "output")
_MODEL = "if(response_model != '', response_model, request_model)"


def _values(sql: str) -> str:
    return f"arraySort(groupUniqArrayIf({sql}, {sql} != ''))"


TRACES = MinuteTable(
    name="traces_1m",
    key=("trace_id", "service_name", "environment", "status"),
    columns={
        "root_place": f"min({_ROOT_FIRST})",
        "root_name": f"argMin(name, {_ROOT_FIRST})",
        "first_start": "min(start_time)",
        "last_end_ns": f"max({START} + toInt64(duration_ns))",
        "span_count": "count()",
        "request_count": f"countIf({REQUESTS})",
        "unpriced_count": f"countIf(cost_state = 'unpriced' AND {REQUESTS})",
        "input_tokens": f"sumIf(spans.input_tokens, {REQUESTS})",
        "output_tokens": f"sumIf(spans.output_tokens, {REQUESTS})",
        "cache_read_tokens": f"sumIf(spans.cache_read_tokens, {REQUESTS})",
        "cost_usd": f"sumIf(spans.cost_usd, {REQUESTS})",
        "models": _values(_MODEL),
        "request_models": _values("request_model"),
        "llm_models": f"arraySort(groupUniqArrayIf({_MODEL}, observation_type = 'llm' AND {_MODEL} != ''))",
        "providers": _values("provider"),
        "trace_tags": "arraySort(groupUniqArrayArray(tags))",
        "sessions": _values("session_id"),
        "users": _values("user_id"),
        "session": f"argMinIf(session_id, {_ROOT_FIRST}, session_id != '')",
        "user": f"argMinIf(user_id, {_ROOT_FIRST}, user_id != '')",
        "ttft_place": f"min(if(isNull(ttft_s), {_NOWHERE}, {_FIRST}))",
        "first_ttft_s": f"argMin(ttft_s, {_FIRST})",
        "asked_place": f"min({_ASKED})",
        "asked": f"argMin(input_preview, {_ASKED})",
        "answered_place": f"min({_ANSWERED})",
        "answered": f"argMin(output_preview, {_ANSWERED})",
        "flags": "arraySort(groupUniqArrayArray(codes))",
    },
    joined=frozenset({"flags"}),
)
"""Rows of a trace: one a minute, service, environment and status."""

SUMMARY: dict[str, str] = {
    "root": "min(root_place)",
    "name": "argMin(root_name, root_place)",
    "service_name": "argMin(service_name, root_place)",
    "environment": "argMin(environment, root_place)",
    "root_status": "argMin(status, root_place)",
    "first_ns": "min(first_start)",
    "last_ns": "max(last_end_ns)",
    "error_count": "sumIf(span_count, status = 'error')",
    "spans": "sum(span_count)",
    "requests": "sum(request_count)",
    "unpriced": "sum(unpriced_count)",
    "sum_input": "sum(input_tokens)",
    "sum_output": "sum(output_tokens)",
    "sum_cache_read": "sum(cache_read_tokens)",
    "sum_cost": "sum(cost_usd)",
    "all_models": "groupUniqArrayArray(models)",
    "all_llm_models": "groupUniqArrayArray(llm_models)",
    "all_providers": "groupUniqArrayArray(providers)",
    "all_tags": "groupUniqArrayArray(trace_tags)",
    "all_flags": "groupUniqArrayArray(flags)",
    "first_session": "argMinIf(session, root_place, session != '')",
    "first_user": "argMinIf(user, root_place, user != '')",
    "ttft_s": "argMin(first_ttft_s, ttft_place)",
    "asked_span": "min(asked_place)",
    "input_preview": "argMin(asked, asked_place)",
    "answered_span": "min(answered_place)",
    "output_preview": "argMin(answered, answered_place)",
}
"""What a trace's rows come to."""

_LISTS = {
    "session_id": "sessions",
    "user_id": "users",
    "model": "models",
    "request_model": "request_models",
    "provider": "providers",
    "tags": "trace_tags",
    "flag": "flags",
}
"""Fields of which a row lists the values that its spans have."""
_FIXED = TRACES.fields | {"has_error"}


def span_id(place: int) -> bytes:
    """The id of the span at a place."""
    return (place & (1 << 64) - 1).to_bytes(SPAN_BYTES, "big")


def row_condition(sql: Sql, tree: Node) -> tuple[str, frozenset[str]] | None:
    """SQL that is 1 for rows with a span that passes the filter, and the columns it needs; None where rows can't tell.

    They can where one span decides: what is the same for all spans of a row, and the value of one field that it lists.
    """
    parts = tree.parts if isinstance(tree, And) else (tree,)
    fixed = [part for part in parts if all(isinstance(field, Name) and field.name in _FIXED for field in named(part))]
    rest = [part for part in parts if part not in fixed]
    if len(rest) > 1:
        return None
    conditions = [sql.condition(part) for part in fixed]
    columns: frozenset[str] = frozenset()
    if rest:
        listed = _listed(rest[0])
        if listed is None:
            return None
        column, values = listed
        bound = ", ".join(sql.bind("String", value) for value in values)
        conditions.append(f"hasAny({column}, [{bound}])" if values else f"notEmpty({column})")
        columns = frozenset({column})
    return " AND ".join(f"({condition})" for condition in conditions) or "1", columns


def _listed(node: Node) -> tuple[str, tuple[str, ...]] | None:
    """The column that lists the field's values and those asked for; none = any."""
    match node:
        case Compare(Name(name), "=" | "in", values) if name in _LISTS:
            texts = tuple(value for value in values if isinstance(value, str))
            return (_LISTS[name], texts) if texts and all(texts) and len(texts) == len(values) else None
        case Exists(Name(name)) if name in _LISTS:
            return _LISTS[name], ()
        case _:
            return None
