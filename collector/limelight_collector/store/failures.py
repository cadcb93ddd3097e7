"""Which of our error kinds an engine's error is. The codes are ClickHouse's (src/Common/ErrorCodes.cpp)."""

from __future__ import annotations

from clickhouse_connect.driver.exceptions import ClickHouseError, DataError, OperationalError

from limelight_collector.errors import QueryLimit, Rejected, StartupRefused, Unavailable
from limelight_collector.store.server import explained

_BAD_DATA = frozenset({6, 27, 33, 38, 41, 43, 53, 69, 70, 72, 117, 131, 190, 321, 349, 407, 441})
"""CANNOT_PARSE_*, TYPE_MISMATCH, ARGUMENT_OUT_OF_BOUND, INCORRECT_DATA, DECIMAL_OVERFLOW and their like."""

_TOO_BIG = {
    158: "it reads too many rows",
    159: "it takes too long",
    160: "it takes too long",
    191: "it compares with too many values",
    241: "it needs too much memory",
    307: "it reads too much data",
    396: "its answer is too large",
}
_AWAY = frozenset(
    {3, 74, 75, 81, 173, 202, 203, 209, 210, 225, 236, 242, 243, 252, 279, 285, 319, 394, 425, 497, 516, 519, 999}
)
"""Out of disk, memory, connections or replicas; read-only tables; Keeper lost; a wrong password, a right or a database
taken away (for an operator)."""


def of_insert(error: Exception) -> Exception:
    """`Rejected` where the data is at fault; else `Unavailable`, since a retry loses nothing."""
    bad_data = isinstance(
        error, (DataError, TypeError, ValueError, AttributeError, OverflowError, IndexError, KeyError)
    )
    if bad_data or _code(error) in _BAD_DATA:
        return Rejected("bad_request", f"the store cannot hold this batch: {_first_line(error)}")
    if isinstance(error, (ClickHouseError, OSError)):
        return Unavailable(f"the store does not take data: {explained(error)}")
    return error


def of_query(error: Exception) -> Exception:
    """`QueryLimit` where a limit was hit, `Unavailable` where the engine is away; anything else is a bug, as it is."""
    code = _code(error)
    if code in _TOO_BIG and "(total)" not in str(error):
        return QueryLimit(
            f"this question is too big: {_TOO_BIG[code]}; choose a shorter time range, a narrower filter or a "
            "smaller limit"
        )
    if isinstance(error, StartupRefused):  # a new connection while running: the password's file is gone
        return Unavailable(str(error))
    if code in _AWAY or code in _TOO_BIG or isinstance(error, OSError):
        return Unavailable(f"the store does not answer: {explained(error)}")
    if code is None and (isinstance(error, OperationalError) or "HTTP status 5" in str(error)):  # 502: a proxy says it
        return Unavailable(f"the store does not answer: {explained(error)}")
    return error


def _code(error: Exception) -> int | None:
    code: int | None = getattr(error, "code", None)
    return code


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:300]
