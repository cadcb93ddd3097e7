"""Coalesce: a span's attributes sorted into what each is for, in one pass.

`dialects.py` says which names feed which column; this is how: a name's route is looked up once and remembered.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from limelight_collector import dialects
from limelight_collector.attributes import parsed
from limelight_collector.convert import converter
from limelight_collector.unfold import family_of, is_dropped, nest

Row = dict[str, Any]

_MAX_ROUTES = 20_000
"""Names remembered: they come from clients."""
_JSON_PREFIX = ("mlflow.", "model")
"""MLflow JSON-encodes every value, plain words included: also of `model` and `model_name`."""


@dataclass(frozen=True, slots=True)
class _Route:
    columns: tuple[tuple[str, int, Callable[[Any], Any]], ...]
    """(column, rank, conversion): the lowest rank wins."""
    is_content: bool
    is_object: bool
    family: str | None
    is_dropped: bool
    is_json: bool = False
    is_column: bool = False
    """Whether it feeds columns and nothing else, as most names do."""


@dataclass(slots=True)
class Sorted:
    """Attributes by use: `columns` are converted; `content` and `objects` are as sent, families under `prefix*`."""

    columns: Row = field(default_factory=dict[str, Any])
    content: dict[str, Any] = field(default_factory=dict[str, Any])
    objects: dict[str, Any] = field(default_factory=dict[str, Any])
    dropped: list[str] = field(default_factory=list[str])


def coalesce(attributes: dict[str, Any]) -> Sorted:
    """The columns that are one value, each from its best source that holds a usable one, and the rest by use."""
    found = Sorted()
    columns = found.columns
    ranks: dict[str, int] = {}
    families: dict[str, dict[str, Any]] = {}
    for key, value in attributes.items():
        route = _ROUTES.get(key) or _route(key)
        if route is _NOWHERE:
            continue
        given = parsed(value) if route.is_json else value
        for column, rank, convert in route.columns:
            if column not in ranks or rank < ranks[column]:
                converted = convert(given)
                if converted or (converted is not None and converted != "" and converted != []):
                    columns[column] = converted
                    ranks[column] = rank
        if route.is_column:
            continue
        if route.is_dropped:
            found.dropped.append(key)
            continue
        if route.is_content:
            found.content[key] = value
        if route.is_object:
            found.objects[key] = value
        if route.family is not None:
            families.setdefault(route.family, {})[key] = value
    for prefix, members in families.items():
        found.content[prefix + "*"] = nest(members, prefix)
    return found


def _scaled(convert: Callable[[Any], Any], scale: float) -> Callable[[Any], Any]:
    def scaled(value: Any) -> Any:
        converted = convert(value)
        return None if converted is None else converted * scale

    return scaled


def _build() -> dict[str, _Route]:
    columns: dict[str, list[tuple[str, int, Callable[[Any], Any]]]] = {}
    for column, keys in dialects.ALIASES.items():
        for rank, key in enumerate(keys):
            convert = converter(column)
            scale = dialects.SCALES.get(key)
            columns.setdefault(key, []).append((column, rank, _scaled(convert, scale) if scale else convert))
    content = {key for keys in dialects.CONTENT.values() for key in keys} | {"ai.response.text", *dialects.VERCEL_PARTS}
    objects = {*dialects.USAGE_OBJECTS, *dialects.USAGE_DETAILS, *dialects.COST_OBJECTS}
    objects |= {*dialects.PARAMETER_OBJECTS, *dialects.PROVIDER_OBJECTS}
    others = {*content, *objects, *dialects.DROPPED}
    return {
        key: _Route(
            tuple(columns.get(key, ())),
            key in content,
            key in objects,
            family_of(key),
            key in dialects.DROPPED,
            is_json=key.startswith(_JSON_PREFIX),
            is_column=key not in others and family_of(key) is None,
        )
        for key in {*columns, *others}
    }


_NOWHERE = _Route((), is_content=False, is_object=False, family=None, is_dropped=False)
_ROUTES = _build()
_KNOWN = len(_ROUTES)


def _route(key: str) -> _Route:
    """The route of a name that is in no table: a family's member, or nowhere."""
    family = family_of(key)
    dropped = is_dropped(key)
    route = _NOWHERE if family is None and not dropped else _Route((), False, False, family, dropped)
    if len(_ROUTES) < _KNOWN + _MAX_ROUTES:
        _ROUTES[key] = route
    return route
