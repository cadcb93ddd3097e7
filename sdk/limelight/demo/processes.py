"""The processes the demo starts: the product itself, the model server, and a local webhook receiver."""

from __future__ import annotations

import http.server
import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx


class DemoFailed(Exception):
    """The demo cannot go on; the message is one line that says why and what to do."""


def free_port() -> int:
    """A port nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Child:
    """A child process of ours that ends when we do: it watches its standard input."""

    def __init__(self, name: str, module: str, arguments: list[str], log: Path, environment: dict[str, str]) -> None:
        self.name = name
        self.log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(  # noqa: S603 (our own interpreter, our own modules)
                [sys.executable, "-m", module, *arguments, "--exit-with-parent"],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
            )

    def wait_ready(self, url: str, timeout_s: float) -> float:
        """Seconds until `url` answered 200; `DemoFailed` with the child's last words where it ended or hangs."""
        started = time.monotonic()
        while time.monotonic() - started < timeout_s:
            if self.process.poll() is not None:
                raise DemoFailed(f"{self.name} ended: {self._last_line()}")
            try:
                if httpx.get(url, timeout=2).status_code == 200:
                    return time.monotonic() - started
            except httpx.HTTPError:
                time.sleep(0.1)
        raise DemoFailed(f"{self.name} did not answer at {url} within {timeout_s:.0f} s; its log: {self.log}")

    def stop(self) -> None:
        """Close the child's standard input and wait for its end."""
        if self.process.stdin is not None and not self.process.stdin.closed:
            self.process.stdin.close()
        try:
            self.process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _last_line(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"exit code {self.process.returncode}, no output"


class Webhook:
    """A receiver on loopback that keeps what alerts deliver; `deliveries` is a list of JSON bodies in order."""

    def __init__(self) -> None:
        self.deliveries: list[dict[str, Any]] = []
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                receiver.deliveries.append(json.loads(self.rfile.read(length)))
                self.send_response(204)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the base class names it so)
                """Keep the terminal for the demo."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def wait_for(self, status: str, timeout_s: float) -> bool:
        """Whether a delivery of this status arrived within the time."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if any(delivery.get("status") == status for delivery in self.deliveries):
                return True
            time.sleep(0.2)
        return False
