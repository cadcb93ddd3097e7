"""Binary ids in SQL: bound as hex text, compared as FixedString.

Never as String: ClickHouse drops trailing zero bytes on the way from FixedString to String, and one id in 256 has some.
"""

from __future__ import annotations

from collections.abc import Iterable

TRACE_BYTES = 16
SPAN_BYTES = 8


def binary(placeholder: str, width: int) -> str:
    """SQL of the id of `width` bytes whose hex text is `placeholder`."""
    return f"toFixedString(unhex({placeholder}), {width:d})"


TRACE_ID = binary("{trace_id:String}", TRACE_BYTES)
"""SQL of the parameter `trace_id`."""
NO_SPAN = binary("'0000000000000000'", SPAN_BYTES)
"""SQL of the parent of a root."""
IN_TRACES = f"trace_id IN (SELECT {binary('arrayJoin({traces:Array(String)})', TRACE_BYTES)})"
"""SQL: one of the parameter `traces`."""
IN_SPANS = f"span_id IN (SELECT {binary('arrayJoin({spans:Array(String)})', SPAN_BYTES)})"
"""SQL: one of the parameter `spans`."""


def hexes(ids: Iterable[bytes]) -> list[str]:
    """Ids as the parameters above take them."""
    return sorted(value.hex() for value in set(ids))
