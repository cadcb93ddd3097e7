"""Content (prompts, answers, arguments) to bounded text: by size, depth and node count, and without running user code.

Strings pass the redactors first. Objects are read through their fields; what has none is named, never `repr`ed.
"""

from __future__ import annotations

import base64
import collections
import datetime as dt
import decimal
import enum
import hashlib
import json
import math
import pathlib
import time
import uuid
from collections.abc import Callable, Iterable
from typing import Any

from limelight import redact as redactors
from limelight.redact import Redact
from limelight.values import MAX_ITEMS, choice, is_a, items, number, own, stored_fields, word

MAX_BYTES = 2**20
"""Largest serialised value: one attribute, UTF-8."""
MAX_DEPTH = 16
MAX_NODES = MAX_ITEMS
_STRUCTURE = frozenset({"type", "role", "id", "name", "mime_type", "modality", "size", "sha256", "finish_reason"})

TIME_NS = 250_000_000
"""Longest one value may take to serialise; what is left then becomes a mark."""
_MARGIN = 8192
"""Characters beyond a cut that redactors still see, so that a secret on the cut is known whole: more than a key has."""


class RedactFailed(Exception):
    """A redactor raised or gave no string: the content must not leave the process."""


class Content:
    """Turns captured values into attribute text; redactors see every string of content, not the structure around.

    `is_redacted` runs the built-in ones before the user's `redact`, and hides values by the name of their key.
    """

    __slots__ = ("_clock_ns", "_is_redacted", "_redactors")

    def __init__(
        self,
        redact: Redact | None = None,
        *,
        is_redacted: bool = False,
        clock_ns: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        own = () if redact is None else (redact,)
        self._redactors: tuple[Redact, ...] = (redactors.standard, *own) if is_redacted else own
        self._is_redacted = is_redacted
        self._clock_ns = clock_ns

    def messages(self, messages: list[dict[str, Any]]) -> str:
        """JSON of semconv messages, or of parts; roles, types, ids and names are structure and are not redacted."""
        if not self._redactors and _is_plain(messages):
            return _utf8(_dump(messages))
        return self._fit(lambda copy: copy.parts(messages))

    def value(self, value: Any) -> str:
        """Text as it is, anything else as JSON."""
        text = word(value)
        if text is None and type(value) in _PRINTABLE:
            text = str(value)
        if text is not None and not text.startswith("data:"):
            return self._fit(lambda copy: copy.text(text), dump=False)
        return self._fit(lambda copy: copy.plain(value, MAX_DEPTH))

    def json(self, value: Any) -> str:
        """Anything as JSON, strings included."""
        return self._fit(lambda copy: copy.plain(value, MAX_DEPTH))

    def text(self, text: str) -> str:
        """One redacted, clipped string (an error message)."""
        return self._fit(lambda copy: copy.text(text), dump=False)

    def _fit(self, build: Callable[[_Copy], Any], *, dump: bool = True) -> str:
        """Serialise within MAX_BYTES: escapes and wide characters are only known afterwards, so shrink and repeat."""
        budget, nodes = MAX_BYTES, MAX_NODES
        deadline_ns = self._clock_ns() + TIME_NS
        while True:
            built = build(_Copy(budget, nodes, self._redactors, self._is_redacted, self._clock_ns, deadline_ns))
            text = _utf8(_dump(built) if dump else built)
            size = len(text) if text.isascii() else len(text.encode())
            if size <= MAX_BYTES or budget == 0:
                return text if size <= MAX_BYTES else json.dumps("[too large]")
            budget, nodes = (bound * MAX_BYTES // size * 9 // 10 for bound in (budget, nodes))


def attribute(value: Any) -> Any:
    """A plain attribute: words, numbers, booleans and lists of them as they are, anything else as a value's text."""
    if not is_a(value, (list, tuple)):
        return _scalar(value)
    known = [found for item in items(value) if (found := _scalar(item)) is not None]
    size = sum(len(item) if isinstance(item, str) else 8 for item in known)
    return known if size < MAX_BYTES else _PLAIN.value(value)


def _scalar(value: Any) -> Any:
    if type(value) is bool:
        return value
    known = number(value)
    return known if known is not None or value is None or is_a(value, float) else _PLAIN.value(value)


def _utf8(text: str) -> str:
    """A text that UTF-8 can hold: lone surrogates become question marks."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


_PLAIN_CHARS, _PLAIN_PARTS = MAX_BYTES // 8, 1_000
"""So much text fits whatever it is made of: a character takes up to six bytes as JSON."""


def _is_plain(messages: list[dict[str, Any]]) -> bool:
    """Whether messages are text alone, and not too much of it: a bounded copy would be the same. Nearly all are."""
    size = parts = 0
    for message in messages:
        for part in message.get("parts", ()):
            parts += 1
            for value in part.values():
                if type(value) is not str or value.startswith("data:"):
                    return False
                size += len(value)
        for name, value in message.items():
            if name != "parts":
                if type(value) is not str or value.startswith("data:"):
                    return False
                size += len(value)
    return size <= _PLAIN_CHARS and parts + len(messages) <= _PLAIN_PARTS


_dump = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class _Copy:
    """One bounded copy: counts down characters and nodes; past these bounds, or the deadline, values become marks."""

    __slots__ = ("_budget", "_clock_ns", "_deadline_ns", "_is_redacted", "_nodes", "_redactors")

    def __init__(
        self,
        budget: int,
        nodes: int,
        redactors: tuple[Redact, ...],
        is_redacted: bool,
        clock_ns: Callable[[], int],
        deadline_ns: int,
    ) -> None:
        self._budget = budget
        self._nodes = nodes
        self._redactors = redactors
        self._is_redacted = is_redacted
        self._clock_ns = clock_ns
        self._deadline_ns = deadline_ns

    def text(self, text: str) -> str:
        size = len(text)
        is_cut = False
        if self._redactors:
            if self._clock_ns() > self._deadline_ns:
                return _TOO_SLOW
            # of a text that will be cut, redactors see what stays and what follows it, so that none is cut in two
            is_cut = size > self._budget + _MARGIN
            text = self._redacted(text[: self._budget + _MARGIN])[:-_MARGIN] if is_cut else self._redacted(text)
        if len(text) <= self._budget and not is_cut:
            self._budget -= len(text)
            return text
        kept, self._budget = text[: self._budget], max(0, self._budget - len(text))
        return f"{kept}…[{size - len(kept)} characters cut]"

    def _redacted(self, text: str) -> str:
        for redact in self._redactors:
            text = _redacted(redact, text)
        return text

    def parts(self, values: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Messages or parts, as many as there is room for."""
        copied: list[dict[str, Any]] = []
        for value in values:
            if self._nodes <= 0:
                copied.append({"type": "text", "content": _TOO_MANY})
                break
            self._nodes -= 1
            copied.append(self._part(value))
        return copied

    def _part(self, value: dict[str, Any]) -> dict[str, Any]:
        """A message or a part: structure stays, everything else is content."""
        copied: dict[str, Any] = {}
        item: Any
        for key, item in value.items():
            if key == "parts":
                copied[key] = self.parts(item)
            elif type(item) is str and (key in _STRUCTURE or self._short(item)):  # nearly every other field
                copied[key] = item
            elif item is not None:
                copied[key] = self.plain(item, MAX_DEPTH)
        return copied

    def _short(self, text: str) -> bool:
        """Whether a string needs nothing done; then its length is booked."""
        if self._redactors or len(text) > self._budget or text.startswith("data:"):
            return False
        self._budget -= len(text)
        return True

    def plain(self, value: Any, depth: int) -> Any:
        text = word(value)
        if text is not None:
            return blob_of_url(text) if text.startswith("data:") and ";base64," in text[:128] else self.text(text)
        kind = type(value)
        if value is None or kind is bool:
            return value
        if issubclass(kind, (int, float)):
            return self._number(int.__int__(value) if issubclass(kind, int) else float.__float__(value))
        self._nodes -= 1
        if depth == 0 or self._nodes <= 0:
            return "[cut: too deep]" if depth == 0 else _TOO_MANY
        if not self._nodes & 255 and self._clock_ns() > self._deadline_ns:
            self._nodes = 0
            return _TOO_SLOW
        if issubclass(kind, dict):
            return self._mapping(dict.items(value), depth)
        if issubclass(kind, (list, tuple)):
            return [self.plain(item, depth - 1) for item in items(value) if self._nodes > 0]
        if kind is set or kind is frozenset:
            return [self.plain(item, depth - 1) for item in value if self._nodes > 0]
        if kind is bytes or kind is bytearray:
            return blob("application/octet-stream", value)
        return self._object(kind, value, depth)

    def _mapping(self, pairs: Iterable[tuple[Any, Any]], depth: int) -> dict[str, Any]:
        copied: dict[str, Any] = {}
        for key, item in pairs:
            if self._nodes <= 0:
                break
            name = _key(key)[:_MAX_KEY]
            is_secret = self._is_redacted and issubclass(type(item), (str, int, float))
            if is_secret and redactors.is_secret_name(name):
                copied[name] = redactors.SECRET
            else:
                copied[name] = self.plain(item, depth - 1)
        return copied

    def _number(self, value: float) -> int | float | str:
        """A number as JSON has it, unless it is a card's: neither infinite nor of a thousand digits."""
        if isinstance(value, float):
            return value if math.isfinite(value) else str(value)
        if value.bit_length() > _MAX_BITS:
            return f"[cut: a whole number of {value.bit_length()} bits]"
        text = str(value) if self._is_redacted and 10**12 <= value < 10**19 else ""
        return value if redactors.cards(text) == text else redactors.CARD

    def _object(self, kind: type, value: Any, depth: int) -> Any:
        if issubclass(kind, enum.Enum):
            return self.plain(choice(value), depth - 1)
        if kind in _PRINTABLE:
            return self.text(str(value))
        if issubclass(kind, collections.UserDict):
            return self.plain(own(value).get("data"), depth - 1)
        # what is stored, not model_dump() or properties: those are user code
        stored = stored_fields(value)
        if stored is None:
            return f"<{kind.__module__}.{kind.__qualname__}>"
        return self._mapping(((key, item) for key, item in stored.items() if item is not None), depth)


_TOO_SLOW, _TOO_MANY = "[cut: took too long]", "[cut: too many values]"
_MAX_BITS = 1024
_MAX_KEY = 512
_PRINTABLE = frozenset(
    {
        dt.date,
        dt.datetime,
        dt.time,
        dt.timedelta,
        decimal.Decimal,
        uuid.UUID,
        pathlib.PurePosixPath,
        pathlib.PureWindowsPath,
        pathlib.PosixPath,
        pathlib.WindowsPath,
    }
)
"""What the standard library prints by itself; a class derived from one prints as its author likes."""


_PLAIN = Content()


def _key(key: Any) -> str:
    name = word(key)
    if name is None:
        known = key if type(key) is bool else number(key)
        name = f"<{type(key).__name__}>" if known is None else str(known)
    return name


def _redacted(redact: Redact, text: str) -> str:
    try:
        clean: Any = redact(text)
    except Exception as error:
        raise RedactFailed(type(error).__name__) from error
    if not isinstance(clean, str):
        raise RedactFailed(f"redact returned {type(clean).__name__}, not str")
    return clean


def blob(mime_type: str, data: bytes | bytearray) -> dict[str, Any]:
    """What is kept of binary data: its type, size in bytes and SHA-256."""
    return {"type": "blob", "mime_type": mime_type, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def blob_of_base64(mime_type: str, text: str) -> dict[str, Any]:
    """The same for base64 text; text that is none is described by its own bytes."""
    try:
        return blob(mime_type, base64.b64decode(text, validate=True))
    except ValueError:
        return blob(mime_type, text.encode("utf-8", "replace"))


def blob_of_url(url: str) -> dict[str, Any]:
    """The same for a `data:` URL."""
    head, _, data = url.partition(",")
    return blob_of_base64(head[len("data:") :].partition(";")[0] or "text/plain", data)
