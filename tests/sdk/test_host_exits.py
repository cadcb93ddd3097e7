"""A host program with a collector that is dead, wrong or hanging: its output, its end and its exit code are its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator

import pytest

from sdk.server import Peer, Reply, json_reply
from sdk.test_openai import COMPLETION

pytest.importorskip("openai")

PROGRAM = """
import os, sys, threading
if os.environ.get("WITH_US") == "1":
    import limelight
    limelight.init(service_name="host", flush_timeout_s=1)
import openai
client = openai.OpenAI(api_key="k", base_url=sys.argv[1], max_retries=0)
for _ in range(3):
    answer = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
    print(answer.usage.total_tokens, answer.choices[0].message.content, flush=True)
client.close()
end = sys.argv[2]
if end == "exit":
    sys.exit(3)
if end == "raise":
    raise LookupError("the host's own")
if end == "interrupt":
    raise KeyboardInterrupt
if end == "gone":
    os._exit(4)
if end == "daemon":
    threading.Thread(target=threading.Event().wait, daemon=True).start()
"""
ENDS = ("return", "exit", "raise", "interrupt", "gone", "daemon")
COLLECTORS: dict[str, Reply] = {
    "401": Reply(401),
    "403": Reply(403),
    "redirect": Reply(302, {"Location": "http://127.0.0.1:9/login"}),
    "page": Reply(200, {"Content-Type": "text/html"}, [b"<html>log in</html>"]),
    "500": Reply(500, {}, [b"broken"]),
    "503": Reply(503, {"Retry-After": "30"}),
}


@pytest.fixture(scope="module")
def model() -> Iterator[Peer]:
    with Peer() as running:
        running.says(json_reply(COMPLETION))
        yield running


def _run(model: Peer, end: str, **variables: str) -> tuple[int, str, list[str]]:
    """(exit code, output, lines of the error output); a program that hangs fails the test by its time limit."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LIMELIGHT_", "OTEL_"))}
    command = [sys.executable, "-c", PROGRAM, f"{model.url}/v1", end]
    done = subprocess.run(command, env=environment | variables, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr.splitlines()


def _compare(model: Peer, end: str, endpoint: str, **variables: str) -> None:
    code, output, errors = _run(model, end)
    code_with_us, output_with_us, errors_with_us = _run(
        model, end, WITH_US="1", LIMELIGHT_ENDPOINT=endpoint, **variables
    )
    assert (code_with_us, output_with_us) == (code, output)
    assert output.count("\n") == 3
    added = [line for line in errors_with_us if line not in errors]
    assert [line for line in errors if line not in errors_with_us] == []  # a traceback of the host's, the same
    assert max(Counter(line.split("(")[0] for line in added).values(), default=0) <= 1  # one warning a kind
    assert not any("Traceback" in line for line in added)


@pytest.mark.parametrize("end", ENDS)
def test_a_collector_that_is_not_there(model: Peer, end: str) -> None:
    _compare(model, end, "http://127.0.0.1:9")


@pytest.mark.parametrize("collector", COLLECTORS)
def test_a_collector_that_is_none(model: Peer, peer: Peer, collector: str) -> None:
    peer.says(COLLECTORS[collector])
    _compare(model, "exit", peer.url)


def test_a_collector_that_never_answers(model: Peer) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        _compare(model, "exit", f"http://127.0.0.1:{deaf.getsockname()[1]}")


def test_a_name_that_nobody_knows(model: Peer) -> None:
    _compare(model, "return", "http://collector.invalid:4318")


@pytest.mark.parametrize("setting", ["LIMELIGHT_SAMPLE_RATE", "LIMELIGHT_CAPTURE", "LIMELIGHT_QUEUE_MAX_SPANS"])
def test_settings_that_are_none(model: Peer, setting: str) -> None:
    _compare(model, "return", "no address", **{setting: "\x7f nonsense"})


def test_nothing_is_left_after_many_starts() -> None:
    """Threads and file descriptors are back where they were."""
    script = (
        "import os, threading, limelight\n"
        "def once():\n"
        "    limelight.init(endpoint='http://127.0.0.1:9', flush_timeout_s=0.2)\n"
        "    with limelight.span('s'): pass\n"
        "    limelight.shutdown(0.2)\n"
        "once()\n"
        "files, threads = len(os.listdir('/proc/self/fd')), threading.active_count()\n"
        "for _ in range(30): once()\n"
        "for thread in threading.enumerate():\n"
        "    if thread.name.startswith('limelight'): thread.join(10)\n"
        "assert threading.active_count() <= threads, threading.enumerate()\n"
        "assert len(os.listdir('/proc/self/fd')) <= files\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120, capture_output=True)
