"""Identity: for whom a call was made and under which prompt, where not its span says so but another of its trace.

Two ways for a value to reach a model call whose own is empty, in this order:

* from the other spans of the same call (its duplicates): every column of `UNITS`;
* from the nearest span above it that has one of its own: session and user, which many SDKs put on the root alone.

Only a span's own values are handed on, never inherited ones, so that the outcome does not depend on the order in which
spans arrive. The row names what it inherited in its column `inherited`; its raw attributes stay as sent.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from limelight_collector.traces import Fact

UNITS: tuple[tuple[str, ...], ...] = (
    ("session_id",),
    ("user_id",),
    ("end_user",),
    ("agent_name",),
    ("workflow_name",),
    ("function_id",),
    ("tags",),
    ("prompt_name", "prompt_version"),  # a version says nothing without its name
)
"""Columns that are taken together from one span."""
_NAMES = tuple(name for names in UNITS for name in names)
_TEXTS = _NAMES[:6]
_ABOVE = 2
"""How many of `UNITS` also come from spans above."""
MOST_ABOVE = 100
"""Spans above a call that are looked at."""
MOST_CHARACTERS = 256
"""Longest value handed on (of `tags`: all together); a longer one belongs to its span alone."""
_KEPT = "\0"
"""Stands for a value that is there and too long to hand on."""

Values = Sequence[Any]
"""A span's own values in the order of `UNITS`, each false where empty; `NOTHING` where all are."""
NOTHING: Values = ()
_NOBODY: Values = ("",) * len(UNITS)
Inherited = tuple[tuple[str, Any], ...]
"""(column, value) pairs; tags as a tuple."""


def offered(row: Mapping[str, Any]) -> Values:
    """What a span that is no model call hands to the calls below it: the first `_ABOVE` units."""
    session, user = row.get("session_id") or "", row.get("user_id") or ""
    return (_short(session), _short(user)) if session or user else NOTHING


def own(row: Mapping[str, Any]) -> Values:
    """A model call's own values, whether or not its row inherited others before."""
    get = row.get
    if not any(map(get, _NAMES)):
        return NOTHING
    values = [value and _short(value) for value in map(get, _TEXTS)]
    tags, prompt = get("tags"), get("prompt_name")
    values.append(tags and _few(tags))
    values.append(prompt and _few((prompt, get("prompt_version") or "")))
    if before := get("inherited"):
        values = ["" if names[0] in before else value for names, value in zip(UNITS, values, strict=True)]
    return values


def inherited(call: Fact, copies: Sequence[Fact], facts: Mapping[bytes, Fact]) -> Inherited:
    """What a model call takes from other spans of its trace; `copies` are its duplicates, best known first."""
    before = call.who or _NOBODY
    values = list(before)
    for copy in copies:
        for index, value in enumerate(copy.who):
            values[index] = values[index] or value
    if not (values[0] and values[1]):
        _look_above(call, facts, values)
    found: Inherited = ()
    for index, value in enumerate(values if copies else values[:_ABOVE]):
        if value and not before[index] and value != _KEPT:
            names = UNITS[index]
            taken_values = value if len(names) > 1 else (value,)
            found = (*found, *zip(names, taken_values, strict=True))
    return found


def put(row: dict[str, Any], values: Inherited) -> None:
    """Let a row inherit `values`, and nothing it inherited before."""
    for name in row.get("inherited") or ():
        row[name] = [] if name == "tags" else ""
    for name, value in values:
        row[name] = list(value) if name == "tags" else value
    row["inherited"] = [name for name, _ in values]


def taken(row: Mapping[str, Any]) -> Inherited:
    """What a row has inherited."""
    return tuple((name, tuple(row[name]) if name == "tags" else row[name]) for name in row.get("inherited") or ())


def _look_above(call: Fact, facts: Mapping[bytes, Fact], values: list[Any]) -> None:
    """Fill the first `_ABOVE` of `values` from the nearest spans above that have them."""
    place = call
    for _ in range(MOST_ABOVE):
        above = facts.get(place.parent_id)
        if above is None or above is place:
            return
        if said := above.who:
            values[0] = values[0] or said[0]
            values[1] = values[1] or said[1]
            if values[0] and values[1]:
                return
        place = above


def _few(values: Iterable[str]) -> Any:
    """`values` as a tuple, where they are not too long to hand on."""
    found = tuple(values)
    return found if sum(map(len, found)) + len(found) <= MOST_CHARACTERS else _KEPT


def _short(value: str) -> str:
    """`value`, once in memory however many spans have it."""
    return sys.intern(value) if len(value) <= MOST_CHARACTERS else _KEPT
