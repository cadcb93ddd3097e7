"""Each request has an id: the client's where it is well-formed; in the answer, in the log and in what an error says."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import pytest
from google.rpc.error_details_pb2 import RequestInfo
from google.rpc.status_pb2 import Status
from starlette.testclient import TestClient

from collector.ingest.otlp import AUTH, request, span
from collector.ingest.servers import serving
from limelight_collector.api.app import create_app
from limelight_collector.metrics import JsonFormatter
from limelight_collector.request_ids import REQUEST_ID, RequestIds, is_well_formed
from limelight_collector.services import Services

PROTO = {**AUTH, "content-type": "application/x-protobuf"}
GOOD = request(span(1)).SerializeToString()
EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
MADE = re.compile(r"[0-9a-f]{32}")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Services, int, int]]:
    with serving(tmp_path_factory.mktemp("ids")) as found:
        yield found


@pytest.fixture
def lines() -> Iterator[list[dict[str, Any]]]:
    """What the receivers log, as it would be written."""
    found: list[dict[str, Any]] = []
    handler = logging.Handler()
    formatter = JsonFormatter()
    handler.emit = lambda record: found.append(json.loads(formatter.format(record)))
    logging.getLogger("limelight").addHandler(handler)
    yield found
    logging.getLogger("limelight").removeHandler(handler)


def post(port: int, *ids: str, body: bytes = GOOD, **headers: str) -> httpx.Response:
    given = [*(PROTO | headers).items(), *(("x-request-id", id_) for id_ in ids)]
    return httpx.post(f"http://127.0.0.1:{port}/v1/traces", content=body, headers=given)


def request_info(status: Status) -> str:
    """The request id that an OTLP error tells."""
    found = RequestInfo()
    assert any(detail.Unpack(found) for detail in status.details)
    return found.request_id


def test_a_clients_id_comes_back(served: tuple[Services, int, int]) -> None:
    answer = post(served[1], "req-1.a_b:C")
    assert (answer.status_code, answer.headers["x-request-id"]) == (200, "req-1.a_b:C")


@pytest.mark.parametrize("ids", [(), ("",), ("a b",), ('"x"',), ("x" * 129,), ("ä",), ("one", "two")])
def test_anything_else_is_replaced(served: tuple[Services, int, int], ids: tuple[str, ...]) -> None:
    encoded: Any = [id_.encode("latin-1") for id_ in ids]
    first, second = (post(served[1], *encoded).headers["x-request-id"] for _ in range(2))
    assert all(map(MADE.fullmatch, (first, second)))
    assert first != second


def test_an_error_over_http_tells_it(served: tuple[Services, int, int]) -> None:
    answer = post(served[1], "bad-1", body=b"\xff")
    assert answer.status_code == 400
    assert request_info(Status.FromString(answer.content)) == "bad-1"
    answer = post(served[1], "bad-2", body=b"{", **{"content-type": "application/json"})
    info = {"@type": "type.googleapis.com/google.rpc.RequestInfo", "requestId": "bad-2"}
    assert (answer.status_code, answer.json()["details"]) == (400, [info])


def test_grpc_has_it_in_its_trailer_and_its_errors(served: tuple[Services, int, int]) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{served[2]}") as channel:
        export = channel.unary_unary(EXPORT)
        for given, wanted in (("mine-1", re.compile("mine-1")), ("not mine", MADE)):
            _, done = export.with_call(GOOD, metadata=(*AUTH.items(), ("x-request-id", given)), timeout=30)
            assert wanted.fullmatch(str(dict(done.trailing_metadata())["x-request-id"]))
        with pytest.raises(grpc.RpcError) as refused:
            export(b"\xff", metadata=(*AUTH.items(), ("x-request-id", "bad-3")), timeout=30)
    error: Any = refused.value
    trailer = dict(error.trailing_metadata())
    assert trailer["x-request-id"] == "bad-3"
    assert request_info(Status.FromString(trailer["grpc-status-details-bin"])) == "bad-3"


def test_log_lines_of_a_request_carry_it(
    served: tuple[Services, int, int], lines: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: str | None) -> Any:
        logging.getLogger("limelight.test").warning("in a thread")
        raise RuntimeError("a bug")

    monkeypatch.setattr(served[0], "authenticate", broken)
    assert post(served[1], "bug-1").status_code == 500
    with grpc.insecure_channel(f"127.0.0.1:{served[2]}") as channel, pytest.raises(grpc.RpcError):
        channel.unary_unary(EXPORT)(GOOD, metadata=(("x-request-id", "bug-2"),), timeout=30)
    logging.getLogger("limelight.test").warning("outside")
    found = [(line["event"], line.get("request_id")) for line in lines]
    assert [id_ for event, id_ in found if event == "in a thread"] == ["bug-1", "bug-2"]
    assert [id_ for event, id_ in found if event == "request failed"] == ["bug-1", "bug-2"]
    assert found[-1] == ("outside", None)


def test_the_api_has_it_in_its_header_and_problems(served: tuple[Services, int, int]) -> None:
    with TestClient(RequestIds(create_app(served[0])), raise_server_exceptions=False) as client:
        answer = client.get("/api/v1/nothing", headers={"x-request-id": "api-1"})
        assert (answer.status_code, answer.headers["x-request-id"], answer.json()["request_id"]) == (
            404,
            *["api-1"] * 2,
        )
        assert MADE.fullmatch(client.get("/healthz").headers["x-request-id"])


def test_requests_at_the_same_time_keep_their_own() -> None:
    seen: list[tuple[str, str]] = []

    async def app(scope: Any, _receive: Any, _send: Any) -> None:
        await asyncio.sleep(0)
        seen.append((scope["path"], REQUEST_ID.get()))

    async def run() -> None:
        ids = RequestIds(app)
        scopes = [{"type": "http", "path": id_, "headers": [(b"x-request-id", id_.encode())]} for id_ in "abcd"]
        nothing: Any = None
        await asyncio.gather(*(ids(scope, nothing, nothing) for scope in scopes))
        assert REQUEST_ID.get() == ""

    asyncio.run(run())
    assert sorted(seen) == [(id_, id_) for id_ in "abcd"]


def test_what_is_well_formed() -> None:
    assert is_well_formed("a" * 128)
    assert not any(map(is_well_formed, (None, "", "a\n", "a" * 129, "a/b", "é", "a b")))
