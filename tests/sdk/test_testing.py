"""The pytest plugin, used as a stranger's test suite would."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import limelight
from limelight.testing import START_NS, Recorded, recording

SUITE = """
import limelight

@limelight.observe(kind="tool")
def add(a, b):
    return a + b

def test_add(limelight_spans):
    add(1, 2)
    span = limelight_spans.only()
    assert span.attributes["gen_ai.tool.call.result"] == "3"
    assert limelight_spans.named("execute_tool add") == [span]

def test_off():
    assert add(1, 2) == 3
"""


def test_a_strangers_suite_has_the_fixture_and_no_warnings(tmp_path: Path) -> None:
    (tmp_path / "test_suite.py").write_text(SUITE)
    command = [
        sys.executable,
        "-W",
        "error",
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:asyncio",
        "-c",
        "/dev/null",
        ".",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


def test_clock_and_ids_are_the_same_every_time() -> None:
    def once() -> list:
        with recording() as recorded:
            with limelight.span("a"), limelight.span("b"):
                pass
            return recorded.spans()

    first, second = once(), once()
    assert first == second
    assert [span.span_id for span in first] == ["0000000000000002", "0000000000000001"]
    assert first[1].start_ns == START_NS


def test_recordings_do_not_see_each_other(spans: Recorded) -> None:
    with limelight.span("outer"):
        pass
    with recording() as inner, limelight.span("inner"):
        pass
    assert inner.named("outer") == []
