"""The installed `limelight` command as a child process, on free ports and a directory of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

LIMELIGHT = [sys.executable, "-m", "limelight.cli"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Collector:
    """`limelight collector` (or `up`) as a child process; `start`, `kill` and `stop` as often as wanted."""

    def __init__(self, data_dir: Path, verb: str = "collector", **environment: str) -> None:
        self.data_dir = data_dir
        self.verb = verb
        self.http_port, self.grpc_port, self.dashboard_port = free_port(), free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.http_port}"
        self.environment = {"LIMELIGHT_CANARY_INTERVAL_S": "0", **environment}
        self.process: subprocess.Popen[bytes] | None = None
        self.log = data_dir.parent / f"{data_dir.name}.log"

    def command(self) -> list[str]:
        ports = ["--http-port", str(self.http_port), "--grpc-port", str(self.grpc_port)]
        if self.verb == "up":
            ports += ["--dashboard-port", str(self.dashboard_port)]
        return [*LIMELIGHT, self.verb, "--data-dir", str(self.data_dir), *ports, "--exit-with-parent"]

    def start(self) -> float:
        """Start and wait for /readyz; returns the seconds that took."""
        started = time.monotonic()
        self.spawn()
        assert self.process is not None
        while time.monotonic() - started < 60:
            if self.process.poll() is not None:
                raise AssertionError(f"the collector ended with {self.process.returncode}: {self.log.read_text()}")
            try:
                if httpx.get(f"{self.url}/readyz", timeout=2).status_code == 200:
                    return time.monotonic() - started
            except httpx.HTTPError:
                time.sleep(0.05)
        raise AssertionError(f"not ready within 60 s: {self.log.read_text()}")

    def spawn(self) -> None:
        """Start and do not wait."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(), stdin=subprocess.PIPE, stdout=log, stderr=log, env={**os.environ, **self.environment}
            )

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process.stdin.close()

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        assert self.process is not None
        assert self.process.stdin is not None
        if self.process.poll() is None:
            self.process.terminate()
        code = self.process.wait(timeout=30)
        self.process.stdin.close()
        return code

    def get(self, path: str, **params: Any) -> Any:
        answer = httpx.get(f"{self.url}/api/v1/{path}", params=params, timeout=30)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def wait_for_traces(self, count: int, timeout_s: float = 30, **params: Any) -> list[dict[str, Any]]:
        """The traces found once there are `count` of them."""
        deadline = time.monotonic() + timeout_s
        found: list[dict[str, Any]] = []
        while time.monotonic() < deadline:
            found = self.get("traces", **params)["traces"]
            if len(found) >= count:
                return found
            time.sleep(0.2)
        raise AssertionError(f"{len(found)} of {count} traces after {timeout_s} s: {self.log.read_text()[-2000:]}")
