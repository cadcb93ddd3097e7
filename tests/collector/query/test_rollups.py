"""Rollups against raw spans: the same counts, tokens and money whatever was stored, changed or deleted in between."""

from __future__ import annotations

import random
import time
from decimal import Decimal
from itertools import count, pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.store.rows import SECOND, T0, batch, flag, llm, span
from limelight_collector.query import plan
from limelight_collector.query.measures import MEASURES
from limelight_collector.query.plan import Hour, divide
from limelight_collector.query.series import series
from limelight_collector.query.window import Window
from limelight_collector.rollups import Rollups, Touched, minutes_of, touch, touched_minutes
from limelight_collector.store import Store

HOUR = 3600 * SECOND
LATER = T0 * 2
"""A clock at which every bucket is closed and quiet, whenever the test runs."""
_projects = (f"rollups-{number}" for number in count())
EXACT = [name for name in MEASURES if not name.endswith(("p50", "p95", "p99"))]
QUESTIONS: list[dict[str, Any]] = [
    {},
    {"group_by": ["model"], "step_s": 3600},
    {"group_by": ["request_model", "environment", "service_name"]},
    {"group_by": ["provider"], "step_s": 300, "filter_text": 'not environment = "prod"'},
    {"step_s": 7200, "filter_text": 'model = "m1" or observation_type = "embedding"'},
    {"start_ns": T0 + 17 * 61 * SECOND + 1, "end_ns": T0 + 3 * HOUR - 12_345, "group_by": ["response_model"]},
    {"start_ns": T0 + 1800 * SECOND, "end_ns": T0 + 1860 * SECOND, "step_s": 60},
]


def call(number: int, chance: random.Random, project: str) -> dict[str, Any]:
    return llm(
        number,
        project_id=project,
        at_s=chance.random() * 3 * 3600,
        duration_ns=int(chance.lognormvariate(0, 1) * SECOND),
        observation_type=chance.choice(["llm", "llm", "embedding"]),
        usage_role=chance.choice(["own", "own", "own", "duplicate"]),
        request_model=chance.choice(["m1", "m2"]),
        response_model=chance.choice(["", "m2-2026"]),
        environment=chance.choice(["", "prod"]),
        service_name=chance.choice(["a", "b"]),
        status=chance.choice(["ok", "ok", "error"]),
        input_tokens=chance.choice([None, 0, 7, 10**12]),
        cost_usd=chance.choice([None, Decimal("0.000123456789012345")]),
        cost_state=chance.choice(["computed", "unpriced", ""]),
        ttft_s=chance.choice([None, 0.25, 1.5]),
    )


def ask(store: Store, project: str, raw_spans: int, **question: Any) -> tuple[list[dict[str, Any]], str]:
    asked = {"measures": list(MEASURES), "group_by": [], "step_s": None, "filter_text": ""}
    asked |= {"start_ns": T0 - HOUR, "end_ns": T0 + 4 * HOUR} | question
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "RAW_SPANS", raw_spans)
        found = series(store, project, **asked)
    return found.rows, found.source


def roll(store: Store) -> None:
    rollups = Rollups(store, lambda: LATER)
    rollups.roll()
    assert rollups.pending == 0


def assert_equal(store: Store, project: str) -> set[str]:
    """Every question has the same answer from rollups and from raw spans; returns what answered."""
    sources: set[str] = set()
    for question in QUESTIONS:
        raw, said = ask(store, project, 10**9, **question)
        assert said == "raw"
        rolled, source = ask(store, project, 0, **question)
        sources.update(source.split("+"))
        keys = [*question.get("group_by", []), *(["time"] if question.get("step_s") else [])]
        assert [[row[key] for key in keys] for row in rolled] == [[row[key] for key in keys] for row in raw]
        for one, other in zip(rolled, raw, strict=True):
            assert {name: one[name] for name in EXACT} == pytest.approx({name: other[name] for name in EXACT})
            assert {name for name in MEASURES if one[name] is None} == {
                name for name in MEASURES if other[name] is None
            }
    return sources


def test_late_spans_retries_changed_verdicts_and_flags_are_in_the_next_answer(store: Store) -> None:
    project, chance = next(_projects), random.Random(5)
    rows = [call(number, chance, project) for number in range(1, 400)]
    store.insert(batch(*rows))
    assert "rollup_1h" not in assert_equal(store, project)  # nothing is computed yet
    roll(store)
    assert {"rollup_1h", "rollup_1m"} <= assert_equal(store, project)
    late = [call(number, chance, project) for number in range(400, 420)]
    store.insert(batch(*late, *rows[:50]))  # and a client's retry
    assert "raw" in assert_equal(store, project)
    roll(store)
    assert_equal(store, project)
    changed = [{**row, "usage_role": "duplicate", "received_ns": row["received_ns"] + 1} for row in rows[100:150]]
    changed += [{**row, "request_model": "m3", "received_ns": row["received_ns"] + 1} for row in rows[150:160]]
    store.insert(batch(*changed))
    assert_equal(store, project)
    roll(store)
    assert_equal(store, project)
    store.insert(batch(flags=[flag(row) for row in rows[:40]]))
    assert_equal(store, project)
    roll(store)
    assert_equal(store, project)


def test_what_is_deleted_is_gone_from_the_rollups(store: Store) -> None:
    project, chance = next(_projects), random.Random(6)
    store.insert(batch(*(call(number, chance, project) for number in range(1, 200))))
    roll(store)
    condition = "request_model = 'm1'"
    minutes = minutes_of(store, Window(project, 0, 2**62), condition)
    store.execute(f"ALTER TABLE spans DELETE WHERE project_id = '{project}' AND {condition}")
    touch(store, project, minutes)
    assert_equal(store, project)
    roll(store)
    assert_equal(store, project)
    rows, source = ask(store, project, 0, group_by=["request_model"], start_ns=T0 // HOUR * HOUR)
    assert [row["request_model"] for row in rows] == ["m2"]
    assert "rollup_1h" in source


def test_a_bucket_is_computed_when_it_is_over_and_quiet(store: Store) -> None:
    project = next(_projects)
    store.insert(batch(llm(1, project_id=project)))

    def waiting(now_s: int) -> list[Touched]:
        return [minute for minute in touched_minutes(store, now_s) if minute.project_id == project]

    assert not waiting(T0 // SECOND)
    # the minute is over, but a span was stored in it just now (by the engine's clock, which is the real time)
    assert not waiting(int(time.time()))
    [minute] = waiting(LATER // SECOND)
    assert (minute.bucket, minute.spans) == (T0 // SECOND // 60 * 60, 1)
    roll(store)
    assert not waiting(LATER // SECOND)


def test_a_later_turn_looks_only_at_what_changed_lately_and_sees_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("limelight_collector.rollups.QUIET_S", -1)
    project = next(_projects)
    rollups = Rollups(store, time.time_ns)
    rollups.roll()
    for number in (1, 2):
        store.insert(batch(llm(number, project_id=project)))
        rollups.roll()
        assert ask(store, project, 0)[0][0]["request_count"] == number
        assert ask(store, project, 0)[1] == "rollup_1h"


def test_few_spans_are_read_raw(store: Store) -> None:
    project = next(_projects)
    store.insert(batch(llm(1, project_id=project), span(2, project_id=project)))
    roll(store)
    assert ask(store, project, 2)[1] == "raw"
    assert ask(store, project, 1)[1] == "rollup_1h"


@pytest.mark.parametrize(
    "question",
    [
        {"step_s": 30},
        {"step_s": 90},
        {"group_by": ["user_id"]},
        {"filter_text": 'attr["a"] = "b"'},
        {"filter_text": "flag exists"},
    ],
)
def test_what_rollups_do_not_know_is_read_raw(store: Store, question: dict[str, Any]) -> None:
    project = next(_projects)
    store.insert(batch(llm(1, project_id=project)))
    roll(store)
    assert ask(store, project, 0, **question)[1] == "raw"


def test_percentiles_of_rollups_are_within_their_error(store: Store) -> None:
    project, chance = next(_projects), random.Random(7)
    rows = [
        call(number, chance, project) | {"observation_type": "llm", "usage_role": "own"} for number in range(1, 1001)
    ]
    store.insert(batch(*rows))
    roll(store)
    found, source = ask(store, project, 0)
    assert "rollup_1h" in source
    durations = sorted(row["duration_ns"] / SECOND for row in rows)
    for name, share in (("latency_p50", 0.5), ("latency_p95", 0.95), ("latency_p99", 0.99)):
        near = durations[int(share * 1000) - 2 : int(share * 1000) + 2]
        assert near[0] * 0.992 <= found[0][name] <= near[-1]


def test_a_project_sees_its_own_rollups_only(store: Store) -> None:
    mine, other = next(_projects), next(_projects)
    store.insert(batch(llm(1, project_id=mine), *(llm(n, project_id=other) for n in range(1, 9))))
    roll(store)
    rows, source = ask(store, mine, 0)
    assert (rows[0]["request_count"], source) == (1, "rollup_1h")


MINUTES = st.sets(st.integers(0, 59))


@given(
    start=st.integers(0, 5 * 3600 * SECOND),
    length=st.integers(0, 5 * 3600 * SECOND),
    hours=st.dictionaries(st.integers(0, 10), st.tuples(MINUTES, st.booleans()), max_size=6),
)
@settings(deadline=None)
def test_the_parts_of_a_window_are_all_of_it_and_each_may_answer(
    start: int, length: int, hours: dict[int, tuple[set[int], bool]]
) -> None:
    window = Window("p", start, start + length)
    stored = [
        Hour(
            hour * 3600,
            1,
            frozenset(hour * 3600 + 60 * minute for minute in touched),
            is_whole=is_current and start <= hour * HOUR and (hour + 1) * HOUR <= start + length,
        )
        for hour, (touched, is_current) in sorted(hours.items())
        if hour * HOUR < start + length and (hour + 1) * HOUR > start
    ]
    found = divide(window, stored)
    pieces = sorted((begin, end, source) for source, ranges in found.items() for begin, end in ranges)
    for (_, end, _), (begin, _, _) in pairwise(pieces):
        assert end <= begin  # nothing is counted twice
    for begin, end, source in pieces:
        assert window.start_ns <= begin < end <= window.end_ns
        unit = {"rollup_1h": 3600 * SECOND, "rollup_1m": 60 * SECOND, "raw": 1}[source]
        assert begin % unit == end % unit == 0
    for hour in stored:
        for minute in range(hour.start_s, hour.start_s + 3600, 60):
            first, last = max(window.start_ns, minute * SECOND), min(window.end_ns, (minute + 60) * SECOND)
            if first < last:
                [source] = [source for begin, end, source in pieces if begin <= first and last <= end]
                assert (source == "rollup_1h") == hour.is_whole
                assert source != "rollup_1m" or minute not in hour.touched
