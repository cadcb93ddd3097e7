"""What a trace's shape says: order, self time, critical path, windows. Pure; spans come in as the API's JSON.

Nothing here trusts the shape: parents may be missing, form circles or end before their children, clocks may be skewed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from limelight_dashboard.format import parse_ns

Interval = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Node:
    """One span as the figures need it. Times in unix nanoseconds; `row` is the span's JSON."""

    span_id: str
    parent_id: str
    start_ns: int
    end_ns: int
    name: str = ""
    kind: str = "span"
    is_error: bool = False
    row: dict[str, Any] = field(default_factory=dict[str, Any], compare=False, repr=False)

    @property
    def duration_ns(self) -> int:
        """Length in nanoseconds."""
        return self.end_ns - self.start_ns


@dataclass(frozen=True, slots=True)
class Placed:
    """A node at its place: depth, and the guide text ("│ ├ ") that draws its branch; `missing_parent` marks orphans."""

    node: Node
    depth: int
    guide: str
    missing_parent: bool


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of the critical path: for this time the whole trace waited for this span itself."""

    span_id: str
    start_ns: int
    end_ns: int


def read_node(row: dict[str, Any]) -> Node:
    """The node of one span's JSON (design: Span JSON); an end before the start becomes the start."""
    start = parse_ns(str(row["start_time"]))
    return Node(
        span_id=str(row["span_id"]),
        parent_id=str(row.get("parent_span_id") or ""),
        start_ns=start,
        end_ns=start + max(0, int(row.get("duration_ns") or 0)),
        name=str(row.get("name") or "(no name)"),
        kind=str(row.get("observation_type") or "span"),
        is_error=row.get("status") == "error",
        row=row,
    )


class Tree:
    """The nodes of one trace by parent. `roots` and every list of children are in time order, without circles."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        """Duplicate ids keep the first; a span whose parent is absent, or that is its own ancestor, becomes a root."""
        self.nodes: dict[str, Node] = {}
        for node in nodes:
            self.nodes.setdefault(node.span_id, node)
        self.children: dict[str, list[Node]] = {span_id: [] for span_id in self.nodes}
        in_time = sorted(self.nodes.values(), key=lambda node: (node.start_ns, -node.end_ns, node.span_id))
        cut = _circle_heads(self.nodes, in_time)
        self.roots: list[Node] = []
        for node in in_time:
            if node.parent_id in self.nodes and node.span_id not in cut:
                self.children[node.parent_id].append(node)
            else:
                self.roots.append(node)

    def extent(self) -> Interval:
        """First start and last end of all spans; (0, 0) without any."""
        if not self.nodes:
            return (0, 0)
        return min(n.start_ns for n in self.nodes.values()), max(n.end_ns for n in self.nodes.values())


def _circle_heads(nodes: dict[str, Node], in_time: Sequence[Node]) -> set[str]:
    """The earliest span of each parent circle: cutting it there makes the rest a tree."""
    heads: set[str] = set()
    settled: set[str] = set()
    for node in in_time:
        path: list[str] = []
        on_path: set[str] = set()
        current = node.span_id
        while current in nodes and current not in settled and current not in on_path:
            path.append(current)
            on_path.add(current)
            current = nodes[current].parent_id
        if current in on_path:
            circle = path[path.index(current) :]
            heads.add(min(circle, key=lambda span_id: (nodes[span_id].start_ns, span_id)))
        settled.update(path)
    return heads


def depth_first(tree: Tree) -> list[Placed]:
    """Every span once, parents before children, siblings by start; guides as in `tree`."""
    placed: list[Placed] = []
    pending = [(node, 0, "", "") for node in reversed(tree.roots)]
    while pending:
        node, depth, guide, below = pending.pop()
        placed.append(Placed(node, depth, guide, depth == 0 and bool(node.parent_id)))
        children = tree.children[node.span_id]
        for position in range(len(children) - 1, -1, -1):
            is_last = position == len(children) - 1
            pending.append(
                (
                    children[position],
                    depth + 1,
                    below + ("└ " if is_last else "├ "),
                    below + ("  " if is_last else "│ "),
                )
            )
    return placed


def union_ns(intervals: Iterable[Interval]) -> int:
    """Total length covered by intervals that may overlap; empty and reversed ones count nothing."""
    total, reached = 0, None
    for start, end in sorted(intervals):
        if end <= start:
            continue
        begin = start if reached is None else max(start, reached)
        if end > begin:
            total += end - begin
            reached = end
    return total


def self_times(tree: Tree) -> dict[str, int]:
    """Nanoseconds each span spent in none of its children: duration − union of the children, clipped to the span."""
    return {
        node.span_id: node.duration_ns
        - union_ns((max(c.start_ns, node.start_ns), min(c.end_ns, node.end_ns)) for c in tree.children[node.span_id])
        for node in tree.nodes.values()
    }


def critical_path(tree: Tree) -> list[Segment]:
    """Who the trace waited for, from first start to last end; segments in time order, none overlap.

    Walks back from the end: a span waits for the child that ended last before the time reached, then continues before
    that child's start (the algorithm of Jaeger's critical path view, and of Uber's CRISP paper, 2022).
    """
    first, last = tree.extent()
    everything = Node("", "", first, last)
    segments: list[Segment] = []
    pending: list[tuple[Node, int, int]] = [(everything, first, last)]
    while pending:
        node, floor, until = pending.pop()
        candidates = tree.children[node.span_id] if node.span_id else tree.roots
        reached = until
        for child in sorted(candidates, key=lambda c: (min(c.end_ns, until), c.start_ns), reverse=True):
            start, end = max(child.start_ns, floor), min(child.end_ns, until)
            if end > reached or end <= start:
                continue
            _keep(segments, node, end, reached)
            pending.append((child, start, end))
            reached = start
        _keep(segments, node, floor, reached)
    return sorted(segments, key=lambda segment: segment.start_ns)


def _keep(segments: list[Segment], node: Node, start: int, end: int) -> None:
    if node.span_id and end > start:
        segments.append(Segment(node.span_id, start, end))


def share_of(tree: Tree, segments: Sequence[Segment], kind: str) -> float | None:
    """Ratio 0–1 of the critical path spent in spans of one kind; None where the path has no length."""
    total = sum(s.end_ns - s.start_ns for s in segments)
    within = sum(s.end_ns - s.start_ns for s in segments if tree.nodes[s.span_id].kind == kind)
    return within / total if total else None


def inside(placed: Sequence[Placed], window: Interval) -> list[Placed]:
    """The spans that touch a time window, and the ancestors that say where they belong; order kept."""
    begin, end = window
    return _with_parents(placed, {p.node.span_id for p in placed if p.node.start_ns <= end and p.node.end_ns >= begin})


def only(placed: Sequence[Placed], wanted: set[str]) -> list[Placed]:
    """The wanted spans and their ancestors; order kept."""
    return _with_parents(placed, wanted)


def _with_parents(placed: Sequence[Placed], wanted: set[str]) -> list[Placed]:
    kept: set[str] = set()
    trail: list[str] = []
    for one in placed:
        del trail[one.depth :]
        trail.append(one.node.span_id)
        if one.node.span_id in wanted:
            kept.update(trail)
    return [one for one in placed if one.node.span_id in kept]


def page_of(placed: Sequence[Placed], page: int, rows: int) -> list[Placed]:
    """Rows `page` (from 1) of `rows` spans each, led by the ancestors of its first span."""
    start = max(0, (page - 1) * rows)
    chosen = list(placed[start : start + rows])
    if not chosen:
        return []
    lead: list[Placed] = []
    depth = chosen[0].depth
    for one in reversed(placed[:start]):
        if one.depth < depth:
            lead.append(one)
            depth = one.depth
    return lead[::-1] + chosen


def lanes(tree: Tree) -> dict[str, int]:
    """A lane for each span, below its parent's, such that no two spans of a lane overlap in time."""
    lane_of: dict[str, int] = {}
    busy_until: list[int] = []
    order = sorted(enumerate(depth_first(tree)), key=lambda pair: (pair[1].node.start_ns, pair[0]))
    for _, placed in order:
        node = placed.node
        lane = lane_of[node.parent_id] + 1 if node.parent_id in lane_of else placed.depth
        while lane < len(busy_until) and busy_until[lane] > node.start_ns:
            lane += 1
        busy_until.extend([node.start_ns] * (lane + 1 - len(busy_until)))
        busy_until[lane] = node.end_ns
        lane_of[node.span_id] = lane
    return lane_of


def visible(nodes: Iterable[Node], lane_of: Mapping[str, int], window: Interval, pixels: int) -> list[Node]:
    """The spans worth drawing on `pixels` columns: of those thinner than one column, one a column, lane and colour."""
    width = max(1, (window[1] - window[0]) // pixels)
    seen: set[tuple[int, int, str, bool]] = set()
    kept: list[Node] = []
    for node in nodes:
        if node.duration_ns < width:
            place = (lane_of[node.span_id], node.start_ns // width, node.kind, node.is_error)
            if place in seen:
                continue
            seen.add(place)
        kept.append(node)
    return kept
