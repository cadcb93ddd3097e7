"""Clients that are slow, silent, greedy or many: each costs little, and none of them another's answer."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import grpc
import httpx
import pytest
from fastapi import Body, FastAPI

from collector.ingest.otlp import AUTH, request, span
from collector.ingest.servers import exchange, serving
from limelight_collector.api import problems
from limelight_collector.receive import connection
from limelight_collector.receive import grpc as receive_grpc
from limelight_collector.services import Services

GOOD = request(span(1)).SerializeToString()
HEAD = (
    b"POST /v1/traces HTTP/1.1\r\nhost: c\r\nauthorization: Bearer ingest-key\r\n"
    b"content-type: application/x-protobuf\r\n"
)
Served = tuple[Services, int, int]


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setattr(connection, "HEAD_TIMEOUT_S", 0.5)
    monkeypatch.setattr(connection, "WRITE_TIMEOUT_S", 0.5)
    monkeypatch.setattr(connection, "MAX_CONNECTIONS", 20)
    monkeypatch.setattr(receive_grpc, "READ_TIMEOUT_S", 0.5)
    with serving(tmp_path) as found:
        yield found


def good(port: int) -> int:
    return httpx.post(f"http://127.0.0.1:{port}/v1/traces", content=GOOD, headers=AUTH_PROTO, timeout=30).status_code


AUTH_PROTO = {**AUTH, "content-type": "application/x-protobuf"}


@pytest.mark.parametrize("sent", [b"", b"POST /v1/tr", HEAD, b"\x16\x03\x01 no TLS here"])
def test_a_half_sent_head_is_not_waited_for(served: Served, sent: bytes) -> None:
    answer = exchange(served[1], sent, shut=False)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400 ")
    assert good(served[1]) == 200


def test_a_drip_of_header_bytes_does_not_keep_a_connection(served: Served) -> None:
    with socket.create_connection(("127.0.0.1", served[1]), timeout=30) as client:
        client.sendall(HEAD)
        for _ in range(600):
            try:
                client.sendall(b"x: y\r\n")
            except OSError:
                return
            time.sleep(0.05)
    raise AssertionError("still open")


@pytest.mark.parametrize(
    "endless",
    [
        HEAD + b"x: " + b"y" * 300_000,
        b"GET /" + b"a" * 300_000,
        HEAD + b"".join(b"x%d: y\r\n" % number for number in range(30_000)),
        HEAD + b"transfer-encoding: chunked\r\n\r\n0\r\n" + b"x: y\r\n" * 60_000,
        HEAD + b"transfer-encoding: chunked\r\n\r\n1;" + b"e" * 400_000,
    ],
)
def test_an_endless_head_trailer_or_chunk_extension_is_cut_off(served: Served, endless: bytes) -> None:
    answer = exchange(served[1], endless, shut=False)
    assert answer == b"" or answer.split()[1] in (b"400", b"431", b"503"), answer[:200]
    assert good(served[1]) == 200


def test_what_is_no_http_is_answered_as_an_otlp_error(served: Served) -> None:
    answer = exchange(served[1], b"\0\0\0 nonsense\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert json.loads(body) == {"code": 3, "message": "Invalid HTTP request received."}


def test_one_connection_too_many_is_told_so_and_room_comes_back(served: Served) -> None:
    held = [socket.create_connection(("127.0.0.1", served[1])) for _ in range(20)]
    answer = exchange(served[1], HEAD + b"content-length: 0\r\n\r\n", shut=False)
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: 1" in answer
    for client in held:
        client.close()
    statuses = set[int]()
    for _ in range(100):
        with contextlib.suppress(httpx.HTTPError):
            statuses.add(good(served[1]))
        if 200 in statuses:
            break
        time.sleep(0.05)
    assert 200 in statuses


def test_requests_on_one_connection_and_pipelined_ones_work(served: Served) -> None:
    length = b"content-length: %d\r\n" % len(GOOD)
    last = HEAD + length + b"connection: close\r\n\r\n" + GOOD
    answer = exchange(served[1], (HEAD + length + b"\r\n" + GOOD) * 4 + last, shut=False)
    assert answer.count(b"HTTP/1.1 200 OK") == 5


def test_a_client_that_does_not_read_its_answer_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "WRITE_TIMEOUT_S", 0.3)
    ended = threading.Event()

    async def endless(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            while (await receive_now(receive)) != "http.disconnect":
                await send({"type": "http.response.body", "body": bytes(65536), "more_body": True})
        finally:
            ended.set()

    async def receive_now(receive: Any) -> str:
        import asyncio

        try:
            async with asyncio.timeout(0.001):
                return str((await receive())["type"])
        except TimeoutError:
            return ""

    with serving(tmp_path, app=endless) as (_, port, _), socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"GET /big HTTP/1.1\r\nhost: c\r\n\r\n")
        assert ended.wait(30)


def test_bodies_of_other_paths_are_bounded_before_anything_reads_them(tmp_path: Path) -> None:
    app = FastAPI()
    problems.install(app)

    @app.post("/api/things")
    def take(body: Annotated[Any, Body()]) -> int:
        return len(body)

    with serving(tmp_path, app=app) as (_, port, _):
        url = f"http://127.0.0.1:{port}/api/things"
        assert httpx.post(url, json="x" * 1000).json() == 1000
        answer = httpx.post(url, json="x" * 2**20, timeout=30)
        assert (answer.status_code, answer.json()["status"]) == (413, 413)


def test_grpc_calls_that_send_nothing_do_not_keep_the_threads(served: Served) -> None:
    method = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
    never = threading.Event()

    def silence() -> Iterator[bytes]:
        never.wait(60)
        yield b""

    with grpc.insecure_channel(f"127.0.0.1:{served[2]}") as channel:
        calls = [
            channel.stream_unary(method).future(silence(), metadata=tuple(AUTH.items()), timeout=60) for _ in range(16)
        ]
        assert channel.unary_unary(method)(GOOD, metadata=tuple(AUTH.items()), timeout=60) == b""
        codes = {call.exception(timeout=60).code() for call in calls}  # type: ignore[union-attr]
        assert codes == {grpc.StatusCode.CANCELLED}
        never.set()
