"""Numbers over time or by group, from raw de-duplicated spans.

They are about requests: model calls (llm, embedding, rerank) that are counted themselves. Spans that repeat or sum up
other spans' usage (aggregate, duplicate, engine) are left out, so nothing is counted twice. A call that failed before
any usage was known is a request all the same.
"""

from __future__ import annotations

from typing import Any

from limelight_collector.errors import Rejected
from limelight_collector.query.filter import parse_field
from limelight_collector.query.filter_sql import Sql
from limelight_collector.query.span_json import number, time_text
from limelight_collector.query.window import BOUND, Window
from limelight_collector.store import Store

REQUESTS = (
    "observation_type IN ('llm', 'embedding', 'rerank') AND usage_role NOT IN ('aggregate', 'duplicate', 'engine')"
)
"""Which spans are requests."""

MAX_ROWS = 20_000
MAX_GROUPINGS = 4

_FLAGGED = f"(trace_id, span_id) IN (SELECT trace_id, span_id FROM flags WHERE {BOUND})"
_COUNTS = {
    "request_count": "count()",
    "error_count": "countIf(status = 'error')",
    "unpriced_count": "countIf(cost_state = 'unpriced')",
    "flag_count": f"countIf({_FLAGGED})",
    **{
        name: f"sum({name})"
        for name in ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")
    },
}
_NUMBERS = {
    "error_rate": "countIf(status = 'error') / count()",
    "flag_rate": f"countIf({_FLAGGED}) / count()",
    "cost_usd": "toFloat64(sum(cost_usd))",
    **{
        f"{name}_p{percent}": f"quantile(0.{percent})({value})"
        for name, value in (("latency", "duration_ns / 1e9"), ("ttft", "ttft_s"), ("tpot", "tpot_s"))
        for percent in (50, 95, 99)
    },
}
MEASURES = {**_COUNTS, **_NUMBERS}
"""Measure -> SQL: counts, tokens, USD, ratios 0 to 1, seconds."""


def series(
    store: Store,
    project_id: str,
    *,
    measures: list[str],
    group_by: list[str],
    start_ns: int,
    end_ns: int,
    step_s: float | None,
    filter_text: str,
) -> list[dict[str, Any]]:
    """One row a group and, with `step_s`, a time bucket: `time` (its start), the groups' values, the measures.

    Buckets are multiples of `step_s` since 1970; empty ones are left out. A value that is unknown is None, and so is a
    measure without data. `Rejected` for an unknown measure, `FilterError` for an unknown field, `QueryLimit` beyond
    `MAX_ROWS` rows. Without step and group there is exactly one row.
    """
    _check(measures, group_by, step_s)
    sql = Sql(BOUND)
    keys = [f"{sql.value(parse_field(name))} AS g{n}" for n, name in enumerate(group_by)]
    if step_s:
        step_ns = int(step_s * 10**9)
        keys.insert(0, f"intDiv(toUnixTimestamp64Nano(start_time), {step_ns:d}) * {step_ns:d} AS bucket")
    condition = Window(project_id, start_ns, end_ns).compiled(sql, filter_text, REQUESTS)
    selected = [*keys, *(f"{MEASURES[name]} AS m{n}" for n, name in enumerate(measures))]
    grouped = ", ".join(str(n + 1) for n in range(len(keys)))
    tail = f" GROUP BY {grouped} ORDER BY {grouped}" if keys else ""
    rows = store.query(
        f"SELECT {', '.join(selected)} FROM spans FINAL WHERE {condition.sql}{tail}",
        condition.parameters,
        max_rows=MAX_ROWS,
    )
    return [_row(row, measures, group_by, stepped=bool(step_s)) for row in rows.rows]


def _row(row: tuple[Any, ...], measures: list[str], group_by: list[str], *, stepped: bool) -> dict[str, Any]:
    values = list(row)
    answer: dict[str, Any] = {"time": time_text(values.pop(0))} if stepped else {}
    answer |= dict(zip(group_by, values[: len(group_by)], strict=True))
    for name, value in zip(measures, values[len(group_by) :], strict=True):
        answer[name] = value if name in _COUNTS else number(value)
    return answer


def _check(measures: list[str], group_by: list[str], step_s: float | None) -> None:
    unknown = [name for name in measures if name not in MEASURES]
    if unknown or not measures:
        raise Rejected("bad_request", f"measure: unknown {unknown or ''}; choose from {', '.join(MEASURES)}")
    if len(group_by) > MAX_GROUPINGS:
        raise Rejected("bad_request", f"group_by: at most {MAX_GROUPINGS} fields")
    if step_s is not None and not 0.001 <= step_s <= 366 * 86_400:
        raise Rejected("bad_request", "step: seconds, from 0.001 to one year")
