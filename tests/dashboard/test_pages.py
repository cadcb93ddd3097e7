"""Each page on a full, an empty and a broken store: no exception, and a sentence that says what is the matter."""

from __future__ import annotations

import random
import re
from urllib.parse import parse_qsl

import pytest
from streamlit.testing.v1 import AppTest

from dashboard.conftest import NOW, OpenPage
from dashboard.fake_api import FakeApi, firing, history, hostile, make_trace

PAGES = ("", "traces", "errors", "alerts", "flagged", "cost")


def texts(at: AppTest) -> str:
    """All words of the page."""
    blocks = [*at.markdown, *at.caption, *at.text, *at.code, *at.header, *at.subheader, *at.warning]
    return "\n".join(str(block.value) for block in blocks)


@pytest.mark.parametrize("page", PAGES)
def test_full_store(open_page: OpenPage, page: str) -> None:
    at = open_page(FakeApi([*history(NOW, 40), hostile(NOW)], alerts=[firing(NOW)]), page)
    assert not at.exception
    assert "data to" in texts(at)
    assert "could not be loaded" not in texts(at)


@pytest.mark.parametrize(
    ("page", "why"),
    [
        ("", "No model calls"),
        ("traces", "No trace matches"),
        ("errors", "Nothing failed"),
        ("alerts", "No alert is firing"),
        ("flagged", "No answer is flagged"),
        ("cost", "No model calls"),
        ("trace", "names no trace"),
    ],
)
def test_empty_store_says_why(open_page: OpenPage, page: str, why: str) -> None:
    at = open_page(FakeApi([]), page)
    assert not at.exception
    assert why in texts(at)


@pytest.mark.parametrize("page", PAGES)
def test_broken_store_says_what_failed_and_offers_retry(open_page: OpenPage, page: str) -> None:
    at = open_page(FakeApi([], broken=True), page)
    assert not at.exception
    assert "could not be loaded" in texts(at)
    assert "the store is on fire" in texts(at)
    assert any(button.label == "Retry" for button in at.button)


def test_unreachable_collector_is_named(open_page: OpenPage, monkeypatch: pytest.MonkeyPatch) -> None:
    api = FakeApi([])
    at = open_page(api, "traces")
    monkeypatch.setenv("LIMELIGHT_COLLECTOR_URL", "http://127.0.0.1:9")
    at.run()
    assert not at.exception
    assert "cannot be reached" in texts(at)


def test_the_last_good_answer_stays_in_sight(open_page: OpenPage) -> None:
    api = FakeApi(history(NOW, 5))
    at = open_page(api, "flagged", window="6h")
    api.broken = True
    at.session_state["window"] = "24h"
    at.run()
    assert not at.exception
    assert "last good answer" in texts(at)


def test_unknown_trace_says_what_may_have_happened(open_page: OpenPage) -> None:
    at = open_page(FakeApi([]), "trace", trace_id="ab" * 16)
    assert not at.exception
    assert "sampled out, expired, or not yet arrived" in texts(at).replace("\\", "")


@pytest.mark.parametrize("view", ["Waterfall", "Flame", "Self time", "Messages", "Raw"])
def test_trace_views(open_page: OpenPage, view: str) -> None:
    spans = make_trace(random.Random(2), int(NOW.timestamp() - 100) * 10**9, 4)
    llm = next(span for span in spans if span["observation_type"] == "llm")
    at = open_page(FakeApi([spans]), "trace", trace_id=spans[0]["trace_id"], span_id=llm["span_id"], view=view)
    assert not at.exception
    assert "Where is my order 88213?" in texts(at)
    assert [m.value for m in at.metric if m.label == "Spans"] == [str(len(spans))]


def test_a_trace_of_thousands_opens_on_one_page_of_rows(open_page: OpenPage) -> None:
    spans = make_trace(random.Random(2), int(NOW.timestamp() - 1000) * 10**9, 400)
    at = open_page(FakeApi([spans]), "trace", trace_id=spans[0]["trace_id"])
    assert not at.exception
    assert [m.value for m in at.metric if m.label == "Spans"] == ["2.4K"]
    assert len(at.get("plotly_chart")) == 2


@pytest.mark.parametrize(
    "query",
    [
        {"t0": "x", "t1": "5"},
        {"t0": "9", "t1": "5"},
        {"t0": "1e99", "t1": "nan"},
        {"span_id": "zz"},
        {"view": "No"},
        {"page": "99"},
    ],
)
def test_a_damaged_address_still_shows_the_trace(open_page: OpenPage, query: dict[str, str]) -> None:
    spans = make_trace(random.Random(2), int(NOW.timestamp() - 100) * 10**9, 2)
    at = open_page(FakeApi([spans]), "trace", trace_id=spans[0]["trace_id"], **query)
    assert not at.exception
    assert "support-agent" in texts(at).replace("\\", "")


def test_filters_of_the_address_reach_the_api(open_page: OpenPage) -> None:
    api = FakeApi(history(NOW, 5))
    at = open_page(api, "traces", service="gone", show="Errors", q='say "x"', window="6h")
    assert not at.exception
    asked = [path for path in api.asked if path.startswith("/api/v1/traces?")]
    assert "service_name+%3D+%22gone%22" in asked[-1]
    assert "status+%3D+error" in asked[-1]
    assert "q=say+%22x%22" in asked[-1]
    assert at.selectbox(key="service").value == "gone"


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("WAREHOUSE on", 5),
        ("warehouses", 0),
        ("support-agent", 0),
        ("name=support-agent", 5),
        ("session=s-1", 5),
        ("session=S-1", 0),
        ("user=u-7", 5),
    ],
)
def test_search_finds_texts_and_by_key_names_and_people(open_page: OpenPage, typed: str, found: int) -> None:
    at = open_page(FakeApi(history(NOW, 5)), "traces", q=typed)
    assert not at.exception
    assert (f"{found} traces · page 1" if found else "in this window") in texts(at)


def test_a_search_of_texts_without_a_hit_says_where_it_looked(open_page: OpenPage) -> None:
    at = open_page(FakeApi(history(NOW, 5)), "traces", q="s-1")
    said = texts(at).replace("\\", "")
    assert "has this text" in said
    assert "session=…" in said


def test_a_search_by_key_without_a_hit_says_how_it_was_read(open_page: OpenPage) -> None:
    at = open_page(FakeApi([]), "traces", q="x=1")
    assert 'The search asked for: attr["x"] = "1"' in texts(at)


def test_pages_of_a_search_go_on_with_its_text(open_page: OpenPage) -> None:
    api = FakeApi(history(NOW, 101))
    at = open_page(api, "traces", q="warehouse", window="6h")
    next(button for button in at.button if button.label == "Older").click().run()
    assert "1 traces · page 2" in texts(at)
    asked = [path for path in api.asked if path.startswith("/api/v1/traces?")]
    assert "q=warehouse" in asked[-1]
    assert "cursor=100" in asked[-1]
    at.text_input(key="q").set_value("it left").run()
    assert "100 traces · page 1" in texts(at)


def test_a_search_that_is_too_much_says_how_to_ask_for_less(open_page: OpenPage) -> None:
    api = FakeApi(history(NOW, 5))
    api.too_big = True
    at = open_page(api, "traces", q="warehouse")
    assert not at.exception
    assert "took longer than 10 s" in texts(at)
    assert "shorter window" in texts(at)
    at.text_input(key="q").set_value("").run()
    assert "could not be loaded" not in texts(at)


def test_a_text_too_long_to_search_is_not_asked(open_page: OpenPage) -> None:
    api = FakeApi(history(NOW, 5))
    at = open_page(api, "traces", q="x" * 1001)
    assert not at.exception
    assert "has 1,001 characters; 1,000 are the most" in texts(at)
    assert not any(path.startswith("/api/v1/traces?") for path in api.asked)


def test_the_session_of_a_trace_is_a_search(open_page: OpenPage) -> None:
    spans = make_trace(random.Random(2), int(NOW.timestamp() - 100) * 10**9, 2)
    at = open_page(FakeApi([spans]), "trace", trace_id=spans[0]["trace_id"])
    (link,) = [block.proto for block in at.get("page_link") if "session" in block.proto.label]
    assert dict(parse_qsl(link.query_string)) == {"q": "session=s-1"}


def test_a_bug_in_a_page_is_a_card_with_an_id_in_the_log(
    open_page: OpenPage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    api = FakeApi([])
    at = open_page(api, "cost")
    monkeypatch.setattr("limelight_dashboard.views.cost.render", lambda: 1 / 0)
    at.run()
    assert not at.exception
    shown = re.search(r"error id ([0-9a-f]{8})", texts(at))
    assert shown
    assert shown[1] in caplog.text
    assert "ZeroDivisionError" not in texts(at)
