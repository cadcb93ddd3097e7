"""What all pages share: titled cards, loading, empty and error states, the table and the CSV behind each chart."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from http import HTTPStatus
from typing import Any, Literal, TypeVar

import streamlit as st

from limelight_dashboard import client, sidebar
from limelight_dashboard.export import MAX_ROWS, csv_text, file_name
from limelight_dashboard.filters import describe
from limelight_dashboard.format import age, clock, label, one_line

T = TypeVar("T")
Colour = Literal["red", "orange", "blue", "green", "gray"]
_ROWS_UNSCROLLED = 18
_SCROLLED_PX = 592
_PLOTLY = {"displayModeBar": False, "responsive": True}
_TOO_BIG = (
    "**Ask for less:** choose a shorter window in the sidebar, or an environment, service or model; "
    "on Traces a Filter such as `status = error` helps, too."
)
_log = logging.getLogger(__name__)
SNIPPET = 'import limelight\nlimelight.init()  # LIMELIGHT_ENDPOINT="http://127.0.0.1:4318"'


def badge(text: str, colour: Colour, icon: str | None = None) -> None:
    """A badge that shows untrusted text as it is, at most 40 characters."""
    # st.badge escapes the brackets itself.
    st.badge(label(one_line(text, 40)).replace("\\[", "[").replace("\\]", "]"), icon=icon, color=colour)


def load(what: str, fetch: Callable[[], T], height: int = 120) -> T | None:
    """What `fetch` answers, behind a skeleton of `height` px; on an error a card saying so, and older data if any."""
    try:
        with st.skeleton(height):
            return fetch()
    except client.ApiError as error:
        return _failed(what, error)


def _failed(what: str, error: client.ApiError) -> Any:
    with st.container(border=True):
        st.markdown(f":material/cloud_off: **{label(what)} could not be loaded**")
        st.text(error.message)
        if error.status == HTTPStatus.UNPROCESSABLE_ENTITY:
            st.markdown(_TOO_BIG)
        shown = "Nothing to show in its place."
        if error.last_good:
            since = age((datetime.now(timezone.utc) - error.last_good[0]).total_seconds())
            shown = (
                f"Showing the last good answer, {clock(error.last_good[0])} UTC ({since} ago), maybe of another window."
            )
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption(f"{shown} Error id {error.error_id}.")
            st.button("Retry", icon=":material/refresh:", key=f"retry-{what}")
    return error.last_good[1] if error.last_good else None


def broken(page: str) -> None:
    """Within an except block: the card of a page with a bug in it; the traceback goes to the log."""
    error_id = uuid.uuid4().hex[:8]
    _log.exception("error %s: the page %s could not be drawn", error_id, page)
    with st.container(border=True):
        st.markdown(f":material/bug_report: **{label(page)} could not be drawn.** This is a bug of the dashboard.")
        st.caption(f"The log of the dashboard says more under error id {error_id}. Other pages are not affected.")


def empty(why: str, *, widen: bool = True, snippet: bool = False) -> None:
    """An empty state: one sentence why, and the next step."""
    st.markdown(f":material/inbox: {label(why)}")
    if snippet:
        st.caption("Nothing has arrived yet? Two lines send spans from a Python program:")
        st.code(SNIPPET, language="python")
    if widen:
        st.button(
            "Show 7 days, all filters off", icon=":material/zoom_out_map:", key=f"widen-{why}", on_click=sidebar.widen
        )


@contextmanager
def card(title: str, note: str = "", rows: Sequence[Mapping[str, Any]] | None = None) -> Generator[None]:
    """A bordered card with a title; with `rows`, the table and the CSV of what is shown behind a small menu."""
    with st.container(border=True, height="stretch"):
        with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
            st.markdown(f"**{title}**" + (f" :gray[{note}]" if note else ""), width="content")
            if rows:
                with st.popover("", icon=":material/table_rows:", help=f"{title} as a table and CSV", type="tertiary"):
                    table(rows, key=f"table-{title}")
                    download(title, rows)
        yield


def chart(
    figure: Mapping[str, Any],
    key: str,
    alt: str,
    on_select: Callable[[], None] | None = None,
    mode: Literal["box", "points"] = "box",
) -> None:
    """A figure with its finding as alternative text; `on_select` runs after a click (`points`) or a drag (`box`)."""
    if on_select is None:
        st.plotly_chart(figure, key=key, alt=alt, config=_PLOTLY)
    else:
        st.plotly_chart(figure, key=key, alt=alt, config=_PLOTLY, on_select=on_select, selection_mode=[mode])


def dragged(key: str) -> tuple[Any, Any] | None:
    """The x range of the box drawn on a chart, low and high, or None."""
    boxes = st.session_state[key]["selection"]["box"]
    return (min(boxes[0]["x"]), max(boxes[0]["x"])) if boxes else None


def clicked(key: str) -> str | None:
    """The first custom datum of the point clicked on a chart, or None."""
    points = st.session_state[key]["selection"]["points"]
    return str(points[0]["customdata"][0]) if points and points[0].get("customdata") else None


def table(
    rows: Sequence[Mapping[str, Any]],
    key: str,
    columns: Mapping[str, Any] | None = None,
    on_select: Callable[[], None] | None = None,
) -> None:
    """Rows as a table no taller than they need; with `on_select` a click on any cell runs it (see `picked`)."""
    height = "content" if len(rows) <= _ROWS_UNSCROLLED else _SCROLLED_PX
    data = {name: [row.get(name) for row in rows] for name in (rows[0] if rows else ())}
    config = dict(columns or {})
    if on_select is None:
        st.dataframe(data, key=key, hide_index=True, height=height, column_config=config, placeholder="–")
    else:
        st.dataframe(
            data,
            key=key,
            hide_index=True,
            height=height,
            column_config=config,
            placeholder="–",
            on_select=on_select,
            selection_mode="single-cell",
        )


def picked(key: str) -> int | None:
    """The row clicked in a table, or None."""
    cells = st.session_state[key]["selection"]["cells"]
    return int(cells[0][0]) if cells else None


def download(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """A button that saves the rows as CSV, the filters in its name."""
    filters = sidebar.chosen()
    scope = [f"{filters.start:%Y%m%dT%H%M}", f"{filters.end:%Y%m%dT%H%M}", *describe(filters).values()]
    note = f"the first {MAX_ROWS:,} rows" if len(rows) > MAX_ROWS else "exactly what is shown"
    st.download_button(
        "CSV",
        lambda: csv_text(rows),
        file_name(title, scope),
        "text/csv",
        icon=":material/download:",
        help=f"Save {note}",
        on_click="ignore",
        key=f"csv-{title}",
    )
