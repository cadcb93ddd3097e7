"""Every figure is valid Plotly, holds what its rows say, and no text in it can become markup."""

from __future__ import annotations

import json
import random
from datetime import datetime, timedelta, timezone
from typing import Any

import plotly.graph_objects as go
import pytest

from dashboard.fake_api import HOSTILE, hostile, make_trace
from limelight_dashboard.alert_marks import bands
from limelight_dashboard.figures import gantt, timeseries
from limelight_dashboard.trace_math import Tree, critical_path, depth_first, lanes, read_node, self_times

NOW = datetime(2026, 11, 23, 12, tzinfo=timezone.utc)
WINDOW = (NOW - timedelta(hours=1), NOW)
START_NS = int(NOW.timestamp()) * 10**9


def rows(model: str = "m", **values: Any) -> dict[str, Any]:
    return {"time": "2026-11-23T11:30:00Z", "request_model": model, "request_count": 100, "error_count": 4} | values


def figures_of(spans: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    tree = Tree(read_node(row) for row in spans)
    extent, lane_of, own = tree.extent(), lanes(tree), self_times(tree)
    nodes = list(tree.nodes.values())
    return {
        "waterfall": gantt.waterfall(depth_first(tree), extent, extent[0], own, critical_path(tree)),
        "flame": gantt.flame(nodes, lane_of, extent, extent[0], own),
        "minimap": gantt.minimap(nodes, lane_of, extent, extent),
    }


def test_figures_are_valid_and_small() -> None:
    for name, figure in figures_of(make_trace(random.Random(1), START_NS, 19)).items():
        go.Figure(figure)
        assert len(json.dumps(figure)) < 100_000, name


def test_figures_of_one_span_without_length() -> None:
    spans = make_trace(random.Random(1), START_NS, 1)[:1]
    spans[0]["duration_ns"] = 0
    for figure in figures_of(spans).values():
        go.Figure(figure)


def test_no_span_name_becomes_markup() -> None:
    figures = figures_of(hostile(NOW))
    row = rows(HOSTILE, error_rate=0.1, cost_usd="1.5", latency_p95=1.0)
    alert = {"name": HOSTILE, "since": WINDOW[0], "until": None}
    figures["errors"] = timeseries.error_bars([row], WINDOW, 60, 0.05, 10, [alert])
    figures["cost"] = timeseries.stacked_sums([row], "request_model", "cost_usd", WINDOW, 60)
    figures["latency"] = timeseries.percentile_lines([row], "request_model", "latency_p95", WINDOW, 60)
    for name, figure in figures.items():
        text = json.dumps(figure, default=str)
        for tag in ("<script", "<a ", "<img"):
            assert tag not in text, (name, tag)


def test_a_bucket_is_red_only_over_the_limit_with_enough_requests() -> None:
    data = [
        rows(error_rate=0.2, request_count=12),
        rows(error_rate=0.2, request_count=60),
        rows(error_rate=0.01),
        rows(error_rate=None, request_count=0),
    ]
    figure = timeseries.error_bars(data, WINDOW, 60, 0.02, 50)
    assert [colour == timeseries.ERROR for colour in figure["data"][0]["marker"]["color"]] == [False, True, False]


@pytest.mark.parametrize(("since", "until", "bands"), [(10, None, 1), (90, 70, 0), (90, 30, 1), (-10, None, 0)])
def test_alert_bands_are_clamped_to_the_window(since: int, until: int | None, bands: int) -> None:
    alert = {"name": "a", "since": NOW - timedelta(minutes=since), "until": until and NOW - timedelta(minutes=until)}
    shapes = timeseries.error_bars([], WINDOW, 60, None, 0, [alert])["layout"]["shapes"]
    assert len(shapes) == bands
    assert all(WINDOW[0] <= shape["x0"] <= shape["x1"] <= WINDOW[1] for shape in shapes)


def test_stacks_keep_the_sum_and_name_five() -> None:
    data = [rows(f"m{n}", cost_usd=str(n)) for n in range(1, 10)] + [rows("", cost_usd=None)]
    figure = timeseries.stacked_sums(data, "request_model", "cost_usd", WINDOW, 60)
    go.Figure(figure)
    assert sum(sum(trace["y"]) for trace in figure["data"]) == 45
    assert [trace["name"] for trace in figure["data"]] == ["m9", "m8", "m7", "m6", "m5", "other"]


def test_what_the_api_no_longer_tells_apart_is_other() -> None:
    data = [rows("m1", cost_usd="1"), rows("", cost_usd="5", other=True), rows("", cost_usd="2", other=False)]
    figure = timeseries.stacked_sums(data, "request_model", "cost_usd", WINDOW, 60)
    assert {trace["name"]: sum(trace["y"]) for trace in figure["data"]} == {"m1": 1, "unknown": 2, "other": 5}


def test_lines_break_where_buckets_are_missing() -> None:
    data = [
        rows(latency_p95=1.0),
        rows(latency_p95=2.0, time="2026-11-23T11:50:00Z"),
        rows(latency_p95=None, time="2026-11-23T11:51:00Z"),
    ]
    figure = timeseries.percentile_lines(data, "request_model", "latency_p95", WINDOW, 60)
    assert figure["data"][0]["y"] == [1.0, None, 2.0]


@pytest.mark.parametrize("high", [1e-7, 0.003, 0.9, 7.0, 87.0, 4000.0, 90_000.0])
def test_duration_ticks_are_few_and_distinct(high: float) -> None:
    ticks = timeseries.seconds_ticks(0.0, high)
    assert 2 <= len(ticks["ticktext"]) <= 8
    assert len(set(ticks["ticktext"])) == len(ticks["ticktext"])


def test_alternative_text_states_the_finding() -> None:
    assert "no requests" in timeseries.error_alt([])
    assert "no request failed" in timeseries.error_alt([rows(error_rate=0)])
    assert "4.00 % at Nov 23 11:30:00" in timeseries.error_alt([rows(error_rate=0.04)])


@pytest.mark.parametrize(
    ("usd", "shown"), [("12.5", "$,.2~f"), ("0.004", "$,.5~f"), ("0.00001", "$,.8~f"), (None, "$,.8~f")]
)
def test_dollar_ticks_of_cheap_windows_differ_from_zero(usd: str | None, shown: str) -> None:
    figure = timeseries.stacked_sums([rows(cost_usd=usd)], "request_model", "cost_usd", WINDOW, 60)
    go.Figure(figure)
    assert figure["layout"]["yaxis"]["tickformat"] == shown


def change(minute: int, before: str, after: str, rule: str = "r") -> dict[str, Any]:
    time = (NOW - timedelta(minutes=minute)).isoformat()
    return {"time": time, "rule_id": rule, "rule_name": rule, "labels": {}, "from_state": before, "to_state": after}


def test_bands_last_from_firing_to_the_end_of_recovering() -> None:
    events = [
        change(10, "recovering", "inactive"),
        change(20, "firing", "recovering"),
        change(40, "pending", "firing"),
        change(41, "inactive", "pending"),
        change(5, "pending", "firing", "other"),
    ]
    fired = {
        "rule_id": "early",
        "rule_name": "early",
        "state": "firing",
        "labels": {},
        "fired_at": "2026-11-23T01:00:00Z",
    }
    found = [
        (band["name"], band["since"], band["until"]) for band in bands(events, [fired, fired | {"state": "pending"}])
    ]
    assert found == [
        ("early", NOW - timedelta(hours=11), None),
        ("r", NOW - timedelta(minutes=40), NOW - timedelta(minutes=10)),
        ("other", NOW - timedelta(minutes=5), None),
    ]
