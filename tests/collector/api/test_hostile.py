"""Hostile text in every string parameter and body field: no 500, nobody else's data, no file, no address, no change.

Every parameter gets its share of the strings, so that each string is tried somewhere; LIMELIGHT_HOSTILE=all tries every
string everywhere (fifteen minutes).
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
import os
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes

import pytest
from clickhouse_connect.driver.exceptions import ClickHouseError
from starlette.testclient import TestClient

from collector.api.hostile_strings import strings
from collector.store.rows import SECOND, T0, batch, flag, llm, log, point, score, span
from limelight_collector.api.app import SCOPED, create_app
from limelight_collector.auth import SCOPES, Principal
from limelight_collector.control import Control
from limelight_collector.services import Services
from limelight_collector.settings import Settings
from limelight_collector.spool import Spool
from limelight_collector.store import Store, open_store

NOW = T0 + 600 * SECOND
WINDOW = {"from": str(T0 // SECOND - 60), "to": str(T0 // SECOND + 60)}
SECRET = "OTHERS-SECRET-5f2c"
CANARY = "CANARY-IN-A-FILE-81b7"
TRACE, SPAN = f"{99:032x}", f"{99 * 1000 + 1:016x}"
SHARE = 1 if os.environ.get("LIMELIGHT_HOSTILE") == "all" else 47
"""One string in so many is tried on a given parameter."""
FINE = {200, 201, 202, 204, 400, 404, 405, 409, 413, 422}
INSIDE = re.compile(r"DB::|Exception|Traceback|sqlite3|sqlalchemy|File \"/", re.IGNORECASE)
"""What only the insides of the server would say."""


def others(row: dict[str, Any]) -> dict[str, Any]:
    """The row as another project's, its secret in each text that it has."""
    texts = ("name", "service_name", "input_text", "session_id", "user_id", "request_model", "error_message", "body")
    return row | {"project_id": "other"} | {name: SECRET for name in texts if name in row or row.get("duration_ns")}


def stored(store: Store) -> None:
    """Spans, flags, scores, points and logs of two projects."""
    for change in (lambda row: row, others):
        call = (
            change(llm(99, 1, at_s=10, input_text="Where is it?", body="")) if change is others else llm(1, 1, at_s=10)
        )
        call.pop("body", None)
        failed = {**call, "span_id": b"failed!!", "status": "error", "error_type": "Timeout"}
        made = batch(call, failed, span(98 if change is others else 2, 1, at_s=20, project_id=call["project_id"]))
        made.flags.append(flag(call, evidence=SECRET if change is others else "short"))
        made.scores.append(score(call))
        made.points.append(point() | {"project_id": call["project_id"]})
        made.logs.append(log(trace=1) | {"project_id": call["project_id"], "body": json.dumps(call["name"])})
        store.insert(made)


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    directory: Path = tmp_path_factory.mktemp("hostile")
    settings = Settings(data_dir=directory, retention_days=36_500)
    store, spool = open_store(settings), Spool(directory / "spool.db", max_bytes=2**20, min_free_bytes=0)
    spool.start()
    stored(store)
    with contextlib.closing(Control(f"sqlite:///{directory / 'control.db'}")) as control:
        control.create_key("other", frozenset({"read"}), SECRET, None)
        yield Services(
            settings=settings,
            store=store,
            control=control,
            spool=spool,
            now_ns=lambda: NOW,
            authenticate=lambda _: Principal("p", SCOPES),
            checks=lambda: {"spool": spool.healthy},
            degraded=lambda: False,
        )
    store.close()
    spool.stop()


@pytest.fixture(scope="module")
def client(services: Services) -> Iterator[TestClient]:
    """A bug raises here."""
    with TestClient(create_app(services), base_url="http://limelight") as opened:
        yield opened


@pytest.fixture(scope="module")
def calls() -> Iterator[tuple[str, list[str]]]:
    """Our socket's host and port, and who connected to it."""
    heard: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        closing = threading.Event()

        def listen() -> None:
            while not closing.is_set():
                with contextlib.suppress(TimeoutError), server.accept()[0] as connection:
                    heard.append(repr(connection.recv(200)))

        thread = threading.Thread(target=listen)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}", heard
        closing.set()
        thread.join()


@pytest.fixture(scope="module")
def canary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that nobody has a reason to read."""
    file = tmp_path_factory.mktemp("canary") / "canary.txt"
    file.write_text(CANARY)
    return file


@pytest.fixture(scope="module")
def hostile(canary: Path, calls: tuple[str, list[str]]) -> list[bytes]:
    """The strings, with the file's path and the socket's address in them."""
    found = strings(str(canary), calls[0], TRACE, SPAN)
    assert len(set(found)) >= 500
    return found


def tables(store: Store) -> dict[str, Any]:
    """Definition and content of every table (copies collapsed), but for what scores may add."""
    names = store.query(
        "SELECT name, create_table_query, engine FROM system.tables WHERE database = currentDatabase() ORDER BY name"
    ).rows
    content: dict[str, Any] = {}
    for name, definition, engine in names:
        if engine.endswith("MergeTree"):
            final = "FINAL" if engine != "MergeTree" else ""
            where = "WHERE source != 'api' OR project_id = 'other'" if name == "scores" else ""
            rows = f"SELECT count(), sum(cityHash64(*)) FROM {name} {final} {where}"
            content[name] = (definition, store.query(rows).rows)
    return content


@pytest.fixture(scope="module", autouse=True)
def nothing_changed(services: Services, calls: tuple[str, list[str]], canary: Path) -> Iterator[None]:
    """After everything: the tables are as they were, nobody called the socket, and no file was made."""
    before = tables(services.store)
    keys = services.control.list_keys("other")
    assert {name for name, (_, rows) in before.items() if rows[0][0]} >= {"spans", "flags", "scores", "logs"}
    yield
    assert tables(services.store) == before
    assert services.control.list_keys("other") == keys
    assert calls[1] == []
    assert list(canary.parent.iterdir()) == [canary]


def test_the_traps_would_spring(services: Services, calls: tuple[str, list[str]], canary: Path) -> None:
    """The engine can read the file, call the socket and show the other project; the readers' connections cannot."""
    host, heard = calls
    writer = services.store._writer  # type: ignore[attr-defined]
    read, call = (
        f"SELECT * FROM file('{canary}', 'LineAsString')",
        f"SELECT * FROM url('http://{host}/x', 'LineAsString')",
    )
    assert writer.query(read).result_rows == [(CANARY,)]
    with pytest.raises(ClickHouseError):
        writer.query(f"{call} SETTINGS http_max_tries = 1")
    assert heard
    heard.clear()
    for sql in (
        read,
        call,
        "INSERT INTO scores SELECT * FROM scores",
        "SELECT 1; DROP TABLE scores",
        "SET readonly = 0",
    ):
        with pytest.raises(ClickHouseError):
            services.store.query(sql)
    assert heard == []
    other = dataclasses.replace(services, authenticate=lambda _: Principal("other", SCOPES))
    with TestClient(create_app(other)) as client:
        for path in (
            "traces",
            "spans",
            "flags",
            "logs",
            f"traces/{TRACE}",
            "fields/service_name/values",
            "errors",
            "keys",
        ):
            assert SECRET in client.get(f"/api/v1/{path}", params=WINDOW).text, path


def parameters(client: TestClient) -> list[tuple[str, str, str]]:
    """(path, where, name) of each parameter of a GET or DELETE route; numbers too, as text."""
    described: Any = client.get("/openapi.json").json()["paths"]
    found = [
        (path, parameter["in"], parameter["name"])
        for path, methods in described.items()
        for method, route in methods.items()
        if method == "get"
        for parameter in route.get("parameters", [])
    ]
    assert len(found) > 60
    return found


VALID = {
    "trace_id": f"{1:032x}",
    "measure": "request_count,cost_usd",
    "name": "request_model",
    "rule_id": "mine",
    "channel_id": "ops",
    "key_id": "k",
    "project_id": "p",
    "deletion_id": "d",
}
"""What a route needs besides the parameter that is tried."""


def quoted(value: bytes) -> str:
    """For a URL, in which no client sends more than 64 KiB."""
    return quote_from_bytes(value[:20_000], safe="")


def address(path: str, where: str, name: str, value: bytes) -> str:
    """The route's URL with `value` in one place and valid values in the others."""
    query = {key: item.encode() for key, item in WINDOW.items()} | {"measure": VALID["measure"].encode()}
    if "/metrics/" in path:
        path = path.replace("{name}", "queue.size")
    for key, item in VALID.items():
        text = quoted(value) if (where, key) == ("path", name) else item
        path = path.replace(f"{{{key}}}", text)
    path = re.sub(r"{(.*?)}", lambda key: quoted(value) if key[1] == name else "x", path)
    if where == "query":
        query[name] = value
    return f"{path}?{'&'.join(f'{key}={quoted(item)}' for key, item in query.items())}"


def require_harmless(answer: Any, sent: bytes) -> None:
    """The status is one of ours, a refusal is a problem that says something, and nothing leaks."""
    assert answer.status_code in FINE, (answer.request.url, answer.text[:500])
    assert SECRET.encode() not in answer.content, answer.request.url
    assert CANARY.encode() not in answer.content, answer.request.url
    assert b"root:x:0" not in answer.content
    if answer.status_code >= 400:
        problem = answer.json()
        assert problem["status"] == answer.status_code
        assert problem["detail"]
        said = problem["detail"].replace(sent.decode(errors="replace"), "")
        assert not INSIDE.search(said), said


def test_every_parameter_of_every_question(client: TestClient, hostile: list[bytes]) -> None:
    refused = answered = 0
    for number, (path, where, name) in enumerate(parameters(client)):
        for value in hostile[number % SHARE :: SHARE]:
            if where == "path" and not value:
                continue
            answer = client.get(address(path, where, name, value))
            require_harmless(answer, value)
            refused += answer.status_code >= 400
            answered += answer.status_code < 400
    print(f"{answered} answered, {refused} refused")
    assert refused > answered > 100
    assert client.get("/healthz").status_code == 200
    rows = client.get("/api/v1/series", params={"measure": "request_count", **WINDOW}).json()["rows"]
    assert rows[0]["request_count"] == 2


SCORE = {"trace_id": f"{1:032x}", "span_id": f"{1001:016x}", "name": "n", "value": 1.0, "label": "l", "id": "i"}
PRICE = {"provider": "p", "model": "m", "input_per_million_usd": "1", "output_per_million_usd": "2"}
BODIES: dict[tuple[str, str], Any] = {
    ("POST", "/scores"): SCORE | {"explanation": "e"},
    ("POST", "/alert-rules"): {
        "id": "new",
        "name": "n",
        "severity": "warning",
        "signal": "error_rate",
        "filter": "",
        "window": "5m",
        "group_by": ["request_model"],
        "condition": {"kind": "static", "op": ">", "threshold": 0.5},
        "for": "1m",
        "keep_firing_for": "1m",
        "no_data": "treat_as_0",
        "labels": {"team": "t"},
        "annotations": {"summary": "s", "runbook": "r"},
        "channels": ["*"],
        "recovery": 0.1,
        "min_events": 1,
        "enabled": True,
    },
    ("POST", "/channels"): {
        "id": "new",
        "name": "n",
        "kind": "webhook",
        "url": "https://h.example/x",
        "secret": "12345678",
    },
    ("POST", "/channels/{channel_id}/test"): None,
    ("POST", "/keys"): {"scopes": ["read"], "name": "n", "expires_at": "2027-01-01T00:00:00Z"},
    ("PUT", "/prices/overrides"): {"overrides": [PRICE | {"cache_read_per_million_usd": "0.5"}]},
    ("PUT", "/projects/{project_id}/retention"): {"max_age_days": 7, "max_bytes": 2**30, "keep_flagged_days": 9},
    ("POST", "/deletions"): {"session_id": "s"},
    ("POST", "/backups"): None,
}
"""A valid body of each route that takes one (None: it takes none)."""
BODIES["PUT", "/alert-rules/{rule_id}"] = BODIES["POST", "/alert-rules"] | {"id": "mine"}
BODIES["PUT", "/channels/{channel_id}"] = BODIES["POST", "/channels"] | {"id": "ops"}
NO_TEXTS: list[Any] = [
    None,
    True,
    0,
    -1,
    2**63,
    2**64,
    -(2**70),
    1e308,
    0.1,
    [],
    {},
    [[]],
    ["a"] * 5000,
    {"a": {"b": 1}},
    [None],
]


def places(body: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where a value stands in the body; each object's keys, too, as a place that ends with `...`."""
    if isinstance(body, dict):
        yield (*path, ...)
    for key, value in body.items() if isinstance(body, dict) else enumerate(body) if isinstance(body, list) else ():
        yield (*path, key)
        yield from places(value, (*path, key))


def changed(body: Any, place: tuple[Any, ...], value: Any) -> Any:
    """The body with `value` at that place."""
    made = copy.deepcopy(body)
    inner = made
    for key in place[:-1]:
        inner = inner[key]
    if place[-1] is ...:
        inner[value] = "x"
    else:
        inner[place[-1]] = value
    return made


def writes() -> list[tuple[str, str]]:
    routes = [(method, route.path) for module in SCOPED for route in module.router.routes for method in route.methods]
    return sorted(item for item in routes if item[0] in {"POST", "PUT", "PATCH"})


def test_every_field_of_every_body(client: TestClient, hostile: list[bytes]) -> None:
    assert set(writes()) == BODIES.keys(), "a new route that writes: give it a valid body in BODIES"
    assert client.post("/api/v1/channels", json=BODIES["PUT", "/channels/{channel_id}"]).status_code == 201
    assert client.post("/api/v1/alert-rules", json=BODIES["PUT", "/alert-rules/{rule_id}"]).status_code == 201
    refused = taken = turn = 0
    for method, path in writes():
        body = BODIES[method, path]
        url = f"/api/v1{re.sub(r'{(.*?)}', lambda name: VALID[name[1]], path)}"
        for place in places(body):
            turn += 1
            texts = [
                value.decode("utf-8", "surrogateescape")
                for value in hostile[turn % (2 * SHARE) :: 2 * SHARE if SHARE > 1 else 1]
            ]
            for value in [*texts, "\ud800", "\udfff'", *([] if place[-1] is ... else NO_TEXTS)]:
                content = json.dumps(changed(body, place, value)).encode()
                answer = client.request(method, url, content=content, headers={"Content-Type": "application/json"})
                require_harmless(answer, str(value).encode("utf-8", "replace"))
                refused += answer.status_code >= 400
                taken += answer.status_code < 400
                if answer.status_code == 201 and "id" in answer.json() and path in {"/alert-rules", "/channels"}:
                    client.delete(f"/api/v1{path}/{answer.json()['id']}")
    print(f"{taken} taken, {refused} refused")
    assert refused > taken > 100
    for path in (
        "alert-rules",
        "alerts",
        "channels",
        "keys",
        "prices",
        "audit",
        "status",
    ):  # what was taken can be shown
        assert client.get(f"/api/v1/{path}").status_code == 200


def test_ids_in_the_paths_of_writes(client: TestClient, hostile: list[bytes]) -> None:
    routes = [(method, route.path) for module in SCOPED for route in module.router.routes for method in route.methods]
    wanted = sorted(item for item in routes if "{" in item[1] and item[0] in {"POST", "PUT", "DELETE"})
    for turn, (method, path) in enumerate(wanted):
        for value in hostile[turn % SHARE :: SHARE]:
            before, _, after = re.split(r"({.*?})", path)
            url = f"/api/v1{before}{quoted(value)}{after}"
            answer = client.request(method, url, json=BODIES.get((method, path)))
            require_harmless(answer, value)
            assert answer.status_code >= 400


BROKEN = (
    b"", b"{", b"[]", b"null", b"1", b'"a"', b"\xff\xfe", b"\xef\xbb\xbf{}", b"{}" * 2, b'{"a":1,"a":2}',
    b"[" * 100_000, b'{"a":' * 50_000, b'{"name": NaN}', b'{"value": 1e999}', b'{"value": -Infinity}',
    b'{"value": ' + b"9" * 5000 + b"}", b'{"name": "\xed\xa0\x80"}', b'{"name": "\\ud800"}', b"\x00" * 1000,
    b'{"id": "' + b"a" * 1_000_000 + b'"}', b"<xml/>", b"a=b&c=d",
)  # fmt: skip


MEDIA_TYPES = ("text/plain", "application/x-www-form-urlencoded", "", "application/json; x=\xff", "multipart/form-data")


def test_bodies_that_are_none(client: TestClient) -> None:
    for method, path in writes():
        url = f"/api/v1{re.sub(r'{(.*?)}', lambda name: VALID[name[1]], path)}"
        for number, content in enumerate(BROKEN):
            for media_type in ("application/json", MEDIA_TYPES[number % len(MEDIA_TYPES)]):
                headers = {"Content-Type": media_type.encode("latin-1")}
                answer = client.request(method, url, content=content, headers=headers)
                require_harmless(answer, content)
