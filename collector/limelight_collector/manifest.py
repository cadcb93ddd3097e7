"""What a backup says of itself: versions, counts, and size and SHA-256 of every file, in `manifest.json`.

`manifest.json.sha256` is the manifest's own, in the format of `sha256sum`. A backup is whole exactly if both are there
and every file is as listed: it gets its name only when all of it is on disk.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from limelight_collector.errors import StartupRefused

FORMAT = 1
"""Of the backup's layout."""
NAME = "manifest.json"
_SUM = "manifest.json.sha256"
_CHUNK = 2**20


@dataclass(frozen=True, slots=True)
class File:
    """One file: its path relative to the backup, size and SHA-256 (hex)."""

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """A backup. `tables`: name -> rows (copies of a span count), parts and directory; `ledger` as in `spool_file`."""

    limelight: str
    made_at: str
    engine: str | None
    schema: int | None
    database: str | None
    spool_version: int | None
    control_revision: str | None
    tables: dict[str, dict[str, Any]]
    ledger: dict[str, dict[str, dict[str, int]]]
    spooled_records: int
    dead_letters: int
    files: list[File] = field(default_factory=list[File])
    format: int = FORMAT

    @property
    def bytes(self) -> int:
        """Of all files together."""
        return sum(file.bytes for file in self.files)


def write(backup: Path, manifest: Manifest) -> None:
    """Write the manifest and its checksum, synced."""
    text = json.dumps(asdict(manifest), indent=1).encode()
    for name, content in ((NAME, text), (_SUM, f"{hashlib.sha256(text).hexdigest()}  {NAME}\n".encode())):
        with (backup / name).open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())


def read(backup: Path) -> Manifest:
    """The manifest of a backup; `StartupRefused` where there is none, it is damaged or of a newer format."""
    if not backup.is_dir():
        raise StartupRefused(f"there is no backup at {backup}")
    try:
        text, said = (backup / NAME).read_bytes(), (backup / _SUM).read_bytes()
    except OSError as error:
        raise StartupRefused(f"{error.filename} cannot be read ({error.strerror}): this is no whole backup") from None
    if said != f"{hashlib.sha256(text).hexdigest()}  {NAME}\n".encode():
        raise StartupRefused(f"{backup / NAME} is damaged (it or {_SUM}): use another backup")
    found: dict[str, Any] = json.loads(text)
    if found["format"] > FORMAT:
        raise StartupRefused(f"{backup} was written by a newer Limelight ({found['limelight']}): upgrade first")
    files = [_file(item, backup) for item in found.pop("files")]
    return Manifest(**found, files=files)


def _file(item: dict[str, Any], backup: Path) -> File:
    path = PurePosixPath(item["path"])
    if path.is_absolute() or ".." in path.parts:  # a manifest that was made by somebody else
        raise StartupRefused(f"{backup / NAME} names a file outside the backup, {path}")
    return File(**item)


def verify(backup: Path, manifest: Manifest) -> None:
    """Read every file of the backup; `StartupRefused` names the first that is missing, cut, damaged or not listed."""
    require_files(backup, manifest)
    for file in manifest.files:
        with checked(backup, file) as blocks:
            for _ in blocks:
                pass


def require_files(backup: Path, manifest: Manifest) -> None:
    """Look at names and sizes alone: `StartupRefused` names the first file that is missing, cut or not listed."""
    listed = {file.path for file in manifest.files} | {NAME, _SUM}
    for path in sorted(backup.rglob("*")):
        name = path.relative_to(backup).as_posix()
        if name not in listed and not path.is_dir():
            raise StartupRefused(f"{path} does not belong to this backup; remove it")
    for file in manifest.files:
        path = backup / file.path
        if not path.is_file():
            raise StartupRefused(f"{path} is missing: the backup is damaged, use another")
        found = path.stat().st_size
        if found != file.bytes:
            raise StartupRefused(f"{path} has {found} bytes and not {file.bytes}: the backup is damaged, use another")


@contextmanager
def checked(backup: Path, file: File) -> Generator[Generator[bytes]]:
    """The file's blocks; `StartupRefused` at the end of the body where they are not what the manifest says."""
    path = backup / file.path
    digest, size = hashlib.sha256(), 0

    def blocks() -> Generator[bytes]:
        nonlocal size
        with path.open("rb") as source:
            while block := source.read(_CHUNK):
                digest.update(block)
                size += len(block)
                yield block

    yield blocks()
    if digest.hexdigest() != file.sha256 or size != file.bytes:
        raise StartupRefused(f"{path} has another checksum than the manifest: the backup is damaged, use another")


def copy(source: Path, target: Path, name: str) -> File:
    """Copy one file and return what the manifest says of it; `OSError`."""
    digest, size = hashlib.sha256(), 0
    with source.open("rb") as reader, target.open("xb") as writer:
        while block := reader.read(_CHUNK):
            digest.update(block)
            writer.write(block)
            size += len(block)
    target.chmod(0o600)
    return File(name, size, digest.hexdigest())
