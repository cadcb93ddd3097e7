"""Numbers over time or by group, from rollups, de-duplicated raw spans, or both (`plan.py`).

They are about requests: model calls (llm, embedding, rerank) that are counted themselves. Spans that repeat or sum up
other spans' usage (aggregate, duplicate, engine) are left out, so nothing is counted twice. A call that failed before
any usage was known is a request all the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from limelight_collector.errors import Rejected
from limelight_collector.query.filter import parse, parse_field
from limelight_collector.query.filter_sql import Sql
from limelight_collector.query.measures import COUNTED, MEASURES, MERGED, PARTS, REQUESTS
from limelight_collector.query.plan import Plan, plan
from limelight_collector.query.ranges import Range, starts_within
from limelight_collector.query.span_json import number, time_text
from limelight_collector.query.window import BOUND, Condition, Window
from limelight_collector.store import Store

MAX_ROWS = 20_000
MAX_GROUPINGS = 4


@dataclass(frozen=True, slots=True)
class Series:
    """`rows`: one a group and time bucket. `source`: what answered, `raw`, `rollup_1h`, `rollup_1h+rollup_1m+raw` …"""

    rows: list[dict[str, Any]]
    source: str


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
    top: int | None = None,
) -> Series:
    """One row a group and, with `step_s`, a time bucket: `time` (its start), the groups' values, the measures.

    Buckets are multiples of `step_s` since 1970; empty ones are left out. A value that is unknown is None, and so is a
    measure without data. With `top`, that many groups, those with most of the first measure in the whole window, are
    told apart; all others are one, whose values are None and whose `other` is true. `Rejected` for an unknown measure,
    `FilterError` for an unknown field, `QueryLimit` beyond `MAX_ROWS` rows. Without step and group there is exactly
    one row.
    """
    _check(measures, group_by, step_s, top)
    window = Window(project_id, start_ns, end_ns)
    fields = [parse_field(name) for name in group_by]
    sql = Sql(BOUND)
    keys = [sql.value(field) for field in fields]
    condition = window.compiled(sql, filter_text, REQUESTS)
    tree = parse(filter_text)
    chosen = plan(store, window, step_s, fields, tree, _needed(measures))
    passes = "" if chosen.is_raw else sql.condition(tree)
    groups = group_by if top is None else [*group_by, "other"]
    if top is None:
        text = _grouped_text(keys, step_s, measures, chosen, condition, passes)
    else:
        texts = [f"ifNull({key}, '')" for key in keys]
        # in one go where no percentile would lose its exactness
        if step_s is None and not (chosen.is_raw and set(_needed(measures)) - COUNTED.keys()):
            rows = _rows_of_parts(texts, None, measures, chosen, condition, passes)
            text = _ranked(rows, len(keys), measures, top)
        else:
            first = _grouped_text(texts, None, measures[:1], chosen, condition, passes)
            ranked = f"{first} ORDER BY {len(keys) + 1:d} DESC NULLS LAST, {_positions(len(keys))} LIMIT {top:d}"
            largest = store.query(ranked, window.parameters | sql.parameters).rows
            told_apart = _told_apart(sql, texts, [row[:-1] for row in largest])
            text = _grouped_text(told_apart, step_s, measures, chosen, condition, passes)
    columns = bool(step_s) + len(groups)
    order = f" ORDER BY {_positions(columns)}" if columns else ""
    found = store.query(text + order, window.parameters | sql.parameters, max_rows=MAX_ROWS)
    return Series([_row(row, measures, groups, stepped=bool(step_s)) for row in found.rows], chosen.source)


def _told_apart(sql: Sql, keys: list[str], largest: list[tuple[Any, ...]]) -> list[str]:
    """SQL of the groups' texts where they are among the largest, else ''; and whether they are not."""
    known = [f"({', '.join(sql.bind('String', value) for value in values)})" for values in largest]
    is_other = f"({', '.join(keys)}) NOT IN ({', '.join(known)})" if known else "1"
    return [*(f"if({is_other}, '', {key})" for key in keys), f"toBool({is_other})"]


def _grouped_text(
    keys: list[str], step_s: float | None, measures: list[str], chosen: Plan, condition: Condition, passes: str
) -> str:
    """SQL of the measures by key and time, from whatever the plan chose; `passes`: the filter over rollups."""
    if chosen.is_raw:
        raw = [MEASURES[name].raw for name in measures]
        return _grouped(keys, _raw_time(step_s), raw, "spans FINAL", condition.sql)
    return _from_parts(keys, step_s, measures, chosen, condition, passes)


def _raw_time(step_s: float | None) -> str:
    step_ns = int((step_s or 0) * 10**9)
    return f"intDiv(toUnixTimestamp64Nano(start_time), {step_ns:d}) * {step_ns:d}" if step_ns else ""


def _rollup_time(step_s: float | None) -> str:
    step = int(step_s or 0)
    return f"toInt64(intDiv(toUnixTimestamp(bucket), {step:d})) * {step * 10**9:d}" if step else ""


def _from_parts(
    keys: list[str], step_s: float | None, measures: list[str], chosen: Plan, raw: Condition, passes: str
) -> str:
    """SQL of the measures over the parts that each source of the plan contributes."""
    names = [f"key{n}" for n in range(len(keys))]
    merged = [MEASURES[name].merged for name in measures]
    rows = _rows_of_parts(keys, step_s, measures, chosen, raw, passes)
    return _grouped(names, "time" if step_s else "", merged, rows, "1")


def _rows_of_parts(
    keys: list[str], step_s: float | None, measures: list[str], chosen: Plan, raw: Condition, passes: str
) -> str:
    """SQL, in parentheses, of rows of `time`, `key0` … and the parts that the measures need, of every source."""
    needed = _needed(measures)
    named = [f"{key} AS key{n}" for n, key in enumerate(keys)]
    parts = [
        _raw_parts(named, _raw_time(step_s), needed, raw, ranges)
        if source == "raw"
        else _rolled_parts(chosen.rolled(source), named, _rollup_time(step_s), needed, passes)
        for source, ranges in chosen.ranges.items()
    ]
    return f"({' UNION ALL '.join(parts)})"


def _ranked(rows: str, count: int, measures: list[str], top: int) -> str:
    """SQL of the measures of the `top` groups, and of all others as one, from rows of parts with `count` keys."""
    keys = ", ".join(f"key{n}" for n in range(count))
    needed = _needed(measures)
    sums = ", ".join(f"{MERGED[name]} AS part_{name}" for name in needed)
    first = MEASURES[measures[0]].merged
    whole = f"SELECT {keys}, {sums}, {first} AS ranked_by FROM {rows} GROUP BY {keys}"
    is_other = f"row_number() OVER (ORDER BY ranked_by DESC NULLS LAST, {keys}) > {top:d}"
    parts = ", ".join(f"part_{name} AS {name}" for name in needed)
    told_apart = [f"if(is_other, '', key{n})" for n in range(count)]
    merged = [MEASURES[name].merged for name in measures]
    ranked = f"(SELECT {keys}, {parts}, is_other FROM (SELECT *, {is_other} AS is_other FROM ({whole})))"
    return _grouped([*told_apart, "toBool(is_other)"], "", merged, ranked, "1")


def _needed(measures: list[str]) -> list[str]:
    return sorted({part for name in measures for part in MEASURES[name].needs})


def _raw_parts(named: list[str], time: str, needed: list[str], raw: Condition, ranges: list[Range]) -> str:
    selected = [f"{PARTS[name]} AS {name}" for name in needed]
    condition = f"{raw.sql} AND {starts_within(ranges)}"
    return _grouped(named, f"{time} AS time" if time else "", selected, "spans FINAL", condition)


def _rolled_parts(source: str, named: list[str], time: str, needed: list[str], passes: str) -> str:
    """The rows as they are: to merge their sketches here and again outside would cost twice."""
    selected = [*([f"{time} AS time"] if time else []), *named, *needed]
    return f"SELECT {', '.join(selected)} FROM {source} AND request_count > 0 AND ({passes})"


def _grouped(keys: list[str], time: str, selected: list[str], table: str, condition: str) -> str:
    all_keys = [time, *keys] if time else keys
    tail = f" GROUP BY {_positions(len(all_keys))}" if all_keys else ""
    return f"SELECT {', '.join([*all_keys, *selected])} FROM {table} WHERE {condition}{tail}"


def _positions(count: int) -> str:
    return ", ".join(str(n + 1) for n in range(count))


def _row(row: tuple[Any, ...], measures: list[str], group_by: list[str], *, stepped: bool) -> dict[str, Any]:
    values = list(row)
    answer: dict[str, Any] = {"time": time_text(values.pop(0))} if stepped else {}
    known = [None if value == "" else value for value in values[: len(group_by)]]
    answer |= dict(zip(group_by, known, strict=True))
    for name, value in zip(measures, values[len(group_by) :], strict=True):
        answer[name] = value if MEASURES[name].is_count else number(value)
    return answer


def _check(measures: list[str], group_by: list[str], step_s: float | None, top: int | None) -> None:
    unknown = [name for name in measures if name not in MEASURES]
    if unknown or not measures:
        raise Rejected("bad_request", f"measure: unknown {unknown or ''}; choose from {', '.join(MEASURES)}")
    if len(group_by) > MAX_GROUPINGS:
        raise Rejected("bad_request", f"group_by: at most {MAX_GROUPINGS} fields")
    if top is not None and not group_by:
        raise Rejected("bad_request", "top: group_by says of what")
    if step_s is not None and not 0.001 <= step_s <= 366 * 86_400:
        raise Rejected("bad_request", "step: seconds, from 0.001 to one year")
