"""How deep an attribute may nest, checked before the acknowledgement: whatever reads it later may recurse."""

from __future__ import annotations

from collections.abc import Iterable

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from limelight_collector.errors import Rejected

MAX_VALUE_DEPTH = 24
"""Levels of arrays and maps inside one attribute, or one body of a log record."""

_NESTING = frozenset({"array_value", "kvlist_value"})


def check_depth(attributes: Iterable[KeyValue]) -> None:
    """`Rejected` where a value nests deeper than `MAX_VALUE_DEPTH`."""
    check_value_depth(*(kv.value for kv in attributes))


def check_value_depth(*values: AnyValue) -> None:
    """The same for bare values; a stack of its own, so depth costs no recursion."""
    pending = [(value, 1) for value in values if value.WhichOneof("value") in _NESTING]
    while pending:
        value, depth = pending.pop()
        if depth > MAX_VALUE_DEPTH:
            raise Rejected("bad_request", f"an attribute nests deeper than {MAX_VALUE_DEPTH} levels")
        pending += [(inner, depth + 1) for inner in _inner(value) if inner.WhichOneof("value") in _NESTING]


def _inner(value: AnyValue) -> list[AnyValue]:
    if value.HasField("array_value"):
        return list(value.array_value.values)
    return [kv.value for kv in value.kvlist_value.values]
