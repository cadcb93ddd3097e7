"""Which statements take data away. A migration that holds one says so and runs only when an operator asks for it."""

from __future__ import annotations

import re
from collections.abc import Iterable

_ALONE = re.compile(
    r"\s*(DROP\s+(TABLE|DATABASE|SCHEMA|DICTIONARY|VIEW)|TRUNCATE|DELETE|UPDATE|RENAME|EXCHANGE|DETACH)\b",
    re.IGNORECASE,
)
_ALTER = re.compile(r"\s*ALTER\s+TABLE\b", re.IGNORECASE)
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
    """Whether a statement drops, empties or rewrites what is stored (a changed column type rewrites it)."""
    return bool(_ALONE.match(statement) or (_ALTER.match(statement) and _CHANGE.search(statement)))
