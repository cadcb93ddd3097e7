"""What becomes of captured values: bounded, safe, redacted or dropped."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import json
import pathlib
from typing import Any

import pytest

import limelight
from limelight.content import MAX_BYTES, Content, RedactFailed
from limelight.testing import recording


@pytest.mark.parametrize("text", ["x" * 3_000_000, "é" * 2_000_000, '"' * 1_500_000, "\n" * 1_048_000])
def test_large_values_are_cut_and_say_so(text: str) -> None:
    cut = Content().json([{"a": text, "b": text}])
    assert len(cut.encode()) <= MAX_BYTES
    assert "characters cut]" in json.loads(cut)[0]["a"]
    assert len(Content().value(text).encode()) <= MAX_BYTES


def test_cycles_depth_and_width_end() -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    assert "too deep" in Content().json(cycle)
    wide = [[] for _ in range(100_000)]
    assert len(json.loads(Content().json(wide))) < 30_000


def test_objects_are_read_by_their_fields_and_never_run() -> None:
    class Colour(enum.Enum):
        RED = "red"

    @dataclasses.dataclass
    class Point:
        x: int
        colour: Colour

    class Rude:
        def __repr__(self) -> str:
            raise AssertionError("repr was called")

        __str__ = __repr__

    value = {"point": Point(1, Colour.RED), "rude": Rude(), "path": pathlib.PurePosixPath("/a"), 7: b"ab"}
    read = json.loads(Content().json(value))
    assert read["point"] == {"x": 1, "colour": "red"}
    assert read["rude"].endswith("Rude>")
    assert read["path"] == "/a"
    assert (read["7"]["type"], read["7"]["size"]) == ("blob", 2)


def test_redact_sees_content_and_leaves_structure() -> None:
    text, called = {"type": "text", "content": "my secret"}, {"type": "tool_call", "name": "f", "arguments": {"k": "s"}}
    redacted = Content(lambda _: "***").messages([{"role": "user", "parts": [text, called]}])
    parts = [{**text, "content": "***"}, {**called, "arguments": {"k": "***"}}]
    assert json.loads(redacted) == [{"role": "user", "parts": parts}]


@pytest.mark.parametrize("redact", [lambda text: 1 / 0, lambda text: None, lambda text: b"x"])
def test_a_redact_that_fails_drops_the_content_and_keeps_the_span(redact: Any, caplog) -> None:
    with pytest.raises(RedactFailed):
        Content(redact).value("secret")
    with recording(redact=redact) as recorded:
        with contextlib.suppress(ValueError), limelight.span("work") as work:
            work.set(input="secret", output={"a": "secret"}, kept=1)
            raise ValueError("secret")
        span = recorded.only()
        assert span.attributes["limelight.content.dropped"] == "redact_failed"
        assert (span.attributes["kept"], span.status) == (1, "error")
        assert "secret" not in str(recorded.bodies)
    assert "secret" not in caplog.text
