"""Servers and workers that end without exit handlers: what their last requests and tasks left is sent all the same."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from limelight.testing import recording
from sdk.server import Peer, otlp_reply, sent_spans

HERE = Path(__file__).parent
APP = """
import limelight
limelight.init()
async def app(scope, receive, send):
    if scope["type"] == "http":
        with limelight.span("served"):
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})
"""


@contextmanager
def _running(*command: str, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    environment = {**os.environ, "LIMELIGHT_METRICS": "0", **variables}
    with subprocess.Popen([sys.executable, *command], env=environment) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def _until(condition) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    pytest.fail("it did not come")


def _answers(url: str) -> bool:
    try:
        return urllib.request.urlopen(url, timeout=5).status == 200
    except OSError:
        return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_uvicorn_sends_its_last_spans_before_the_signal_ends_it(tmp_path: Path, peer: Peer, number: int) -> None:
    pytest.importorskip("uvicorn")
    peer.says(otlp_reply())
    (tmp_path / "served.py").write_text(APP)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["-m", "uvicorn", "--port", str(port), "--log-level", "warning", "--app-dir", str(tmp_path), "served:app"]
    with _running(*command, LIMELIGHT_ENDPOINT=peer.url) as process:
        _until(lambda: _answers(f"http://127.0.0.1:{port}"))
        process.send_signal(number)
        process.wait(20)
    assert "served" in [span.name for span in sent_spans(peer)]


@pytest.mark.slow
def test_each_celery_process_sends_the_span_of_its_one_task(tmp_path: Path, peer: Peer) -> None:
    pytest.importorskip("celery")
    from sdk.celery_app import make

    peer.says(otlp_reply())
    for folder in ("queue", "control", "results"):
        (tmp_path / folder).mkdir()
    app = make(str(tmp_path))
    results = [app.send_task("greet", [f"n{number}"]) for number in range(6)]
    path = os.pathsep.join([str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    with _running(str(HERE / "celery_app.py"), str(tmp_path), peer.url, PYTHONPATH=path) as process:
        assert [result.get(60) for result in results] == [f"hello n{number}" for number in range(6)]
        _until(lambda: len(list(sent_spans(peer))) == 6)
        process.terminate()
        process.wait(30)
    assert {span.name for span in sent_spans(peer)} == {f"greet n{number}" for number in range(6)}


def test_celery_gets_its_signal_back() -> None:
    signals = pytest.importorskip("celery.signals")
    before = list(signals.worker_process_shutdown.receivers)
    with recording():
        assert len(signals.worker_process_shutdown.receivers) == len(before) + 1
    assert list(signals.worker_process_shutdown.receivers) == before
