"""Retention and deletions over HTTP and by command: who may ask, what is refused and why, what is audited."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from starlette.testclient import TestClient

from collector.ingest.otlp import NOW
from limelight import cli
from limelight_collector.api.app import create_app
from limelight_collector.auth import Principal
from limelight_collector.control import Control
from limelight_collector.errors import Rejected
from limelight_collector.services import Services
from limelight_collector.settings import Settings

KEYS = {scope: Principal("p", frozenset({scope}), key_id=f"key-{scope}") for scope in ("read", "admin", "ingest")}
KEYS["other"] = Principal("q", frozenset({"admin"}), key_id="key-other")


@pytest.fixture
def control(tmp_path: Path) -> Iterator[Control]:
    opened = Control(f"sqlite:///{tmp_path / 'control.db'}", now_s=lambda: NOW / 1e9)
    yield opened
    opened.close()


@pytest.fixture
def client(control: Control, tmp_path: Path) -> Iterator[TestClient]:
    def authenticate(header: str | None) -> Principal:
        if (header or "") not in KEYS:
            raise Rejected("unauthenticated", "this key is unknown")
        return KEYS[header or ""]

    absent = cast("Any", None)  # these routes ask the control database alone
    services = Services(
        settings=Settings(data_dir=tmp_path, retention_days=30),
        store=absent,
        control=control,
        spool=absent,
        now_ns=lambda: NOW,
        authenticate=authenticate,
        checks=dict,
        degraded=lambda: False,
    )
    with TestClient(create_app(services), base_url="http://limelight") as opened:
        opened.headers["Authorization"] = "admin"
        yield opened


def test_retention_is_read_set_whole_and_audited(client: TestClient, control: Control) -> None:
    url = "/api/v1/projects/p/retention"
    none = {"max_age_days": None, "max_bytes": None, "keep_flagged_days": None, "collector_max_age_days": 30}
    assert client.get(url, headers={"Authorization": "read"}).json() == none
    body = {"max_age_days": 7, "keep_flagged_days": 20, "max_bytes": 10**9}
    assert client.put(url, json=body).json() == none | body
    assert client.put(url, json={"max_age_days": 7}).json() == none | {"max_age_days": 7}
    assert client.get(url).json() == none | {"max_age_days": 7}
    entries = control.audit("p")
    assert [(entry.action, entry.actor) for entry in entries] == [("retention.replace", "key-admin")] * 2
    assert dataclasses.asdict(control.retention.of("p")) == entries[0].after
    assert entries[0].before == entries[1].after


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"max_age_days": 31}, "raise LIMELIGHT_RETENTION_DAYS"),
        ({"max_age_days": 7, "keep_flagged_days": 3}, "not be less"),
        ({"max_bytes": -1}, "max_bytes"),
        ({"max_age_days": "7"}, "max_age_days"),
        ({"max_age_days": 1.5}, "max_age_days"),
        ({"days": 7}, "days"),
    ],
)
def test_a_policy_that_cannot_be_kept_is_a_400_and_changes_nothing(
    client: TestClient, control: Control, body: dict[str, Any], said: str
) -> None:
    answer = client.put("/api/v1/projects/p/retention", json=body)
    assert answer.status_code == 400
    assert said in answer.json()["detail"]
    assert control.retention.all() == {}


def test_another_projects_retention_is_not_there(client: TestClient) -> None:
    for method in ("GET", "PUT"):
        answer = client.request(method, "/api/v1/projects/q/retention", json={"max_age_days": 1})
        assert answer.status_code == 404
        assert "project 'p' only" in answer.json()["detail"]


def test_a_deletion_is_accepted_listed_and_seen_by_its_project_alone(client: TestClient, control: Control) -> None:
    answer = client.post("/api/v1/deletions", json={"user_id": "ada"})
    asked = answer.json()
    assert answer.status_code == 202
    assert asked | {"id": ""} == {
        "id": "",
        "kind": "user_id",
        "value": "ada",
        "state": "queued",
        "detail": None,
        "requested_at": "2026-11-18T11:06:40.000Z",
        "finished_at": None,
        "rows": {},
    }
    whole = client.post("/api/v1/deletions", json={"everything": True}, headers={"Authorization": "other"}).json()
    assert client.get(f"/api/v1/deletions/{asked['id']}").json() == asked
    assert client.get("/api/v1/deletions").json() == {"deletions": [asked]}
    assert client.get(f"/api/v1/deletions/{whole['id']}").status_code == 404
    assert [deletion.id for deletion in control.deletions.open()] == sorted([asked["id"], whole["id"]])
    [entry] = control.audit("p")
    assert (entry.action, entry.actor, entry.object, entry.after) == (
        "deletion.request",
        "key-admin",
        asked["id"],
        {"kind": "user_id"},
    )


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "exactly one"),
        ({"user_id": "a", "session_id": "b"}, "exactly one"),
        ({"user_id": ""}, "user_id"),
        ({"everything": False}, "everything"),
        ({"trace_id": "xyz"}, "32 hex digits"),
        ({"trace_ids": ["a"]}, "trace_ids"),
        ({"user_id": "x" * 1001}, "user_id"),
    ],
)
def test_what_is_not_one_clear_deletion_is_a_400(
    client: TestClient, control: Control, body: dict[str, Any], said: str
) -> None:
    answer = client.post("/api/v1/deletions", json=body)
    assert answer.status_code == 400
    assert said in answer.json()["detail"]
    assert control.deletions.open() == []


def test_the_command_sets_and_shows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = ["--data-dir", str(tmp_path / "data")]
    assert cli.main(["retention", "show", "--project", "shop", *place]) == 0
    assert "project shop keeps: 30 days (the collector: 30 days)" in capsys.readouterr().out
    limits = ["--days", "7", "--max-bytes", "1000000", "--keep-flagged-days", "14"]
    assert cli.main(["retention", "set", "--project", "shop", *limits, *place]) == 0
    told = capsys.readouterr().out
    assert "7 days; traces with a flag, an error or a score 14 days; at most 1000000 bytes" in told
    assert cli.main(["retention", "show", "--project", "shop", *place]) == 0
    assert capsys.readouterr().out == told
    assert cli.main(["retention", "set", "--project", "shop", "--days", "31", *place]) == 2
    assert "LIMELIGHT_RETENTION_DAYS" in capsys.readouterr().err
    assert cli.main(["retention", "set", "--project", "No Slug", *place]) == 2
