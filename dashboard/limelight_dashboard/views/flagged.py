"""Flagged: which answers should a human look at?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import streamlit as st

from limelight_dashboard import cards, client, pages, sidebar
from limelight_dashboard.format import UNKNOWN, compact, label, moment, one_line, percent, short_id, stamp

Row = Mapping[str, Any]
_SEVERITY: dict[str, cards.Colour] = {"critical": "red", "warning": "orange", "info": "blue"}
_PAGE = 20


def render() -> None:
    """Draw the page."""
    filters = sidebar.chosen()
    flags = cards.load("Flagged answers", partial(client.flags, filters), height=400)
    if flags is None:
        return
    if not flags:
        cards.empty("No answer is flagged in this window with these filters.")
        return
    counts = _counts(flags)
    _kpis(flags, counts)
    code = st.selectbox("Code", ["", *counts], key="code", bind="query-params", width=260, format_func=_code_name)
    shown = [flag for flag in flags if not code or flag.get("code") == code]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(f"{len(shown)} flagged answers, newest first", width="content")
        cards.download("flagged", [_shown(flag) for flag in shown])
    pages_needed = -(-len(shown) // _PAGE)
    page = st.pagination(pages_needed, key="page", bind="query-params") if pages_needed > 1 else 1
    start = (min(page, pages_needed) - 1) * _PAGE
    for flag in shown[start : start + _PAGE]:
        _card(flag)


def _code_name(code: str) -> str:
    return code or "All codes"


def _counts(flags: Sequence[Row]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for flag in flags:
        code = str(flag["code"])
        counts[code] = counts.get(code, 0) + 1
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))


def _kpis(flags: Sequence[Row], counts: Mapping[str, int]) -> None:
    grid = st.grid(4, min_column_width=150)
    with grid:
        st.metric("Flagged answers", compact(len(flags)), border=True, help="The newest 200 of the window at most.")
        st.metric("Traces", compact(len({flag["trace_id"] for flag in flags})), border=True)
        st.metric("Most frequent", label(next(iter(counts))), border=True)
        st.metric("Newest (UTC)", stamp(moment(flags[0]["start_time"])), border=True)


def _shown(flag: Row) -> dict[str, Any]:
    names = (
        "start_time",
        "code",
        "severity",
        "source",
        "confidence",
        "evidence",
        "span_name",
        "request_model",
        "service_name",
        "environment",
        "input_preview",
        "output_preview",
        "trace_id",
        "span_id",
        "detector",
        "detector_version",
    )
    return {name: flag.get(name) for name in names}


def _card(flag: Row) -> None:
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center"):
            severity = str(flag.get("severity") or "info")
            cards.badge(f"{flag['code']} · {severity}", _SEVERITY.get(severity, "gray"), ":material/flag:")
            detail = [
                stamp(moment(flag["start_time"])) + " UTC",
                flag.get("span_name"),
                flag.get("request_model"),
                flag.get("service_name"),
                f"{flag.get('source') or 'rule'}, {percent(flag.get('confidence'))} sure",
            ]
            st.caption(" · ".join(label(str(part)) for part in detail if part), width="stretch")
            pages.link(
                "trace",
                f"Open span `{short_id(str(flag['span_id']))}`",
                trace_id=str(flag["trace_id"]),
                span_id=str(flag["span_id"]),
            )
        why, asked, answered = st.columns(3)
        for place, title, text in (
            (why, "evidence", flag.get("evidence")),
            (asked, "prompt", flag.get("input_preview")),
            (answered, "answer", flag.get("output_preview")),
        ):
            with place:
                st.caption(title)
                st.code(one_line(text, 400) or UNKNOWN, language=None, wrap_lines=True)
