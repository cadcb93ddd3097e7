"""Coalesce: a span's attributes sorted into what each is for.

`dialects.py` says which names feed which column; this is how: spans of one place in a program have the same names, so
what to do with a set of names is decided once and remembered.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from operator import itemgetter
from typing import Any

from limelight_collector import dialects
from limelight_collector.attributes import parsed
from limelight_collector.convert import converter
from limelight_collector.unfold import family_of, is_dropped, nest

Row = dict[str, Any]

_MAX_PLANS = 2_000
_MAX_PLAN_CHARS = 4_000
"""Names come from clients: plans of many or long ones are not remembered."""
_MAX_NAMES = 20_000
"""Names whose families are remembered."""
_JSON_PREFIX = ("mlflow.", "model")
"""MLflow JSON-encodes every value, plain words included: also of `model` and `model_name`."""

Convert = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class _Plan:
    """What to do with a span that has certain names."""

    columns: tuple[tuple[str, tuple[tuple[str, Convert], ...]], ...]
    """Column, and its sources with their conversions, best first."""
    content: tuple[str, ...]
    objects: tuple[str, ...]
    dropped: list[str]
    families: dict[str, tuple[str, ...]]


@dataclass(slots=True)
class Sorted:
    """Attributes by use: `columns` are converted; `content` and `objects` are as sent, families under `prefix*`."""

    columns: Row = field(default_factory=dict[str, Any])
    content: dict[str, Any] = field(default_factory=dict[str, Any])
    objects: dict[str, Any] = field(default_factory=dict[str, Any])
    dropped: list[str] = field(default_factory=list[str])


def coalesce(attributes: dict[str, Any]) -> Sorted:
    """The columns that are one value, each from its best source that holds a usable one, and the rest by use."""
    names = tuple(attributes)
    plan = _remembered(names) if sum(map(len, names)) <= _MAX_PLAN_CHARS else _plan(names)
    columns: Row = {}
    for column, sources in plan.columns:
        for key, convert in sources:
            converted = convert(attributes[key])
            if converted or (converted is not None and converted != "" and converted != []):
                columns[column] = converted
                break
    content = {key: attributes[key] for key in plan.content}
    for prefix, keys in plan.families.items():
        content[prefix + "*"] = nest({key: attributes[key] for key in keys}, prefix)
    return Sorted(columns, content, {key: attributes[key] for key in plan.objects}, plan.dropped)


def _plan(names: tuple[str, ...]) -> _Plan:
    columns: dict[str, list[tuple[int, str, Convert]]] = {}
    families: dict[str, list[str]] = {}
    kept: list[str] = []
    dropped: list[str] = []
    for key in names:
        for column, rank, convert in _COLUMNS.get(key, ()):
            columns.setdefault(column, []).append((rank, key, convert))
        is_kept, family = _kept_family(key)
        (kept if is_kept else dropped).append(key)
        if is_kept and family is not None:
            families.setdefault(family, []).append(key)
    return _Plan(
        tuple(
            (column, tuple((key, convert) for _, key, convert in sorted(sources, key=itemgetter(0))))
            for column, sources in columns.items()
        ),
        tuple(key for key in kept if key in _CONTENT),
        tuple(key for key in kept if key in _OBJECTS),
        dropped,
        {prefix: tuple(keys) for prefix, keys in families.items()},
    )


_remembered = lru_cache(_MAX_PLANS)(_plan)


@lru_cache(_MAX_NAMES)
def _kept_family(key: str) -> tuple[bool, str | None]:
    return key not in dialects.DROPPED and not is_dropped(key), family_of(key)


def _conversion(column: str, key: str) -> Convert:
    """How the value of attribute `key` becomes one of `column`."""
    convert, scale = converter(column), dialects.SCALES.get(key)
    if scale is not None:
        return _scaled(convert, scale)
    return (lambda value: convert(parsed(value))) if key.startswith(_JSON_PREFIX) else convert


def _scaled(convert: Convert, scale: float) -> Convert:
    def scaled(value: Any) -> Any:
        converted = convert(value)
        return None if converted is None else converted * scale

    return scaled


def _by_name() -> dict[str, list[tuple[str, int, Convert]]]:
    found: dict[str, list[tuple[str, int, Convert]]] = {}
    for column, keys in dialects.ALIASES.items():
        for rank, key in enumerate(keys):
            found.setdefault(key, []).append((column, rank, _conversion(column, key)))
    return found


_COLUMNS = _by_name()
_CONTENT = frozenset(key for keys in dialects.CONTENT.values() for key in keys) | {
    "ai.response.text",
    *dialects.VERCEL_PARTS,
}
_OBJECTS = frozenset(
    (
        *dialects.USAGE_OBJECTS,
        *dialects.USAGE_DETAILS,
        *dialects.COST_OBJECTS,
        *dialects.PARAMETER_OBJECTS,
        *dialects.PROVIDER_OBJECTS,
    )
)
