"""The same load gives the same answers, byte for byte: embedded by one writer, on a server by two processes at once.

The server is the double of http_double.py: the real engine behind HTTP. So this compares transports, orders of arrival
and shapes of batches, not engines.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import httpx
import pytest
from starlette.testclient import TestClient

from collector.store.battery import load
from collector.store.rows import SECOND
from collector.store.servers import double
from limelight_collector.api.app import create_app
from limelight_collector.auth import ANYONE, Principal
from limelight_collector.query.metric_points import AGGREGATIONS
from limelight_collector.query.series import MEASURES
from limelight_collector.query.traces import ORDERS
from limelight_collector.rollups import Rollups
from limelight_collector.services import Services
from limelight_collector.settings import Settings
from limelight_collector.store import Store, open_store

LATER = load.START * 2
"""A clock at which every bucket is closed and quiet."""
WINDOW = {"from": str(load.START // SECOND), "to": str(load.START // SECOND + 3 * 3600)}
FILTERS = [
    "",
    'status = error and not environment = "dev"',
    'attr["team"] exists or tags contains "b\'eta"',
    "flag exists",
]
GROUPS = ["", "model", "request_model,status", 'service_name,attr["team"],environment', "session_id,has_error"]
METRICS = {"queue.size": "level", "tokens": "counter", "calls": "counter", "latency": "histogram", "ttft": "histogram"}
METRICS |= {"p": "summary"}


@dataclass
class Both:
    """The API over both stores; a question is asked of both, and answered once."""

    embedded: TestClient
    over_http: TestClient

    def ask(self, path: str, project: str = "one", **asked: str) -> httpx.Response:
        """The answer, which is the same: status, kind and body."""
        params = {**WINDOW, **asked}
        first, second = (
            api.get(f"/api/v1/{path}", params=params, headers={"Authorization": quote(project)})
            for api in (self.embedded, self.over_http)
        )
        assert (first.status_code, first.headers["content-type"]) == (
            second.status_code,
            second.headers["content-type"],
        )
        assert first.content == second.content, (path, params)
        return first

    def pages(self, path: str, name: str, **asked: str) -> list[Any]:
        """Everything of a list, page by page."""
        found: list[Any] = []
        cursor: str | None = ""
        while cursor is not None:
            page = self.ask(path, **asked, cursor=cursor)
            assert page.status_code == 200, page.text
            found += page.json()[name]
            cursor = page.json()["next_cursor"]
        return found


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, Store]]:
    directory: Path = tmp_path_factory.mktemp("equal")
    given: dict[str, Any] = {"data_dir": directory, "retention_days": 36_500}
    with ExitStack() as stack:
        url = stack.enter_context(double(directory / "server"))
        embedded, over_http = open_store(Settings(**given)), open_store(Settings(**given, clickhouse_url=url))
        stack.callback(embedded.close)
        stack.callback(over_http.close)
        command = [sys.executable, "-m", "collector.store.battery.load", url, str(directory)]
        tests = Path(__file__).parents[3]
        senders = [subprocess.Popen([*command, str(number)], cwd=tests) for number in range(load.SENDERS)]
        batches = [load.sender(number) for number in range(load.SENDERS)]
        for turn in zip_longest(*batches):
            for batch in turn:
                if batch is not None:
                    embedded.insert(batch)
        assert [process.wait(timeout=120) for process in senders] == [0] * load.SENDERS
        yield embedded, over_http


def api_over(store: Store) -> TestClient:
    services = Services(
        settings=Settings(),
        store=store,
        control=cast("Any", None),
        spool=cast("Any", None),
        now_ns=lambda: LATER,
        authenticate=lambda header: Principal(load.PROJECTS[ORDER.index(header or "")], ANYONE.scopes),
        checks=dict,
        degraded=lambda: False,
    )
    return TestClient(create_app(services), base_url="http://limelight")


ORDER = [quote(project) for project in load.PROJECTS]


@pytest.fixture(scope="module")
def both(stores: tuple[Store, Store]) -> Both:
    return Both(*map(api_over, stores))


def test_the_load_is_one_that_could_differ(stores: tuple[Store, Store], both: Both) -> None:
    for store in stores:
        (stored, kept) = (store.query(f"SELECT count() FROM spans{how}").rows[0][0] for how in ("", " FINAL"))
        assert stored > kept > 400
    spans = both.pages("spans", "spans", limit="1000")
    assert any(span["status"] == "error" and not span["error_message"] for span in spans)  # a later copy won
    assert len({span["trace_id"] for span in spans}) == load.TRACES


@pytest.mark.parametrize("filter_text", FILTERS)
@pytest.mark.parametrize("order", ORDERS)
def test_traces_in_every_order_page_by_page(both: Both, order: str, filter_text: str) -> None:
    traces = both.pages("traces", "traces", order=order, filter=filter_text, limit="7")
    assert len(traces) == len({trace["trace_id"] for trace in traces}) > 7


@pytest.mark.parametrize("project", load.PROJECTS)
def test_a_trace_whole(both: Both, project: str) -> None:
    for trace in range(1, load.TRACES + 2, 4):
        answer = both.ask(f"traces/{trace:032x}", project)
        assert answer.status_code == (200 if trace <= load.TRACES else 404)


@pytest.mark.parametrize("filter_text", FILTERS)
@pytest.mark.parametrize("search", ["", "REFUND", 'my "refund"', "way.\n"])
def test_spans_page_by_page(both: Both, filter_text: str, search: str) -> None:
    spans = both.pages("spans", "spans", filter=filter_text, q=search, limit="23")
    assert spans or search == "way.\n"


@pytest.mark.parametrize("rolled", [False, True], ids=["raw", "rolled up"])
@pytest.mark.parametrize("step", ["", "60", "7", "5m", "1h", "1d"])
def test_series_of_every_measure_by_every_group(
    stores: tuple[Store, Store], both: Both, step: str, *, rolled: bool
) -> None:
    if rolled:
        for store in stores:
            Rollups(store, lambda: LATER).roll()
    for group_by in GROUPS:
        for filter_text in FILTERS[:2]:
            asked = {"measure": ",".join(MEASURES), "group_by": group_by, "step": step, "filter": filter_text}
            assert both.ask("series", **asked).json()["rows"]


@pytest.mark.parametrize("filter_text", FILTERS)
def test_errors_and_flags(both: Both, filter_text: str) -> None:
    for project in load.PROJECTS:
        assert both.ask("errors", project, filter=filter_text).json()["groups"]
    assert both.pages("flags", "flags", filter=filter_text, limit="9")
    assert both.ask("flags", filter=filter_text, code="emp'ty").json()["flags"]


def test_fields_and_their_values(both: Both) -> None:
    fields = both.ask("fields").json()["fields"]
    names = [field["name"] for field in fields if field["filterable"] and "[" not in field["name"]]
    asked = [both.ask(f"fields/{quote(name)}/values").status_code for name in [*names, 'attr["team"]', "attr[x]"]]
    assert {200, 400} == set(asked)


@pytest.mark.parametrize("metric", METRICS)
def test_metrics(both: Both, metric: str) -> None:
    assert {found["name"] for found in both.ask("metrics").json()["metrics"]} == set(METRICS)
    for aggregation in AGGREGATIONS[cast("Any", METRICS[metric])]:
        for step in ("", "5m"):
            for group_by in ("", 'service_name,attr["engine"]'):
                asked = {"aggregation": aggregation, "step": step, "group_by": group_by}
                answer = both.ask(f"metrics/{metric}/series", **asked)
                assert answer.json()["rows"], (metric, asked)


@pytest.mark.parametrize("filter_text", ["", "severity_number >= 17", 'body contains "it\'s" or attr["k"] = v'])
def test_logs_page_by_page(both: Both, filter_text: str) -> None:
    assert both.pages("logs", "logs", filter=filter_text, limit="7")
    both.ask("logs", trace_id=f"{3:032x}", filter=filter_text)


@pytest.mark.parametrize("filter_text", FILTERS)
@pytest.mark.parametrize("format_", ["csv", "jsonl", "parquet"])
def test_exports(both: Both, format_: str, filter_text: str) -> None:
    assert len(both.ask("spans/export", format=format_, filter=filter_text).content) > 1000


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("spans", {"filter": "nope = 1"}),
        ("spans", {"cursor": "x"}),
        ("traces", {"order": "best"}),
        ("series", {"measure": "request_count", "group_by": "input_tokens"}),
        ("series", {"measure": "request_count", "step": "1", "group_by": "session_id,model,status,name,provider"}),
        ("errors", {"from": "tomorrow"}),
        ("metrics/nope/series", {}),
        ("fields/nope/values", {}),
    ],
)
def test_refusals(both: Both, path: str, asked: dict[str, str]) -> None:
    assert both.ask(path, **asked).is_client_error
