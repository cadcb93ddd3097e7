"""Shallow: a quick proof that no attribute of a trace request nests too deep, so that nobody has to look at each.

The bytes are parsed once more, as messages that know nothing but attributes, level by level: the message below the last
level that is allowed has a required field which no telemetry has. A request whose message is complete has none of
those. That costs a fifth of asking every attribute of its kind in Python (docs/adr/0006-who-parses-otlp.md).
"""

from __future__ import annotations

from functools import cache
from typing import Any

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from limelight_collector.nesting import MAX_VALUE_DEPTH

_PACKAGE = "limelight.shallow"
_REQUIRED: Any = FieldDescriptorProto.LABEL_REQUIRED
_OPTIONAL: Any = FieldDescriptorProto.LABEL_OPTIONAL
_REPEATED: Any = FieldDescriptorProto.LABEL_REPEATED


def is_shallow(payload: bytes) -> bool:
    """Whether the trace request in `payload` (protobuf) is known to nest no deeper than `MAX_VALUE_DEPTH`."""
    try:
        return _request().FromString(payload).IsInitialized()
    except DecodeError:
        return False


@cache
def _request() -> type[Message]:
    file = FileDescriptorProto(name="limelight/shallow.proto", package=_PACKAGE, syntax="proto2")
    for depth in range(1, MAX_VALUE_DEPTH + 1):
        below = depth + 1
        _value(file, depth, f"Array{depth}", f"Map{depth}")
        _message(file, f"Array{depth}", ("values", 1, _REPEATED, f"Value{below}"))
        _message(file, f"Map{depth}", ("values", 1, _REPEATED, f"KeyValue{below}"))
    _value(file, MAX_VALUE_DEPTH + 1, "TooDeep", "TooDeep")
    _message(file, "TooDeep", ("never", 1000, _REQUIRED, ""))
    # Names and numbers are OTLP's; a scope and an event keep their attributes under the same number.
    _message(file, "Resource", ("attributes", 1, _REPEATED, "KeyValue1"))
    _message(file, "ScopeOrEvent", ("attributes", 3, _REPEATED, "KeyValue1"))
    _message(file, "Link", ("attributes", 4, _REPEATED, "KeyValue1"))
    attributes = ("attributes", 9, _REPEATED, "KeyValue1")
    _message(file, "Span", attributes, ("events", 11, _REPEATED, "ScopeOrEvent"), ("links", 13, _REPEATED, "Link"))
    _message(file, "ScopeSpans", ("scope", 1, _OPTIONAL, "ScopeOrEvent"), ("spans", 2, _REPEATED, "Span"))
    resource = ("resource", 1, _OPTIONAL, "Resource")
    _message(file, "ResourceSpans", resource, ("scope_spans", 2, _REPEATED, "ScopeSpans"))
    _message(file, "Request", ("resource_spans", 1, _REPEATED, "ResourceSpans"))
    pool = DescriptorPool()
    pool.Add(file)  # pyright: ignore[reportAttributeAccessIssue] - its stub lacks what the library documents
    return GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Request"))


def _value(file: FileDescriptorProto, depth: int, array: str, pairs: str) -> None:
    """A value and a pair at `depth`; `array` and `pairs` are what the value may hold."""
    _message(file, f"KeyValue{depth}", ("value", 2, _OPTIONAL, f"Value{depth}"))
    _message(file, f"Value{depth}", ("array_value", 5, _OPTIONAL, array), ("kvlist_value", 6, _OPTIONAL, pairs))


def _message(file: FileDescriptorProto, name: str, *fields: tuple[str, int, Any, str]) -> None:
    """Declare a message; a field without a type is a bool."""
    message = file.message_type.add(name=name)
    for field_name, number, label, type_ in fields:
        field = message.field.add(name=field_name, number=number, label=label, type=FieldDescriptorProto.TYPE_BOOL)
        if type_:
            field.type, field.type_name = FieldDescriptorProto.TYPE_MESSAGE, f".{_PACKAGE}.{type_}"
