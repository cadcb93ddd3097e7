"""When alerts fired: bands for the charts, from the history of state changes and from what fires now. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from limelight_dashboard.format import moment

Row = Mapping[str, Any]
_BURNING = {"firing", "recovering"}


def bands(events: Sequence[Row], alerts: Sequence[Row]) -> list[dict[str, Any]]:
    """Stretches of firing as `name`, `since` and `until` (datetimes; None = still firing), oldest first.

    `events` are those of `GET alerts/history` in any order, `alerts` those of `GET alerts`: they tell of an alert that
    began to fire before the history asked for.
    """
    found: list[dict[str, Any]] = []
    open_bands: dict[str, dict[str, Any]] = {}
    for event in sorted(events, key=lambda event: str(event["time"])):
        key, when = _series(event), moment(event["time"])
        if event.get("to_state") == "firing" and key not in open_bands:
            open_bands[key] = {"name": str(event.get("rule_name") or "alert"), "since": when, "until": None}
            found.append(open_bands[key])
        elif event.get("to_state") not in _BURNING and key in open_bands:
            open_bands.pop(key)["until"] = when
    for alert in alerts:
        since: datetime | None = moment(alert.get("fired_at") or alert.get("since"))
        if alert.get("state") in _BURNING and since and _series(alert) not in open_bands:
            found.append({"name": str(alert.get("rule_name") or "alert"), "since": since, "until": None})
    return sorted(found, key=lambda band: band["since"])


def _series(row: Row) -> str:
    return f"{row.get('rule_id')}|{sorted((row.get('labels') or {}).items())}"
