"""How much is inside a request, counted before a parser builds it in memory.

Two bytes of a body can be a whole message: 64 MiB of empty spans become 6 GB of objects and half a minute in the
parser, 64 MiB of `[],` a gigabyte. Honest telemetry is far from these bounds.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

from limelight_collector.errors import Rejected

MAX_ITEMS = 50_000
"""Spans, metrics or log records of one request, with the resources and scopes around them."""
MAX_PARTS = 1_000_000
"""Attributes, events, links, data points, values of arrays and other parts of all items."""
MAX_JSON_VALUES = 4_000_000
"""Values of a JSON body."""
MAX_JSON_DEPTH = 128
"""Brackets that may be open at one time in a JSON body."""

_SMALL_BYTES = 16 * 1024
"""A protobuf body too small to hold too much."""
_PARTS_BYTES = 2**20
"""From this size on the parts of items are counted, too."""
_DATA_FIELDS = frozenset({5, 7, 9, 10, 11})
"""Where a Metric keeps its points: gauge, sum, histogram, exponential_histogram, summary."""
_LARGE_PART_BYTES = 64 * 1024
_INSIDE: dict[tuple[str, int], tuple[int, ...]] = {
    ("traces", 9): (2,),
    ("traces", 11): (3, 2),
    ("traces", 13): (4, 2),
    ("logs", 5): (),
    ("logs", 6): (2,),
}
"""From a part of a span or log record (attribute, event, link, body) the fields down to its values (AnyValue)."""
_ARRAYS: dict[int, tuple[int, ...]] = {5: (1,), 6: (1, 2)}
"""The fields of an AnyValue that hold others, and the way to them: array_value, kvlist_value."""
_PIECE = 2**20
_NO_SHAPE = bytes(set(range(256)) - set(b"[]{},"))
_STEP = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1, ord(","): 0}


def check_protobuf(payload: bytes, signal: str) -> None:
    """`Rejected` (too_large) where an OTLP request holds too much; what is no protobuf is left to the parser."""
    if len(payload) <= _SMALL_BYTES:
        return
    items = parts = 0
    for field, start, end in _messages(payload, 0, len(payload)):
        items += 1
        for inner, inner_start, inner_end in _messages(payload, start, end) if field == 1 else ():
            items += 1
            for item, item_start, item_end in _messages(payload, inner_start, inner_end) if inner == 2 else ():
                items += 1
                if item == 2 and len(payload) > _PARTS_BYTES:
                    parts += _count_parts(payload, item_start, item_end, signal)
                if items > MAX_ITEMS or parts > MAX_PARTS:
                    raise _too_much()
        if items > MAX_ITEMS:
            raise _too_much()


def _too_much() -> Rejected:
    return Rejected("too_large", f"a request may hold {MAX_ITEMS} items of {MAX_PARTS} parts; send smaller batches")


def _count_parts(payload: bytes, start: int, end: int, signal: str) -> int:
    """Parts of one item; stops counting once there are too many."""
    parts = 0
    for field, inner_start, inner_end in _messages(payload, start, end):
        parts += 1
        if signal == "metrics" and field in _DATA_FIELDS:
            for _ in _messages(payload, inner_start, inner_end):
                parts += 1
                if parts > MAX_PARTS:
                    return parts
        elif inner_end - inner_start > _LARGE_PART_BYTES:
            parts += _count_inside(payload, inner_start, inner_end, _INSIDE.get((signal, field), ()), MAX_PARTS - parts)
        if parts > MAX_PARTS:
            return parts
    return parts


def _count_inside(payload: bytes, start: int, end: int, path: tuple[int, ...], limit: int) -> int:
    """Values in the arrays and maps that a large part holds, down `path` and then wherever an array is inside another.

    What is smaller than `_LARGE_PART_BYTES` cannot hold many. Depth needs no bound: each level must be large.
    """
    found = 0
    waiting = [(start, end, path)]
    while waiting and found <= limit:
        start, end, path = waiting.pop()
        for field, inner_start, inner_end in _messages(payload, start, end):
            is_on_path = path and field == path[0]
            is_array = not path and field in _ARRAYS
            if not path or is_on_path:
                found += 1
            if found > limit:
                break
            if inner_end - inner_start > _LARGE_PART_BYTES and (is_on_path or is_array):
                waiting.append((inner_start, inner_end, path[1:] if is_on_path else _ARRAYS[field]))
    return found


def _messages(payload: bytes, position: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Field number, start and end of each length-delimited field up to `end`, or to what is malformed."""
    try:
        while position < end:
            tag, position = _varint(payload, position)
            kind = tag & 7
            if kind == 2:
                size, position = _varint(payload, position)
                if position + size > end:
                    return
                yield tag >> 3, position, position + size
                position += size
            elif kind == 0:
                _, position = _varint(payload, position)
            elif kind in (1, 5):
                position += 8 if kind == 1 else 4
            else:  # groups are long deprecated and in no OTLP message
                return
    except IndexError:
        return


def _varint(payload: bytes, position: int) -> tuple[int, int]:
    value = payload[position]
    position += 1
    if value < 128:
        return value, position
    value &= 127
    for shift in range(7, 70, 7):
        byte = payload[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            break
    return value, position


def check_json(payload: bytes) -> None:
    """`Rejected` where a JSON body nests too deeply (bad_request) or holds too many values (too_large).

    Goes in pieces, because each step holds the interpreter. Whatever is inside strings does not count.
    """
    values = depth = 0
    for brackets in _shape(payload):
        values += len(brackets)
        if values > MAX_JSON_VALUES:
            raise Rejected("too_large", f"a JSON request may hold {MAX_JSON_VALUES} values; send smaller batches")
        levels = list(accumulate(map(_STEP.__getitem__, brackets), initial=depth))
        if max(levels) > MAX_JSON_DEPTH:
            raise Rejected("bad_request", f"the JSON body is nested deeper than {MAX_JSON_DEPTH} levels")
        depth = levels[-1]


def _shape(payload: bytes) -> Iterator[bytes]:
    """The brackets and commas outside strings, piece by piece."""
    if b"\\" in payload:
        payload = payload.replace(b"\\\\", b"").replace(b'\\"', b"")
    inside = 0
    for position in range(0, len(payload), _PIECE):
        parts = payload[position : position + _PIECE].split(b'"')
        yield b"".join(parts[inside::2]).translate(None, _NO_SHAPE)
        inside = (inside + len(parts) - 1) % 2
