"""How programs end, fork and are killed, as real processes: what they recorded arrives, once."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import limelight
from sdk.server import Peer, otlp_reply, sent_spans

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

START = """
import os, signal, sys, threading, time
import limelight
limelight.init(endpoint=sys.argv[1], providers=[])
"""


def _run(tmp_path: Path, peer: Peer, script: str, *, returns: int = 0, start: str = START) -> str:
    """Run a script file to its end; what it wrote to stderr, which must be free of our warnings."""
    peer.says(otlp_reply())
    path = tmp_path / "program.py"
    path.write_text(start + script)
    done = subprocess.run([sys.executable, path, peer.url], capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode == returns, done.stderr
    assert "limelight" not in done.stderr, done.stderr
    return done.stderr


def _names(peer: Peer) -> list[str]:
    return sorted(span.name for span in sent_spans(peer))


@needs_fork
def test_workers_forked_from_a_master_that_was_loaded_first(tmp_path: Path, peer: Peer) -> None:
    """As `gunicorn --preload`: the master is in a span and has a worker thread when it forks."""
    _run(
        tmp_path,
        peer,
        """
with limelight.span("loading"): pass
children = []
for number in range(2):
    child = os.fork()
    if child == 0:
        with limelight.span(f"request {number}"): pass
        sys.exit(0)
    children.append(child)
for child in children:
    assert os.waitpid(child, 0)[1] == 0
with limelight.span("master"): pass
""",
    )
    assert _names(peer) == ["loading", "master", "request 0", "request 1"]


@pytest.mark.parametrize("method", [pytest.param("fork", marks=needs_fork), "spawn", "forkserver"])
@pytest.mark.parametrize("where", ["main module", "target"])
def test_children_of_multiprocessing_flush(tmp_path: Path, peer: Peer, method: str, where: str) -> None:
    """They leave by os._exit, past every exit handler."""
    start = "import multiprocessing, sys, limelight\n"
    init = "limelight.init(endpoint=sys.argv[1], providers=[])\n"
    script = f"""
{init if where == "main module" else ""}
def work(number):
    {init if where == "target" else ""}
    with limelight.span(f"child {{number}}"): pass

if __name__ == "__main__":
    context = multiprocessing.get_context("{method}")
    children = [context.Process(target=work, args=(number,)) for number in range(2)]
    for child in children: child.start()
    for child in children: child.join()
    assert [child.exitcode for child in children] == [0, 0]
"""
    _run(tmp_path, peer, script, start=start)
    assert _names(peer) == ["child 0", "child 1"]


def test_a_process_pool_flushes_when_it_is_shut_down(tmp_path: Path, peer: Peer) -> None:
    start = "import concurrent.futures, sys, limelight\nlimelight.init(endpoint=sys.argv[1], providers=[])\n"
    script = """
def work(number):
    with limelight.span(f"child {number}"): pass

if __name__ == "__main__":
    with concurrent.futures.ProcessPoolExecutor(2) as pool:
        list(pool.map(work, range(4)))
"""
    _run(tmp_path, peer, script, start=start)
    assert _names(peer) == [f"child {number}" for number in range(4)]


@needs_fork
def test_a_worker_that_dies_after_its_task_has_flushed(tmp_path: Path, peer: Peer) -> None:
    """As Celery's workers after `max_tasks_per_child`."""
    _run(
        tmp_path,
        peer,
        """
child = os.fork()
if child == 0:
    with limelight.span("task"): pass
    assert limelight.flush(30)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
""",
    )
    assert _names(peer) == ["task"]


def test_a_process_frozen_after_an_explicit_flush_has_lost_nothing(tmp_path: Path, peer: Peer) -> None:
    """As a function in the cloud, which may never run again."""
    script = """
with limelight.span("invocation"): pass
assert limelight.flush(30)
os.kill(os.getpid(), signal.SIGKILL)
"""
    _run(tmp_path, peer, script, returns=-signal.SIGKILL)
    assert _names(peer) == ["invocation"]


TERMINATE = """
with limelight.span("ended"): pass
limelight.span("open").__enter__()
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(60)
"""


def test_sigterm_by_default_ends_the_process_after_a_flush(tmp_path: Path, peer: Peer) -> None:
    script = "assert limelight.on_sigterm() and limelight.on_sigterm()" + TERMINATE
    _run(tmp_path, peer, script, returns=-signal.SIGTERM)
    assert _names(peer) == ["ended", "open"]


def test_sigterm_goes_on_to_the_handler_that_was_there(tmp_path: Path, peer: Peer) -> None:
    script = """
def theirs(number, frame):
    assert number == signal.SIGTERM and frame.f_code.co_name == "<module>"
    os._exit(7)
signal.signal(signal.SIGTERM, theirs)
assert limelight.on_sigterm()
"""
    _run(tmp_path, peer, script + TERMINATE, returns=7)
    assert _names(peer) == ["ended"]


def test_sigterm_while_the_program_flushes_or_queues(tmp_path: Path, peer: Peer) -> None:
    script = """
limelight.on_sigterm()
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
while True:
    with limelight.span("busy"): pass
    limelight.flush(5)
"""
    _run(tmp_path, peer, script, returns=-signal.SIGTERM)
    assert set(_names(peer)) == {"busy"}


def test_sigterm_that_is_ignored_or_not_ours_to_take_is_left_alone(tmp_path: Path, peer: Peer) -> None:
    script = """
seen = []
thread = threading.Thread(target=lambda: seen.append(limelight.on_sigterm()))
import logging; logging.disable()
thread.start(); thread.join()
assert seen == [False] and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
signal.signal(signal.SIGTERM, signal.SIG_IGN)
assert limelight.on_sigterm() is False and signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
"""
    _run(tmp_path, peer, script)


def test_init_again_as_in_a_notebook_sends_everything_once(tmp_path: Path, peer: Peer) -> None:
    script = """
for cell in range(3):
    limelight.init(endpoint=sys.argv[1], providers=[])
    with limelight.span(f"cell {cell}"): pass
"""
    _run(tmp_path, peer, script)
    assert _names(peer) == ["cell 0", "cell 1", "cell 2"]


def test_an_interrupt_passes_and_is_recorded(tmp_path: Path, peer: Peer) -> None:
    script = """
signal.signal(signal.SIGINT, signal.default_int_handler)
with limelight.span("interrupted"):
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)
"""
    assert _run(tmp_path, peer, script, returns=-signal.SIGINT).endswith("KeyboardInterrupt\n")
    (span,) = sent_spans(peer)
    assert {pair.key: pair.value.string_value for pair in span.attributes}["error.type"] == "KeyboardInterrupt"


def test_threads_that_outlive_the_main_thread(tmp_path: Path, peer: Peer) -> None:
    """A daemon thread works on while the interpreter goes down; another is waited for by Python itself."""
    script = """
def for_ever():
    while True:
        with limelight.span("daemon"): pass
        time.sleep(0.001)
def later():
    time.sleep(0.3)
    with limelight.span("waited for"): pass
threading.Thread(target=for_ever, daemon=True).start()
threading.Thread(target=later).start()
"""
    _run(tmp_path, peer, script)
    assert "waited for" in _names(peer)


def test_the_first_span_in_an_exit_handler(tmp_path: Path, peer: Peer) -> None:
    script = """
import atexit
def late():
    with limelight.span("late"): pass
atexit.register(late)
"""
    _run(tmp_path, peer, script)
    assert _names(peer) in ([], ["late"])  # no thread can be started any more from Python 3.12 on


async def test_aflush_does_not_hold_up_the_loop(peer: Peer) -> None:
    reply = otlp_reply()
    reply.hold = threading.Event()
    peer.says(reply)
    limelight.init(endpoint=peer.url, providers=[])
    try:
        with limelight.span("work"):
            pass
        flushing = asyncio.create_task(limelight.aflush(20))
        await asyncio.sleep(0)
        reply.hold.set()  # only a loop that runs gets here before the flush is over
        assert await flushing
    finally:
        await asyncio.to_thread(limelight.shutdown, 10)
        limelight.uninstrument()


def test_no_thread_before_the_first_span(tmp_path: Path, peer: Peer) -> None:
    script = """
assert threading.active_count() == 1
with limelight.span("work"): pass
assert sorted(thread.name for thread in threading.enumerate()) == ["MainThread", "limelight-export"]
"""
    _run(tmp_path, peer, script)
    assert _names(peer) == ["work"]


def test_the_kill_switch_loads_and_patches_nothing(tmp_path: Path) -> None:
    script = """
import sys, threading
hooks = list(sys.meta_path)
start = threading.Thread.start
import limelight
limelight.init()
@limelight.observe(kind="tool")
def work(): return 1
with limelight.span("a") as span, limelight.context(session_id="s"):
    assert (work(), span.trace_id) == (1, "")
limelight.score("x", 1)
assert limelight.flush() and limelight.shutdown()
assert sys.meta_path == hooks and threading.Thread.start is start and threading.active_count() == 1
heavy = ("opentelemetry.sdk", "opentelemetry.exporter", "opentelemetry.proto", "requests", "google.protobuf")
loaded = [name for name in sys.modules if name.startswith(heavy) or name.startswith("limelight.providers.")]
assert loaded == [], loaded
"""
    for switch in ("LIMELIGHT_DISABLED", "OTEL_SDK_DISABLED"):
        environ = {**os.environ, switch: "true"}
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, env=environ)
        assert (done.returncode, done.stderr) == (0, "")
