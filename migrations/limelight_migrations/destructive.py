"""Which statements take data away. A migration that holds one says so and runs only when an operator asks for it."""

from __future__ import annotations

import re
from collections.abc import Iterable

_ALONE = re.compile(
    r"\s*(DROP\s+(TABLE|DATABASE|SCHEMA|DICTIONARY|VIEW)|TRUNCATE|DELETE|UPDATE|RENAME|EXCHANGE|DETACH)\b",
    re.IGNORECASE,
)
_ALTER = re.compile(r"\s*ALTER\s+TABLE\b", re.IGNORECASE)
_RECIPE = re.compile(r"\bMODIFY\s+COLUMN\s+\w+\s+(MATERIALIZED|DEFAULT)\b", re.IGNORECASE)
_CHANGE = re.compile(
    r"\b(DROP\s+(COLUMN|PARTITION|PART)|(MODIFY|ALTER|CLEAR|RENAME)\s+COLUMN|MODIFY\s+(TTL|ORDER\s+BY)|DELETE|UPDATE|"
    r"REPLACE\s+PARTITION|DETACH|MOVE\s+PARTITION|CLEAR)\b",
    re.IGNORECASE,
)


class DestructiveMigration(Exception):
    """Migrations are pending that take data away; nothing was touched. `names`: which."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = list(names)
        super().__init__(f"{', '.join(self.names)} would take stored data away")


def is_destructive(statement: str) -> bool:
    """Whether a statement drops, empties or rewrites what is stored (a changed column type rewrites it).

    How the engine makes a column out of others is no data: that may change.
    """
    changed = _RECIPE.sub("", statement)
    return bool(_ALONE.match(changed) or (_ALTER.match(changed) and _CHANGE.search(changed)))
