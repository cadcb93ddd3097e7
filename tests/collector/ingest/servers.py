"""The receivers on real ports, and raw bytes sent to them."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from starlette.responses import PlainTextResponse

from collector.ingest.otlp import running
from limelight_collector.receive.connection import IDLE_TIMEOUT_S, GuardedProtocol
from limelight_collector.receive.grpc import serve_grpc
from limelight_collector.receive.http import OtlpApp
from limelight_collector.receive.small_bodies import SmallBodies
from limelight_collector.request_ids import RequestIds
from limelight_collector.services import Services


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(path: Path, *, app: Any = None, **settings: Any) -> Iterator[tuple[Services, int, int]]:
    """Services, the HTTP port and the gRPC port; every other path is answered by `app`."""
    grpc_port = free_port()
    with running(path, **settings) as services:
        app = RequestIds(OtlpApp(SmallBodies(app or PlainTextResponse("the application")), services))
        config = uvicorn.Config(
            app, http=GuardedProtocol, ws="none", log_config=None, lifespan="off", timeout_keep_alive=IDLE_TIMEOUT_S
        )
        server = uvicorn.Server(config)
        grpc_server = serve_grpc(services, "127.0.0.1", grpc_port)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
            thread.start()
            while not server.started:
                assert thread.is_alive()
                time.sleep(0.01)
            try:
                yield services, listener.getsockname()[1], grpc_port
            finally:
                server.should_exit = True
                grpc_server.stop(5).wait()
                thread.join(30)


def exchange(port: int, data: bytes, *, timeout_s: float = 20, shut: bool = True) -> bytes:
    """Everything the server answers to `data` before it closes; with `shut` the client ends its side first."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as connection:
        answer = b""
        try:
            connection.sendall(data)
            if shut:
                connection.shutdown(socket.SHUT_WR)
            while chunk := connection.recv(65536):
                answer += chunk
        except (ConnectionResetError, BrokenPipeError):  # it closed while we were talking
            pass
        return answer
