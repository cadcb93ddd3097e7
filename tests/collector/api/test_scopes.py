"""Every route and every gRPC method is closed without a key and without the scope it declares."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from fastapi.routing import APIRoute
from starlette.testclient import TestClient

from collector.ingest.otlp import request, span
from collector.ingest.servers import serving
from limelight_collector.api.app import PUBLIC, SCOPED, create_app, declared_scopes
from limelight_collector.auth import SCOPES, Principal, authenticate
from limelight_collector.receive.grpc import _SERVICES
from limelight_collector.services import Services

KEYS = {f"{scope}-key": Principal("p", frozenset({scope})) for scope in SCOPES}
ROUTES = [
    (method, f"/api/v1{re.sub(r'{[^}]*}', '1', route.path)}", declared_scopes(route.dependant))
    for module in SCOPED
    for route in module.router.routes
    if isinstance(route, APIRoute)
    for method in sorted(route.methods)
]


@pytest.fixture(scope="module")
def closed(services: Services) -> Iterator[TestClient]:
    """The API as it is once keys exist."""

    def check(header: str | None) -> Principal:
        return authenticate(header, keys_required=True, find_key=KEYS.get)

    app = create_app(dataclasses.replace(services, authenticate=check))
    with TestClient(app, base_url="http://limelight", raise_server_exceptions=False) as client:
        yield client


def test_the_walk_sees_every_route(closed: TestClient) -> None:
    described: Any = closed.get("/openapi.json").json()["paths"]
    count = sum(len(methods) for path, methods in described.items() if path not in PUBLIC)
    assert len(ROUTES) == count > 30


@pytest.mark.parametrize(("method", "path", "scopes"), ROUTES)
def test_a_route_asks_for_its_scope(closed: TestClient, method: str, path: str, scopes: set[str]) -> None:
    assert len(scopes) == 1
    for wrong in ({}, {"Authorization": "Bearer nobody"}, {"Authorization": "Basic aW5nZXN0LWtleQ=="}):
        answer = closed.request(method, path, headers=wrong)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    for scope in SCOPES:
        answer = closed.request(method, path, headers={"Authorization": f"Bearer {scope}-key"})
        assert (answer.status_code == 403) == (scope not in scopes and scope != "admin")
        assert answer.status_code != 401


def test_a_grpc_method_asks_for_ingest(tmp_path: Path) -> None:
    payload = {"traces": request(span(1)).SerializeToString()}
    codes = {None: grpc.StatusCode.UNAUTHENTICATED, "nobody": grpc.StatusCode.UNAUTHENTICATED}
    codes |= {"read-key": grpc.StatusCode.PERMISSION_DENIED}
    with serving(tmp_path) as (_, _, port), grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        for service, signal in _SERVICES.items():
            call = channel.unary_unary(f"/{service}/Export")
            for key, code in codes.items():
                metadata = (("authorization", f"Bearer {key}"),) if key else ()
                with pytest.raises(grpc.RpcError) as caught:
                    call(payload.get(signal, b""), metadata=metadata, timeout=30)
                assert caught.value.code() is code  # type: ignore[attr-defined]
            assert call(payload.get(signal, b""), metadata=(("authorization", "Bearer ingest-key"),), timeout=30) == b""
