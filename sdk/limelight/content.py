"""Content (prompts, answers, arguments) to bounded text: by size, depth and node count, and without running user code.

Strings pass the user's `redact` first. Objects are read through their fields; what has none is named, never `repr`ed.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import decimal
import enum
import hashlib
import json
import math
import pathlib
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

MAX_BYTES = 2**20
"""Largest serialised value: one attribute, UTF-8."""
MAX_DEPTH = 16
MAX_NODES = 20_000
_STRUCTURE = frozenset({"type", "role", "id", "name", "mime_type", "modality", "size", "sha256", "finish_reason"})

Redact = Callable[[str], str]


class RedactFailed(Exception):
    """The user's `redact` raised or gave no string: the content must not leave the process."""


class Content:
    """Turns captured values into attribute text; `redact` sees every string of content, not the structure around."""

    __slots__ = ("_redact",)

    def __init__(self, redact: Redact | None = None) -> None:
        self._redact = redact

    def messages(self, messages: list[dict[str, Any]]) -> str:
        """JSON of semconv messages, or of parts; roles, types, ids and names are structure and are not redacted."""
        return self._fit(lambda copy: [copy.part(message) for message in messages])

    def value(self, value: Any) -> str:
        """Text as it is, anything else as JSON."""
        if isinstance(value, str) and not value.startswith("data:"):
            return self._fit(lambda copy: copy.text(value), dump=False)
        return self._fit(lambda copy: copy.plain(value, MAX_DEPTH))

    def json(self, value: Any) -> str:
        """Anything as JSON, strings included."""
        return self._fit(lambda copy: copy.plain(value, MAX_DEPTH))

    def text(self, text: str) -> str:
        """One redacted, clipped string (an error message)."""
        return self._fit(lambda copy: copy.text(text), dump=False)

    def _fit(self, build: Callable[[_Copy], Any], *, dump: bool = True) -> str:
        """Serialise within MAX_BYTES: escapes and wide characters are only known afterwards, so shrink and repeat."""
        budget = MAX_BYTES
        while True:
            built = build(_Copy(budget, self._redact))
            text: str = _dump(built) if dump else built
            if not text.isascii():
                text = text.encode("utf-8", "replace").decode()
            size = len(text) if text.isascii() else len(text.encode())
            if size <= MAX_BYTES or budget == 0:
                return text if size <= MAX_BYTES else json.dumps("[too large]")
            budget = budget * MAX_BYTES // size * 9 // 10


_dump = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class _Copy:
    """One bounded copy: counts down characters and nodes; past either bound values become marks."""

    __slots__ = ("_budget", "_nodes", "_redact")

    def __init__(self, budget: int, redact: Redact | None) -> None:
        self._budget = budget
        self._nodes = MAX_NODES
        self._redact = redact

    def text(self, text: str) -> str:
        if self._redact is not None:
            text = _redacted(self._redact, text)
        if len(text) <= self._budget:
            self._budget -= len(text)
            return text
        kept, self._budget = text[: self._budget], 0
        return f"{kept}…[{len(text) - len(kept)} characters cut]"

    def part(self, value: dict[str, Any]) -> dict[str, Any]:
        """A message or a part: structure stays, everything else is content."""
        copied: dict[str, Any] = {}
        item: Any
        for key, item in value.items():
            if key == "parts":
                copied[key] = [self.part(part) for part in item]
            elif isinstance(item, str) and (key in _STRUCTURE or self._short(item)):  # nearly every other field
                copied[key] = item
            elif item is not None:
                copied[key] = self.plain(item, MAX_DEPTH)
        return copied

    def _short(self, text: str) -> bool:
        """Whether a string needs nothing done; then its length is booked."""
        if self._redact is not None or len(text) > self._budget or text.startswith("data:"):
            return False
        self._budget -= len(text)
        return True

    def plain(self, value: Any, depth: int) -> Any:
        if isinstance(value, str):
            return blob_of_url(value) if value.startswith("data:") and ";base64," in value[:128] else self.text(value)
        if value is None or isinstance(value, (bool, int)):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else str(value)
        self._nodes -= 1
        if depth == 0 or self._nodes <= 0:
            return "[cut: too deep]" if depth == 0 else "[cut: too many values]"
        if isinstance(value, Mapping):
            items = cast("Mapping[Any, Any]", value).items()
            return {_key(key): self.plain(item, depth - 1) for key, item in items if self._nodes > 0}
        if isinstance(value, (list, tuple, set, frozenset)):
            return [self.plain(item, depth - 1) for item in cast("list[Any]", value) if self._nodes > 0]
        if isinstance(value, (bytes, bytearray)):
            return blob("application/octet-stream", bytes(value))
        return self._object(value, depth)

    def _object(self, value: Any, depth: int) -> Any:
        if isinstance(value, enum.Enum):
            return self.plain(value.value, depth - 1)
        if isinstance(value, _PRINTABLE):
            return self.text(str(value))
        kind = type(value)
        if dataclasses.is_dataclass(value):
            names = [field.name for field in dataclasses.fields(value)]
            return {name: self.plain(getattr(value, name, None), depth - 1) for name in names}
        if hasattr(kind, "__pydantic_fields__") or hasattr(kind, "model_fields"):
            # the stored fields, not model_dump(): serialisers are user code
            stored = {**vars(value), **(getattr(value, "__pydantic_extra__", None) or {})}
            return {key: self.plain(item, depth - 1) for key, item in stored.items() if item is not None}
        return f"<{kind.__module__}.{kind.__qualname__}>"


_PRINTABLE = (dt.date, dt.time, dt.timedelta, decimal.Decimal, uuid.UUID, pathlib.PurePath)


def _key(key: Any) -> str:
    return key if isinstance(key, str) else str(key) if isinstance(key, (int, float)) else f"<{type(key).__name__}>"


def _redacted(redact: Redact, text: str) -> str:
    try:
        clean: Any = redact(text)
    except Exception as error:
        raise RedactFailed(type(error).__name__) from error
    if not isinstance(clean, str):
        raise RedactFailed(f"redact returned {type(clean).__name__}, not str")
    return clean


def blob(mime_type: str, data: bytes) -> dict[str, Any]:
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


def field(value: Any, name: str) -> Any:
    """`value[name]` of a mapping or `value.name` of an object; None where there is none.

    Pydantic models are read through their stores: asking one for an attribute it lacks costs microseconds.
    """
    kind = type(value)
    if kind is dict:
        return value.get(name)
    if value is None:
        return None
    extra: Any = getattr(value, "__pydantic_extra__", _NOT_PYDANTIC)
    if extra is None or type(extra) is dict:  # a class, unlike an object, has a descriptor here
        stored = value.__dict__
        return stored[name] if name in stored else extra.get(name) if extra else None
    if isinstance(value, Mapping):
        return cast("Mapping[str, Any]", value).get(name)
    return getattr(value, name, None)


_NOT_PYDANTIC = object()


def items(value: Any) -> Sequence[Any]:
    """The items of a list or tuple; of anything else none: an iterator is the user's, and can be read only once."""
    return cast("Sequence[Any]", value) if isinstance(value, (list, tuple)) else ()


def word(value: Any) -> str | None:
    """A string, or None: other objects are not asked to print themselves."""
    return str(value) if isinstance(value, str) else None


def number(value: Any) -> int | float | None:
    """A number, or None; booleans are none."""
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def count(value: Any) -> int | None:
    """A whole number, or None; some libraries hold counts as `20.0`."""
    known = number(value)
    return int(known) if known is not None and (isinstance(known, int) or known.is_integer()) else None


def words(value: Any) -> list[str] | None:
    """The strings of a list, or of a single one; None where there are none."""
    found = [value] if isinstance(value, str) else [item for item in items(value) if isinstance(item, str)]
    return found or None
