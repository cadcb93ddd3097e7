"""Metrics over time: what metrics there are, and their values by time bucket and group.

Four families are asked differently. Levels (gauges, and sums that may fall) have values, counters and histograms have
increases (metric_sql.py), summaries have quantiles of their own, which cannot be merged. Why the points are stored as
they are: docs/adr/0008-metric-points.md.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any, Literal

from limelight_collector.errors import Rejected
from limelight_collector.query import buckets
from limelight_collector.query.filter_sql import Sql
from limelight_collector.query.metric_sql import LOOKBACK_NS, MAX_ROWS, PointSql, Question
from limelight_collector.query.signal_fields import POINT_FIELDS
from limelight_collector.query.span_json import time_text
from limelight_collector.query.window import Window
from limelight_collector.store import Store

Family = Literal["level", "counter", "histogram", "summary"]

MAX_METRICS = 5_000
MAX_GROUPINGS = 4

_QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
AGGREGATIONS: dict[Family, tuple[str, ...]] = {
    "level": ("avg", "min", "max", "last", "sum", *_QUANTILES),
    "counter": ("sum", "rate"),
    "histogram": ("avg", "sum", "count", "rate", "max", *_QUANTILES),
    "summary": ("avg", "sum", "count", "rate", *_QUANTILES),
}
"""What may be asked of each family; the first is the default."""

_OF_PROJECT = "project_id = {project_id:String}"
_LEVELS = {
    "avg": "avg(value)",
    "min": "min(value)",
    "max": "max(value)",
    "last": "argMax(value, (time, series_id))",
    **{name: f"quantile({share})(value)" for name, share in _QUANTILES.items()},
}
_MORE = "sum(state.1 - if(is_more, before.1, 0))"
_MORE_SUM = "sum(state.2 - if(is_more, before.2, 0))"
_ADDED = {
    ("counter", "sum"): _MORE,
    ("counter", "rate"): _MORE,
    ("histogram", "count"): _MORE,
    ("histogram", "rate"): _MORE,
    ("histogram", "sum"): _MORE_SUM,
    ("histogram", "avg"): f"{_MORE_SUM} / nullIf({_MORE}, 0)",
}
_MORE_COUNTS = """arrayMap((now, then) -> toInt64(now) - toInt64(then),
    sumForEach(state) AS whole, arrayResize(sumForEachIf(before, is_more), length(whole)))"""
_SIGNED = "arrayJoin(if(is_more, [(1, state), (-1, before)], [(1, state)]))"
_EXPONENTIAL = "scale, positive_offset, positive_counts, negative_offset, negative_counts, zero_count"
_NONE = "(emptyArrayInt64(), emptyArrayInt64())"


def find_metrics(store: Store, window: Window, *, filter_text: str) -> list[dict[str, Any]]:
    """The metrics with points in the window: name, kind, unit, and what their points are told apart by."""
    condition = window.compiled(Sql(_OF_PROJECT, POINT_FIELDS), filter_text)
    rows = store.query(
        f"""SELECT metric, kind, unit, temporality, is_monotonic, any(description) AS about,
            groupUniqArrayArray(1000)(mapKeys(attributes)) AS keys, groupUniqArray(100)(service_name) AS services,
            uniqExact(series_id) AS series, max(toUnixTimestamp64Nano(last_time)) AS newest
        FROM metric_series WHERE {condition.sql} GROUP BY metric, kind, unit, temporality, is_monotonic
        HAVING min(toUnixTimestamp64Nano(first_time)) < {{end_ns:Int64}} AND newest >= {{start_ns:Int64}}
        ORDER BY metric, kind, unit, temporality, is_monotonic""",
        condition.parameters,
        max_rows=MAX_METRICS,
    )
    return [_metric(row) for row in rows.dicts()]


def _metric(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": row["metric"],
        "kind": row["kind"],
        "unit": row["unit"] or None,
        "description": row["about"] or None,
        "temporality": row["temporality"] or None,
        "is_monotonic": row["is_monotonic"],
        "aggregations": list(AGGREGATIONS[_family(row["kind"], rises=_rises(row["temporality"], row["is_monotonic"]))]),
        "attribute_keys": sorted(row["keys"]),
        "service_names": sorted(filter(None, row["services"])),
        "series_count": row["series"],
        "last_time": time_text(row["newest"]),
    }


def metric_series(store: Store, question: Question) -> dict[str, Any]:
    """`{"name", "kind", "unit", "aggregation", "rows": [{"time", group…, "value"}]}`; empty buckets are left out.

    `Rejected` (not_found) for a metric that was never sent, (bad_request) for an aggregation its kind does not have or
    a name used for different kinds; `FilterError` and `QueryLimit` as everywhere.
    """
    _check(question)
    kinds, unit, family = _kinds(store, question)
    kind = kinds[0]
    aggregation = question.aggregation or AGGREGATIONS[family][0]
    if aggregation not in AGGREGATIONS[family]:
        allowed = ", ".join(AGGREGATIONS[family])
        raise Rejected("bad_request", f"aggregation: {question.metric} is a {kind}; choose from {allowed}")
    if family == "level":
        rows = _levels(store, question, aggregation)
    elif family != "histogram" or (family, aggregation) in _ADDED:
        rows = _added(store, question, aggregation, family)
    else:
        rows = _of_buckets(store, question, aggregation, is_exponential="exponential_histogram" in kinds)
    return {"name": question.metric, "kind": kind, "unit": unit or None, "aggregation": aggregation, "rows": rows}


def _check(question: Question) -> None:
    if len(question.group_by) > MAX_GROUPINGS:
        raise Rejected("bad_request", f"group_by: at most {MAX_GROUPINGS} fields")
    if question.step_s is not None and not 0.001 <= question.step_s <= 366 * 86_400:
        raise Rejected("bad_request", "step: seconds, from 0.001 to one year")


def _kinds(store: Store, question: Question) -> tuple[list[str], str, Family]:
    """Kinds, unit and family of the series that pass the filter."""
    condition = question.window.compiled(
        Sql(_OF_PROJECT, POINT_FIELDS), question.filter_text, "metric = {metric:String}"
    )
    rows = store.query(
        f"SELECT DISTINCT kind, unit, temporality, is_monotonic FROM metric_series WHERE {condition.sql} ORDER BY ALL",
        condition.parameters | {"metric": question.metric},
        max_rows=MAX_METRICS,
    ).rows
    kinds = sorted({kind for kind, *_ in rows})
    families: set[Family] = {_family(kind, rises=_rises(*how)) for kind, _, *how in rows}
    if not families:
        raise Rejected("not_found", f"no metric {question.metric!r} was sent that passes the filter")
    if len(families) > 1:
        raise Rejected("bad_request", f'{question.metric} was sent as {", ".join(kinds)}: choose by kind = "…"')
    return kinds, rows[-1][1], families.pop()


def _rises(temporality: str, is_monotonic: bool) -> bool:
    return is_monotonic or temporality == "delta"


def _family(kind: str, *, rises: bool) -> Family:
    if kind in ("histogram", "exponential_histogram"):
        return "histogram"
    if kind == "summary":
        return "summary"
    return "counter" if kind == "sum" and rises else "level"


def _levels(store: Store, question: Question, aggregation: str) -> list[dict[str, Any]]:
    sql = PointSql(question)
    points = sql.points("assumeNotNull(value) AS value", known="isFinite(ifNull(value, nan))")
    if aggregation != "sum":
        return sql.rows(store, points, _LEVELS[aggregation])
    # The sum over series: each counts with its mean of the bucket, however often it reports.
    keys = ", ".join([*sql.keys, "series_id"])
    return sql.rows(store, f"SELECT {keys}, avg(value) AS mean FROM ({points}) GROUP BY {keys}", "sum(mean)")


def _added(store: Store, question: Question, aggregation: str, family: Family) -> list[dict[str, Any]]:
    """What increases add up to, and the means of summaries' own quantiles."""
    if aggregation in _QUANTILES:
        sql = PointSql(question)
        share = f"{_QUANTILES[aggregation]}"
        value = f"quantile_values[indexOf(quantiles, {share})] AS value"
        points = sql.points(value, known=f"has(quantiles, {share})")
        return sql.rows(store, points, "avgIf(value, isFinite(value))")
    sql = PointSql(question, lookback_ns=LOOKBACK_NS)
    if family == "counter":
        known, total, state = "isFinite(ifNull(value, nan))", "assumeNotNull(value)", "tuple(assumeNotNull(value))"
    else:
        known, total = "isNotNull(count)", "assumeNotNull(count)"
        state = "(toFloat64(assumeNotNull(count)), toFloat64(ifNull(sum, 0)))"
    of = _ADDED["counter" if family == "counter" else "histogram", aggregation]
    if aggregation == "rate":
        of = f"{of} / {sql.length()}"
    return sql.rows(store, sql.increases(total, state, known=known), of)


# -- histograms --------------------------------------------------------------------------------------------------------
def _of_buckets(store: Store, question: Question, aggregation: str, *, is_exponential: bool) -> list[dict[str, Any]]:
    """Quantiles (and the largest value) of all that a group's histograms counted, whatever their bounds."""
    sql = PointSql(question, lookback_ns=LOOKBACK_NS)
    selected = _of_any_buckets(sql) if is_exponential else _of_explicit_buckets(sql)
    found = store.query(selected, sql.parameters, max_rows=MAX_ROWS)
    groups: dict[tuple[Any, ...], list[tuple[Any, ...]]] = defaultdict(list)
    width = len(sql.keys)
    for row in found.rows:
        groups[row[:width]].append(row[width:])
    if not groups and not sql.keys:
        return [sql.row((None,))]
    return [sql.row((*keys, _of_forms(forms, aggregation))) for keys, forms in groups.items()]


def _of_explicit_buckets(sql: PointSql) -> str:
    """SQL of keys, bounds, scale, explicit, positive, negative and zero counts, and the largest value, by bounds.

    Bounds are the same at each point of a form, so counts alone are compared with those of the point before.
    """
    increases = sql.increases(
        "assumeNotNull(count)",
        "bucket_counts",
        "bucket_bounds",
        known="isNotNull(count)",
        form="cityHash64(bucket_bounds)",
    )
    measures = [
        *("any(bucket_bounds)", "0 AS exponent", _MORE_COUNTS, _NONE, _NONE, "0"),
        *("count() = countIf(isNotNull(largest))", "max(largest)"),
    ]
    return f"SELECT {', '.join([*sql.keys, *measures])} FROM ({increases}){sql.grouped('form')}"


def _of_any_buckets(sql: PointSql) -> str:
    """The same where some are exponential: a stream may change its scale, so states are added and taken off whole."""
    increases = sql.increases(
        "assumeNotNull(count)",
        f"(bucket_bounds, bucket_counts, {_EXPONENTIAL})",
        known="isNotNull(count)",
        form="cityHash64(bucket_bounds)",
    )
    signed = f"SELECT *, {_SIGNED} AS part, part.1 AS sign, part.2 AS held FROM ({increases})"
    measures = [
        "held.1 AS bounds",
        "held.3 AS exponent",
        "sumForEach(arrayMap(c -> sign * toInt64(c), held.2))",
        "sumMap(arrayMap(i -> toInt64(held.4 + i), range(length(held.5))), arrayMap(c -> sign * toInt64(c), held.5))",
        "sumMap(arrayMap(i -> toInt64(held.6 + i), range(length(held.7))), arrayMap(c -> sign * toInt64(c), held.7))",
        "sum(sign * toInt64(held.8))",
        "countIf(sign = 1) = countIf(sign = 1 AND isNotNull(largest)) AS all_known",
        "maxIf(largest, sign = 1)",
    ]
    return f"SELECT {', '.join([*sql.keys, *measures])} FROM ({signed}){sql.grouped('bounds', 'exponent')}"


def _of_forms(forms: list[tuple[Any, ...]], aggregation: str) -> float | None:
    """The answer from the counts of each form (bounds and scale); those of an earlier point are negative in them."""
    if aggregation == "max" and all(known for *_, known, _ in forms):
        return max(largest for *_, largest in forms)
    intervals: list[buckets.Interval] = []
    coarsest = min(scale for _, scale, *_ in forms)
    positive: Counter[int] = Counter()
    negative: Counter[int] = Counter()
    zeros = 0
    for bounds, scale, counts, above, below, zero_count, *_ in forms:
        if counts:
            intervals += buckets.explicit(list(bounds), list(counts))
        for merged, (indexes, found) in ((positive, above), (negative, below)):
            for index, count in zip(indexes, found, strict=True):
                merged[index >> (scale - coarsest)] += count
        zeros += zero_count
    intervals += buckets.exponential(coarsest, zeros, positive, negative)
    return buckets.quantile(intervals, 1.0 if aggregation == "max" else _QUANTILES[aggregation])
