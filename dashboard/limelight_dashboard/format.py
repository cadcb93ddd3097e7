"""Numbers, times and untrusted text as people read them: one spelling everywhere, unknown is "–" and never 0."""

from __future__ import annotations

import html
import re
from datetime import datetime, timezone

UNKNOWN = "–"
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+\-.!|~$<>&^=])")
_BREAK = "\u200b"  # keeps Markdown from seeing a link, a directive or an emoji code; invisible


def compact(value: float | None) -> str:
    """A count in three significant digits: 842, 4.2K, 1.3M."""
    if value is None:
        return UNKNOWN
    for limit, suffix in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if abs(value) >= limit * 0.9995:
            scaled = value / limit
            return f"{scaled:.0f}{suffix}" if abs(scaled) >= 99.95 else f"{scaled:.1f}".removesuffix(".0") + suffix
    return f"{value:.0f}"


def cost(usd: float | str | None) -> str:
    """US dollars: <$0.0001, $0.0042, $0.0131, $0.198, $23.49, $1.2K."""
    if usd is None:
        return UNKNOWN
    value = float(usd)
    if value == 0:
        return "$0"
    size, sign = abs(value), "-" if value < 0 else ""
    if size < 0.0001:
        return f"{sign}<$0.0001"
    if size < 0.09995:
        return f"{sign}${size:.4f}"
    if size < 0.9995:
        return f"{sign}${size:.3f}"
    return f"{sign}${size:,.2f}" if size < 1000 else f"{sign}${compact(size)}"


def seconds(value: float | None) -> str:
    """A duration given in seconds: 340 µs, 95 ms, 2.80 s, 1m 27s, 2h 05m."""
    if value is None:
        return UNKNOWN
    if value < 0.0009995:
        return f"{value * 1e6:.0f} µs"
    if value < 0.9995:
        return f"{value * 1e3:.0f} ms"
    if value < 59.995:
        return f"{value:.2f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes}m {rest:02d}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes:02d}m" if hours < 48 else f"{hours // 24}d {hours % 24:02d}h"


def age(value: float) -> str:
    """How long ago, in whole units: 0 s, 44 s, 2m 05s."""
    whole = max(0, round(value))
    return f"{whole} s" if whole < 60 else seconds(whole)


def nanoseconds(value: int | None) -> str:
    """A duration given in nanoseconds."""
    return UNKNOWN if value is None else seconds(value / 1e9)


def percent(ratio: float | None) -> str:
    """A ratio 0–1 as "1.41 %"; whole from 10 % up."""
    if ratio is None:
        return UNKNOWN
    value = ratio * 100
    return f"{value:.0f} %" if value >= 9.995 or value == 0 else f"{value:.2f} %"


def parse_ns(rfc3339: str) -> int:
    """Unix nanoseconds of an RFC 3339 time with up to nine fractional digits; `ValueError` where it is none."""
    match = re.fullmatch(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?(Z|[+-]\d\d:?\d\d)?", rfc3339)
    if match is None:
        raise ValueError(f"not an RFC 3339 time: {rfc3339!r}")
    zone = match[4] or "Z"
    whole = datetime.fromisoformat(f"{match[1]}T{match[2]}{'+00:00' if zone == 'Z' else zone}")
    since = whole - _EPOCH
    return (since.days * 86_400 + since.seconds) * 10**9 + int((match[3] or "0").ljust(9, "0"))


def moment(rfc3339: str | None) -> datetime | None:
    """The UTC time of an RFC 3339 text to the microsecond, or None."""
    return None if not rfc3339 else datetime.fromtimestamp(parse_ns(rfc3339) / 1e9, timezone.utc)


def clock(when: datetime | None) -> str:
    """A time of day in UTC: 14:59:45."""
    return UNKNOWN if when is None else f"{when:%H:%M:%S}"


def stamp(when: datetime | None) -> str:
    """A day and time in UTC: Nov 20 14:32:07."""
    return UNKNOWN if when is None else f"{when:%b %d %H:%M:%S}"


def short_id(identifier: str | None) -> str:
    """The first eight characters of an id."""
    return (identifier or UNKNOWN)[:8]


def one_line(text: str | None, length: int = 120) -> str:
    """Text on one line, cut with an ellipsis after `length` characters."""
    flat = " ".join((text or "").split())
    return flat if len(flat) <= length else flat[: length - 1] + "…"


def plain(text: str) -> str:
    """Untrusted text for Plotly, which reads `<b>` and `<a href>` in labels and hovers: shown as it is, on one line."""
    return html.escape(one_line(text, 200), quote=False)


def label(text: str) -> str:
    """Untrusted text for a Streamlit label or heading, which reads Markdown: shown as it is, on one line."""
    escaped = _MARKDOWN.sub(r"\\\1", one_line(text, 120))
    for mark in (":", "@", "www", "WWW"):
        escaped = escaped.replace(mark, mark + _BREAK)
    return escaped
