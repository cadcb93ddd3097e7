"""The read API over HTTP: shapes, scopes, errors a person can act on, files."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.testclient import TestClient

from collector.api.conftest import HOSTILE
from collector.store.rows import SECOND, T0, batch, llm
from limelight_collector.api.app import PUBLIC, SCOPED, create_app, refuse_undeclared
from limelight_collector.api.asked import names
from limelight_collector.errors import QueryLimit, Unavailable
from limelight_collector.query.span_json import parsed, time_text
from limelight_collector.services import Services
from limelight_collector.store.columns import COLUMNS

SPAN_KEYS = {
    "project",
    "end_time",
    "flags",
    "scores",
    *(column.name for column in COLUMNS if column.json != "hidden"),
}


def problem(answer: Any, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == status
    assert body["title"]
    return body["detail"]


# -- scopes ------------------------------------------------------------------------------------------------------------
def scoped() -> list[tuple[str, str]]:
    """Method and path of every route under /api/v1."""
    found = [route for module in SCOPED for route in module.router.routes]
    return [
        (method, f"/api/v1{route.path}") for route in found if isinstance(route, APIRoute) for method in route.methods
    ]


def test_every_route_wants_a_key(client: TestClient) -> None:
    assert len(scoped()) > 25
    for method, path in scoped():
        answer = client.request(method, path, headers={"Authorization": "Bearer wrong"})
        assert "unknown" in problem(answer, 401), path
        assert answer.headers["www-authenticate"] == "Bearer"


def test_every_served_path_was_looked_at(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    served = {(method.upper(), path) for path, item in paths.items() for method in item}
    documented = {(method, path.replace(":path}", "}")) for method, path in scoped()}
    assert served == documented | {("GET", path) for path in PUBLIC}


def test_a_forgotten_scope_stops_the_start() -> None:
    router = APIRouter()
    router.get("/secret")(no_scope)
    with pytest.raises(RuntimeError, match="secret declares no scope"):
        refuse_undeclared(router)
    outer = APIRouter()
    outer.include_router(router)
    with pytest.raises(RuntimeError, match="declares no scope"):
        refuse_undeclared(outer)


def no_scope() -> None:
    """A route somebody forgot to protect."""


def test_a_key_does_only_what_its_scope_says(client: TestClient) -> None:
    new = {"trace_id": f"{1:032x}", "name": "n", "value": 1}
    denied = client.post("/api/v1/scores", json=new, headers={"Authorization": "Bearer read"})
    assert "'ingest'" in problem(denied, 403)
    assert "'read'" in problem(client.get("/api/v1/traces", headers={"Authorization": "Bearer ingest"}), 403)


def test_the_project_is_the_keys_alone(client: TestClient) -> None:
    other = {"Authorization": "Bearer other"}
    assert [t["trace_id"] for t in client.get("/api/v1/traces", headers=other).json()["traces"]] == [f"{3:032x}"]
    problem(client.get(f"/api/v1/traces/{1:032x}", headers=other), 404)
    values = client.get("/api/v1/fields/name/values", headers=other).json()
    assert values == {"values": [{"value": "span-1", "count": 1}], "truncated": False}


@pytest.mark.parametrize("path", sorted(PUBLIC))
def test_machines_need_no_key(client: TestClient, path: str) -> None:
    assert client.get(path, headers={"Authorization": "Bearer wrong"}).status_code == 200


def test_not_ready_says_which_check(services: Services) -> None:
    services.checks, before = (lambda: {"spool": True, "writer": False}), services.checks
    try:
        answer = TestClient(create_app(services)).get("/readyz")
    finally:
        services.checks = before
    assert answer.status_code == 503
    assert answer.json() == {"ready": False, "degraded": False, "checks": {"spool": True, "writer": False}}


# -- shapes ------------------------------------------------------------------------------------------------------------
def test_a_trace_holds_its_spans_with_every_key(get: Any) -> None:
    body = get(f"traces/{1:032X}")
    assert body["trace_id"] == f"{1:032x}"
    root, call = body["spans"]
    assert set(root) == set(call) == SPAN_KEYS
    assert (call["parent_span_id"], root["parent_span_id"]) == (root["span_id"], None)
    assert (call["start_time"], call["end_time"]) == (
        "2026-09-21T14:13:31.000000000Z",
        "2026-09-21T14:13:32.000000000Z",
    )
    assert call["cost_usd"] == "0.0015"
    assert call["input_messages"][0]["parts"][0]["content"] == 'Where is my "refund"?'
    assert [flag["code"] for flag in call["flags"]] == ["truncated"]
    assert call["scores"] == [{"name": "helpful", "value": 1.0, "label": None, "explanation": None, "source": "api"}]
    assert [score["name"] for score in root["scores"]] == ["whole"]
    assert root["status"] == "ok"


def test_lists_answer_their_names(get: Any) -> None:
    assert [t["input_preview"] for t in get("traces", filter='session_id = "s1"')["traces"]] == [
        'Where is my "refund"?'
    ]
    assert [s["name"] for s in get("spans", q="REFUND")["spans"]] == ["span-2"]
    assert [t["span_count"] for t in get("traces", q='my "refund')["traces"]] == [2]
    assert get("traces", q="role")["traces"] == []
    assert [g["error_type"] for g in get("errors")["groups"]] == ["Timeout"]
    assert [f["span_name"] for f in get("flags", code="truncated")["flags"]] == ["span-2"]
    assert get("series", measure="request_count, error_rate")["rows"] == [{"request_count": 2, "error_rate": 0.5}]
    steps = get("series", measure="request_count", group_by="model", step="1m")["rows"]
    assert steps == [{"time": "2026-09-21T14:13:00.000000000Z", "model": "gpt-4o", "request_count": 2}]
    assert {"name": "duration_ms", "type": "float", "filterable": True} in get("fields")["fields"]
    assert get("fields/model/values")["values"] == [{"value": "gpt-4o", "count": 2}]
    status = get("status")
    assert (status["project"], status["newest_span_time"]) == ("p", "2026-09-21T14:13:40.000000000Z")


def test_values_of_an_attribute_whose_key_needs_encoding(get: Any, services: Services) -> None:
    row = llm(8, 1, at_s=400, attributes={"a/b c?": '"x"'})
    services.store.insert(batch(row))
    assert get("fields/attr%5B%22a%2Fb%20c%3F%22%5D/values")["values"] == [{"value": "x", "count": 1}]


def test_a_window_by_seconds_and_by_rfc_3339(get: Any) -> None:
    seconds = T0 // SECOND
    by_seconds = get("spans", **{"from": seconds + 11, "to": f"{seconds + 20}.5"})
    by_text = get("spans", **{"from": "2026-09-21T14:13:31Z", "to": "2026-09-21T16:13:40.5+02:00"})
    assert by_seconds == by_text
    assert [span["trace_id"][-1] for span in by_text["spans"]] == ["2", "1"]


def test_a_score_is_readable_at_once_and_replaced_by_its_id(client: TestClient, get: Any) -> None:
    new = {"trace_id": f"{2:032x}", "span_id": f"{2001:016x}", "name": "grade", "label": "bad", "id": "mine"}
    for label in ("bad", "good"):
        answer = client.post("/api/v1/scores", json=new | {"label": label})
        assert (answer.status_code, answer.json()) == (201, {"id": "mine"})
    (span,) = get(f"traces/{2:032x}")["spans"]
    assert [(score["label"], score["value"]) for score in span["scores"]] == [("good", None)]


# -- errors ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("path", "params", "says"),
    [
        ("traces", {"filter": "name ="}, "position 6"),
        ("spans", {"filter": "nope = 1"}, "unknown field 'nope'"),
        ("series", {"measure": "request_count", "group_by": "input_messages"}, "cannot group by"),
        ("series", {"measure": "request_count", "group_by": "a b"}, "field name"),
        ("series", {"measure": "speed"}, "choose from"),
        ("series", {}, "measure"),
        ("series", {"measure": "request_count", "step": "fast"}, "step"),
        ("traces", {"from": "10", "to": "5"}, "after to"),
        ("traces", {"from": "yesterday"}, "RFC 3339"),
        ("traces", {"limit": "0"}, "limit"),
        ("traces", {"limit": "many"}, "limit"),
        ("traces", {"order": "best"}, "slowest"),
        ("traces", {"cursor": "x"}, "next_cursor"),
        ("spans", {"cursor": "x"}, "next_cursor"),
        ("spans", {"cursor": f"{2**63}-{1:032x}-{1:016x}"}, "next_cursor"),
        ("traces", {"cursor": f"{2**63}.{1:032x}"}, "next_cursor"),
        ("flags", {"cursor": f"{2**63}.{1:032x}.{1:016x}.c.d"}, "next_cursor"),
        ("logs", {"cursor": f"{2**63}-{1:032x}"}, "next_cursor"),
        ("flags", {"cursor": "x"}, "next_cursor"),
        ("traces/xyz", {}, "32 hex digits"),
        ("spans/export", {"format": "xls"}, "format"),
        ("spans/export", {"filter": "("}, "position 1"),
        ("fields/nope/values", {}, "unknown field"),
    ],
)
def test_a_bad_question_is_a_400_that_says_what_is_wrong(
    client: TestClient, path: str, params: dict[str, str], says: str
) -> None:
    assert says in problem(client.get(f"/api/v1/{path}", params=params), 400)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"trace_id": "x", "name": "n", "value": 1},
        {"trace_id": "0" * 32, "name": "n"},
        {"trace_id": "0" * 32, "name": "n", "value": 1, "extra": 1},
        {"trace_id": "0" * 32, "name": "n", "value": "NaN"},
    ],
)
def test_a_score_that_says_nothing_is_refused(client: TestClient, body: dict[str, Any]) -> None:
    problem(client.post("/api/v1/scores", json=body), 400)


def test_what_is_not_there_is_a_404_and_a_wrong_method_a_405(client: TestClient) -> None:
    problem(client.get("/api/v1/nothing"), 404)
    problem(client.get(f"/api/v1/traces/{99:032x}"), 404)
    problem(client.post("/api/v1/traces"), 405)


class Failing:
    """A store that fails as storage fails; everything else about it is the real one's business."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def query(self, *_: Any, **__: Any) -> Any:
        raise self.error


@pytest.mark.parametrize(
    ("error", "status", "says"),
    [
        (Unavailable("the store does not answer", retry_after_s=3), 503, "does not answer"),
        (QueryLimit("this question is too big: it takes too long"), 422, "too long"),
        (KeyError("secret prompt"), 500, "bug"),
    ],
)
def test_storage_that_fails_is_said_plainly(services: Services, error: Exception, status: int, says: str) -> None:
    real = services.store
    services.store = Failing(error)  # type: ignore[assignment]
    try:
        client = TestClient(create_app(services), raise_server_exceptions=False)
        answer = client.get("/api/v1/traces")
        alive = [client.get(path).status_code for path in ("/healthz", "/readyz")]
    finally:
        services.store = real
    detail = problem(answer, status)
    assert says in detail
    assert "secret" not in answer.text
    assert answer.headers.get("retry-after") == ("3" if status == 503 else None)
    assert alive == [200, 200]


def test_figures_of_a_sample_can_be_asked_by_its_rate(get: Any, services: Services) -> None:
    rated = {"attributes": {"limelight.sample_rate": "0.25"}, "project_id": "p"}
    services.store.insert(batch(*(llm(77, n, at_s=3600, **rated) for n in (1, 2)), llm(77, 3, at_s=3600)))
    by = {"group_by": 'attr["limelight.sample_rate"]', "measure": "request_count"}
    rows = get("series", **by, **{"from": T0 // 10**9 + 3500, "to": T0 // 10**9 + 3700})["rows"]
    assert {row['attr["limelight.sample_rate"]']: row["request_count"] for row in rows} == {"0.25": 2, None: 1}
    assert get("status")["sampled_spans"] >= 0


def test_openapi_describes_the_contract(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    named = {parameter["name"] for parameter in document["paths"]["/api/v1/series"]["get"]["parameters"]}
    assert named == {"from", "to", "filter", "measure", "group_by", "step", "top"}


# -- values ------------------------------------------------------------------------------------------------------------
def test_hostile_content_is_still_an_answer(get: Any, services: Services) -> None:
    services.store.insert(batch(llm(7, 1, at_s=300, **HOSTILE)))
    (span,) = get(f"traces/{7:032x}")["spans"]
    assert span["attributes"] == {"n": None, "deep": "[" * 5000, "big": 123456789012345678901234567890}
    assert span["input_messages"][0]["parts"][0]["content"] == '? é, "q"\n'


JSON_TEXTS = [("", None), ("1", 1), ("x", "x"), ("[1", "[1"), ('{"a":[{}]}', {"a": [{}]}), ("[" * 201, "[" * 201)]


@pytest.mark.parametrize(("text", "value"), JSON_TEXTS)
def test_stored_json(text: str, value: Any) -> None:
    assert parsed(text) == value


def test_times_have_nine_digits() -> None:
    assert time_text(T0 + 1) == "2026-09-21T14:13:20.000000001Z"


def test_lists_of_names_respect_quotes() -> None:
    assert names('a, attr["x,y"],,resource["q\\",z"] ') == ["a", 'attr["x,y"]', 'resource["q\\",z"]']
