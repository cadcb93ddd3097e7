"""The views of one trace: waterfall, flame, self time, messages, raw. The URL keeps view, span and zoom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import streamlit as st

from limelight_dashboard import cards, messages
from limelight_dashboard.figures import gantt
from limelight_dashboard.format import nanoseconds, one_line, percent
from limelight_dashboard.trace_math import (
    Interval,
    Placed,
    Segment,
    Tree,
    inside,
    lanes,
    only,
    page_of,
    self_times,
    visible,
)

ROWS = 120
VIEWS = ("Waterfall", "Flame", "Self time", "Messages", "Raw")
_PIXELS = 1200


def controls(placed: Sequence[Placed], span_id: str) -> str:
    """The view switch and the span list; returns the chosen view. `span_id` ("" = none) is the selected span.

    They stand above the columns: a widget that moves into another container forgets its place in the address.
    """
    with st.container(horizontal=True, vertical_alignment="center"):
        view = st.segmented_control(
            "View",
            VIEWS,
            default=VIEWS[0],
            required=True,
            key="view",
            bind="query-params",
            label_visibility="collapsed",
        )
        _span_select(placed, span_id)
    return view or VIEWS[0]


def draw(view: str, trace_id: str, tree: Tree, placed: list[Placed], path: Sequence[Segment]) -> None:
    """The chosen view."""
    if view == "Waterfall":
        _waterfall(trace_id, tree, placed, path)
    elif view == "Flame":
        _flame(trace_id, tree)
    elif view == "Self time":
        _self_time(tree, path)
    elif view == "Messages":
        messages.conversation([one.node for one in placed])
    else:
        _raw(tree)


def select_span(span_id: str | None) -> None:
    """From a callback: show a span's panel, or close it (None)."""
    if span_id:
        st.query_params["span_id"] = span_id
    else:
        st.query_params.pop("span_id", None)


def _span_select(placed: Sequence[Placed], span_id: str) -> None:
    names = {
        one.node.span_id: f"{'⨯ ' if one.node.is_error else ''}{'· ' * one.depth}{one_line(one.node.name, 50)}"
        for one in placed
    }
    st.session_state["span-select"] = span_id if span_id in names else None
    st.selectbox(
        "Span",
        list(names),
        key="span-select",
        format_func=lambda s: names.get(s, ""),
        placeholder="Choose a span",
        label_visibility="collapsed",
        width="stretch",
        on_change=lambda: select_span(st.session_state["span-select"]),
        index=None,
    )


def _wanted(tree: Tree, path: Sequence[Segment]) -> set[str]:
    return {s.span_id for s in path} | {n.span_id for n in tree.nodes.values() if n.is_error}


def _clicked(key: str) -> None:
    span_id = cards.clicked(key)
    if span_id:
        select_span(span_id)


def _zoom(extent: Interval) -> Interval | None:
    """The zoomed window from t0 and t1 of the URL (milliseconds since the trace began), inside the trace; or None."""
    try:
        low, high = (float(st.query_params[name]) for name in ("t0", "t1"))
    except (KeyError, ValueError):
        return None
    first, last = extent
    begin, end = first + int(max(0.0, low) * 1e6), min(first + int(max(0.0, high) * 1e6), last)
    return (begin, end) if end > begin else None


def _dragged(key: str) -> None:
    window = cards.dragged(key)
    if window:
        st.query_params["t0"], st.query_params["t1"] = (f"{max(0.0, float(edge)) * 1000:.3f}" for edge in window)


def _unzoom() -> None:
    st.query_params.pop("t0", None)
    st.query_params.pop("t1", None)


def _minimap(trace_id: str, tree: Tree, lane_of: Mapping[str, int], shown: Interval) -> None:
    extent = tree.extent()
    nodes = visible(tree.nodes.values(), lane_of, extent, _PIXELS)
    key = f"minimap-{trace_id}"
    figure = gantt.minimap(nodes, lane_of, extent, None if shown == extent else shown)
    cards.chart(figure, key, "The whole trace by depth; drag to zoom.", partial(_dragged, key))


def _unzoom_button(extent: Interval, zoom: Interval | None) -> None:
    if zoom:
        text = f"{nanoseconds(zoom[0] - extent[0])} – {nanoseconds(zoom[1] - extent[0])}: show all"
        st.button(text, icon=":material/zoom_out_map:", on_click=_unzoom, type="tertiary", help="Leave the zoom")


def _waterfall(trace_id: str, tree: Tree, placed: list[Placed], path: Sequence[Segment]) -> None:
    extent = tree.extent()
    zoom = _zoom(extent)
    with st.container(border=True):
        overview = st.container()
        with st.container(horizontal=True, vertical_alignment="center"):
            show_path = st.toggle("Critical path", value=True, key="path")
            only_path = st.toggle("Only critical and errors", key="only")
            rows = placed if zoom is None else inside(placed, zoom)
            rows = only(rows, _wanted(tree, path)) if only_path else rows
            count = max(1, -(-len(rows) // ROWS))
            page = st.pagination(count, key="page", bind="query-params") if count > 1 else 1
            _unzoom_button(extent, zoom)
        shown = page_of(rows, min(page, count), ROWS)
        window = zoom or (_leaves(tree, shown) if count > 1 else extent)
        with overview:
            _minimap(trace_id, tree, lanes(tree), window)
        if not shown:
            cards.empty("No span is left in this part of the trace.", widen=False)
            return
        figure = gantt.waterfall(shown, window, extent[0], self_times(tree), path if show_path else ())
        key = f"waterfall-{trace_id}"
        longest = max((one.node for one in shown if one.depth), key=lambda n: n.duration_ns, default=shown[0].node)
        slowest = f"{longest.name}, {nanoseconds(longest.duration_ns)}"
        alt = f"Waterfall, {len(shown)} of {len(placed)} spans; longest: {slowest}."
        cards.chart(figure, key, alt, partial(_clicked, key), mode="points")


def _leaves(tree: Tree, shown: Sequence[Placed]) -> Interval:
    """The time one page of a long trace is about: that of its spans without children."""
    ends = [one.node for one in shown if not tree.children[one.node.span_id]]
    begin, end = min(n.start_ns for n in ends), max(n.end_ns for n in ends)
    return (begin, end) if end > begin else tree.extent()


def _flame(trace_id: str, tree: Tree) -> None:
    extent, lane_of = tree.extent(), lanes(tree)
    zoom = _zoom(extent)
    window = zoom or extent
    nodes = [n for n in tree.nodes.values() if n.start_ns <= window[1] and n.end_ns >= window[0]]
    with st.container(border=True):
        _minimap(trace_id, tree, lane_of, window)
        _unzoom_button(extent, zoom)
        key = f"flame-{trace_id}"
        figure = gantt.flame(visible(nodes, lane_of, window, _PIXELS), lane_of, window, extent[0], self_times(tree))
        cards.chart(figure, key, f"Flame view of {len(nodes)} spans.", partial(_clicked, key), mode="points")


def _self_time(tree: Tree, path: Sequence[Segment]) -> None:
    own = self_times(tree)
    critical: dict[str, int] = {}
    for segment in path:
        critical[segment.span_id] = critical.get(segment.span_id, 0) + segment.end_ns - segment.start_ns
    groups: dict[tuple[str, str], list[int]] = {}
    for node in tree.nodes.values():
        sums = groups.setdefault((node.kind, node.name), [0, 0, 0])
        for place, value in enumerate((1, own[node.span_id], critical.get(node.span_id, 0))):
            sums[place] += value
    whole = max(1, sum(sums[1] for sums in groups.values()))
    ranked = sorted(groups.items(), key=lambda item: -item[1][1])
    rows: list[dict[str, Any]] = [
        {
            "Kind": kind,
            "Name": one_line(name, 80),
            "Calls": n,
            "Share": spent / whole,
            "Self time": nanoseconds(spent),
            "Critical path": nanoseconds(waited),
            "Each": nanoseconds(spent // n),
        }
        for (kind, name), (n, spent, waited) in ranked
    ]
    with cards.card("Self time", f"time in no child; most in {percent(rows[0]['Share'])} of all", rows):
        bar = st.column_config.ProgressColumn("Share of self time", format="percent", min_value=0, max_value=1)
        right = st.column_config.TextColumn(alignment="right")
        cards.table(rows, "self-time", {"Share": bar, "Self time": right, "Critical path": right, "Each": right})


def _raw(tree: Tree) -> None:
    rows = [node.row for node in list(tree.nodes.values())[:ROWS]]
    if len(tree.nodes) > ROWS:
        st.caption(f"The first {ROWS} of {len(tree.nodes)} spans; choose a span for its own attributes.")
    st.json(rows, expanded=2)
