"""Pages by position: nothing twice, nothing missing, whatever the page size and whatever arrives meanwhile."""

from __future__ import annotations

from decimal import Decimal
from itertools import count, pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collector.store.rows import SECOND, T0, batch, flag, llm, log
from limelight_collector.batch import Batch
from limelight_collector.errors import Rejected
from limelight_collector.query.flags import find_flags
from limelight_collector.query.logs import find_logs
from limelight_collector.query.ranges import covering
from limelight_collector.query.spans import find_spans
from limelight_collector.query.traces import ORDERS, find_traces
from limelight_collector.query.window import Window
from limelight_collector.store import Store

END = T0 + 10_000 * SECOND
NUMBERS = count(1)
STARTS = st.lists(st.integers(0, 40), min_size=1, max_size=25)  # few distinct seconds: many equal positions
LISTS: dict[str, tuple[Any, dict[str, Any], str]] = {
    **{order: (find_traces, {"order": order}, "trace_id") for order in ORDERS},
    "spans": (find_spans, {"search": ""}, "span_id"),
    "flags": (find_flags, {"code": ""}, "id"),
    "logs": (find_logs, {"trace_id": None, "span_id": None}, "log_id"),
}


def stored(store: Store, project: str, starts: list[int], first: int) -> None:
    """A trace, its flag and a log record for each start; equal starts, durations and costs are common."""
    made = [
        llm(n, 1, at_s=at, project_id=project, duration_ns=(at % 3 + 1) * SECOND, cost_usd=Decimal(at % 2))
        for n, at in enumerate(starts, first)
    ]
    store.insert(batch(*made, flags=[flag(row) for row in made]))
    store.insert(Batch(logs=[log(n, at_s=at, project_id=project) for n, at in enumerate(starts, first)]))


@pytest.mark.parametrize("name", LISTS)
@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STARTS, STARTS, st.integers(1, 9))
def test_every_item_once_while_newer_ones_arrive(
    store: Store, name: str, starts: list[int], later: list[int], limit: int
) -> None:
    find, options, key = LISTS[name]
    project = f"page-{next(NUMBERS)}"
    stored(store, project, starts, 1)
    window = Window(project, T0, END)
    whole, _ = find(store, window, filter_text="", limit=1000, cursor="", **options)
    found: list[Any] = []
    cursor = ""
    while True:
        page, following = find(store, window, filter_text="", limit=limit, cursor=cursor, **options)
        assert len(page) == limit or following is None
        found += page
        if following is None:
            break
        cursor = following
        if later and name in ("newest", "spans", "flags", "logs"):
            # what arrives is newer than all that is listed: it belongs to pages already turned
            stored(store, project, [5000 + later.pop()], 1000 + len(later))
    assert len(whole) == len(starts)
    assert [item[key] for item in found] == [item[key] for item in whole]


@pytest.mark.parametrize("name", LISTS)
@given(
    st.text(max_size=40)
    | st.from_regex(r"-?\d{1,30}[.-][0-9a-f]{0,40}([.-][0-9a-f]{0,20}(\..{0,3}){0,2})?", fullmatch=True)
)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_cursor_is_understood_or_refused(store: Store, name: str, cursor: str) -> None:
    find, options, _ = LISTS[name]
    try:
        page, _ = find(store, Window("nobody", T0, END), filter_text="", limit=5, cursor=cursor, **options)
    except Rejected as error:
        found = (error.kind, "next_cursor" in error.message)
    else:
        found = ("empty", page == [])
    assert found in {("bad_request", True), ("empty", True)}


RANGES = st.lists(st.tuples(st.integers(0, 300), st.integers(1, 30)).map(lambda r: (r[0], r[0] + r[1])), max_size=20)


@given(RANGES, st.integers(1, 6))
def test_few_ranges_hold_all_and_leave_out_the_widest_gaps(ranges: list[tuple[int, int]], most: int) -> None:
    few = covering(ranges, most)
    assert len(few) <= most
    assert bool(few) == bool(ranges)
    assert all(any(low <= start and end <= high for low, high in few) for start, end in ranges)
    exact = covering(ranges, 10**6)
    gaps = sorted((after[0] - before[1] for before, after in pairwise(exact)), reverse=True)
    left_out = sum(after[0] - before[1] for before, after in pairwise(few))
    assert left_out == sum(gaps[: most - 1])


def test_traces_that_lie_far_apart_are_listed_whole(store: Store) -> None:
    far = [llm(n, k, at_s=n * 90 + k, project_id="far", cost_usd=Decimal(n)) for n in range(100) for k in (1, 2)]
    store.insert(batch(*far))
    page, _ = find_traces(store, Window("far", T0, END), filter_text="", order="costliest", limit=100, cursor="")
    assert [(trace["span_count"], trace["cost_usd"]) for trace in page] == [(2, str(2 * n)) for n in range(99, -1, -1)]
