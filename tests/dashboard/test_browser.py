"""Journeys in a real Chromium against the real server process; the API is the stand-in of fake_api.py."""

from __future__ import annotations

import os
import random
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from dashboard.conftest import NOW
from dashboard.fake_api import FakeApi, firing, history, hostile, make_trace

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
# Streamlit's client looks for its base path beside deep links; the misses are harmless and known.
ALLOWED_CONSOLE = ("404 (Not Found)",)
ARTIFACTS = Path(__file__).parents[1] / "artifacts"
PATIENCE_MS = 60_000


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(collector_url: str) -> tuple[subprocess.Popen[bytes], str]:
    """The dashboard as `limelight up` starts it; returns once it answers."""
    port = free_port()
    command = [sys.executable, "-m", "limelight_dashboard", "--port", str(port), "--collector-url", collector_url]
    environment = os.environ | {"LIMELIGHT_API_KEY": ""}
    process = subprocess.Popen([*command, "--exit-with-parent"], stdin=subprocess.PIPE, env=environment)
    url = f"http://127.0.0.1:{port}"
    for _ in range(300):
        try:
            with urllib.request.urlopen(f"{url}/_stcore/health", timeout=2) as answer:
                assert answer.read() == b"ok"
                return process, url
        except OSError:
            assert process.poll() is None, "the dashboard ended while starting"
            time.sleep(0.2)
    raise AssertionError("the dashboard did not start within a minute")


BIG = make_trace(random.Random(5), int(NOW.timestamp() - 120) * 10**9, 12)
EVIL = hostile(NOW)


@pytest.fixture(scope="module")
def dashboard() -> Iterator[str]:
    """Address of a running dashboard with an hour of traces behind it."""
    with FakeApi([*history(NOW, 40), BIG, EVIL], alerts=[firing(NOW)]) as api:
        process, url = start(api.url)
        yield url
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(20) == 0


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One Chromium for all journeys."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def page(request: pytest.FixtureRequest, browser: Browser, dashboard: str) -> Iterator[Page]:
    """A tab in one colour scheme; any page error, foreign request or unknown console error fails the test."""
    context = browser.new_context(
        viewport={"width": 1440, "height": 900},
        color_scheme=getattr(request, "param", "dark"),
        timezone_id="UTC",
        base_url=dashboard,
    )
    tab = context.new_page()
    wrong: list[str] = []
    tab.on("pageerror", lambda error: wrong.append(f"pageerror: {error}"))
    tab.on("request", lambda asked: wrong.append(asked.url) if is_foreign(asked.url, dashboard) else None)
    tab.on("console", lambda line: wrong.append(line.text) if is_news(line) else None)
    tab.set_default_timeout(PATIENCE_MS)
    expect.set_options(timeout=PATIENCE_MS)
    yield tab
    assert tab.locator('[data-testid="stException"]').count() == 0
    assert tab.get_by_text("could not be drawn").count() == 0
    assert tab.evaluate("window.hit") is None
    context.close()
    assert wrong == []


def is_foreign(url: str, dashboard: str) -> bool:
    """Whether a request leaves the dashboard."""
    return not url.startswith((dashboard, "data:", "blob:"))


def is_news(line: ConsoleMessage) -> bool:
    """Whether a console line is an error we do not know."""
    return line.type == "error" and not any(known in line.text for known in ALLOWED_CONSOLE)


def settled(tab: Page, charts: int = 0) -> None:
    """Wait until the script has run and Plotly has drawn `charts` figures."""
    tab.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]', state="attached")
    tab.wait_for_function(f"document.querySelectorAll('.js-plotly-plot .main-svg').length >= {2 * charts}")


def picture(tab: Page, name: str) -> None:
    """Keep a screenshot for a person to look at."""
    ARTIFACTS.mkdir(exist_ok=True)
    tab.wait_for_timeout(1000)
    tab.screenshot(path=ARTIFACTS / f"dashboard-{name}.png")


@pytest.mark.parametrize(("page", "scheme"), [("dark", "dark"), ("light", "light")], indirect=["page"])
def test_from_the_overview_to_the_message(page: Page, scheme: str) -> None:
    page.goto("/")
    settled(page, charts=3)
    expect(page.get_by_text("Needs attention")).to_be_visible()
    picture(page, f"overview-{scheme}")

    page.get_by_role("link", name="Traces").click()
    page.wait_for_url(re.compile("/traces"))
    canvas = page.locator('[data-testid="stDataFrame"] canvas').first
    canvas.wait_for()
    settled(page)
    picture(page, f"traces-{scheme}")
    box = canvas.bounding_box()
    assert box
    page.mouse.click(box["x"] + 40, box["y"] + 31 + 15)
    page.wait_for_url(re.compile(r"/trace\?.*trace_id=[0-9a-f]{32}"))

    settled(page, charts=2)
    page.locator(".js-plotly-plot").nth(1).locator(".bars .point path").nth(2).click(force=True)
    page.wait_for_url(re.compile("span_id=[0-9a-f]{16}"))
    expect(page.get_by_role("tab", name="Messages")).to_be_visible()
    picture(page, f"trace-{scheme}")

    page.get_by_role("radio", name="Messages").click()
    page.wait_for_url(re.compile("view=Messages"))
    expect(page.get_by_text("Where is my order 88213?").first).to_be_visible()


def test_a_drag_on_the_minimap_zooms_and_a_reload_keeps_it(page: Page) -> None:
    page.goto(f"/trace?trace_id={BIG[0]['trace_id']}")
    settled(page, charts=2)
    box = page.locator(".js-plotly-plot").first.locator(".nsewdrag").first.bounding_box()
    assert box
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] * 0.3, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.5, middle, steps=4)
    page.mouse.up()
    page.wait_for_url(re.compile(r"t0=\d"))
    page.reload()
    settled(page, charts=2)
    page.get_by_role("button", name="show all").click()
    expect(page).not_to_have_url(re.compile("t0="))


def test_a_drag_over_the_error_chart_opens_its_traces(page: Page) -> None:
    page.goto("/?window=1h")
    settled(page, charts=3)
    box = page.locator(".js-plotly-plot").first.locator(".nsewdrag").first.bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + 90, steps=4)
    page.mouse.up()
    page.wait_for_url(re.compile("/traces"))
    expect(page).to_have_url(re.compile("custom=true"))
    expect(page).to_have_url(re.compile("show=Errors"))
    expect(page.get_by_label("Filter")).to_be_visible()


def test_hostile_text_stays_text(page: Page) -> None:
    llm = next(span for span in EVIL if span["observation_type"] == "llm")
    trace = f"/trace?trace_id={EVIL[0]['trace_id']}&span_id={llm['span_id']}"
    for path, charts in (
        (trace, 2),
        (f"{trace}&view=Messages", 0),
        ("/", 3),
        ("/errors", 1),
        ("/flagged", 0),
        ("/cost", 1),
    ):
        page.goto(path)
        settled(page, charts)
        expect(page.get_by_text("window.hit=1").first).to_be_attached()
        no_markup(page)


def no_markup(tab: Page) -> None:
    """Nothing of the hostile text became a link, an image or a script."""
    # Our own links may carry the text as a parameter, percent-encoded: that is no link to it.
    for selector in ('a[href*="//evil"]', 'img[src*="evil"]', "svg a", 'script:text("window.hit")'):
        assert tab.locator(selector).count() == 0, selector


def test_a_killed_parent_leaves_no_orphan() -> None:
    process, url = start("http://127.0.0.1:9")
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(20) == 0
    with pytest.raises(OSError, match=r"refused|reset"):
        urllib.request.urlopen(url, timeout=5)
