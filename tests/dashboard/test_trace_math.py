"""The arithmetic of a trace holds for any shape: circles, orphans, skewed clocks, spans without length."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from limelight_dashboard.trace_math import (
    Node,
    Tree,
    critical_path,
    depth_first,
    inside,
    lanes,
    only,
    page_of,
    read_node,
    self_times,
    share_of,
    union_ns,
    visible,
)

ids = st.sampled_from([f"{n:016x}" for n in range(1, 13)])


@st.composite
def any_node(draw: st.DrawFn) -> Node:
    start = draw(st.integers(0, 60))
    kind = draw(st.sampled_from(["llm", "tool"]))
    return Node(
        draw(ids),
        draw(ids | st.just("")),
        start,
        start + draw(st.integers(0, 40)),
        kind=kind,
        is_error=draw(st.booleans()),
    )


trees = st.lists(any_node(), max_size=12).map(Tree)


def node(span_id: str, parent: str, start: int, end: int, kind: str = "span") -> Node:
    return Node(span_id, parent, start, end, kind=kind)


@given(trees)
def test_depth_first_shows_every_span_once_below_its_parent(tree: Tree) -> None:
    placed = depth_first(tree)
    assert sorted(one.node.span_id for one in placed) == sorted(tree.nodes)
    trail: list[str] = []
    for one in placed:
        del trail[one.depth :]
        assert len(trail) == one.depth
        assert one.depth == 0 or one.node.parent_id == trail[-1]
        assert len(one.guide) == 2 * one.depth
        trail.append(one.node.span_id)


@given(trees)
def test_self_time_is_never_negative_and_never_more_than_the_span(tree: Tree) -> None:
    for span_id, own in self_times(tree).items():
        assert 0 <= own <= tree.nodes[span_id].duration_ns


@given(trees)
def test_critical_path_segments_lie_in_their_spans_and_never_overlap(tree: Tree) -> None:
    reached = tree.extent()[0]
    for segment in critical_path(tree):
        owner = tree.nodes[segment.span_id]
        assert reached <= segment.start_ns < segment.end_ns
        assert owner.start_ns <= segment.start_ns
        assert segment.end_ns <= owner.end_ns
        reached = segment.end_ns
    assert reached <= tree.extent()[1]


@given(trees)
def test_one_root_that_contains_all_is_explained_to_the_last_nanosecond(tree: Tree) -> None:
    first, last = tree.extent()
    whole = Tree(
        [
            Node("root", "", first, last),
            *(Node(n.span_id, n.parent_id or "root", n.start_ns, n.end_ns) for n in tree.nodes.values()),
        ]
    )
    assert len(whole.roots) > 1 or sum(s.end_ns - s.start_ns for s in critical_path(whole)) == last - first


@given(trees)
def test_lanes_never_hold_two_spans_at_one_time(tree: Tree) -> None:
    by_lane: dict[int, list[tuple[int, int]]] = {}
    for span_id, lane in lanes(tree).items():
        one = tree.nodes[span_id]
        by_lane.setdefault(lane, []).append((one.start_ns, one.end_ns))
    for intervals in by_lane.values():
        ordered = sorted(intervals)
        assert all(before[1] <= after[0] for before, after in itertools.pairwise(ordered))


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50))))
def test_union_counts_each_nanosecond_once(intervals: list[tuple[int, int]]) -> None:
    assert union_ns(intervals) == len({t for start, end in intervals for t in range(start, end)})


@given(trees, st.integers(0, 60), st.integers(0, 40), st.integers(1, 5), st.integers(1, 8))
def test_windows_and_pages_keep_the_parents_of_what_they_show(
    tree: Tree, begin: int, length: int, rows: int, page: int
) -> None:
    placed = depth_first(tree)
    shown = inside(placed, (begin, begin + length))
    kept = {one.node.span_id for one in shown}
    assert {n.span_id for n in tree.nodes.values() if n.start_ns <= begin + length and n.end_ns >= begin} <= kept
    for some in (shown, page_of(placed, page, rows)):
        seen: set[str] = set()
        for one in some:
            assert one.depth == 0 or one.node.parent_id in seen
            seen.add(one.node.span_id)


@given(trees)
def test_pages_together_show_everything(tree: Tree) -> None:
    placed = depth_first(tree)
    shown = {one.node.span_id for page in range(1, 8) for one in page_of(placed, page, 2)}
    assert shown == set(tree.nodes)


def test_the_trace_waits_for_the_child_that_ended_last() -> None:
    tree = Tree(
        [node("r", "", 0, 100), node("a", "r", 10, 60, "llm"), node("b", "r", 20, 50), node("c", "r", 60, 90, "tool")]
    )
    path = [(s.span_id, s.start_ns, s.end_ns) for s in critical_path(tree)]
    assert path == [("r", 0, 10), ("a", 10, 60), ("c", 60, 90), ("r", 90, 100)]
    assert share_of(tree, critical_path(tree), "llm") == 0.5
    assert self_times(tree)["r"] == 20


def test_a_span_without_its_parent_and_a_circle_are_shown_as_roots_and_say_so() -> None:
    tree = Tree([node("a", "b", 5, 6), node("b", "a", 1, 9), node("o", "gone", 0, 3)])
    assert [(one.node.span_id, one.depth, one.missing_parent) for one in depth_first(tree)] == [
        ("o", 0, True),
        ("b", 0, True),
        ("a", 1, False),
    ]


def test_guides_end_where_no_sibling_follows() -> None:
    tree = Tree([node("r", "", 0, 9), node("a", "r", 1, 4), node("x", "a", 2, 3), node("b", "r", 5, 8)])
    assert [one.guide for one in depth_first(tree)] == ["", "├ ", "│ └ ", "└ "]


def test_only_keeps_the_way_to_what_is_wanted() -> None:
    tree = Tree([node("r", "", 0, 9), node("a", "r", 1, 4), node("x", "a", 2, 3), node("b", "r", 5, 8)])
    assert [one.node.span_id for one in only(depth_first(tree), {"x"})] == ["r", "a", "x"]


def test_thousands_of_thin_spans_are_drawn_as_few() -> None:
    tree = Tree([node(f"{n}", "", n * 10, n * 10 + 5) for n in range(20_000)])
    drawn = visible(tree.nodes.values(), lanes(tree), tree.extent(), 1000)
    assert 900 <= len(drawn) <= 1100


def test_a_deep_chain_needs_no_recursion() -> None:
    tree = Tree([node(str(n), str(n - 1) if n else "", n, 10_000 - n) for n in range(4000)])
    assert depth_first(tree)[-1].depth == 3999
    assert len(critical_path(tree)) > 0


def test_read_node_takes_nanoseconds_from_the_json() -> None:
    read = read_node(
        {
            "span_id": "a",
            "parent_span_id": None,
            "start_time": "2026-11-23T12:00:00.000000007Z",
            "duration_ns": -5,
            "status": "error",
            "name": "",
        }
    )
    assert read.start_ns % 1000 == 7
    assert read.duration_ns == 0
    assert (read.is_error, read.name, read.kind) == (True, "(no name)", "span")
