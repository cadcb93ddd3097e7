"""Metrics asked of a real store: every kind, resets, late starts, groups, and what cannot be asked."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.store.rows import SECOND, T0, point
from limelight_collector.batch import Batch
from limelight_collector.errors import Rejected
from limelight_collector.query import buckets
from limelight_collector.query.filter import FilterError
from limelight_collector.query.metric_points import find_metrics, metric_series
from limelight_collector.query.metric_sql import Question
from limelight_collector.query.span_json import time_text
from limelight_collector.query.window import Window
from limelight_collector.store import Store

MINUTE = 60 * SECOND
START = T0 // MINUTE * MINUTE
"""The first full minute: buckets of a minute start here."""


def at(minute: float) -> int:
    return START + int(minute * MINUTE)


def ask(store: Store, project: str, aggregation: str = "", **given: Any) -> list[dict[str, Any]]:
    """Rows of the metric `m` from minute 0 to 10, by minute; `given` overrides."""
    return answer(store, project, aggregation, **given)["rows"]


def answer(store: Store, project: str, aggregation: str = "", **given: Any) -> dict[str, Any]:
    asked: dict[str, Any] = {"metric": "m", "group_by": [], "step_s": 60.0, "filter_text": "", "minutes": (0, 10)}
    asked |= given
    first, last = asked.pop("minutes")
    return metric_series(store, Question(Window(project, at(first), at(last)), aggregation=aggregation, **asked))


def values(rows: list[dict[str, Any]]) -> dict[int, Any]:
    """Value by minute."""
    texts = {time_text(at(minute)): minute for minute in range(-30, 60)}
    return {texts[row["time"]]: row["value"] for row in rows}


def insert(store: Store, project: str, *points: dict[str, Any]) -> None:
    store.insert(Batch(points=[{**row, "project_id": project} for row in points]))


def counter(series: int, minute: float, value: float, start: float | None = 0.0, **said: Any) -> dict[str, Any]:
    """A cumulative count at `minute`; it began at minute `start`."""
    fields: dict[str, Any] = {
        "metric": "m",
        "kind": "sum",
        "temporality": "cumulative",
        "is_monotonic": True,
        "time": at(minute),
        "start_ns": 0 if start is None else at(start),
        "value": value,
    }
    return point(series, **{**fields, **said})


def histogram(series: int, minute: float, counts: list[int], **said: Any) -> dict[str, Any]:
    """A delta histogram with bounds 1, 2, 4, …; cumulative where `start` is given."""
    fields: dict[str, Any] = {
        "kind": "histogram",
        "temporality": "delta",
        "is_monotonic": False,
        "count": sum(counts),
        "sum": float(sum(counts)),
        "bucket_bounds": [float(2**n) for n in range(len(counts) - 1)],
        "bucket_counts": counts,
    }
    return counter(series, minute, 0.0, said.pop("start", minute - 1), **{**fields, **said}) | {"value": None}


def exponential(series: int, minute: float, scale: int, offset: int, counts: list[int], **said: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "kind": "exponential_histogram",
        "bucket_bounds": [],
        "bucket_counts": [],
        "scale": scale,
        "positive_offset": offset,
        "positive_counts": counts,
    }
    return histogram(series, minute, counts, **{**fields, **said})


# -- levels ------------------------------------------------------------------------------------------------------------
def test_a_gauge_has_every_value_of_its_buckets(store: Store) -> None:
    gauges = [point(1, metric="m", time=at(t), value=v) for t, v in ((0, 2.0), (0.5, 4.0), (1, 10.0), (10, 99.0))]
    insert(store, "level", *gauges, point(2, metric="m", time=at(0.2), value=30.0))
    found = {name: values(ask(store, "level", name)) for name in ("avg", "min", "max", "last", "sum", "p50")}
    assert found == {
        "avg": {0: 12.0, 1: 10.0},
        "min": {0: 2.0, 1: 10.0},
        "max": {0: 30.0, 1: 10.0},
        "last": {0: 4.0, 1: 10.0},
        "sum": {0: 33.0, 1: 10.0},  # 3 on average and 30
        "p50": {0: 4.0, 1: 10.0},
    }


def test_no_step_is_one_row_a_group_and_no_group_exactly_one(store: Store) -> None:
    said = [point(n, metric="m", time=at(n), value=float(n), attributes={"team": f'"{n % 2}"'}) for n in (1, 2, 3)]
    insert(store, "whole", *said)
    by_team = ask(store, "whole", step_s=None, group_by=['attr["team"]'])
    assert by_team == [{'attr["team"]': "0", "value": 2.0}, {'attr["team"]': "1", "value": 2.0}]
    assert ask(store, "whole", step_s=None) == [{"value": 2.0}]
    assert ask(store, "whole", step_s=None, minutes=(20, 30)) == [{"value": None}]
    assert ask(store, "whole", minutes=(20, 30)) == []


def test_values_that_are_no_numbers_and_points_without_a_value_are_left_out(store: Store) -> None:
    odd = (float("nan"), float("inf"), None, 5.0)
    insert(store, "odd", *(point(1, metric="m", time=at(0) + n, value=value) for n, value in enumerate(odd)))
    assert values(ask(store, "odd", "avg")) == {0: 5.0}


def test_a_sum_that_may_fall_is_a_level(store: Store) -> None:
    insert(store, "updown", *(counter(1, n, v, is_monotonic=False) for n, v in ((0, 5.0), (1, 2.0))))
    assert values(ask(store, "updown", "last")) == {0: 5.0, 1: 2.0}


def test_the_same_points_again_change_nothing(store: Store) -> None:
    for _ in range(2):
        insert(store, "again", counter(1, 1, 5.0), counter(1, 2, 8.0))
    assert values(ask(store, "again", "sum")) == {1: 5.0, 2: 3.0}


# -- counters ----------------------------------------------------------------------------------------------------------
def test_a_counter_is_asked_for_its_increases(store: Store) -> None:
    insert(store, "count", *(counter(1, n, v) for n, v in ((1, 30.0), (2, 90.0), (3, 90.0))), counter(2, 2, 6.0))
    assert values(ask(store, "count", "sum")) == {1: 30.0, 2: 66.0, 3: 0.0}
    assert values(ask(store, "count", "rate")) == {1: 0.5, 2: 1.1, 3: 0.0}
    assert ask(store, "count", "rate", step_s=None) == [{"value": 96.0 / 600}]


def test_a_bucket_that_the_window_cuts_is_as_long_as_what_is_in_it(store: Store) -> None:
    insert(store, "cut", counter(1, 0.75, 6.0), counter(1, 1.25, 9.0))
    assert values(ask(store, "cut", "rate", minutes=(0.5, 1.5))) == {0: 6.0 / 30, 1: 3.0 / 30}


def test_a_reset_counts_from_zero_with_a_new_start_or_without(store: Store) -> None:
    insert(store, "reset", counter(1, 1, 50.0), counter(1, 2, 60.0), counter(1, 3, 7.0, 2.5), counter(1, 4, 9.0, 2.5))
    assert values(ask(store, "reset", "sum")) == {1: 50.0, 2: 10.0, 3: 7.0, 4: 2.0}
    insert(store, "fell", *(counter(1, n, v, None) for n, v in ((1, 50.0), (2, 60.0), (3, 7.0), (4, 9.0))))
    assert values(ask(store, "fell", "sum")) == {2: 10.0, 3: 7.0, 4: 2.0}


def test_two_processes_that_look_alike_are_not_resets_of_each_other(store: Store) -> None:
    insert(store, "twins", *(counter(1, n / 2, v, n % 2) for n, v in ((3, 100.0), (4, 5.0), (5, 101.0), (6, 6.0))))
    assert values(ask(store, "twins", "sum")) == {1: 100.0, 2: 6.0, 3: 1.0}


def test_the_point_before_the_window_is_what_the_first_increase_is_counted_from(store: Store) -> None:
    insert(store, "before", *(counter(1, n, v, -60.0) for n, v in ((-1, 1000.0), (1, 1004.0))))
    assert values(ask(store, "before", "sum")) == {1: 4.0}


def test_a_series_that_reports_late_loses_nothing_and_an_old_one_that_was_silent_is_not_counted_again(
    store: Store,
) -> None:
    late, silent = counter(1, 1, 3.0, -60.0), counter(2, 1, 1000.0, -60.0)
    insert(store, "late", late, counter(2, -30, 999.0, -60.0), silent, counter(2, 2, 1001.0, -60.0))
    assert values(ask(store, "late", "sum")) == {1: 3.0, 2: 1.0}


def test_a_first_scrape_says_nothing(store: Store) -> None:
    insert(store, "scraped", counter(1, 1, 500.0, 1), counter(1, 2, 510.0, 1))  # start = first scrape: a base, no count
    assert values(ask(store, "scraped", "sum")) == {2: 10.0}


def test_delta_sums_add_up(store: Store) -> None:
    insert(store, "delta", *(counter(s, 1 + s / 10, 2.0, s, temporality="delta") for s in range(3)))
    assert values(ask(store, "delta", "sum")) == {1: 6.0}


# -- histograms --------------------------------------------------------------------------------------------------------
def test_a_delta_histogram(store: Store) -> None:
    insert(store, "hist", histogram(1, 1, [5, 5, 0, 0], sum=9.0), histogram(2, 1.5, [0, 0, 10, 0], sum=31.0))
    found = {name: values(ask(store, "hist", name)) for name in ("count", "rate", "sum", "avg", "p50", "p95", "max")}
    assert found["count"] == {1: 20.0}
    assert found["rate"] == {1: pytest.approx(20 / 60)}
    assert (found["sum"], found["avg"]) == ({1: 40.0}, {1: 2.0})
    assert (found["p50"], found["max"]) == ({1: pytest.approx(2.0)}, {1: pytest.approx(4.0)})
    assert found["p95"] == {1: pytest.approx(3.8)}


def test_a_known_maximum_is_the_maximum(store: Store) -> None:
    insert(store, "known", histogram(1, 1, [0, 0, 2], max=7.5), histogram(2, 1, [1, 0, 0], max=0.25))
    assert values(ask(store, "known", "max")) == {1: 7.5}
    assert values(ask(store, "known", "p99")) == {1: 2.0}  # beyond the last bound nothing is known


def test_a_cumulative_histogram_is_asked_for_its_increases(store: Store) -> None:
    said: dict[str, Any] = {"temporality": "cumulative", "start": -60.0}
    rows = [histogram(1, n, counts, **said) for n, counts in ((-1, [100, 0, 0]), (1, [100, 10, 0]), (2, [100, 10, 4]))]
    insert(store, "cumulative", *rows, histogram(1, 3, [1, 0, 0], temporality="cumulative", start=2.5))
    assert values(ask(store, "cumulative", "count")) == {1: 10.0, 2: 4.0, 3: 1.0}
    assert values(ask(store, "cumulative", "p50")) == {1: pytest.approx(1.5), 2: 2.0, 3: pytest.approx(0.5)}


def test_a_histogram_that_falls_without_a_new_start_counts_whole(store: Store) -> None:
    said: dict[str, Any] = {"temporality": "cumulative", "start": -5}
    counts = {-1: [100, 0, 0], 1: [100, 10, 0], 2: [0, 0, 3], 3: [4, 0, 3]}
    insert(store, "fallen", *(histogram(1, minute, found, **said) for minute, found in counts.items()))
    assert values(ask(store, "fallen", "count")) == {1: 10.0, 2: 3.0, 3: 4.0}
    assert values(ask(store, "fallen", "p50")) == {1: pytest.approx(1.5), 2: 2.0, 3: pytest.approx(0.5)}


def test_bucket_counts_that_come_and_go_are_no_failure(store: Store) -> None:
    said: dict[str, Any] = {"temporality": "cumulative", "start": -5, "bucket_bounds": []}
    rows = [histogram(1, n, counts, count=n + 2, **said) for n, counts in ((-1, []), (1, [3]), (2, []), (3, [5]))]
    insert(store, "come-and-go", *rows)
    assert set(values(ask(store, "come-and-go", "p50"))) == {1, 2, 3}


def test_histograms_with_other_bounds_and_exponential_ones_are_one_distribution(store: Store) -> None:
    insert(
        store,
        "mixed",
        histogram(1, 1, [10, 0], bucket_bounds=[1.0]),  # 10 in (0, 1]
        histogram(2, 1, [0, 10, 0], bucket_bounds=[1.0, 3.0]),  # 10 in (1, 3]
        exponential(3, 1, 0, 2, [20]),  # 20 in (4, 8]
    )
    assert values(ask(store, "mixed", "p50")) == {1: pytest.approx(3.0)}
    assert values(ask(store, "mixed", "p95")) == {1: pytest.approx(7.6)}
    assert answer(store, "mixed", "p50", filter_text='kind = "histogram"')["rows"][0]["value"] == pytest.approx(1.0)


def test_an_exponential_histogram_that_becomes_coarser_between_two_points(store: Store) -> None:
    said: dict[str, Any] = {"temporality": "cumulative", "start": 0.0}
    insert(
        store,
        "coarser",
        exponential(1, 1, 1, 2, [3, 4], **said),  # scale 1: (2, 2.83], (2.83, 4]
        exponential(1, 2, 0, 1, [7, 6], **said),  # scale 0: (2, 4], (4, 8]
    )
    assert values(ask(store, "coarser", "count")) == {1: 7.0, 2: 6.0}
    assert values(ask(store, "coarser", "p50")) == {1: pytest.approx(2.974, abs=0.01), 2: pytest.approx(6.0)}


def test_zeros_and_negative_values(store: Store) -> None:
    said: dict[str, Any] = {"zero_count": 2, "negative_offset": 0, "negative_counts": [2], "count": 6}
    insert(store, "signed", exponential(1, 1, 0, 0, [2], **said))  # 2 in [-2, -1), 2 at 0, 2 in (1, 2]
    assert values(ask(store, "signed", "p50")) == {1: 0.0}
    assert values(ask(store, "signed", "p99")) == {1: pytest.approx(1.97)}


def test_a_histogram_without_buckets_has_counts_and_no_quantiles(store: Store) -> None:
    insert(store, "bare", histogram(1, 1, [], count=4, sum=8.0))
    assert values(ask(store, "bare", "avg")) == {1: 2.0}
    assert values(ask(store, "bare", "p50")) == {1: None}
    assert ask(store, "bare", "p50", step_s=None, minutes=(20, 30)) == [{"value": None}]


def test_a_summary_has_its_own_quantiles_and_counts(store: Store) -> None:
    fields: dict[str, Any] = {"kind": "summary", "temporality": "", "is_monotonic": False}
    fields |= {"quantiles": [0.5, 0.99], "quantile_values": [1.0, 3.0]}
    insert(store, "summary", *(counter(1, n, 0.0, **fields, count=n * 10, sum=n * 20.0) for n in (1, 2)))
    assert values(ask(store, "summary", "p50")) == {1: 1.0, 2: 1.0}
    assert ask(store, "summary", "p95") == []
    assert values(ask(store, "summary", "count")) == {1: 10.0, 2: 10.0}
    assert values(ask(store, "summary", "avg")) == {1: 2.0, 2: 2.0}


# -- questions ---------------------------------------------------------------------------------------------------------
def test_the_list_of_metrics(store: Store) -> None:
    insert(
        store,
        "list",
        counter(1, 1, 1.0, metric="b", unit="{call}", description="Calls.", attributes={"k": "1", "a": "2"}),
        counter(2, 2, 1.0, metric="b", unit="{call}", service_name="other", attributes={"z": "1"}),
        point(1, metric="sglang:token_usage.rate", time=at(1), attributes={}),
        point(1, metric="later", time=at(30)),
    )
    found = find_metrics(store, Window("list", at(0), at(10)), filter_text="")
    assert [row["name"] for row in found] == ["b", "sglang:token_usage.rate"]
    assert found[0] == {
        "name": "b",
        "kind": "sum",
        "unit": "{call}",
        "description": "Calls.",
        "temporality": "cumulative",
        "is_monotonic": True,
        "aggregations": ["sum", "rate"],
        "attribute_keys": ["a", "k", "z"],
        "service_names": ["other", "svc"],
        "series_count": 2,
        "last_time": time_text(at(2)),
    }
    (row,) = find_metrics(store, Window("list", at(0), at(10)), filter_text='service_name = "other"')
    assert (row["name"], row["attribute_keys"], row["series_count"]) == ("b", ["z"], 1)
    assert find_metrics(store, Window("nobody", at(0), at(10)), filter_text="") == []


def test_groups_and_filters_name_fields_and_attributes(store: Store) -> None:
    said = [{"attributes": {"model": '"a b"', "n": str(n)}, "service_name": f"s{n}"} for n in range(3)]
    insert(store, "fields", *(point(n, metric="m", time=at(1), value=float(n), **said[n]) for n in range(3)))
    rows = ask(store, "fields", "sum", group_by=['attr["model"]', "service_name"], filter_text='attr["n"] > 0')
    assert [(row['attr["model"]'], row["service_name"], row["value"]) for row in rows] == [
        ("a b", "s1", 1.0),
        ("a b", "s2", 2.0),
    ]


@pytest.mark.parametrize("given", [{"filter_text": "request_model = 1"}, {"group_by": ["value"]}])
def test_an_unknown_field_is_named(store: Store, given: dict[str, Any]) -> None:
    with pytest.raises(FilterError, match="unknown field"):
        ask(store, "fields", **given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"aggregation": "rate"}, "m is a gauge; choose from avg, min, max"),
        ({"aggregation": "nonsense"}, "choose from"),
        ({"group_by": ["service_name"] * 5}, "at most 4"),
        ({"step_s": 0.0001}, "from 0.001"),
        ({"metric": "nobody's"}, "no metric"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_the_reason(store: Store, given: dict[str, Any], message: str) -> None:
    insert(store, "refused", point(1, metric="m", time=at(1)))
    with pytest.raises(Rejected, match=message):
        ask(store, "refused", **given)


def test_one_name_for_two_kinds_is_asked_by_kind(store: Store) -> None:
    insert(store, "both", point(1, metric="m", time=at(1), value=5.0), counter(2, 1, 7.0))
    with pytest.raises(Rejected, match="sent as gauge, sum"):
        ask(store, "both")
    assert answer(store, "both", filter_text='kind = "sum"')["rows"][0]["value"] == 7.0
    assert answer(store, "both", filter_text='kind = "gauge"')["kind"] == "gauge"


def test_another_projects_points_are_nobodys(store: Store) -> None:
    insert(store, "mine", point(1, metric="m", time=at(1), value=5.0))
    with pytest.raises(Rejected, match="no metric"):
        ask(store, "theirs")


# -- quantiles of intervals --------------------------------------------------------------------------------------------
_PIECES = st.lists(
    st.tuples(st.integers(-20, 20), st.integers(0, 10), st.integers(1, 50)).map(
        lambda t: (float(t[0]), float(t[0] + t[1]), t[2])
    ),
    min_size=1,
    max_size=8,
)


@given(_PIECES, st.floats(0, 1))
def test_a_quantile_has_its_share_below_it(pieces: list[buckets.Interval], share: float) -> None:
    found = buckets.quantile(pieces, share)
    assert found is not None
    total = sum(count for *_, count in pieces)

    def below(value: float, *, inclusive: bool) -> float:
        whole = 0.0
        for low, high, count in pieces:
            if low == high:
                whole += count if (value >= high if inclusive else value > high) else 0
            else:
                whole += count * min(1.0, max(0.0, (value - low) / (high - low)))
        return whole

    assert below(found, inclusive=False) - 1e-6 <= share * total <= below(found, inclusive=True) + 1e-6
    assert min(low for low, *_ in pieces) <= found <= max(high for _, high, _ in pieces)


def test_bounds_at_the_ends_of_what_a_float_can_be() -> None:
    inf = float("inf")
    assert buckets.quantile(buckets.explicit([-inf, 1.0, inf], [0, 1, 0, 0]), 0.5) == pytest.approx(0.5)
    assert buckets.quantile(buckets.explicit([1.0, inf], [0, 0, 3]), 0.5) == 1.0
    assert buckets.quantile(buckets.explicit([], [3]), 0.5) == 0.0
    huge = buckets.exponential(-40, 0, {2**31: 1}, {2**31: 1})
    assert buckets.quantile(huge, 1.0) == pytest.approx(1.7976931348623157e308)
    assert buckets.quantile([], 0.5) is None
