"""Tables of minutes against spans: the same answers whatever was stored, changed or deleted in between."""

from __future__ import annotations

import random
from collections.abc import Callable
from decimal import Decimal
from itertools import count, pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.store.rows import SECOND, T0, batch, flag, span
from limelight_collector.query import plan
from limelight_collector.query.errors import error_groups
from limelight_collector.query.filter import parse, parse_field
from limelight_collector.query.filter_sql import Sql
from limelight_collector.query.minutes import Division, divided
from limelight_collector.query.series import series
from limelight_collector.query.trace_minutes import row_condition
from limelight_collector.query.traces import ORDERS, find_traces
from limelight_collector.query.values import field_values
from limelight_collector.query.window import BOUND, Window
from limelight_collector.rollups import MINUTE_TABLES, Rollups, minutes_of, touch
from limelight_collector.store import Store

HOUR, MINUTE = 3600 * SECOND, 60 * SECOND
LATER = T0 * 2
_projects = (f"minutes-{number}" for number in count())
_parts = count()
_FILTERS = (
    "",
    'environment = "prod"',
    'status = "error" and service_name in ("a", "b")',
    "has_error = true",
    'session_id = "s1"',
    'session_id in ("s1", "s2") and environment = "prod"',
    'user_id = "u1" and has_error = true',
    'user_id = "u1" and session_id = "s1"',
    'request_model = "m1" and status = "error"',
    'model = "m2-2026"',
    'flag = "truncated"',
    'flag exists and status = "error"',
    'tags = "t1"',
    "session_id exists",
    'not session_id = "s1"',
    'session_id = ""',
    'session_id != "s1" or environment = "prod"',
    "duration_ms > 2000",
    'name = "span-2" and environment = "prod"',
)
_COST = ["cost_usd", "request_count", "error_count", "input_tokens", "flag_count", "flag_rate"]


def spans_of(trace: int, chance: random.Random, project: str) -> list[dict[str, Any]]:
    """A trace of one to six spans, which may lie minutes apart and differ in everything."""
    rows: list[dict[str, Any]] = []
    at_s = chance.random() * 900
    for number in range(1, chance.randint(2, 7)):
        is_call = chance.random() < 0.5
        rows.append(
            span(
                trace,
                number,
                project_id=project,
                parent=None if number == 1 else 1,
                at_s=at_s + chance.choice([0, number, number * 40]),
                duration_ns=int(chance.lognormvariate(0, 1) * SECOND),
                observation_type="llm" if is_call else "tool",
                usage_role=chance.choice(["own", "own", "duplicate"]) if is_call else "none",
                provider=chance.choice(["openai", "anthropic"]) if is_call else "",
                request_model=chance.choice(["m1", "m2"]) if is_call else "",
                response_model=chance.choice(["", "m2-2026"]) if is_call else "",
                environment=chance.choice(["", "prod"]),
                service_name=chance.choice(["a", "b"]),
                session_id=chance.choice(["", "s1", "s2"]),
                user_id=chance.choice(["", "u1", "u2"]),
                tags=chance.choice([[], ["t1"], ["t2", "t1"]]),
                status=chance.choice(["ok", "ok", "error"]),
                error_type=chance.choice(["", "Timeout"]),
                status_message=chance.choice(["", f"request {trace} failed", "bad"]),
                input_tokens=chance.choice([None, 0, 7, 10**12]),
                cost_usd=chance.choice([None, Decimal("0.000123456789012345")]),
                cost_state=chance.choice(["computed", "unpriced", ""]),
                ttft_s=chance.choice([None, 0.25, 1.5]),
                input_text=chance.choice(["", f"question {trace}.{number}"]),
                output_text=chance.choice(["", f"answer {trace}.{number}"]),
            )
        )
    return rows


def roll(store: Store) -> None:
    rollups = Rollups(store, lambda: LATER)
    rollups.roll()
    assert rollups.pending == 0


def answers(
    store: Store, project: str, part: int = 0, start_ns: int = T0 - HOUR, end_ns: int = T0 + 5 * HOUR
) -> dict[str, Any]:
    """What questions that the tables answer say: a third of the filters, by `part`, each with one of the orders."""
    window = Window(project, start_ns, end_ns)
    said: dict[str, Any] = {}
    for number, text in list(enumerate(_FILTERS))[part % 3 :: 3]:
        order = ORDERS[(number + part) % len(ORDERS)]
        said[f"{order} {text}"] = pages(store, window, text, order)
        groups, _ = error_groups(store, window, filter_text=text, limit=50)
        said[f"errors {text}"] = [tellable(group) for group in groups]
    asked: dict[str, Any] = {"measures": _COST, "start_ns": start_ns, "end_ns": end_ns, "filter_text": ""}
    for group_by, step_s, filter_text, top in (
        (["user_id"], None, "", None),
        (["session_id", "environment"], 3600, 'service_name = "a"', None),
        (["user_id"], 600, 'not session_id = "s1"', 1),
        ([], 60, 'user_id = "u1"', None),
    ):
        given_: dict[str, Any] = asked | {
            "group_by": group_by,
            "step_s": step_s,
            "filter_text": filter_text,
            "top": top,
        }
        said[f"series {given_}"] = series(store, project, **given_).rows
    for name in ("environment", "request_model", "model", "service_name", "user_id"):
        said[f"values {name}"] = field_values(store, window, parse_field(name), 10)
    return said


def pages(store: Store, window: Window, text: str, order: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor: str | None = ""
    while cursor is not None:
        page, cursor = find_traces(store, window, filter_text=text, order=order, limit=30, cursor=cursor)
        found += page
    return found


def tellable(group: dict[str, Any]) -> dict[str, Any]:
    """A group without what any of its spans may say."""
    return {name: value for name, value in group.items() if name not in {"error_type", "span_name"}}


def assert_same(store: Store, project: str, ask: Callable[[], dict[str, Any]] | None = None) -> None:
    """The answers with and without what is kept; leaves everything kept that is not changed."""
    part = next(_parts)
    ask = ask or (lambda: answers(store, project, part))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "RAW_SPANS", 0)
        kept = ask()
        for name in ("traces.divide", "errors.divide", "plan.divide_minutes"):
            patch.setattr(f"limelight_collector.query.{name}", spans_only)
        patch.setattr(plan, "RAW_SPANS", 10**9)
        raw = ask()
    assert kept == raw


def spans_only(_store: Store, _project_id: str, ranges_ns: list[tuple[int, int]]) -> Division:
    return Division([], list(ranges_ns))


def test_late_spans_retries_changed_spans_and_flags_are_in_the_next_answer(store: Store) -> None:
    project, chance = next(_projects), random.Random(7)
    traces = [spans_of(number, chance, project) for number in range(1, 40)]
    rows = [row for trace in traces for row in trace]
    store.insert(batch(*rows))
    assert_same(store, project)
    roll(store)
    assert_same(store, project)
    late = [row for number in range(40, 50) for row in spans_of(number, chance, project)]
    store.insert(batch(*late, *rows[:30]))
    assert_same(store, project)
    roll(store)
    assert_same(store, project)
    newer = {"received_ns": rows[0]["received_ns"] + 1}
    changed = [{**row, **newer, "status": "ok", "user_id": "u9", "service_name": "c"} for row in rows[40:70]]
    store.insert(batch(*changed, flags=[flag(row) for row in rows[:40]]))
    assert_same(store, project)
    roll(store)
    assert_same(store, project)
    window = Window(project, 0, 2**62)
    minutes = minutes_of(store, window, "service_name = 'a'")
    store.execute(f"ALTER TABLE spans DELETE WHERE project_id = '{project}' AND service_name = 'a'")
    touch(store, project, minutes)
    assert_same(store, project)
    roll(store)
    assert_same(store, project)


@pytest.mark.parametrize(
    "edges", [(0, 900 * SECOND), (61 * SECOND + 1, 602 * SECOND - 12_345), (310 * SECOND, 325 * SECOND)]
)
def test_a_window_may_begin_and_end_anywhere(store: Store, edges: tuple[int, int]) -> None:
    project, chance = next(_projects), random.Random(str(edges))
    store.insert(batch(*(row for number in range(1, 40) for row in spans_of(number, chance, project))))
    roll(store)
    assert_same(store, project, lambda: answers(store, project, edges[0] % 3, T0 + edges[0], T0 + edges[1]))


@pytest.mark.parametrize("step_s", [None, 300])
@pytest.mark.parametrize("raw_spans", [0, 10**9])
def test_the_largest_groups_are_told_apart_and_the_rest_is_one(
    store: Store, step_s: float | None, raw_spans: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, chance = next(_projects), random.Random(11)
    store.insert(batch(*(row for number in range(1, 60) for row in spans_of(number, chance, project))))
    roll(store)
    monkeypatch.setattr(plan, "RAW_SPANS", raw_spans)
    for group_by in (["user_id"], ["request_model", "service_name"], ["name"]):
        asked: dict[str, Any] = {
            "measures": ["request_count", "input_tokens", "latency_p50"],
            "group_by": group_by,
            "filter_text": "",
            "start_ns": T0 - HOUR,
            "end_ns": T0 + HOUR,
        }
        totals = series(store, project, step_s=None, **asked).rows
        largest = sorted(totals, key=lambda row: (-row["request_count"], *(row[name] or "" for name in group_by)))[:2]
        chosen = [tuple(row[name] for name in group_by) for row in largest]
        whole = series(store, project, step_s=step_s, **asked).rows
        found = series(store, project, step_s=step_s, top=2, **asked).rows
        told_apart = [row for row in found if not row.pop("other")]
        rest = [row for row in found if row not in told_apart]
        by_name = [row for row in whole if tuple(row[name] for name in group_by) in chosen]
        assert sorted(told_apart, key=str) == sorted(by_name, key=str)
        assert all(row[name] is None for row in rest for name in group_by)
        for name in ("request_count", "input_tokens"):
            assert sum(row[name] or 0 for row in found) == sum(row[name] or 0 for row in whole)


def test_what_was_kept_is_what_answers(store: Store) -> None:
    """Without their rows nothing is found: it is the tables that are read."""
    project, chance = next(_projects), random.Random(9)
    store.insert(batch(*(row for number in range(1, 20) for row in spans_of(number, chance, project))))
    roll(store)
    for table in MINUTE_TABLES:
        store.execute(f"ALTER TABLE {table.name} DELETE WHERE project_id = '{project}'")
    start_ns = T0 // MINUTE * MINUTE
    window = Window(project, start_ns, start_ns + HOUR)
    assert find_traces(store, window, filter_text='user_id = "u1"', order="slowest", limit=9, cursor="") == ([], None)
    assert error_groups(store, window, filter_text="", limit=9) == ([], False)
    asked: dict[str, Any] = {"start_ns": window.start_ns, "end_ns": window.end_ns, "step_s": None, "filter_text": ""}
    by_user = series(store, project, measures=["cost_usd"], group_by=["user_id"], **asked)
    assert (by_user.rows, by_user.source) == ([], "users_1m")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('environment = "prod" and not service_name = "a"', True),
        ('environment = "prod" or has_error = true', True),
        ('session_id = "s" and status = "error"', True),
        ('session_id = "s" and user_id = "u"', False),
        ('session_id = "s" or status = "error"', False),
        ('not session_id = "s"', False),
        ('session_id contains "s"', False),
        ('attr["x"] = "y"', False),
        ('request_model in ("a", "b")', True),
    ],
)
def test_rows_answer_only_what_a_single_span_decides(text: str, *, expected: bool) -> None:
    assert (row_condition(Sql(BOUND), parse(text)) is not None) is expected


_MINUTES = st.lists(st.integers(0, 20), max_size=12)


@given(st.lists(st.tuples(st.integers(0, 20 * MINUTE), st.integers(1, 6 * MINUTE)), max_size=4), _MINUTES)
def test_a_division_covers_each_moment_once_and_reads_changed_minutes_from_spans(
    given_ranges: list[tuple[int, int]], changed: list[int]
) -> None:
    ranges: list[tuple[int, int]] = []
    for start, length in sorted(given_ranges):
        begin = max(start, ranges[-1][1] if ranges else 0)
        ranges.append((begin, begin + length))
    division = divided(ranges, [minute * 60 for minute in changed])
    pieces = sorted([(start * SECOND, end * SECOND) for start, end in division.kept] + division.changed)
    assert sum(end - start for start, end in pieces) == sum(end - start for start, end in ranges)
    assert all(before[1] <= after[0] for before, after in pairwise(pieces))
    assert all(any(a <= start and end <= b for a, b in _joined(ranges)) for start, end in pieces)
    for start, end in division.kept:
        assert start % 60 == end % 60 == 0
        assert not any(start <= minute * 60 < end for minute in changed)


def _joined(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for start, end in ranges:
        if found and found[-1][1] == start:
            found[-1] = (found[-1][0], end)
        else:
            found.append((start, end))
    return found
