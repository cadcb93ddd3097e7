"""The three pictures of one trace: waterfall, flame and minimap. x is seconds since the trace began."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from limelight_dashboard.figures.palette import CRITICAL, ERROR, GRID, MONOSPACE, Figure, axis, kind_colour, layout
from limelight_dashboard.figures.timeseries import seconds_ticks
from limelight_dashboard.format import compact, cost, nanoseconds, one_line, plain
from limelight_dashboard.trace_math import Interval, Node, Placed, Segment

ROW_PX = 19
_LABEL_SHARE = 0.34
_LABEL_CHARACTERS = 36
_LEAST_WIDTH = 0.0012
_DIM = 0.38
_BAR = 0.78
"""Height of a bar in rows; left alone, Plotly takes the smallest distance between bars of one trace."""


def waterfall(
    rows: Sequence[Placed], window: Interval, origin_ns: int, self_ns: Mapping[str, int], path: Sequence[Segment] = ()
) -> Figure:
    """One row a span: a monospace label with branch guides at the left, a bar with its duration at the right.

    `path` (may be empty) is drawn as a line under the bars, and the bars off it are dimmed.
    """
    low, high = (window[0] - origin_ns) / 1e9, (window[1] - origin_ns) / 1e9
    width = max(high - low, 1e-9)
    on_path = {segment.span_id for segment in path}
    data = [_labels(rows)]
    for kind in _kinds(one.node for one in rows):
        of_kind = [(row, one.node) for row, one in enumerate(rows) if one.node.kind == kind]
        bar = _bars([node for _, node in of_kind], origin_ns, (low, high), self_ns)
        dim = [_DIM if path and node.span_id not in on_path else 1.0 for _, node in of_kind]
        bar["marker"] |= {"color": kind_colour(kind), "opacity": dim}
        texts = [nanoseconds(node.duration_ns) for _, node in of_kind]
        data.append(
            bar | {"y": [row for row, _ in of_kind], "text": texts, "textposition": "outside", "cliponaxis": True}
        )
    data.append(_path_line(rows, path, origin_ns))
    room = width * 0.13
    ticks = seconds_ticks(low, high)
    main = axis(domain=[_LABEL_SHARE, 1], side="top", **(ticks | {"range": [low - width * 0.002, high + room]}))
    labels = axis(domain=[0, _LABEL_SHARE], range=[0, 1], visible=False)
    y = axis(range=[len(rows) - 0.5, -0.6], visible=False)
    look = layout(
        ROW_PX * len(rows) + 44, xaxis=main, xaxis2=labels, yaxis=y, barmode="overlay", bargap=0.22, dragmode="zoom"
    )
    return {"data": data, "layout": look | {"clickmode": "event+select", "margin": {"l": 4, "r": 4, "t": 30, "b": 4}}}


def _labels(rows: Sequence[Placed]) -> Figure:
    texts: list[str] = []
    for one in rows:
        mark = "⨯ " if one.node.is_error else ""
        orphan = "(missing parent) " if one.missing_parent else ""
        name = one_line(one.node.name, 200)
        texts.append(plain(one_line(orphan + mark + name, max(8, _LABEL_CHARACTERS - len(one.guide)))))
    # Plotly folds spaces; the guides need theirs.
    texts = [one.guide.replace(" ", "\u00a0") + text for one, text in zip(rows, texts, strict=True)]
    return {
        "type": "scatter",
        "mode": "text",
        "x": [0.0] * len(rows),
        "y": list(range(len(rows))),
        "xaxis": "x2",
        "text": texts,
        "textposition": "middle right",
        "textfont": {"family": MONOSPACE, "size": 12},
        "hoverinfo": "skip",
        "showlegend": False,
    }


def _bars(nodes: Sequence[Node], origin_ns: int, shown_s: tuple[float, float], self_ns: Mapping[str, int]) -> Figure:
    """Bars cut to the part shown, so that their texts stay in it; none thinner than can be hit."""
    low, high = shown_s
    begins = [min(max((node.start_ns - origin_ns) / 1e9, low), high) for node in nodes]
    ends = [max(min((node.end_ns - origin_ns) / 1e9, high), low) for node in nodes]
    least = (high - low) * _LEAST_WIDTH
    return {
        "type": "bar",
        "orientation": "h",
        "base": begins,
        "x": [max(end - begin, least) for begin, end in zip(begins, ends, strict=True)],
        "width": _BAR,
        "marker": {"line": {"color": ERROR, "width": [2 if node.is_error else 0 for node in nodes]}},
        "customdata": [[node.span_id, _hover(node, origin_ns, self_ns)] for node in nodes],
        "hovertemplate": "%{customdata[1]}<extra></extra>",
        "textfont": {"size": 11},
        "showlegend": False,
        "selected": {"marker": {"opacity": 1}},
        "unselected": {"marker": {"opacity": 0.55}},
    }


def _hover(node: Node, origin_ns: int, self_ns: Mapping[str, int]) -> str:
    row, own = node.row, nanoseconds(self_ns.get(node.span_id))
    lines = [
        f"<b>{plain(one_line(node.name, 60))}</b> {plain(node.kind)}",
        f"{nanoseconds(node.duration_ns)} (self {own}) at +{nanoseconds(node.start_ns - origin_ns)}",
    ]
    if row.get("input_tokens") is not None or row.get("output_tokens") is not None:
        cached = f" · {compact(row['cache_read_tokens'])} cached" if row.get("cache_read_tokens") else ""
        lines.append(f"tokens {compact(row.get('input_tokens'))} in · {compact(row.get('output_tokens'))} out{cached}")
    if row.get("cost_usd") is not None:
        lines.append(f"cost {cost(row['cost_usd'])}")
    if node.is_error:
        lines.append(f"⨯ error {plain(one_line(str(row.get('error_type') or ''), 60))}")
    return "<br>".join(lines)


def _path_line(rows: Sequence[Placed], path: Sequence[Segment], origin_ns: int) -> Figure:
    row_of = {one.node.span_id: row for row, one in enumerate(rows)}
    xs: list[float | None] = []
    ys: list[float | None] = []
    for segment in path:
        if segment.span_id in row_of:
            y = row_of[segment.span_id] + 0.45
            xs += [(segment.start_ns - origin_ns) / 1e9, (segment.end_ns - origin_ns) / 1e9, None]
            ys += [y, y, None]
    return {
        "type": "scatter",
        "mode": "lines",
        "x": xs,
        "y": ys,
        "line": {"color": CRITICAL, "width": 2},
        "hoverinfo": "skip",
        "showlegend": False,
    }


def flame(
    nodes: Sequence[Node], lane_of: Mapping[str, int], window: Interval, origin_ns: int, self_ns: Mapping[str, int]
) -> Figure:
    """The same bars, packed into lanes under their parents; a name only where it has room."""
    low, high = (window[0] - origin_ns) / 1e9, (window[1] - origin_ns) / 1e9
    width = max(high - low, 1e-9)
    data: list[Figure] = []
    for kind in _kinds(nodes):
        own = [node for node in nodes if node.kind == kind]
        bar = _bars(own, origin_ns, (low, high), self_ns)
        bar["marker"] |= {"color": kind_colour(kind)}
        # 7 px a character on a chart about 1,000 px wide: what does not fit would spill over its neighbours.
        texts = [
            plain(one_line(node.name, max(4, int(node.duration_ns / 1e9 / width * 130))))
            if node.duration_ns / 1e9 > 0.035 * width
            else ""
            for node in own
        ]
        extra = {
            "text": texts,
            "textposition": "inside",
            "insidetextanchor": "start",
            "constraintext": "none",
            "textangle": 0,
        }
        data.append(
            bar
            | extra
            | {
                "y": [lane_of[node.span_id] for node in own],
                "width": 0.94,
                "insidetextfont": {"color": "#FFFFFF", "size": 12},
            }
        )
    deepest = max((lane_of[node.span_id] for node in nodes), default=0)
    x = axis(side="top", **seconds_ticks(low, high))
    look = layout(24 * (deepest + 1) + 44, xaxis=x, yaxis=axis(range=[deepest + 0.5, -0.6], visible=False))
    return {
        "data": data,
        "layout": look
        | {
            "barmode": "overlay",
            "bargap": 0.06,
            "dragmode": "zoom",
            "clickmode": "event+select",
            "margin": {"l": 4, "r": 8, "t": 30, "b": 4},
        },
    }


def minimap(
    nodes: Sequence[Node], lane_of: Mapping[str, int], extent: Interval, window: Interval | None = None
) -> Figure:
    """The whole trace in a strip: depth lanes, crosses at errors, and the zoomed part as a frame; drag to zoom."""
    origin = extent[0]
    high = max((extent[1] - origin) / 1e9, 1e-9)
    most = 7
    data: list[Figure] = []
    for kind in _kinds(nodes):
        own = [node for node in nodes if node.kind == kind]
        data.append(
            {
                "type": "bar",
                "orientation": "h",
                "name": plain(kind),
                "base": [(node.start_ns - origin) / 1e9 for node in own],
                "x": [max(node.duration_ns / 1e9, high * _LEAST_WIDTH) for node in own],
                "y": [min(lane_of[node.span_id], most) for node in own],
                "width": 0.9,
                "marker": {"color": kind_colour(kind), "line": {"width": 0}},
                "hoverinfo": "skip",
                "selected": {"marker": {"opacity": 1}},
                "unselected": {"marker": {"opacity": 0.35}},
            }
        )
    failed = [node for node in nodes if node.is_error]
    if failed:
        data.append(_crosses(failed, lane_of, origin, most))
    depth = min(max((lane_of[node.span_id] for node in nodes), default=0), most)
    x = axis(**(seconds_ticks(0.0, high, 8) | {"range": [-high * 0.003, high * 1.003]}))
    look = layout(
        13 * max(depth + 1, 4) + 76,
        xaxis=x,
        yaxis=axis(range=[depth + 0.6, -0.6], visible=False),
        barmode="overlay",
        bargap=0.1,
    )
    look |= {
        "dragmode": "select",
        "selectdirection": "h",
        "showlegend": True,
        "margin": {"l": 4, "r": 4, "t": 34, "b": 4},
    }
    look["legend"] = {
        "orientation": "h",
        "x": 0,
        "y": 1.02,
        "yanchor": "bottom",
        "itemclick": False,
        "itemdoubleclick": False,
    }
    look["shapes"] = [_frame(window, origin)] if window else []
    return {"data": data, "layout": look}


def _crosses(failed: Sequence[Node], lane_of: Mapping[str, int], origin: int, most: int) -> Figure:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "⨯ error",
        "x": [(node.start_ns - origin) / 1e9 for node in failed],
        "y": [min(lane_of[node.span_id], most) for node in failed],
        "marker": {"symbol": "x", "size": 8, "color": ERROR, "line": {"color": "#FFFFFF", "width": 1}},
        "hoverinfo": "skip",
    }


def _frame(window: Interval, origin: int) -> Figure:
    low, high = (window[0] - origin) / 1e9, (window[1] - origin) / 1e9
    place = {"type": "rect", "yref": "paper", "x0": low, "x1": high, "y0": 0, "y1": 1}
    return place | {"fillcolor": GRID, "line": {"color": CRITICAL, "width": 1.5}}


def _kinds(nodes: Iterable[Node]) -> list[str]:
    return list(dict.fromkeys(node.kind for node in nodes))
