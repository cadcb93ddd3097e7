"""Fixtures of the dashboard's tests: a peer that speaks the API, and the pages run against it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime, timezone
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest
from streamlit.util import calc_hash

import limelight_dashboard
from dashboard.fake_api import FakeApi
from limelight_dashboard import client

APP = Path(limelight_dashboard.__file__).with_name("app.py")
NOW = datetime.now(timezone.utc)

OpenPage = Callable[..., AppTest]


@pytest.fixture
def open_page(monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenPage]:
    """Run the whole app at one page of a given API: `open_page(api, "trace", trace_id=…)`."""
    with ExitStack() as stack:

        def run(api: FakeApi, page: str, /, **query: str) -> AppTest:
            stack.enter_context(api)
            monkeypatch.setenv("LIMELIGHT_COLLECTOR_URL", api.url)
            client._last_good.clear()
            at = AppTest.from_file(str(APP), default_timeout=30)
            at._page_hash = calc_hash(page)
            for name, value in query.items():
                at.query_params[name] = value
            at.run()
            # The app draws a card where a page breaks, so that a bug is no exception to AppTest.
            assert not any("could not be drawn" in block.value for block in at.markdown)
            return at

        yield run


@pytest.fixture(scope="session", autouse=True)
def no_statistics() -> None:
    """Nothing a test runs may phone home."""
    os.environ["STREAMLIT_BROWSER_GATHER_USAGE_STATS"] = "false"
