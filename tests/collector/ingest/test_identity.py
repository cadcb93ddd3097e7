"""For whom a call was: taken from its duplicates and from spans above, in whatever order the pieces come."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.ingest.test_settle import write
from collector.store.rows import T0, llm, span
from limelight_collector.identity import MOST_ABOVE, MOST_CHARACTERS, own, put, taken
from limelight_collector.settings import Settings
from limelight_collector.settle import Settler
from limelight_collector.store import Store, open_store
from limelight_collector.traces import Fact, decide, fact_of

Row = dict[str, Any]


def shown(rows: Iterable[Row]) -> dict[int, tuple[tuple[str, Any], ...]]:
    """Span number -> what its call inherits."""
    facts: dict[bytes, Fact] = {}
    for row in rows:
        made = {"attributes": {}, "scope_name": f"scope-{row['name']}"} | row
        facts[row["span_id"]] = fact_of(made)
    found = decide(facts)
    return {int.from_bytes(key, "big") % 1000: verdict.inherited for key, verdict in found.items()}


def test_a_call_has_the_session_of_the_root_and_the_user_of_the_span_between() -> None:
    rows = [
        span(1, 1, session_id="s1", user_id="u1"),
        span(1, 2, parent=1, observation_type="agent", user_id="u2"),
        llm(1, 3, parent=2),
    ]
    assert shown(rows) == {3: (("session_id", "s1"), ("user_id", "u2"))}


def test_what_a_call_says_itself_stays() -> None:
    rows = [span(1, 1, session_id="s1", user_id="u1"), llm(1, 2, parent=1, session_id="mine")]
    assert shown(rows) == {2: (("user_id", "u1"),)}


def test_only_session_and_user_come_from_above() -> None:
    outer = span(1, 1, session_id="s1", end_user="e", agent_name="a", tags=["t"], prompt_name="p", function_id="f")
    assert shown([outer, llm(1, 2, parent=1)]) == {2: (("session_id", "s1"),)}


def test_the_span_that_counts_takes_all_from_its_duplicate() -> None:
    given_: Row = {
        "session_id": "s",
        "user_id": "u",
        "end_user": "e",
        "agent_name": "a",
        "workflow_name": "w",
        "function_id": "f",
        "tags": ["x", "y"],
        "prompt_name": "p",
        "prompt_version": "2",
    }
    rows = [llm(1, 1), llm(1, 2, parent=1, **given_)]
    assert dict(shown(rows)[1]) == given_ | {"tags": ("x", "y")}
    assert shown(rows)[2] == ()


def test_a_version_without_its_name_is_not_taken() -> None:
    rows = [llm(1, 1, prompt_name="own"), llm(1, 2, parent=1, prompt_name="other", prompt_version="2")]
    assert shown(rows)[1] == ()


def test_a_duplicate_comes_before_what_is_above() -> None:
    rows = [span(1, 1, session_id="root"), llm(1, 2, parent=1), llm(1, 3, parent=2, session_id="call")]
    assert shown(rows)[2] == (("session_id", "call"),)


def test_what_is_too_long_belongs_to_its_span_alone() -> None:
    rows = [
        span(1, 1, session_id="root"),
        span(1, 2, parent=1, session_id="s" * (MOST_CHARACTERS + 1)),
        llm(1, 3, parent=2),
    ]
    assert shown(rows) == {3: ()}
    assert fact_of({"attributes": {}, "scope_name": ""} | rows[1]).who == ("\0", "")


def test_other_spans_inherit_nothing() -> None:
    rows = [span(1, 1, session_id="s"), span(1, 2, parent=1), llm(1, 3, parent=2, observation_type="engine")]
    assert set(shown(rows).values()) == {()}


def test_circles_and_long_ways_up_end() -> None:
    circle = [span(1, 1, parent=2), span(1, 2, parent=1), llm(1, 3, parent=1), llm(1, 4, parent=4, user_id="u")]
    assert shown(circle) == {3: (), 4: ()}
    far = [span(1, 1, session_id="s"), *(span(1, n, parent=n - 1) for n in range(2, 200))]
    assert shown([*far, llm(1, 500, parent=MOST_ABOVE)]) == {500: (("session_id", "s"),)}
    assert shown([*far, llm(1, 500, parent=MOST_ABOVE + 1)]) == {500: ()}


def test_what_was_inherited_is_given_back_whole() -> None:
    row = llm(1, 1, session_id="mine")
    put(row, (("user_id", "u"), ("tags", ("a",)), ("prompt_name", "p"), ("prompt_version", "")))
    assert (row["user_id"], row["tags"], row["inherited"]) == (
        "u",
        ["a"],
        ["user_id", "tags", "prompt_name", "prompt_version"],
    )
    assert list(own(row)[:2]) == ["mine", ""]
    put(row, ())
    assert (row["session_id"], row["user_id"], row["tags"], row["inherited"]) == ("mine", "", [], [])


@st.composite
def traces(draw: st.DrawFn) -> list[Row]:
    """Up to eight spans with any parents, of which some name session and user; then the order they come in."""
    count = draw(st.integers(2, 8))
    word = st.sampled_from(["", "", "x", "y"])
    rows: list[Row] = []
    for number in range(1, count + 1):
        parent = draw(st.none() | st.integers(1, count))
        names: Row = {"session_id": draw(word), "user_id": draw(word)}
        if draw(st.booleans()):
            rows.append(llm(1, number, parent=parent, agent_name=draw(word), **names))
        else:
            rows.append(span(1, number, parent=parent, **names))
    return draw(st.permutations(rows))


@given(traces())
def test_rows_end_the_same_in_any_order_and_with_a_restart_after_each(rows: list[Row]) -> None:
    base: list[Row] = [{"attributes": {}, "scope_name": f"scope-{row['name']}"} | row for row in rows]
    whole = decide({row["span_id"]: fact_of(row) for row in base})
    stored: dict[bytes, Row] = {}
    for row in base:
        stored[row["span_id"]] = dict(row)
        for span_id, verdict in decide({key: fact_of(row) for key, row in stored.items()}).items():
            put(stored[span_id], verdict.inherited)
    assert {key: taken(stored[key]) for key in whole} == {key: verdict.inherited for key, verdict in whole.items()}


# -- in a store --------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    opened = open_store(Settings(data_dir=tmp_path_factory.mktemp("identity"), retention_days=36_500))
    yield opened
    opened.close()


def stored_rows(store: Store, project: str) -> dict[int, tuple[Any, ...]]:
    rows = store.query(
        "SELECT lower(hex(span_id)), usage_role, session_id, user_id, agent_name, tags, prompt_name, inherited, "
        "mapKeys(attributes) FROM spans FINAL WHERE project_id = {p:String}",
        {"p": project},
    ).rows
    return {int(row[0], 16) % 1000: tuple(row[1:]) for row in rows}


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("order", list(itertools.permutations(range(4)))[::3])
def test_pieces_in_any_order(store: Store, order: tuple[int, ...], restarts: bool) -> None:
    project = f"who-{order}-{restarts}"
    pieces = [
        span(7, 1, project_id=project, session_id="s", user_id="u"),
        span(7, 2, parent=1, project_id=project),
        llm(7, 3, parent=2, project_id=project, cache_read_tokens=5),
        llm(7, 4, parent=3, project_id=project, user_id="u4", agent_name="a", tags=["t"], prompt_name="p"),
    ]
    settler = Settler(store, is_shared=False)
    for turn, index in enumerate(order):
        if restarts:
            settler = Settler(store, is_shared=False)
        write(settler, store, dict(pieces[index], received_ns=T0 + turn))
    columns = ["user_id", "agent_name", "tags", "prompt_name", "prompt_version"]
    found = stored_rows(store, project)
    assert found[3] == ("own", "s", "u4", "a", ["t"], "p", ["session_id", *columns], [])
    assert found[4] == ("duplicate", "s", "u4", "a", ["t"], "p", ["session_id"], [])
    assert found[1] == ("none", "s", "u", "", [], "", [], [])


def test_a_client_that_sends_again_changes_nothing(store: Store) -> None:
    settler = Settler(store, is_shared=False)
    pieces = [span(7, 1, project_id="again", session_id="s"), llm(7, 2, parent=1, project_id="again")]
    write(settler, store, *pieces)
    for again in (1, 2):
        late = dict(pieces[1], received_ns=pieces[1]["received_ns"] + again * 10**9)
        assert write(settler, store, late) == 0
        assert stored_rows(store, "again")[2][1] == "s"


def test_cost_by_session_finds_a_call_whose_root_names_it_late(store: Store) -> None:
    settler = Settler(store, is_shared=False)
    write(settler, store, llm(7, 2, parent=1, project_id="late"))
    assert write(settler, store, span(7, 1, project_id="late", session_id="s")) == 1
    found = store.query(
        "SELECT session_id, toString(sum(cost_usd)) FROM spans FINAL WHERE project_id = 'late' AND billable GROUP BY 1"
    ).rows
    assert found == [("s", "0.00045")]
