"""The script Streamlit runs for every session: page frame, navigation, filters, header, then the page."""

from pathlib import Path

import streamlit as st

from limelight_dashboard import cards, header, pages, sidebar

_HERE = Path(__file__).parent

st.set_page_config(
    page_title="Limelight",
    page_icon=_HERE / "favicon.png",
    layout="wide",
    initial_sidebar_state="expanded",
    menu_items={"About": "Limelight: LLM observability on OpenTelemetry and ClickHouse."},
)
st.logo(_HERE / "logo.svg", size="large")
# The one style of our own: the wide layout wastes about 90 px at each side. A screenshot test covers it.
st.html("<style>[data-testid=stMainBlockContainer]{padding-inline:1.6rem}</style>")

current = st.navigation(pages.sections())
pages.follow()
sidebar.draw()
header.draw(current.title)
try:
    current.run()
except Exception:
    cards.broken(current.title)
