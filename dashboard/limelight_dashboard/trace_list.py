"""The list of traces: the table, its pager and the ways to open one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import streamlit as st

from limelight_dashboard import cards, pages
from limelight_dashboard.format import UNKNOWN, compact, cost, moment, nanoseconds, one_line, seconds, short_id, stamp

Row = Mapping[str, Any]


_STATUS = {"ok": "#159462", "⨯ error": "#B73A39", "⨯ inside": "#9B7A15"}
"""Pills: a trace whose root is fine may hold spans that failed."""


def _newer(cursors: list[str]) -> None:
    if len(cursors) > 1:
        cursors.pop()


def table(rows: Sequence[Row]) -> None:
    """A page of summaries; a click on a row opens the trace."""
    longest = max(row["duration_ns"] for row in rows) / 1e9
    column = st.column_config
    cards.table(
        [_shown(row) for row in rows],
        "traces-table",
        {
            "Start (UTC)": column.TextColumn(width=116),
            "Root span": column.TextColumn(width=172),
            "Prompt": column.TextColumn(width=150),
            "Status": column.MultiselectColumn(options=list(_STATUS), color=list(_STATUS.values()), width=74),
            "Seconds": column.ProgressColumn(
                "Duration", format="%.2f s", min_value=0, max_value=max(longest, 0.001), width=104
            ),
            "Spans": column.NumberColumn(width=52),
            "Model": column.TextColumn(width=116),
            "Tokens": column.TextColumn(width=58, alignment="right"),
            "Cost": column.TextColumn(width=68, alignment="right"),
            "TTFT": column.TextColumn(width=66, alignment="right"),
            "Flags": column.MultiselectColumn(
                options=sorted({f for r in rows for f in _codes(r)}), color="orange", width=92
            ),
            "Trace": column.TextColumn(width=74),
        },
        partial(_open_picked, [row["trace_id"] for row in rows]),
    )


def _status(row: Row) -> str:
    if row.get("status") == "error":
        return "⨯ error"
    return "⨯ inside" if row.get("error_count") else "ok"


def _codes(row: Row) -> list[str]:
    return [str(f.get("code")) if isinstance(f, dict) else str(f) for f in row.get("flags") or []]


def _first_of(names: Sequence[str]) -> str:
    if len(names) < 2:
        return one_line(names[0], 18) if names else UNKNOWN
    return f"{one_line(names[0], 15)} +{len(names) - 1}"


def _shown(row: Row) -> dict[str, Any]:
    tokens = row.get("total_tokens")
    return {
        "Start (UTC)": stamp(moment(row["start_time"])),
        "Root span": one_line(row.get("name") or UNKNOWN, 60),
        "Prompt": one_line(row.get("input_preview"), 160) or UNKNOWN,
        "Status": [_status(row)],
        "Seconds": row["duration_ns"] / 1e9,
        "Spans": row.get("span_count"),
        "Model": _first_of(row.get("models") or []),
        "Tokens": compact(tokens),
        "Cost": cost(row.get("cost_usd")),
        "TTFT": seconds(row.get("ttft_s")),
        "Flags": _codes(row),
        "Trace": short_id(row["trace_id"]),
    }


def _open_picked(trace_ids: Sequence[str]) -> None:
    row = cards.picked("traces-table")
    if row is not None and row < len(trace_ids):
        pages.go("trace", trace_id=trace_ids[row])


def footer(rows: Sequence[Row], following: str, cursors: list[str]) -> None:
    """The count, the keyboard's way to open a trace, the pager and the CSV; `following` is the next cursor or empty."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(f"{len(rows)} traces · page {len(cursors)} · click a row to open it", width="content")
        names = {
            row[
                "trace_id"
            ]: f"{stamp(moment(row['start_time']))} {one_line(row.get('name'), 40)} {nanoseconds(row['duration_ns'])}"
            for row in rows
        }
        st.selectbox(
            "Open a trace",
            list(names),
            index=None,
            key="open-trace",
            format_func=lambda t: names.get(t, ""),
            width=300,
            placeholder="Open a trace (keyboard)",
            label_visibility="collapsed",
            on_change=_open_chosen,
        )
        st.button("Newer", icon=":material/chevron_left:", disabled=len(cursors) < 2, on_click=lambda: _newer(cursors))
        st.button(
            "Older", icon=":material/chevron_right:", disabled=not following, on_click=cursors.append, args=(following,)
        )
        cards.download("traces", [dict(row) for row in rows])


def _open_chosen() -> None:
    trace_id = st.session_state["open-trace"]
    if trace_id:
        pages.go("trace", trace_id=trace_id)
