"""OTLP attribute values as Python values and as JSON text, under caps that keep one span from costing too much."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from json.encoder import encode_basestring
from typing import Any

import orjson
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from limelight_collector import metrics

MAX_ATTRIBUTES = 256
"""Attributes of one span (or resource, event, link) that are kept."""
MAX_VALUE_CHARS = 2**20
"""Characters of one value."""
MAX_SPAN_CHARS = 4 * 2**20
"""Characters of all values of one span."""
TRUNCATED = "…[truncated]"
"""End of a value that was cut."""

_LONG_CHARS = 64
"""From here on orjson quotes a string faster than the json module."""

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def _finite(text: str) -> float | str:
    number = float(text)
    return number if math.isfinite(number) else text  # 1e999 is JSON, the infinity it would become is not


_decode = json.JSONDecoder(parse_float=_finite, parse_constant=str).decode
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")


@dataclass(slots=True)
class Attributes:
    """A span's attributes: `values` by key, `encoded` the same as JSON, `dropped` how many were cut or left out."""

    values: dict[str, Any]
    encoded: dict[str, str]
    dropped: int


def read_attributes(pairs: Iterable[KeyValue]) -> Attributes:
    """The attributes within the caps; of a repeated key the last counts, a cut value ends in `TRUNCATED`."""
    values: dict[str, Any] = {}
    encoded: dict[str, str] = {}
    dropped = size = 0
    for pair in pairs:
        key, given = pair.key, pair.value
        value: Any = given.string_value
        if value:  # most are text; this loop is a quarter of what a span costs
            length = len(value)  # as sent: escaping a JSON string must not push it over the cap
            text = encode_basestring(value) if length <= _LONG_CHARS else _quote(value)
        elif value := given.int_value:  # only the one that is set can be other than its kind's empty value
            text = repr(value)
            length = len(text)
        elif (kind := given.WhichOneof("value")) == "string_value":
            value, text, length = "", '""', 0
        else:
            value = _value(given, kind)
            text = dumps(value)
            length = len(text)
        if len(values) >= MAX_ATTRIBUTES and key not in values:
            dropped += 1
            continue
        if length > MAX_VALUE_CHARS or size + length > MAX_SPAN_CHARS:
            dropped += 1
            room = max(0, min(MAX_VALUE_CHARS, MAX_SPAN_CHARS - size))
            value = (value if isinstance(value, str) else text)[:room] + TRUNCATED
            text = encode_basestring(value)
            length = room
        size += length
        values[key] = value
        encoded[key] = text
    if dropped:
        metrics.TRUNCATED_ATTRIBUTES.inc(dropped)
    return Attributes(values, encoded, dropped)


def value_of(value: AnyValue) -> Any:
    """`value` as str, bool, int, float, list, dict or None; bytes become the text `base64:<…>`, NaN its name."""
    return _value(value, value.WhichOneof("value"))


def _value(value: AnyValue, kind: str | None) -> Any:
    if kind == "string_value":
        return value.string_value
    if kind == "int_value":
        return value.int_value
    if kind == "double_value":
        number = value.double_value
        return number if math.isfinite(number) else _NAMES.get(number, "NaN")
    if kind == "bool_value":
        return value.bool_value
    if kind == "array_value":
        return [value_of(item) for item in value.array_value.values]  # depth was capped before the spool
    if kind == "kvlist_value":
        return {pair.key: value_of(pair.value) for pair in value.kvlist_value.values}
    if kind == "bytes_value":
        return "base64:" + base64.b64encode(value.bytes_value).decode("ascii")
    return None


_NAMES = {math.inf: "Infinity", -math.inf: "-Infinity"}


def dumps(value: Any) -> str:
    """Compact JSON text, not escaped to ASCII."""
    kind = type(value)
    if kind is str:
        return _quote(value)
    if kind is int or (kind is float and math.isfinite(value)):
        return repr(value)
    if kind is bool:
        return "true" if value else "false"
    try:
        if _is_common(value):
            return orjson.dumps(value).decode()
    except (TypeError, RecursionError):  # what it does not write: half a surrogate pair, integers beyond 64 bits
        pass
    return _encode(value)


def _quote(text: str) -> str:
    if len(text) > _LONG_CHARS:
        try:
            return orjson.dumps(text).decode()
        except TypeError:  # half a surrogate pair
            pass
    return encode_basestring(text)


def _is_common(value: Any) -> bool:
    """Whether orjson reads and writes `value` as the json module does.

    It writes very small and very large floats in another way, and makes such floats of integers beyond 64 bits; all
    else that it does otherwise is an error.
    """
    kind = type(value)
    if kind is float:
        return 1e-4 <= abs(value) < 1e15 or value == 0
    if kind is dict:
        value = value.values()
    elif kind is not list:
        return True
    for item in value:  # asks only what may be uncommon: most items are text
        kind = type(item)
        if kind is not str and (kind is float or kind is dict or kind is list) and not _is_common(item):
            return False
    return True


def loads(text: str) -> Any:
    """The value of JSON text, or None where it is none; NaN becomes its name, half a surrogate pair a question mark."""
    if not text or text[0] not in '[{"-0123456789tfn \n\r\t':
        return None
    try:
        value = orjson.loads(text)
        if _is_common(value):
            return value
    except (ValueError, RecursionError):  # not JSON, or JSON that only the json module reads
        pass
    try:
        value = _decode(text)
        if _SURROGATE_ESCAPE.search(text):  # legal in JSON, but no UTF-8: the store could not take it
            value = json.loads(_encode(value).encode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
    return value


def parsed(value: Any) -> Any:
    """`value`, parsed first where it is a string of JSON."""
    if isinstance(value, str):
        found = loads(value)
        return value if found is None else found
    return value
