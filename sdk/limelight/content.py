"""Content (prompts, answers, arguments) to bounded text: by size, depth and node count, and without running user code.

Strings pass the redactors first. Objects are read through their fields; what has none is named, never `repr`ed.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import decimal
import enum
import functools
import hashlib
import json
import math
import pathlib
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from limelight import redact as redactors
from limelight.redact import Redact

MAX_BYTES = 2**20
"""Largest serialised value: one attribute, UTF-8."""
MAX_DEPTH = 16
MAX_NODES = 20_000
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
        deadline_ns = self._clock_ns() + TIME_NS
        while True:
            built = build(_Copy(budget, self._redactors, self._is_redacted, self._clock_ns, deadline_ns))
            text: str = _dump(built) if dump else built
            if not text.isascii():
                text = text.encode("utf-8", "replace").decode()
            size = len(text) if text.isascii() else len(text.encode())
            if size <= MAX_BYTES or budget == 0:
                return text if size <= MAX_BYTES else json.dumps("[too large]")
            budget = budget * MAX_BYTES // size * 9 // 10


_dump = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class _Copy:
    """One bounded copy: counts down characters and nodes; past these bounds, or the deadline, values become marks."""

    __slots__ = ("_budget", "_clock_ns", "_deadline_ns", "_is_redacted", "_nodes", "_redactors")

    def __init__(
        self,
        budget: int,
        redactors: tuple[Redact, ...],
        is_redacted: bool,
        clock_ns: Callable[[], int],
        deadline_ns: int,
    ) -> None:
        self._budget = budget
        self._nodes = MAX_NODES
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
        if self._redactors or len(text) > self._budget or text.startswith("data:"):
            return False
        self._budget -= len(text)
        return True

    def plain(self, value: Any, depth: int) -> Any:
        if isinstance(value, str):
            return blob_of_url(value) if value.startswith("data:") and ";base64," in value[:128] else self.text(value)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int):
            return self._whole(value) if self._is_redacted else value
        if isinstance(value, float):
            return value if math.isfinite(value) else str(value)
        self._nodes -= 1
        if depth == 0 or self._nodes <= 0:
            return "[cut: too deep]" if depth == 0 else "[cut: too many values]"
        if not self._nodes & 255 and self._clock_ns() > self._deadline_ns:
            self._nodes = 0
            return _TOO_SLOW
        if isinstance(value, Mapping):
            return self._mapping(cast("Mapping[Any, Any]", value), depth)
        if isinstance(value, (list, tuple, set, frozenset)):
            return [self.plain(item, depth - 1) for item in cast("list[Any]", value) if self._nodes > 0]
        if isinstance(value, (bytes, bytearray)):
            return blob("application/octet-stream", bytes(value))
        return self._object(value, depth)

    def _mapping(self, value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        copied: dict[str, Any] = {}
        for key, item in value.items():
            if self._nodes <= 0:
                break
            name = _key(key)
            is_secret = self._is_redacted and isinstance(item, (str, int, float)) and redactors.is_secret_name(name)
            copied[name] = redactors.SECRET if is_secret else self.plain(item, depth - 1)
        return copied

    def _whole(self, value: int) -> int | str:
        """A whole number, unless it is a card's."""
        text = str(value) if 10**12 <= value < 10**19 else ""
        return value if redactors.cards(text) == text else redactors.CARD

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


_TOO_SLOW = "[cut: took too long]"
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


def reader(value: Any) -> Callable[[str], Any]:
    """`field` of one value, for who reads several: a quarter of the time a field."""
    kind = type(value)
    if kind is dict:
        return value.get
    if value is None:
        return _nothing
    extra: Any = getattr(value, "__pydantic_extra__", _NOT_PYDANTIC)
    if extra is None or type(extra) is dict:
        return {**extra, **value.__dict__}.get if extra else value.__dict__.get
    return functools.partial(field, value)


def _nothing(_name: str) -> None:
    return None


def items(value: Any) -> Sequence[Any]:
    """The items of a list or tuple; of anything else none: an iterator is the user's, and can be read only once."""
    return cast("Sequence[Any]", value) if isinstance(value, (list, tuple)) else ()


def word(value: Any) -> str | None:
    """A string, or None: other objects are not asked to print themselves."""
    if type(value) is str:
        return value
    return str(value) if isinstance(value, str) else None


def number(value: Any) -> int | float | None:
    """A number, or None; booleans are none."""
    if value is None or type(value) is int:
        return value
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def count(value: Any) -> int | None:
    """A whole number, or None; some libraries hold counts as `20.0`."""
    if value is None or type(value) is int:
        return value
    known = number(value)
    return int(known) if known is not None and (isinstance(known, int) or known.is_integer()) else None


def words(value: Any) -> list[str] | None:
    """The strings of a list, or of a single one; None where there are none."""
    found = [value] if isinstance(value, str) else [item for item in items(value) if isinstance(item, str)]
    return found or None
