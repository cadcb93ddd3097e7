"""Log records asked of a real store: pages, filters, traces."""

from __future__ import annotations

from typing import Any

import pytest

from collector.store.rows import SECOND, T0, log
from limelight_collector.batch import Batch
from limelight_collector.errors import Rejected
from limelight_collector.query.filter import FilterError
from limelight_collector.query.logs import find_logs, log_window
from limelight_collector.query.window import Window
from limelight_collector.store import Store


def insert(store: Store, project: str, *records: dict[str, Any]) -> None:
    store.insert(Batch(logs=[{**record, "project_id": project} for record in records]))


def page(store: Store, project: str, **given: Any) -> tuple[list[dict[str, Any]], str | None]:
    asked: dict[str, Any] = {"filter_text": "", "trace_id": None, "span_id": None, "limit": 100, "cursor": ""} | given
    return find_logs(store, Window(project, T0 - SECOND, T0 + 86_400 * SECOND), **asked)


def bodies(store: Store, project: str, **given: Any) -> list[Any]:
    return [record["body"] for record in page(store, project, **given)[0]]


def test_a_record_as_the_api_shows_it(store: Store) -> None:
    said: dict[str, Any] = {
        "trace": 7,
        "event_name": "gen_ai.choice",
        "body": '{"n":[1,null]}',
        "attributes": {"k": '"v"', "n": "1.5"},
        "resource": {"host": '"a"'},
        "scope_name": "openai",
    }
    insert(store, "shown", log(1, **said), log(2, at_s=1, severity_number=0, severity_text="", body=""))
    bare, full = page(store, "shown")[0]
    assert full == {
        "time": "2026-09-21T14:13:20.000000000Z",
        "log_id": "00" * 15 + "01",
        "trace_id": "00" * 15 + "07",
        "span_id": "0000000000001b59",
        "severity_number": 9,
        "severity_text": "INFO",
        "event_name": "gen_ai.choice",
        "service_name": "svc",
        "environment": None,
        "scope_name": "openai",
        "scope_version": None,
        "body": {"n": [1, None]},
        "attributes": {"k": "v", "n": 1.5},
        "resource": {"host": "a"},
        "dropped_attributes_count": 0,
    }
    assert [bare[key] for key in ("trace_id", "span_id", "severity_number", "event_name", "body")] == [None] * 5


def test_pages_go_through_every_record_once_newest_first(store: Store) -> None:
    # Two share each instant, and they lie far apart, so that slices and ties are both crossed.
    insert(store, "pages", *(log(n, at_s=(n // 2) * 700.0) for n in range(25)))
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        found, cursor = page(store, "pages", limit=4, cursor=cursor)
        seen += [record["body"] for record in found]
    assert seen == [f"line {n}" for n in reversed(range(25))]


@pytest.mark.parametrize("cursor", ["x", "1-2", f"{2**63}-{'0' * 32}"])
def test_a_cursor_of_ones_own_is_refused(store: Store, cursor: str) -> None:
    with pytest.raises(Rejected, match="cursor"):
        page(store, "pages", cursor=cursor)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('body contains "refund"', ["a refund"]),
        ('body = "a refund"', ["a refund"]),
        ('body contains "\\"n\\":1"', [{"n": 1}]),
        ("severity_number >= 17", [{"n": 1}]),
        ('severity_text in ("WARN", "ERROR")', [{"n": 1}]),
        ('attr["k"] = "v"', ["a refund"]),
        ("event_name exists", [{"n": 1}]),
        ("not trace_id exists", ["a refund"]),
        ('span_id = "0000000000001b59"', [{"n": 1}]),
        ("time > 1790000000.5", [{"n": 1}]),
        ('service_name = "nobody"', []),
    ],
)  # fmt: skip
def test_filters(store: Store, text: str, expected: list[Any]) -> None:
    one = log(1, body='"a refund"', attributes={"k": '"v"'})
    two = log(2, at_s=1, trace=7, body='{"n":1}', severity_number=17, severity_text="ERROR", event_name="e")
    insert(store, "filters", one, two)
    assert bodies(store, "filters", filter_text=text) == expected


def test_a_field_of_spans_is_none_of_records(store: Store) -> None:
    with pytest.raises(FilterError, match="unknown field 'request_model'; choose from time, trace_id"):
        page(store, "filters", filter_text='request_model = "x"')


def test_records_of_a_trace_and_of_a_span(store: Store) -> None:
    other = (9).to_bytes(8, "big")
    insert(store, "trace", log(1, trace=7), log(2, at_s=5, trace=7, span_id=other), log(3, trace=8), log(4))
    seven = (7).to_bytes(16, "big")
    assert bodies(store, "trace", trace_id=seven) == ["line 2", "line 1"]
    assert bodies(store, "trace", trace_id=seven, span_id=other) == ["line 2"]
    assert log_window(store, "trace", [seven]) == Window("trace", T0, T0 + 5 * SECOND + 1)
    assert log_window(store, "trace", [bytes(16)]) is None
