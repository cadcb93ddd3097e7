"""Other people's values: read what they store, and run none of their code.

What a user passes may be a proxy that asks a database when it is touched, a mock, an object whose properties count or
raise. So everything here goes by an object's real type, never by what its `__class__` says; reads dicts, slots and the
fields of C types; and calls no method that a class in Python has overridden. Nothing here raises.
"""

from __future__ import annotations

import collections
import dataclasses
import enum
import functools
import math
import types
from collections.abc import Callable, Sequence
from typing import Any

MAX_ITEMS = 20_000
"""Most items of a list that are looked at."""
_LARGEST = 2**63 - 1
"""The largest whole number that OTLP carries."""


def is_a(value: Any, kinds: type | tuple[type, ...]) -> bool:
    """`isinstance` by the real type alone."""
    return issubclass(type(value), kinds)


def field(value: Any, name: str) -> Any:
    """`value[name]` of a dict or the stored `value.name` of an object; None where there is none.

    Properties in Python, `__getattr__` and mappings that are no dicts are code, and are not run.
    """
    kind = type(value)
    if kind is dict:
        return value.get(name)
    read = _readers.get(kind)
    if read is _of_model:  # here rather than there: nearly every value is a model, and this runs for every chunk
        stored = value.__dict__
        if name in stored:
            return stored[name]
        extra = getattr(value, "__pydantic_extra__", None)
        return extra.get(name) if extra and type(extra) is dict else None
    return (read or _find_reader(kind))(value, name)


def reader(value: Any) -> Callable[[str], Any]:
    """`field` of one value, for who reads several: a quarter of the time a field."""
    kind = type(value)
    if kind is dict:
        return value.get
    if value is None:
        return _nothing
    read = _readers.get(kind) or _find_reader(kind)
    if read is _of_model:
        extra = model_extra(value)
        return {**extra, **value.__dict__}.get if extra else value.__dict__.get
    return functools.partial(read, value)


def _nothing(_name: str) -> None:
    return None


def items(value: Any) -> Sequence[Any]:
    """The first items of a list or tuple; of anything else none: an iterator can be read only once, by the user."""
    kind = type(value)
    if kind is list or kind is tuple:
        return value if len(value) <= MAX_ITEMS else value[:MAX_ITEMS]
    if issubclass(kind, list):
        return list.__getitem__(value, slice(MAX_ITEMS))
    return tuple.__getitem__(value, slice(MAX_ITEMS)) if issubclass(kind, tuple) else ()


def word(value: Any) -> str | None:
    """A string, or None: other objects are not asked to print themselves."""
    kind = type(value)
    if kind is str:
        return value
    return str.__str__(value) if issubclass(kind, str) else None


def words(value: Any) -> list[str] | None:
    """The strings of a list, or of a single one; None where there are none."""
    single = word(value)
    found = [single] if single is not None else [text for item in items(value) if (text := word(item)) is not None]
    return found or None


def number(value: Any) -> int | float | None:
    """A finite number that fits 64 bits, or None; booleans are none."""
    kind = type(value)
    if value is None:
        return None
    if kind is int:
        return value if -_LARGEST <= value <= _LARGEST else None
    if kind is float:
        return value if math.isfinite(value) else None
    if kind is bool or not issubclass(kind, (int, float)):
        return None
    return number(int.__int__(value) if issubclass(kind, int) else float.__float__(value))


def count(value: Any) -> int | None:
    """A whole number from 0, or None; some libraries hold counts as `20.0`."""
    known = value if value is None or type(value) is int else number(value)
    if known is None or not 0 <= known <= _LARGEST:
        return None
    return known if type(known) is int else int(known) if float(known).is_integer() else None


def choice(value: Any) -> Any:
    """What stands behind an enum's member; any other value itself."""
    return _getattribute(value, "__dict__").get("_value_") if issubclass(type(value), enum.Enum) else value


# -- how a type's fields are read, found out once for each ------------------------------------------------------------
_getattribute = object.__getattribute__
_C_FIELDS = (types.MemberDescriptorType, types.GetSetDescriptorType)
_OF_MODELS = ("__pydantic_fields__", "model_fields", "__fields__")
"""Where pydantic, by its versions, keeps what a class declares."""
_MISSING = object()


def _static(kind: type, name: str) -> Any:
    """The class attribute of a name as it is stored, found without asking a metaclass."""
    for base in type.__dict__["__mro__"].__get__(kind):
        stored = type.__dict__["__dict__"].__get__(base)
        if name in stored:
            return stored[name]
    return _MISSING


_readers: dict[type, Callable[[Any, str], Any]] = {}
_MAX_READERS = 1024


def _find_reader(kind: type) -> Callable[[Any, str], Any]:
    if len(_readers) >= _MAX_READERS:  # a program may make classes without end: each mock has one of its own
        _readers.clear()
    return _readers.setdefault(kind, _reading_of(kind))


def _reading_of(kind: type) -> Callable[[Any, str], Any]:
    if issubclass(kind, (str, bytes, int, float, list, tuple, types.NoneType, types.FunctionType, type)):
        return _of_nothing
    if issubclass(kind, dict):
        return dict.get
    if issubclass(kind, collections.UserDict):
        return _of_user_dict
    has_own_dict = type(_static(kind, "__dict__")) is types.GetSetDescriptorType
    is_plain = _static(kind, "__getattribute__") is object.__dict__["__getattribute__"]
    if has_own_dict and is_plain and _static(kind, "__pydantic_extra__") is not _MISSING:
        return _of_model
    return functools.partial(_of_object, kind, has_own_dict, _asks_c(kind))


def _asks_c(kind: type) -> bool:
    """Whether attributes of a type that it does not show are looked up by C alone (protobuf's messages)."""
    looks_up, falls_back = _static(kind, "__getattribute__"), _static(kind, "__getattr__")
    is_c = type(looks_up) is types.WrapperDescriptorType and type(falls_back) is not types.FunctionType
    return is_c and looks_up is not object.__dict__["__getattribute__"]


def is_model(value: Any) -> bool:
    """Whether a value is a pydantic model whose fields are where pydantic stores them."""
    kind = type(value)
    return (_readers.get(kind) or _find_reader(kind)) is _of_model


def _of_nothing(_value: Any, _name: str) -> None:
    return None


def _of_user_dict(value: Any, name: str) -> Any:
    return field(_getattribute(value, "__dict__").get("data"), name)


def _of_model(value: Any, name: str) -> Any:
    """A pydantic model: its fields, then those it has no declaration of."""
    stored = value.__dict__
    return stored[name] if name in stored else (model_extra(value) or {}).get(name)


def model_extra(value: Any) -> dict[str, Any] | None:
    """The fields of a pydantic model that its class does not declare."""
    try:
        extra = _getattribute(value, "__pydantic_extra__")
    except AttributeError:
        return None
    return extra if type(extra) is dict else None


def _of_object(kind: type, has_own_dict: bool, asks_c: bool, value: Any, name: str) -> Any:
    found = _static(kind, name)
    if type(found) in _C_FIELDS:
        try:
            return found.__get__(value, kind)
        except Exception:
            return None
    if found is not _MISSING and _static(type(found), "__set__") is not _MISSING:  # a property, and what is like one
        return None
    stored = _getattribute(value, "__dict__") if has_own_dict else {}
    if name in stored:
        return stored[name]
    if found is not _MISSING:
        return found if _static(type(found), "__get__") is _MISSING else None
    return getattr(value, name, None) if asks_c else None


def stored_fields(value: Any) -> dict[str, Any] | None:
    """The fields of a dataclass or a pydantic model; None for an object of any other kind."""
    kind = type(value)
    if _static(kind, "__dataclass_fields__") is not _MISSING:
        return {declared.name: field(value, declared.name) for declared in dataclasses.fields(kind)}
    if all(_static(kind, name) is _MISSING for name in _OF_MODELS):
        return None
    return {**own(value), **(model_extra(value) or {})}


def own(value: Any) -> dict[str, Any]:
    """The `__dict__` of an object, where it has a real one."""
    has_one = type(_static(type(value), "__dict__")) is types.GetSetDescriptorType
    found = _getattribute(value, "__dict__") if has_one else None
    return found if type(found) is dict else {}
