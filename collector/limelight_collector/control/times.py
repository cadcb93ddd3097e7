"""Unix seconds, as the control database keeps them, to RFC 3339 text, as people and the API see them."""

from __future__ import annotations

from datetime import datetime, timezone


def rfc3339(seconds: float) -> str:
    """UTC with milliseconds and Z."""
    moment = datetime.fromtimestamp(seconds, timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def rfc3339_or_none(seconds: float | None) -> str | None:
    """The same; None stays None."""
    return None if seconds is None else rfc3339(seconds)
