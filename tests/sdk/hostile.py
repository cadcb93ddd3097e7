"""Values no program should pass, and some do: each knows how often it was touched. And what compares two runs."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import re
import types
import uuid
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any
from unittest.mock import MagicMock

Touched = Counter[str]
Make = Callable[[Touched], Any]


class Boom(Exception):
    """What a hostile object raises."""


_OPERATORS = tuple(
    """
    __len__ __iter__ __next__ __bool__ __eq__ __ne__ __lt__ __hash__ __str__ __repr__ __format__ __contains__
    __getitem__ __setitem__ __call__ __index__ __int__ __float__ __bytes__ __reversed__ __enter__ __copy__
    __deepcopy__ __reduce_ex__ __dir__ __sizeof__ keys items values get copy model_dump model_dump_json dict json
    to_dict isoformat encode startswith partition split strip lower upper read name
    """.split()  # noqa: SIM905  three lines instead of fifty
)
_FIELDS = ("role", "content", "text", "type", "parts", "id", "value", "function", "usage", "tool_calls", "data", "url")


def _method(base: type, name: str, touched: Touched, raises: bool) -> Callable[..., Any]:
    original = getattr(base, name, None)

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        touched[name] += 1
        if raises:
            raise Boom(name)
        return None if original is None else original(self, *args, **kwargs)

    return method


def _property(name: str, touched: Touched, raises: bool) -> property:
    def read(_: Any) -> Any:
        touched[name] += 1
        if raises:
            raise Boom(name)
        return "x"

    return property(read)


def touchy(touched: Touched, base: type = object, *args: Any, raises: bool = False, asks_class: bool = False) -> Any:
    """An object of a class derived from `base` whose every method and property counts, and raises where told so."""
    names = [name for name in _OPERATORS if raises or hasattr(base, name)]
    body: dict[str, Any] = {name: _method(base, name, touched, raises) for name in names}
    body |= {name: _property(name, touched, raises) for name in _FIELDS}
    if asks_class:
        body["__class__"] = _property("__class__", touched, raises)

    def getattribute(self: Any, name: str) -> Any:
        touched[name] += 1
        if raises:
            raise Boom(name)
        return base.__getattribute__(self, name)

    if base is object:
        body["__getattribute__"] = getattribute
    return base.__new__(type("Touchy", (base,), body), *args)


def _with_fallback(touched: Touched, raises: bool) -> Any:
    class Lazy:
        def __getattr__(self, name: str) -> Any:
            touched[name] += 1
            raise Boom(name) if raises else AttributeError(name)

    return Lazy()


class _Colour(enum.Enum):
    RED = "red"


def _raising_enum(touched: Touched) -> Any:
    class Loud(enum.Enum):
        A = "a"

        @property
        def value(self) -> str:
            touched["value"] += 1
            raise Boom("value")

        def __str__(self) -> str:
            touched["__str__"] += 1
            raise Boom("__str__")

    return Loud.A


def _dataclass(touched: Touched) -> Any:
    @dataclasses.dataclass
    class Record:
        role: str = "user"

        @property
        def content(self) -> str:
            touched["content"] += 1
            raise Boom("content")

    return Record()


def _model(touched: Touched) -> Any:
    import pydantic

    class Model(pydantic.BaseModel):
        role: str = "user"
        content: str = "hi"

        @pydantic.field_serializer("content")
        def serialise(self, _value: str) -> str:
            touched["serialise"] += 1
            raise Boom("serialise")

        @pydantic.computed_field
        @property
        def text(self) -> str:
            touched["text"] += 1
            raise Boom("text")

    return Model()


def _generator(touched: Touched) -> Iterator[Any]:
    for item in ({"role": "user", "content": "one"}, {"role": "user", "content": "two"}):
        touched["step"] += 1
        yield item


def _cycle(_: Touched) -> Any:
    cycle: dict[str, Any] = {"role": "user"}
    cycle["content"] = [cycle]
    return cycle


def nested(depth: int) -> Any:
    """Lists in lists."""
    value: Any = "x"
    for _ in range(depth):
        value = [value]
    return value


def _numpy(name: str) -> Make:
    def make(_: Touched) -> Any:
        import numpy as np

        return {
            "array": lambda: np.arange(6.0).reshape(2, 3),
            "objects": lambda: np.array([{"role": "user", "content": "hi"}], dtype=object),
            "int": lambda: np.int64(3),
            "float": lambda: np.float64("nan"),
            "text": lambda: np.str_("x"),
            "bool": lambda: np.bool_(True),
        }[name]()

    return make


class _Mapping(collections.UserDict[str, Any]):
    pass


def _referring(make: Callable[[Any], Any]) -> Make:
    def made(_: Touched) -> Any:
        _kept.append(_Mapping())
        return make(_kept[-1])

    return made


_kept: collections.deque[Any] = collections.deque(maxlen=2)
"""What weak references refer to."""
VALUES: dict[str, Make] = {
    "object": touchy,
    "raising object": lambda touched: touchy(touched, raises=True),
    "object that tells its class": lambda touched: touchy(touched, asks_class=True),
    "object whose class raises": lambda touched: touchy(touched, raises=True, asks_class=True),
    "dict": lambda touched: touchy(touched, dict),
    "raising dict": lambda touched: touchy(touched, dict, raises=True),
    "str": lambda touched: touchy(touched, str, "user"),
    "raising str": lambda touched: touchy(touched, str, "user", raises=True),
    "raising list": lambda touched: touchy(touched, list, raises=True),
    "raising tuple": lambda touched: touchy(touched, tuple, ({"role": "user", "content": "x"},), raises=True),
    "raising int": lambda touched: touchy(touched, int, 3, raises=True),
    "raising float": lambda touched: touchy(touched, float, 3.5, raises=True),
    "raising bytes": lambda touched: touchy(touched, bytes, b"x", raises=True),
    "lazy": lambda touched: _with_fallback(touched, False),
    "raising lazy": lambda touched: _with_fallback(touched, True),
    "generator": _generator,
    "map": lambda touched: map(str, [touched["never"], 2]),
    "iterator": lambda _: iter([{"role": "user", "content": "x"}]),
    "cycle": _cycle,
    "deep": lambda _: nested(10_000),
    "mock": lambda _: MagicMock(),
    "mock of a string": lambda _: MagicMock(spec=str),
    "enum": lambda _: _Colour.RED,
    "raising enum": _raising_enum,
    "dataclass": _dataclass,
    "user dict": lambda _: _Mapping(role="user", content="x"),
    "mapping proxy": lambda _: types.MappingProxyType({"role": "user", "content": "x"}),
    "set": lambda _: {1, 2},
    "weakref": _referring(weakref.ref),
    "weak proxy": _referring(weakref.proxy),
    "surrogate": lambda _: "a\ud800b",
    "nul": lambda _: "a\0b",
    "bytes": lambda _: b"\xff\x00",
    "memoryview": lambda _: memoryview(b"ab"),
    "nan": lambda _: float("nan"),
    "infinity": lambda _: float("-inf"),
    "huge int": lambda _: 1 << 100_000,
    "negative": lambda _: -1,
    "true": lambda _: True,
    "none": lambda _: None,
    "decimal": lambda _: decimal.Decimal("NaN"),
    "date": lambda _: dt.date(2026, 1, 1),
    "uuid": lambda _: uuid.UUID(int=1),
    "class": lambda _: Boom,
    "function": lambda _: len,
}
"""Name -> what makes one; each notes in the counter given how it was touched."""
if find_spec("pydantic"):
    VALUES["model"] = _model
if find_spec("numpy"):
    VALUES |= {f"numpy {name}": _numpy(name) for name in ("array", "objects", "int", "float", "text", "bool")}


def paths(value: Any, depth: int = 5) -> Iterator[tuple[Any, ...]]:
    """The way to every place in dicts and lists."""
    inner = value.items() if type(value) is dict else enumerate(value) if type(value) is list else ()
    for key, item in inner:
        yield (key,)
        if depth:
            yield from ((key, *rest) for rest in paths(item, depth - 1))


def put(value: Any, path: tuple[Any, ...], item: Any) -> Any:
    """The same `value` with `item` at a place."""
    *way, last = path
    inner = value
    for key in way:
        inner = inner[key]
    inner[last] = item
    return value


def shape(value: Any, depth: int = 12) -> Any:
    """Plain data that tells two results apart, without running their code."""
    kind = type(value)
    if kind in (str, bytes, int, bool, type(None)):
        return kind.__name__, value
    if depth == 0:
        return "deeper"
    if issubclass(kind, dict):
        return kind.__name__, [(shape(key, 1), shape(item, depth - 1)) for key, item in dict.items(value)]
    if issubclass(kind, (list, tuple)):
        return kind.__name__, [shape(item, depth - 1) for item in value]
    stored = getattr(value, "__dict__", None) if hasattr(kind, "model_fields") else None
    if stored is not None:
        extra = getattr(value, "__pydantic_extra__", None)
        hidden = {"sdk_http_response"}
        kept = {name: item for name, item in {**stored, **(extra or {})}.items() if name not in hidden}
        return kind.__qualname__, shape(kept, depth - 1)
    return kind.__qualname__, repr(value) if kind is float else ""


def error_text(error: BaseException, peer_url: str) -> tuple[str, str]:
    """Class and text of an exception, without what differs between two runs: places in memory, the time, ports."""
    try:
        text = str(error)
    except Exception as inner:
        text = f"cannot print: {type(inner).__name__}"
    text = re.sub(r"0x[0-9a-f]+|id='\d+'|'[Dd]ate': '[^']*'|input_value=.*", "", text.replace(peer_url, ""))
    return f"{type(error).__module__}.{type(error).__qualname__}", text
