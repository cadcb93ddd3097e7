"""Conversions of attribute values to column types: a usable value, or None where there is none in it.

Telemetry in the wild sends numbers and lists as text and booleans as `'False'`; null is not 0 and not "".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from decimal import Context, Decimal, InvalidOperation
from typing import Any

from limelight_collector.attributes import dumps, parsed
from limelight_collector.store.columns import BY_NAME

MAX_INT64 = 2**63 - 1
MAX_COUNT = 10**15
"""More tokens than any call has."""

_USD = Context(prec=38)
_USD_STEP = Decimal(1).scaleb(-18)


def as_text(value: Any) -> str | None:
    """Text as it is, other values as JSON."""
    if value is None:
        return None
    return value if isinstance(value, str) else dumps(value)


def as_float(value: Any) -> float | None:
    """A finite number; numbers in text count."""
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def as_int(value: Any) -> int | None:
    """A whole number that fits 64 bits."""
    number = value if isinstance(value, int) and not isinstance(value, bool) else as_float(value)
    if number is None or number != number // 1 or abs(number) > MAX_INT64:
        return None
    return int(number)


def as_count(value: Any) -> int | None:
    """A whole number from 0 on; none beyond `MAX_COUNT`, so that sums and costs of counts fit their columns."""
    number = as_int(value)
    return number if number is not None and 0 <= number <= MAX_COUNT else None


def as_bool(value: Any) -> bool | None:
    """A truth value; `true` and `False` in text count."""
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.lower())
    return value if isinstance(value, bool) else None


def as_usd(value: Any) -> Decimal | None:
    """An amount from 0 on, at the scale of the columns."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        return None
    return to_usd(amount) if amount.is_finite() and 0 <= amount < 10**18 else None


def to_usd(amount: Decimal) -> Decimal:
    """`amount` at the precision and scale of the money columns, Decimal(38, 18)."""
    return amount.quantize(_USD_STEP, context=_USD)


def as_texts(value: Any) -> list[str]:
    """A list, a JSON string of one, or one text (comma-separated)."""
    found = parsed(value)
    if isinstance(found, str):
        found = [part.strip() for part in found.split(",")]
    listed: Iterable[Any] = found if isinstance(found, list) else [found]
    return [text for item in listed if (text := as_text(item))]


def converter(column: str) -> Callable[[Any], Any]:
    """The conversion that fits a column's type."""
    type_ = BY_NAME[column].type
    if type_.startswith("Array"):
        return as_texts
    if "Decimal" in type_:
        return as_usd
    for part, convert in (("UInt64", as_count), ("Int64", as_int), ("Float64", as_float), ("Bool", as_bool)):
        if part in type_:
            return convert
    return as_text
