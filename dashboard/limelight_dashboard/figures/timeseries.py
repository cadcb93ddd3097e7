"""Charts over time: bars for rates and sums, lines for percentiles. Rows are those of `GET /api/v1/series`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from limelight_dashboard.figures.palette import ERROR, QUIET, Figure, axis, layout, ranked
from limelight_dashboard.format import cost, moment, one_line, percent, plain, seconds, stamp

Row = Mapping[str, Any]
OTHER = "other"
MOST_SERIES = 5
"""Groups that a stack tells apart."""
_HEIGHT = 260


def error_bars(
    rows: Sequence[Row],
    window: tuple[datetime, datetime],
    step_s: int,
    slo: float | None = None,
    least: int = 0,
    alerts: Sequence[Row] = (),
) -> Figure:
    """Error rate a bucket; red only above `slo` (ratio) with at least `least` requests.

    `alerts` have name, since and until (datetimes; None = still firing) and become bands.
    """
    points = [(row, float(row.get("error_rate") or 0.0)) for row in rows if row.get("request_count")]
    loud = [rate > (slo or 0.0) and row["request_count"] >= least for row, rate in points]
    top = max([rate for _, rate in points] + [(slo or 0.0) * 1.5, 0.02])
    bars: Figure = {
        "type": "bar",
        "x": [row["time"] for row, _ in points],
        "y": [rate for _, rate in points],
        "width": step_s * 1000 * 0.86,
        "offset": 0,
        "marker": {"color": [ERROR if red else QUIET for red in loud]},
        "customdata": [[row.get("error_count", ""), row["request_count"], percent(rate)] for row, rate in points],
        "hovertemplate": "%{x|%b %d %H:%M}<br>%{customdata[2]}: %{customdata[0]} of %{customdata[1]}<extra></extra>",
    }
    shapes, notes = _alert_marks(alerts, window)
    if slo:
        shapes.append(_across(slo))
        notes.append(_note(1, slo, f" limit {slo * 100:.3g} %", "left", "middle") | {"xref": "paper"})
    return {
        "data": [bars],
        "layout": layout(
            _HEIGHT,
            xaxis=_time_axis(window),
            yaxis=axis(range=[0, top * 1.25], tickformat=".1~%", nticks=6),
            shapes=shapes,
            annotations=notes,
            bargap=0,
            margin={"l": 8, "r": 66 if slo else 12, "t": 8, "b": 8},
        ),
    }


def _across(level: float) -> Figure:
    line = {"color": ERROR, "width": 1, "dash": "dash"}
    return {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": level, "y1": level, "line": line}


def _note(x: datetime | float, y: float, text: str, xanchor: str, yanchor: str, yref: str = "y") -> Figure:
    font = {"color": ERROR, "size": 11}
    return {
        "x": x,
        "y": y,
        "yref": yref,
        "text": text,
        "showarrow": False,
        "xanchor": xanchor,
        "yanchor": yanchor,
        "font": font,
    }


def _alert_marks(alerts: Sequence[Row], window: tuple[datetime, datetime]) -> tuple[list[Figure], list[Figure]]:
    shapes: list[Figure] = []
    notes: list[Figure] = []
    for alert in alerts:
        begin, end = max(alert["since"], window[0]), min(alert["until"] or window[1], window[1])
        if end < window[0] or begin > window[1]:
            continue
        band = {"type": "rect", "yref": "paper", "x0": begin, "x1": end, "y0": 0, "y1": 1, "layer": "below"}
        shapes.append(band | {"fillcolor": ERROR, "opacity": 0.12, "line": {"width": 0}})
        late = (begin - window[0]) > (window[1] - window[0]) / 2
        text = f"{plain(one_line(alert['name'], 32))} ▼" if late else f"▼ {plain(one_line(alert['name'], 32))}"
        notes.append(_note(begin, 1.0, text, "right" if late else "left", "top", "paper"))
    return shapes, notes


def _time_axis(window: tuple[datetime, datetime]) -> Figure:
    return axis(type="date", range=[window[0].isoformat(), window[1].isoformat()], nticks=6, showgrid=False)


def _name(row: Row, group: str) -> str:
    return OTHER if row.get("other") else str(row.get(group) or "unknown")


def totals(rows: Sequence[Row], group: str, measure: str) -> list[tuple[str, float]]:
    """(group, sum of the measure), largest first; an absent group is "unknown", those told apart no more "other"."""
    sums: dict[str, float] = {}
    for row in rows:
        name = _name(row, group)
        sums[name] = sums.get(name, 0.0) + float(row.get(measure) or 0.0)
    return sorted(sums.items(), key=lambda pair: (-pair[1], pair[0]))


def stacked_sums(
    rows: Sequence[Row], group: str, measure: str, window: tuple[datetime, datetime], step_s: int
) -> Figure:
    """A sum a bucket in US dollars, stacked by group: the five largest and "other".

    Bars, not an area: a bucket without calls is empty, and an area would draw slopes through it.
    """
    order = totals(rows, group, measure)
    named = [name for name, _ in order if name != OTHER][:MOST_SERIES]
    colours = ranked([*named, OTHER])
    stacks: dict[str, dict[str, float]] = {name: {} for name in [*named, OTHER]}
    for row in rows:
        name = _name(row, group)
        stack = stacks[name if name in colours else OTHER]
        stack[row["time"]] = stack.get(row["time"], 0.0) + float(row.get(measure) or 0.0)
    data = [
        {
            "type": "bar",
            "name": plain(one_line(name, 28)),
            "x": list(stack),
            "y": list(stack.values()),
            "width": step_s * 1000,
            "offset": 0,
            "marker": {"color": colours[name], "line": {"width": 0}},
            "customdata": [cost(value) for value in stack.values()],
            "hovertemplate": "%{x|%b %d %H:%M} · %{customdata}<extra>%{fullData.name}</extra>",
        }
        for name, stack in stacks.items()
        if stack
    ]
    look = layout(_HEIGHT, xaxis=_time_axis(window), barmode="stack", showlegend=True, legend=_legend())
    return {
        "data": data,
        "layout": look | {"yaxis": axis(tickformat=_dollar_format(data), rangemode="tozero", nticks=6)},
    }


def _dollar_format(data: Sequence[Row]) -> str:
    """Two digits would print $0 at every tick of a cheap window: as many there as tell the ticks apart."""
    heights: dict[str, float] = {}
    for trace in data:
        for when, value in zip(trace["x"], trace["y"], strict=True):
            heights[when] = heights.get(when, 0.0) + value
    top = max(heights.values(), default=0.0)
    return "$,.2~f" if top >= 0.05 else "$,.5~f" if top >= 0.0001 else "$,.8~f"


def percentile_lines(
    rows: Sequence[Row], group: str, measure: str, window: tuple[datetime, datetime], step_s: int
) -> Figure:
    """One line a group in seconds, the five with most requests; a gap where a bucket has none."""
    counted = totals(rows, group, "request_count")
    colours = ranked([name for name, _ in counted[:MOST_SERIES]])
    data: list[Figure] = []
    for name, colour in colours.items():
        own = sorted(
            (r for r in rows if str(r.get(group) or "unknown") == name and r.get(measure) is not None),
            key=lambda r: r["time"],
        )
        times, values = _with_gaps(own, measure, step_s)
        data.append(
            {
                "type": "scatter",
                "mode": "lines+markers" if len(own) < 60 else "lines",
                "name": plain(one_line(name, 28)),
                "x": times,
                "y": values,
                "line": {"color": colour, "width": 1.8},
                "marker": {"size": 4},
                "customdata": [seconds(value) for value in values],
                "hovertemplate": "%{x|%b %d %H:%M} · %{customdata}<extra>%{fullData.name}</extra>",
            }
        )
    top = max((value for trace in data for value in trace["y"] if value is not None), default=1.0)
    look = layout(_HEIGHT, xaxis=_time_axis(window), showlegend=True, legend=_legend())
    return {"data": data, "layout": look | {"yaxis": axis(**seconds_ticks(0.0, top * 1.1))}}


def _with_gaps(rows: Sequence[Row], measure: str, step_s: int) -> tuple[list[Any], list[float | None]]:
    times: list[Any] = []
    values: list[float | None] = []
    previous: datetime | None = None
    for row in rows:
        when = moment(str(row["time"]))
        if previous and when and when - previous > timedelta(seconds=step_s * 3):
            times.append((previous + timedelta(seconds=step_s)).isoformat())
            values.append(None)
        times.append(row["time"])
        values.append(float(row[measure]))
        previous = when
    return times, values


def seconds_ticks(low: float, high: float, most: int = 6) -> Figure:
    """Ticks at 1-2-2.5-5 steps, written as durations; values in seconds."""
    span = max(high - low, 1e-9)
    power = 10.0**-9
    while True:
        step = next((power * m for m in (1, 2, 2.5, 5) if span / (power * m) <= most), None)
        if step:
            break
        power *= 10
    first = int(low / step)
    values = [
        round(step * k, 12)
        for k in range(first, first + most + 2)
        if low - step * 1e-6 <= step * k <= high + step * 1e-6
    ]
    return {"tickvals": values, "ticktext": ["0" if v == 0 else _tick(v) for v in values], "range": [low, high]}


def _tick(value: float) -> str:
    for limit, scale, unit in ((1e-3, 1e6, "µs"), (1.0, 1e3, "ms"), (60.0, 1.0, "s")):
        if value < limit * 0.99999:
            return f"{value * scale:.4g} {unit}"
    minutes, rest = divmod(value, 60)
    return f"{minutes:.0f}m {rest:02.0f}s" if minutes < 60 else f"{minutes // 60:.0f}h {minutes % 60:02.0f}m"


def _legend() -> Figure:
    return {"orientation": "h", "x": 0, "y": -0.16, "yanchor": "top", "traceorder": "normal", "font": {"size": 12}}


def error_alt(rows: Sequence[Row]) -> str:
    """What the error chart shows, in one sentence."""
    busy = [row for row in rows if row.get("request_count")]
    if not busy:
        return "Error rate: no requests in this window."
    peak = max(busy, key=lambda row: float(row.get("error_rate") or 0))
    if not peak.get("error_rate"):
        return "Error rate: no request failed in this window."
    return f"Error rate peaked at {percent(float(peak['error_rate']))} at {stamp(moment(peak['time']))} UTC."
