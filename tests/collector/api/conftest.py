"""The API over a real store and a real spool, called in process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from starlette.testclient import TestClient

from collector.store.rows import SECOND, T0, batch, flag, llm, score, span
from limelight_collector.api.app import create_app
from limelight_collector.auth import ANYONE, Principal
from limelight_collector.errors import Rejected
from limelight_collector.services import Services
from limelight_collector.settings import Settings
from limelight_collector.spool import Spool
from limelight_collector.store import Store, open_store

NOW = T0 + 600 * SECOND
KEYS = {"Bearer read": Principal("p", frozenset({"read"})), "Bearer ingest": Principal("p", frozenset({"ingest"}))}
KEYS["Bearer other"] = Principal("other", frozenset({"read"}))

MESSAGES = '[{"role":"user","parts":[{"type":"text","content":"Where is my \\"refund\\"?"}]}]'
ANSWER = '[{"role":"assistant","parts":[{"type":"text","content":"On its way.\\nSoon."}]}]'

HOSTILE: dict[str, Any] = {
    "name": '=cmd|"/c calc"!A1',
    "session_id": "@x",
    "user_id": "-1+2",
    "input_messages": '[{"role":"user","parts":[{"content":"\\ud800 é, \\"q\\"\\n"}]}]',
    "attributes": {"n": "NaN", "deep": "[" * 5000, "big": "123456789012345678901234567890"},
    "request_seed": -7,
    "tags": ["=1"],
}
"""Values that spreadsheets, JSON and files stumble over."""


def stored(store: Store) -> None:
    """Three traces: a good one with a model call, a failed one, and one of another project."""
    root = span(1, 1, at_s=10, name="agent", duration_ns=5 * SECOND, session_id="s1", user_id="u1", tags=["vip"])
    call = llm(
        1,
        2,
        at_s=11,
        parent=1,
        input_messages=MESSAGES,
        output_messages=ANSWER,
        cost_usd=Decimal("0.0015"),
        ttft_s=0.25,
    )
    failed = llm(
        2, 1, at_s=20, status="error", error_type="Timeout", error_message="no answer in 30 s", input_tokens=None
    )
    rows = (root, call, failed | {"output_tokens": None}, span(3, 1, at_s=30, project_id="other"))
    store.insert(batch(*rows, flags=[flag(call)], scores=[score(call), score(root | {"span_id": b"\0" * 8}, "whole")]))


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    directory: Path = tmp_path_factory.mktemp("api")
    settings = Settings(data_dir=directory, retention_days=36_500)
    store, spool = open_store(settings), Spool(directory / "spool.db", max_bytes=2**20, min_free_bytes=0)
    spool.start()
    stored(store)

    def authenticate(header: str | None) -> Principal:
        if header is None:
            return Principal("p", ANYONE.scopes)
        if header not in KEYS:
            raise Rejected("unauthenticated", "this key is unknown, revoked or expired")
        return KEYS[header]

    yield Services(
        settings=settings,
        store=store,
        control=cast("Any", None),  # no route here asks it
        spool=spool,
        now_ns=lambda: NOW,
        authenticate=authenticate,
        checks=lambda: {"spool": spool.healthy},
        degraded=lambda: False,
    )
    store.close()
    spool.stop()


@pytest.fixture(scope="module")
def client(services: Services) -> Iterator[TestClient]:
    with TestClient(create_app(services), base_url="http://limelight") as opened:
        yield opened


Get = Callable[..., Any]


@pytest.fixture
def get(client: TestClient) -> Get:
    """GET a path under /api/v1 and return the JSON of a 200."""

    def read(path: str, **params: Any) -> Any:
        answer: httpx.Response = client.get(f"/api/v1/{path}", params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    return read
