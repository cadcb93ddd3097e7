"""The text that a search reads, and the index on it that a store may have (docs/adr/0010-schema-and-search.md).

The index is an accelerator alone: `query/search.py` asks the same question of a store that has none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from limelight_migrations.clickhouse import Engine

PLAIN = ("system_instructions", "input_text", "output_text", "retrieval_query")
"""Searched columns that hold text."""
MESSAGES = ("input_messages", "output_messages")
"""Searched columns that hold messages as JSON."""
JSON = ("tool_args", "tool_result", "retrieval_documents")
"""Searched columns that hold any JSON."""


def folded(text: str) -> str:
    """SQL of `text` without upper and lower case, by Unicode's full case folding.

    On text that is all ASCII, which is most, `lower` is the same at a third of the cost.
    """
    return f"if(isValidASCII({text}), lower({text}), caseFoldUTF8({text}))"


STORED_TEXT = folded(f"concatWithSeparator(' ', {', '.join((*MESSAGES, *PLAIN, *JSON))})")
"""SQL of all searched columns of a span as they are stored: JSON with its names, brackets and escapes."""

_INDEX = "text_1"  # another number where STORED_TEXT or the index changes: the old one is then dropped
_DDL = f"ALTER TABLE spans ADD INDEX {_INDEX} {STORED_TEXT} TYPE text(tokenizer = splitByNonAlpha)"
_FOUND = (
    "SELECT name FROM system.data_skipping_indices "
    "WHERE database = currentDatabase() AND table IN ('spans', 'spans_local') AND startsWith(name, 'text_')"
)

_STOP_BUILDING = (
    "KILL MUTATION WHERE database = currentDatabase() AND table IN ('spans', 'spans_local') "
    "AND command LIKE '%MATERIALIZE INDEX {name}%' SYNC"
)


def apply_text_index(engine: Engine, *, wanted: bool) -> None:
    """Give the table the index, or take it away.

    New parts have it at once. The engine builds it for those that are there in its own time, across restarts; a
    search reads the text of a part that has no index yet.
    """
    found = {row[0] for row in engine.query(_FOUND).result_rows}
    for name in found - ({_INDEX} if wanted else set()):
        engine.command(_STOP_BUILDING.format(name=name))  # the engine drops no index that it is building
        engine.command(f"ALTER TABLE spans DROP INDEX {name}")
    if wanted and _INDEX not in found:
        engine.command(_DDL)
        engine.command(f"ALTER TABLE spans MATERIALIZE INDEX {_INDEX} SETTINGS mutations_sync = 0")
