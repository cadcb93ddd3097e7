"""Bodies on the wire to JSON values, piece by piece: server-sent events, newline-delimited JSON, plain JSON.

Used beside a body that the user reads: nothing here raises for what a server sent, and what is kept is bounded.
"""

from __future__ import annotations

import json
import zlib
from typing import Any, Protocol

MAX_BYTES = 16 * 2**20
"""Most undecoded bytes kept: a longer event, line or body is not read."""
SSE, NDJSON = "text/event-stream", "application/x-ndjson"
_EVENTS = frozenset({SSE})
_COMPRESSED = frozenset({b"\x1f\x8b", b"x\x01", b"x\x5e", b"x\x9c", b"x\xda"})  # gzip, and zlib at any level
_LINES = frozenset({NDJSON, "application/ndjson", "application/jsonl", "application/jsonlines"})


class Decoder(Protocol):
    """Bytes in, JSON values out as they are complete."""

    def feed(self, data: bytes) -> list[Any]:
        """Take some bytes; the values they complete."""
        ...

    def end(self) -> list[Any]:
        """What was left over when the body ended."""
        ...


def media_type(content_type: str) -> str:
    """The bare type of a Content-Type header, in lower case."""
    return content_type.partition(";")[0].strip().lower()


def is_stream(content_type: str) -> bool:
    """Whether a body of this type is a sequence of values: events or lines."""
    return media_type(content_type) in _EVENTS | _LINES


def decoder(content_type: str) -> Decoder:
    """The decoder of a response's content type; anything unknown is taken for one JSON value."""
    kind = media_type(content_type)
    if kind in _EVENTS:
        return _Events()
    return _Lines() if kind in _LINES else _Json()


def parse(text: bytes | str) -> Any:
    """The JSON value of a text, or None where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


class _Buffered:
    """Keeps the bytes of the line that is not yet complete; past the bound they are dropped, up to the line's end."""

    def __init__(self) -> None:
        self._rest: list[bytes] = []
        self._size = 0
        self._held = b""

    def _lines(self, data: bytes) -> list[bytes]:
        """The complete lines of what has arrived, ended by LF, CRLF or CR; a CR at the very end waits for its LF."""
        data = self._held + data
        self._held = data[-1:] if data.endswith(b"\r") else b""
        data = data[: len(data) - len(self._held)]
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *complete, rest = data.split(b"\n")
        if complete:
            complete[0] = self._take(complete[0])
        self._size += len(rest)
        if self._size > MAX_BYTES:
            self._rest.clear()
        elif rest:
            self._rest.append(rest)
        return complete

    def _take(self, last: bytes) -> bytes:
        """The line that `last` completes; a comment, to either format, where it was too long to be kept."""
        whole = b":" if self._size + len(last) > MAX_BYTES else b"".join([*self._rest, last])
        self._rest.clear()
        self._size = 0
        return whole

    def _left(self) -> bytes:
        self._held = b""
        return self._take(b"")


class _Events(_Buffered):
    """Server-sent events: the `data` of each, where it is JSON (`[DONE]` is not)."""

    def __init__(self) -> None:
        super().__init__()
        self._data: list[bytes] = []
        self._data_size = 0

    def feed(self, data: bytes) -> list[Any]:
        return self._values(self._lines(data))

    def end(self) -> list[Any]:
        return self._values([self._left(), b""])

    def _values(self, lines: list[bytes]) -> list[Any]:
        values: list[Any] = []
        for line in lines:
            if line.startswith(b"data:"):
                self._data_size += len(line)
                if self._data_size <= MAX_BYTES:
                    self._data.append(line[5:].removeprefix(b" "))
            elif not line and self._data:
                value = parse(b"\n".join(self._data)) if self._data_size <= MAX_BYTES else None
                self._data.clear()
                self._data_size = 0
                if value is not None:
                    values.append(value)
        return values


class _Lines(_Buffered):
    """Newline-delimited JSON."""

    def feed(self, data: bytes) -> list[Any]:
        return _parsed(self._lines(data))

    def end(self) -> list[Any]:
        return _parsed([self._left()])


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


class Inflater:
    """Undoes gzip and zlib, known by their first two bytes; anything else passes as it is."""

    def __init__(self) -> None:
        self._start = b""
        self._known = False
        self._inner: Any = None

    def feed(self, data: bytes) -> bytes:
        """Take some bytes; what they amount to. A body that breaks or swells is given up: nothing more comes of it."""
        if not self._known:
            data = self._start + data
            if len(data) < 2:
                self._start = data
                return b""
            self._known = True
            # no JSON and no event starts like this
            if data[:2] in _COMPRESSED:
                self._inner = zlib.decompressobj(47)  # 32 + 15: either header, the largest window
        return data if self._inner is None else self._inflate(data)

    def end(self) -> bytes:
        """What was held back, where the body is shorter than its mark."""
        return b"" if self._known else self._start

    def _inflate(self, data: bytes) -> bytes:
        if self._inner is _GIVEN_UP:
            return b""
        try:
            text = self._inner.decompress(data, MAX_BYTES)
        except zlib.error:
            self._inner = _GIVEN_UP
            return b""
        if self._inner.unconsumed_tail:
            self._inner = _GIVEN_UP
        return text


_GIVEN_UP = object()
