"""Where the collector that owns a data directory answers, for commands that need it: `owner.json` in the directory.

Whoever can read that file (mode 0600, as everything there) may ask the collector what its keys allow; the key in it
lives as long as the process.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Generator
from dataclasses import asdict, dataclass
from pathlib import Path

_NAME = "owner.json"


@dataclass(frozen=True, slots=True)
class Owner:
    """The running collector: its address and a key of scope admin."""

    url: str
    key: str


@contextlib.contextmanager
def announced(data_dir: Path, owner: Owner) -> Generator[None]:
    """The file is there while the body runs; after a `kill -9` it stays, and names nobody."""
    path = data_dir / _NAME
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(asdict(owner), file)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def find(data_dir: Path) -> Owner | None:
    """Who announced itself last; None where nobody did, or is doing it now."""
    try:
        return Owner(**json.loads((data_dir / _NAME).read_text()))
    except (OSError, ValueError):
        return None
