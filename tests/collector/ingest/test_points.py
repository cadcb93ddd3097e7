"""Metric points of every kind as rows; what of them is left out, and why."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AggregationTemporality,
    Exemplar,
    ExponentialHistogram,
    ExponentialHistogramDataPoint,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    Sum,
    Summary,
    SummaryDataPoint,
)

from collector.ingest.otlp import NOW, RETENTION, SECOND, metrics_request, pairs, rows_of
from limelight_collector import metrics
from limelight_collector.attributes import MAX_ATTRIBUTES
from limelight_collector.decode import Validated, validate
from limelight_collector.errors import Rejected
from limelight_collector.json_otlp import write_json
from limelight_collector.valid_points import MAX_BUCKETS

DELTA = AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA
CUMULATIVE = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
STALE = 1
AT: dict[str, Any] = {"time_unix_nano": NOW, "start_time_unix_nano": NOW - 60 * SECOND}


def gauge(*points: NumberDataPoint, name: str = "m") -> Metric:
    return Metric(name=name, gauge=Gauge(data_points=points))


def number(value: float = 1.0, said: dict[str, Any] | None = None, /, **given: Any) -> NumberDataPoint:
    return NumberDataPoint(**{**AT, "as_double": value, "attributes": pairs(said or {}), **given})


def histogram(*points: HistogramDataPoint, temporality: Any = CUMULATIVE) -> Metric:
    return Metric(name="m", unit="s", histogram=Histogram(data_points=points, aggregation_temporality=temporality))


def exponential(**given: Any) -> Metric:
    points = [ExponentialHistogramDataPoint(**{**AT, **given})]
    return Metric(
        name="m", exponential_histogram=ExponentialHistogram(data_points=points, aggregation_temporality=DELTA)
    )


def summary(*quantiles: tuple[float, float]) -> Metric:
    values = [SummaryDataPoint.ValueAtQuantile(quantile=quantile, value=value) for quantile, value in quantiles]
    return Metric(
        name="m", summary=Summary(data_points=[SummaryDataPoint(**AT, count=4, sum=2.0, quantile_values=values)])
    )


def checked(*metrics: Metric, **given: Any) -> Validated:
    return validate(metrics_request(*metrics, **given).SerializeToString(), "protobuf", "metrics")


def points_of(*metrics: Metric, **given: Any) -> list[dict[str, Any]]:
    return rows_of(checked(*metrics, **given).payload, "metrics").points


def only(*metrics: Metric, **given: Any) -> dict[str, Any]:
    (row,) = points_of(*metrics, **given)
    return row


# -- what a point becomes ----------------------------------------------------------------------------------------------
def test_a_gauge_with_its_names() -> None:
    found = only(
        Metric(
            name="vllm:num_requests_running", unit="1", description="Running.", gauge=Gauge(data_points=[number(3.5)])
        ),
        resource={"service.name": "engine", "deployment.environment.name": "prod", "host.cpus": 4},
        scope="prometheus",
    )
    assert found | {"series_id": 0} == {
        "project_id": "p",
        "received_ns": NOW,
        "metric": "vllm:num_requests_running",
        "series_id": 0,
        "kind": "gauge",
        "unit": "1",
        "description": "Running.",
        "temporality": "",
        "is_monotonic": False,
        "service_name": "engine",
        "environment": "prod",
        "scope_name": "prometheus",
        "scope_version": "",
        "attributes": {},
        "resource": {"service.name": '"engine"', "deployment.environment.name": '"prod"', "host.cpus": "4"},
        "time": NOW,
        "original_ns": 0,
        "start_ns": NOW - 60 * SECOND,
        "value": 3.5,
    }


def test_a_sum_says_how_it_counts() -> None:
    points = [NumberDataPoint(**AT, as_int=-7)]
    found = only(Metric(name="m", sum=Sum(data_points=points, aggregation_temporality=DELTA, is_monotonic=True)))
    assert (found["kind"], found["temporality"], found["is_monotonic"], found["value"]) == ("sum", "delta", True, -7.0)


def test_a_histogram_with_and_without_what_is_optional() -> None:
    whole = HistogramDataPoint(**AT, count=3, sum=2.5, min=0.1, max=2.0, explicit_bounds=[1.0], bucket_counts=[2, 1])
    bare = HistogramDataPoint(**AT, count=3)
    one, two = points_of(histogram(whole, bare))
    assert (one["count"], one["sum"], one["min"], one["max"]) == (3, 2.5, 0.1, 2.0)
    assert (one["bucket_bounds"], one["bucket_counts"], one["temporality"]) == ([1.0], [2, 1], "cumulative")
    assert (two["count"], two["sum"], two["min"], two["max"]) == (3, None, None, None)
    assert (two["bucket_bounds"], two["bucket_counts"]) == ([], [])


def test_an_exponential_histogram() -> None:
    buckets: dict[str, Any] = {
        "positive": {"offset": -3, "bucket_counts": [1, 0, 2]},
        "negative": {"offset": 5, "bucket_counts": [4]},
    }
    found = only(exponential(count=8, sum=1.0, scale=2, zero_count=1, zero_threshold=0.5, **buckets))
    assert (found["kind"], found["scale"], found["zero_count"]) == ("exponential_histogram", 2, 1)
    assert (found["zero_threshold"], found["count"]) == (0.5, 8)
    assert (found["positive_offset"], found["positive_counts"]) == (-3, [1, 0, 2])
    assert (found["negative_offset"], found["negative_counts"]) == (5, [4])


def test_a_summary() -> None:
    found = only(summary((0.5, 0.1), (0.99, 0.7)))
    assert (found["kind"], found["count"], found["sum"]) == ("summary", 4, 2.0)
    assert (found["quantiles"], found["quantile_values"]) == ([0.5, 0.99], [0.1, 0.7])


def test_a_point_that_says_there_is_no_value_any_more_is_kept_without_one() -> None:
    ended = [gauge(NumberDataPoint(**AT, flags=STALE)), histogram(HistogramDataPoint(**AT, flags=STALE))]
    rows = points_of(*ended)
    assert [(row.get("value"), row.get("count"), row["time"]) for row in rows] == [(None, None, NOW)] * 2


# -- what a series is --------------------------------------------------------------------------------------------------
def test_a_series_is_all_that_names_it_in_any_order_and_nothing_else() -> None:
    said = {"a": 1, "b": "x"}

    def series(metric: Metric, **given: Any) -> int:
        return only(metric, **given)["series_id"]

    first = series(gauge(number(1.0, said)))
    assert series(gauge(number(2.0, {"b": "x", "a": 1}, time_unix_nano=NOW + 5))) == first
    assert series(Metric(name="m", description="other", gauge=Gauge(data_points=[number(1.0, said)]))) == first
    others = [
        series(gauge(number(1.0, {"a": 1, "b": "y"}))),
        series(gauge(number(1.0, {"a": "1", "b": "x"}))),
        series(gauge(number(1.0, said), name="n")),
        series(Metric(name="m", unit="s", gauge=Gauge(data_points=[number(1.0, said)]))),
        series(Metric(name="m", sum=Sum(data_points=[number(1.0, said)], aggregation_temporality=DELTA))),
        series(Metric(name="m", sum=Sum(data_points=[number(1.0, said)], aggregation_temporality=CUMULATIVE))),
        series(gauge(number(1.0, said)), resource={"service.name": "s"}),
        series(gauge(number(1.0, said)), scope="s"),
    ]
    assert len({first, *others}) == 1 + len(others)


def test_times_out_of_range_are_moved_and_stay_apart() -> None:
    old = [number(time_unix_nano=at) for at in (1, 2, NOW, 2**64 - 1)]
    rows = points_of(gauge(*old))
    oldest = NOW - RETENTION
    assert all(oldest <= row["time"] <= NOW + 3600 * SECOND for row in rows)
    assert [row["original_ns"] for row in rows] == [1, 2, 0, 2**64 - 1]
    assert rows[0]["time"] == rows[1]["time"]


def test_attributes_have_the_caps_of_spans() -> None:
    found = only(gauge(number(1.0, {f"k{n}": n for n in range(MAX_ATTRIBUTES + 5)})))
    assert len(found["attributes"]) == MAX_ATTRIBUTES


# -- what is left out --------------------------------------------------------------------------------------------------
def of(**given: Any) -> Metric:
    return histogram(HistogramDataPoint(**{**AT, **given}))


@pytest.mark.parametrize(
    ("metric", "reason"),
    [
        (gauge(number(time_unix_nano=0)), "no time"),
        (gauge(number(), name=""), "the metric has no name"),
        (gauge(NumberDataPoint(**AT)), "no value"),
        (
            Metric(name="m", sum=Sum(data_points=[number()])),
            "the aggregation temporality is neither delta nor cumulative",
        ),
        (of(count=1, bucket_counts=[1], explicit_bounds=[1.0]), "the bucket counts do not fit the bounds"),
        (of(count=1, explicit_bounds=[1.0]), "the bucket counts do not fit the bounds"),
        (of(count=2, bucket_counts=[1, 0], explicit_bounds=[1.0]), "the bucket counts do not add up to the count"),
        (of(count=1, bucket_counts=[1, 0, 0], explicit_bounds=[2.0, 1.0]), "the bucket bounds do not rise"),
        (of(count=1, bucket_counts=[1, 0], explicit_bounds=[math.nan]), "the bucket bounds do not rise"),
        (
            of(bucket_counts=[0] * (MAX_BUCKETS + 1), explicit_bounds=range(MAX_BUCKETS)),
            f"more than {MAX_BUCKETS} buckets",
        ),
        (exponential(count=1), "the bucket counts do not add up to the count"),
        (exponential(scale=41), "the scale is not within ±40"),
        (exponential(positive={"bucket_counts": [0] * (MAX_BUCKETS + 1)}), f"more than {MAX_BUCKETS} buckets"),
        (summary((1.5, 1.0)), "a quantile is not within 0 to 1"),
        (summary((math.nan, 1.0)), "a quantile is not within 0 to 1"),
        (summary(*[(0.5, 1.0)] * (MAX_BUCKETS + 1)), f"more than {MAX_BUCKETS} quantiles"),
    ],
)
def test_a_bad_point_costs_itself_only(metric: Metric, reason: str) -> None:
    found = checked(gauge(number(7.0), name="good"), metric)
    assert (found.spans, found.rejected) == (1, 1)
    assert found.message == f"data points left out: 1: {reason}"
    assert [row["value"] for row in rows_of(found.payload, "metrics").points] == [7.0]


def test_reasons_are_counted() -> None:
    found = checked(gauge(number(time_unix_nano=0), number(), number(time_unix_nano=0), NumberDataPoint(**AT)))
    assert (found.spans, found.rejected, found.message) == (1, 3, "data points left out: 2: no time; 1: no value")


def test_a_metric_without_data_is_nothing() -> None:
    found = checked(Metric(name="m"))
    assert (found.spans, found.rejected, found.message) == (0, 0, "")
    assert rows_of(found.payload, "metrics").points == []


@pytest.mark.parametrize("where", ["point", "resource"])
def test_points_that_nest_too_deep_are_a_bad_request(where: str) -> None:
    deep: Any = "x"
    for _ in range(25):
        deep = [deep]
    said, resource = ({"k": deep}, {}) if where == "point" else ({}, {"k": deep})
    with pytest.raises(Rejected, match="nests"):
        checked(gauge(number(1.0, said)), resource=resource)


# -- one request in both encodings -------------------------------------------------------------------------------------
_TIMES = st.integers(0, 2**64 - 1) | st.just(NOW)
_COUNTS = st.lists(st.integers(0, 2**32), max_size=4)
_FLOATS = st.floats(width=64)
_SAID = st.dictionaries(st.text("ab.", max_size=3), st.text("xü\n", max_size=3) | st.integers(-9, 9), max_size=2)


def _numbers() -> st.SearchStrategy[NumberDataPoint]:
    value = st.fixed_dictionaries({"as_int": st.integers(-(2**63), 2**63 - 1)}) | st.fixed_dictionaries(
        {"as_double": _FLOATS}
    )
    return st.builds(
        lambda at, said, value, flags: NumberDataPoint(time_unix_nano=at, attributes=pairs(said), flags=flags, **value),
        _TIMES,
        _SAID,
        value,
        st.sampled_from([0, 1]),
    )


def _histograms() -> st.SearchStrategy[HistogramDataPoint]:
    return st.builds(
        lambda at, counts, total, off: HistogramDataPoint(
            time_unix_nano=at,
            count=sum(counts) + off,
            sum=total,
            bucket_counts=counts,
            explicit_bounds=[float(n) for n in range(len(counts) - 1)],
        ),
        _TIMES,
        _COUNTS,
        _FLOATS,
        st.sampled_from([0, 0, 1]),
    )


_METRICS = st.one_of(
    st.builds(lambda points: gauge(*points), st.lists(_numbers(), max_size=3)),
    st.builds(
        lambda points, kind: Metric(name="s", sum=Sum(data_points=points, aggregation_temporality=kind)),
        st.lists(_numbers(), max_size=3),
        st.sampled_from([0, 1, 2]),
    ),
    st.builds(lambda points: histogram(*points), st.lists(_histograms(), max_size=3)),
    st.builds(
        lambda counts, scale: exponential(
            count=sum(counts), scale=scale, positive={"offset": -1, "bucket_counts": counts}
        ),
        _COUNTS,
        st.integers(-50, 50),
    ),
    st.builds(lambda quantile, value: summary((quantile, value)), st.floats(-1, 2), _FLOATS),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(_METRICS, max_size=4), _SAID)
def test_json_and_protobuf_give_the_same_points(metrics: list[Metric], resource: dict[str, Any]) -> None:
    whole = metrics_request(*metrics, resource=resource, scope="s")
    one = validate(write_json(whole).encode(), "json", "metrics")
    two = validate(whole.SerializeToString(), "protobuf", "metrics")
    assert (one.spans, one.rejected, one.message) == (two.spans, two.rejected, two.message)
    assert repr(rows_of(one.payload, "metrics").points) == repr(rows_of(two.payload, "metrics").points)  # NaN is NaN
    assert len(rows_of(two.payload, "metrics").points) == two.spans


def test_exemplars_are_counted_and_left_out() -> None:
    before = metrics.DROPPED_EXEMPLARS._value.get()
    said = [Exemplar(as_double=1.0, time_unix_nano=NOW, trace_id=bytes(16))] * 2
    payload = metrics_request(gauge(number(exemplars=said), number()), summary((0.5, 1.0))).SerializeToString()
    rows = rows_of(payload, "metrics").points
    assert metrics.DROPPED_EXEMPLARS._value.get() == before + 2
    assert len(rows) == 3
    assert "exemplars" not in rows[0]
