"""Times as they are stored: moved into the range that is kept, by rules that a client's retry meets again."""

from __future__ import annotations

from limelight_collector import metrics

_HOUR_NS = 3600 * 10**9


def clamp(time_ns: int, received_ns: int, retention_ns: int) -> int:
    """`time_ns` within [received − retention, received + 1 h]; counts what is moved.

    The bounds are whole hours, so that a retry within the hour lands on the same key.
    """
    oldest = -(-(received_ns - retention_ns) // _HOUR_NS) * _HOUR_NS
    newest = (received_ns + _HOUR_NS) // _HOUR_NS * _HOUR_NS
    kept = min(max(time_ns, oldest), newest)
    if kept != time_ns:
        metrics.CLAMPED_TIMESTAMPS.inc()
    return kept
