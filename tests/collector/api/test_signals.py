"""Metrics and logs over HTTP: shapes, scopes and the reasons of refusals; the numbers are in tests/collector/query."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from collector.store.rows import T0, log, point
from limelight_collector.batch import Batch
from limelight_collector.services import Services

NAME = "vllm:num_requests_running"


@pytest.fixture(scope="module", autouse=True)
def _stored(services: Services) -> None:
    points = [point(n, at_s=10 * n, metric=NAME, value=float(n), attributes={"engine": f'"{n}"'}) for n in (1, 2)]
    records = [log(n, at_s=n, trace=n) for n in (1, 2, 3)]
    old = log(9, at_s=-9000, trace=9)
    services.store.insert(Batch(points=points, logs=[*records, old]))


def refused(client: TestClient, path: str, status: int = 400, **params: Any) -> str:
    answer = client.get(f"/api/v1/{path}", params=params)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.json()["detail"]


def test_metrics_are_listed(get: Callable[..., Any]) -> None:
    (metric,) = get("metrics")["metrics"]
    assert (metric["name"], metric["kind"], metric["attribute_keys"]) == (NAME, "gauge", ["engine"])
    assert get("metrics", to=T0 / 1e9 - 3600) == {"metrics": []}
    assert get("metrics", filter='metric = "other"') == {"metrics": []}


def test_a_metric_by_time_and_group(get: Callable[..., Any]) -> None:
    asked = get(f"metrics/{NAME}/series", step="10s", group_by='attr["engine"]', aggregation="max")
    assert asked == {
        "name": NAME,
        "kind": "gauge",
        "unit": None,
        "aggregation": "max",
        "rows": [
            {"time": "2026-09-21T14:13:30.000000000Z", 'attr["engine"]': "1", "value": 1.0},
            {"time": "2026-09-21T14:13:40.000000000Z", 'attr["engine"]': "2", "value": 2.0},
        ],
    }
    assert get(f"metrics/{NAME}/series")["rows"] == [{"value": 1.5}]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"aggregation": "rate"}, "choose from avg"),
        ({"step": "x"}, "step"),
        ({"step": "0"}, "one year"),
        ({"group_by": "nope"}, "unknown field 'nope'; choose from metric"),
        ({"filter": "kind ="}, "position 6"),
        ({"from": "x"}, "from: expected"),
    ],
)
def test_a_question_that_cannot_be_understood(client: TestClient, params: dict[str, Any], message: str) -> None:
    assert message in refused(client, f"metrics/{NAME}/series", **params)


def test_an_unknown_metric_is_not_found_and_anothers_neither(client: TestClient) -> None:
    assert "no metric" in refused(client, "metrics/nope/series", 404)
    answer = client.get(f"/api/v1/metrics/{NAME}/series", headers={"Authorization": "Bearer other"})
    assert answer.status_code == 404
    assert client.get("/api/v1/logs", headers={"Authorization": "Bearer other"}).json()["logs"] == []


@pytest.mark.parametrize("path", ["metrics", f"metrics/{NAME}/series", "logs"])
def test_reading_takes_the_scope_read(client: TestClient, path: str) -> None:
    assert client.get(f"/api/v1/{path}", headers={"Authorization": "Bearer ingest"}).status_code == 403


def test_logs_page_by_page(get: Callable[..., Any]) -> None:
    first = get("logs", limit=2)
    assert [record["body"] for record in first["logs"]] == ["line 3", "line 2"]
    second = get("logs", limit=2, cursor=first["next_cursor"])
    assert ([record["body"] for record in second["logs"]], second["next_cursor"]) == (["line 1"], None)


def test_records_of_a_trace_wherever_it_lies_unless_a_window_is_asked_for(get: Callable[..., Any]) -> None:
    trace = (9).to_bytes(16, "big").hex()
    assert [record["body"] for record in get("logs", trace_id=trace.upper())["logs"]] == ["line 9"]
    assert get("logs", trace_id=trace, span_id="00" * 8)["logs"] == []
    assert get("logs", trace_id=trace, to=T0 / 1e9)["logs"] == []
    assert get("logs", trace_id="0" * 31 + "a") == {"logs": [], "next_cursor": None}


def test_an_id_that_is_none_is_refused(client: TestClient) -> None:
    assert refused(client, "logs", trace_id="xyz") == "trace_id: 32 hex digits"
    assert refused(client, "logs", span_id="12") == "span_id: 16 hex digits"
    assert "cursor" in refused(client, "logs", cursor="12")
