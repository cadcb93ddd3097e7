"""OTLP/JSON to OTLP protobuf, by the rules that protobuf's own JSON mapping breaks.

Ids are hexadecimal, keys are lowerCamelCase and nothing else, enums are integers, 64-bit integers are strings or
numbers, other bytes are base64, unknown keys are ignored (opentelemetry-proto, docs/specification.md, JSON encoding).
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from limelight_collector.errors import Rejected
from limelight_collector.shape import check_json

_HEX_FIELDS = frozenset({"trace_id", "span_id", "parent_span_id"})

_M = TypeVar("_M", bound=Message)
_Field = tuple[str, bool, Callable[[Any], Any] | None, Descriptor | None]
"""Name in the message, repeated?, conversion of a scalar, descriptor of a message."""


def parse_json(payload: bytes, kind: type[_M]) -> _M:
    """The request in `payload` as a message of `kind`; `Rejected` (bad_request) says what is wrong with it."""
    check_json(payload)
    try:
        document = json.loads(payload.decode("utf-8"), parse_constant=_refuse_constant)
        message = kind()
        _fill(message, document)
    except UnicodeError:
        raise Rejected("bad_request", "the JSON body is not valid UTF-8") from None
    except RecursionError:
        raise Rejected("bad_request", "the JSON body is nested too deeply") from None
    except (ValueError, TypeError, OverflowError) as error:
        raise Rejected("bad_request", f"the body is no OTLP/JSON request: {error}") from None
    return message


def write_json(message: Message) -> str:
    """A message as OTLP/JSON, indented: ids in hexadecimal, other bytes in base64, enums as integers."""
    return json.dumps(_plain(message), indent=2, ensure_ascii=False)


def _plain(message: Message) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field, value in message.ListFields():
        items = [_plain_value(field, item) for item in (value if field.is_repeated else [value])]
        found[field.camelcase_name] = items if field.is_repeated else items[0]
    return found


def _plain_value(field: FieldDescriptor, value: Any) -> Any:
    if field.message_type is not None:
        return _plain(value)
    if isinstance(value, bytes):
        return value.hex() if field.name in _HEX_FIELDS else base64.b64encode(value).decode()
    if field.cpp_type in (FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _fill(message: Message, document: Any) -> None:
    if not isinstance(document, dict):
        raise TypeError(f"{message.DESCRIPTOR.name} must be an object")
    fields = _fields(message.DESCRIPTOR)
    for key, value in document.items():
        field = fields.get(key)
        if field is None or value is None:
            continue
        name, repeated, convert, _ = field
        if repeated:
            if not isinstance(value, list):
                raise TypeError(f"{key} must be an array")
            target = getattr(message, name)
            if convert is None:
                for item in value:
                    _fill(target.add(), item)
            else:
                target.extend(_converted(convert, key, item) for item in value)
        elif convert is None:
            child = getattr(message, name)
            child.SetInParent()  # an empty object is present, and decides a oneof
            _fill(child, value)
        else:
            setattr(message, name, _converted(convert, key, value))


def _converted(convert: Callable[[Any], Any], key: str, value: Any) -> Any:
    try:
        return convert(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{key} has a wrong value") from None


@cache
def _fields(descriptor: Descriptor) -> dict[str, _Field]:
    """The message's fields by their JSON name."""
    return {
        name: (field.name, _is_repeated(field), _conversion(field), field.message_type)
        for name, field in descriptor.fields_by_camelcase_name.items()
    }


def _is_repeated(field: FieldDescriptor) -> bool:
    return bool(field.is_repeated)


def _conversion(field: FieldDescriptor) -> Callable[[Any], Any] | None:
    if field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
        return None
    if field.type == FieldDescriptor.TYPE_BYTES:
        return _hex if field.name in _HEX_FIELDS else _base64
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return _text
    if field.cpp_type in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
        return _number
    return _boolean if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL else _integer


def _hex(value: Any) -> bytes:
    """Bytes of a hexadecimal id; what is none becomes an id of wrong length: it costs its item and not the request."""
    try:
        return binascii.unhexlify(value)
    except ValueError:
        return b"\0"


def _base64(value: Any) -> bytes:
    return base64.b64decode(value, validate=True)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _integer(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str | float):
        raise TypeError
    if isinstance(value, float) and not value.is_integer():
        raise ValueError
    return int(value)


def _number(value: Any) -> float:
    if isinstance(value, bool):
        raise TypeError
    number = float(value)
    if isinstance(value, str) and not math.isfinite(number) and value not in ("NaN", "Infinity", "-Infinity"):
        raise ValueError
    return number
