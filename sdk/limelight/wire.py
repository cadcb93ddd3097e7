"""Bodies on the wire to JSON values, piece by piece: server-sent events, newline-delimited JSON, plain JSON.

Used beside a body that the user reads: nothing here raises for what a server sent, and what is kept is bounded.
"""

from __future__ import annotations

import json
import re
from typing import Any, Protocol

MAX_BYTES = 16 * 2**20
"""Most undecoded bytes kept: a longer event or body is not read."""
_LINE = re.compile(rb"\r\n|\n|\r")


class Decoder(Protocol):
    """Bytes in, JSON values out as they are complete."""

    def feed(self, data: bytes) -> list[Any]:
        """Take some bytes; the values they complete."""
        ...

    def end(self) -> list[Any]:
        """What was left over when the body ended."""
        ...


def decoder(content_type: str) -> Decoder:
    """The decoder of a response's content type; anything unknown is taken for one JSON value."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "text/event-stream":
        return _Events()
    return _Lines() if kind in {"application/x-ndjson", "application/ndjson", "application/jsonl"} else _Json()


def parse(text: bytes | str) -> Any:
    """The JSON value of a text, or None where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


class _Buffered:
    """Keeps the bytes that are not yet a value; past the bound it gives up on them."""

    def __init__(self) -> None:
        self._rest = b""

    def _lines(self, data: bytes) -> list[bytes]:
        """The complete lines of what has arrived; a CR at the very end waits for its LF."""
        text = self._rest + data
        held = text[-1:] if text.endswith(b"\r") else b""
        *lines, rest = _LINE.split(text[: len(text) - len(held)])
        self._rest = b"" if len(rest) > MAX_BYTES else rest + held
        return lines


class _Events(_Buffered):
    """Server-sent events: the `data` of each, where it is JSON (`[DONE]` is not)."""

    def __init__(self) -> None:
        super().__init__()
        self._data: list[bytes] = []

    def feed(self, data: bytes) -> list[Any]:
        return self._values(self._lines(data))

    def end(self) -> list[Any]:
        lines = [self._rest.rstrip(b"\r"), b""]
        self._rest = b""
        return self._values(lines)

    def _values(self, lines: list[bytes]) -> list[Any]:
        values: list[Any] = []
        for line in lines:
            if line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
            elif not line and self._data:
                value = parse(b"\n".join(self._data))
                self._data.clear()
                if value is not None:
                    values.append(value)
        return values


class _Lines(_Buffered):
    """Newline-delimited JSON."""

    def feed(self, data: bytes) -> list[Any]:
        return _parsed(self._lines(data))

    def end(self) -> list[Any]:
        rest, self._rest = self._rest, b""
        return _parsed([rest])


def _parsed(lines: list[bytes]) -> list[Any]:
    return [value for value in map(parse, lines) if value is not None]


class _Json:
    """One JSON value, known at the end."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[Any]:
        self._size += len(data)
        if self._size <= MAX_BYTES:
            self._pieces.append(data)
        else:
            self._pieces.clear()
        return []

    def end(self) -> list[Any]:
        whole = b"".join(self._pieces)
        self._pieces.clear()
        return _parsed([whole])
