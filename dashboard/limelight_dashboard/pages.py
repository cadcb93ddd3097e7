"""The pages and how one leads to another: every link carries its state in the URL."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import streamlit as st

if TYPE_CHECKING:
    from streamlit.navigation.page import Page

_GO = "_go"


@dataclass(frozen=True, slots=True)
class Entry:
    """A page: its module in `views` has `render()`; hidden pages are reached by links only."""

    title: str
    icon: str
    section: str
    hidden: bool = False


ENTRIES: dict[str, Entry] = {
    "overview": Entry("Overview", ":material/space_dashboard:", "Operate"),
    "traces": Entry("Traces", ":material/account_tree:", "Operate"),
    "errors": Entry("Errors", ":material/error:", "Operate"),
    "alerts": Entry("Alerts", ":material/notifications:", "Operate"),
    "flagged": Entry("Flagged", ":material/flag:", "Quality"),
    "cost": Entry("Cost", ":material/payments:", "Spend"),
    "trace": Entry("Trace", ":material/account_tree:", "Operate", hidden=True),
}
DEFAULT = "overview"


def page(name: str) -> Page:
    """Streamlit's page object; equal for equal names, so that any module may ask for one."""
    entry = ENTRIES[name]
    view = importlib.import_module(f"limelight_dashboard.views.{name}")
    return st.Page(
        view.render,
        title=entry.title,
        icon=entry.icon,
        url_path=name,
        default=name == DEFAULT,
        visibility="hidden" if entry.hidden else "visible",
    )


def sections() -> dict[str, list[Page]]:
    """All pages by section, as `st.navigation` wants them."""
    grouped: dict[str, list[Page]] = {}
    for name, entry in ENTRIES.items():
        grouped.setdefault(entry.section, []).append(page(name))
    return grouped


def go(name: str, **query: str) -> None:
    """From a callback: show another page once the callback is done. The sidebar's filters stay as they are."""
    st.session_state[_GO] = (name, {key: value for key, value in query.items() if value})


def follow() -> None:
    """Go where `go` said; called once a run, before anything is drawn."""
    if _GO in st.session_state:
        name, query = st.session_state.pop(_GO)
        st.switch_page(page(name), query_params=query)


def link(name: str, text: str, icon: str | None = None, **query: str) -> None:
    """A link to a page; `text` is Markdown, so untrusted words go through `format.label` first."""
    st.page_link(page(name), label=text, icon=icon or ENTRIES[name].icon, query_params=query or None)
