"""The slowest questions: which are kept, what is said of them, and to whom."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

import pytest
from starlette.testclient import TestClient

from collector.store.rows import T0
from limelight_collector.api.app import create_app
from limelight_collector.auth import ANYONE, Principal
from limelight_collector.errors import QueryLimit
from limelight_collector.metrics import REGISTRY
from limelight_collector.services import Services
from limelight_collector.store.slow import KEPT, OWN, SlowQueries


class Clock:
    now_ns = T0

    def __call__(self) -> int:
        return self.now_ns


def ask(slow: SlowQueries, sql: str, seconds: float, project: str = "p") -> None:
    with slow.timed(sql, {"project_id": project}) as query:
        query.idle_s = -seconds  # on top of next to nothing


def fail(slow: SlowQueries) -> None:
    with slow.timed("SELECT {f0:String}", {"f0": "secret", "project_id": "p"}) as query:
        query.idle_s = -2
        raise QueryLimit("too long")


def test_the_slowest_are_kept_once_each_and_for_a_day() -> None:
    clock = Clock()
    slow = SlowQueries(1000.0, clock)
    for n in range(2 * KEPT):
        ask(slow, f"SELECT {n}", n)
    ask(slow, f"SELECT {2 * KEPT - 1}", 500)
    ask(slow, "SELECT other", 999, project="q")
    kept = slow.of("p")
    assert [query.sql for query in kept] == [f"SELECT {n}" for n in range(2 * KEPT - 1, KEPT - 1, -1)]
    assert (int(kept[0].seconds), kept[0].asked, kept[1].asked) == (500, 2, 1)
    assert slow.find("p", slow.of("q")[0].id) is None
    clock.now_ns += 2 * 86_400 * 10**9
    ask(slow, "SELECT new", 1)
    ask(slow, kept[0].sql, 2)
    assert [query.sql for query in slow.of("p")][-2:] == [kept[0].sql, "SELECT new"]


def test_a_slow_query_is_logged_without_what_a_user_wrote(caplog: pytest.LogCaptureFixture) -> None:
    slow = SlowQueries(1.0, Clock())
    sample = ("limelight_slow_queries_total", {"route": OWN})
    before = REGISTRY.get_sample_value(*sample) or 0.0
    with caplog.at_level(logging.WARNING, "limelight.store"), pytest.raises(QueryLimit):
        fail(slow)
    (record,) = caplog.records
    fields: dict[str, Any] = record.fields  # type: ignore[attr-defined]
    assert (record.message, fields["outcome"], fields["parameters"]) == ("slow query", "limit", {"f0": "String"})
    assert fields["seconds"] >= 2
    assert "secret" not in repr(fields)
    assert REGISTRY.get_sample_value(*sample) == before + 1


def test_an_admin_sees_and_explains_the_slow_queries_of_its_project(services: Services) -> None:
    principals = {f"Bearer {project}": Principal(project, ANYONE.scopes) for project in ("slow", "fast")}
    app = create_app(dataclasses.replace(services, authenticate=lambda header: principals[str(header)]))
    with TestClient(app, base_url="http://limelight") as client:
        mine, other = {"Authorization": "Bearer slow"}, {"Authorization": "Bearer fast"}
        assert client.get("/api/v1/errors", params={"filter": 'name = "secret"'}, headers=mine).status_code == 200
        body = client.get("/api/v1/queries/slow", headers=mine).json()
        assert {(query["route"], query["outcome"]) for query in body["queries"]} == {("/errors", "answered")}
        assert body["slow_query_s"] == 2.0
        # the filter's text is bound; the question before it asks which minutes changed
        (query,) = (query for query in body["queries"] if len(query["parameters"]) > 1)
        assert "secret" not in str(body)
        assert client.get("/api/v1/queries/slow", headers=other).json()["queries"] == []
        explained = client.get(f"/api/v1/queries/slow/{query['id']}/explain", headers=mine).json()
        assert any("ReadFromMergeTree" in line for line in explained["plan"])
        assert any("PrimaryKey" in line for line in explained["plan"])
        assert client.get(f"/api/v1/queries/slow/{query['id']}/explain", headers=other).status_code == 404
