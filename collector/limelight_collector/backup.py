"""`limelight backup`: a verified copy of everything in a data directory, beside a running collector or without one.

The owner of the directory takes a snapshot (`snapshot.py`); this process copies it, so that reading, hashing and
writing cost the collector nothing, and only where this process may write is written. The target has its name only when
all of it is on disk: before that it is called `<target>.partial`.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import httpx

from limelight.version import __version__
from limelight_collector import manifest, owner, snapshot
from limelight_collector.control.times import rfc3339
from limelight_collector.disk import put_on_disk
from limelight_collector.errors import Rejected, StartupRefused, Unavailable
from limelight_collector.lock import DataDirLock
from limelight_collector.manifest import File, Manifest
from limelight_collector.settings import Settings
from limelight_collector.spool_file import read_ledger

_SNAPSHOT_TIMEOUT_S = 900.0
_SPARE_BYTES = 2**20
"""Room for directories and the manifest, besides a block a file."""
_BLOCK_BYTES = 4096


def back_up(settings: Settings, target: Path, now_s: float) -> Manifest:
    """Copy everything in the data directory to the new directory `target`; `StartupRefused` says what is in the way.

    What was acknowledged before the call is in it. A failure leaves nothing behind; a `kill -9` leaves
    `<target>.partial`, which no command takes for a backup.
    """
    target, data_dir = target.absolute(), settings.data_dir.resolve()
    partial = target.with_name(f"{target.name}.partial")
    _refuse_target(target, partial, data_dir)
    if not (data_dir / "spool.db").exists():
        raise StartupRefused(f"there is nothing to back up in {data_dir}; pass the collector's --data-dir")
    try:
        with snapshot.alone(data_dir):
            _take_snapshot(settings)
            made = _copy(settings, partial, now_s)
            partial.rename(target)
            put_on_disk(target.parent)
    except OSError as error:
        raise StartupRefused(
            f"cannot write the backup {target}: {error.strerror or error}; nothing of it is left"
        ) from None
    return made


def _refuse_target(target: Path, partial: Path, data_dir: Path) -> None:
    if target.exists():
        raise StartupRefused(f"{target} exists: a backup never overwrites; name another")
    if partial.exists():
        raise StartupRefused(f"{partial} exists: another backup writes it, or was killed; delete it if none runs")
    if not target.parent.is_dir():
        raise StartupRefused(f"there is no directory {target.parent}")
    if target.resolve().is_relative_to(data_dir):
        raise StartupRefused(f"{target} is inside the data directory; choose a place outside, best on another disk")


def _take_snapshot(settings: Settings) -> None:
    lock = DataDirLock(settings.data_dir)
    try:
        lock.acquire()
    except StartupRefused as held:
        _ask_owner(settings.data_dir, str(held))
        return
    try:
        _take_it_here(settings)
    finally:
        lock.release()


def _take_it_here(settings: Settings) -> None:
    """Nobody owns the directory: own it, as a collector would, for the moment."""
    from limelight_collector.store import open_store

    embedded = not settings.clickhouse_url and (settings.data_dir / "store").exists()
    store = open_store(settings, migrate=False) if embedded else None
    try:
        snapshot.take(settings, store)
    except (Unavailable, Rejected) as error:
        raise StartupRefused(error.message) from None
    finally:
        if store is not None:
            store.close()


def _ask_owner(data_dir: Path, held: str) -> None:
    found = owner.find(data_dir)
    if found is None:
        raise StartupRefused(f"{held}: it does not say where it answers; try again when it has started")
    try:
        answer = httpx.post(
            f"{found.url}/api/v1/backups",
            headers={"Authorization": f"Bearer {found.key}"},
            timeout=httpx.Timeout(_SNAPSHOT_TIMEOUT_S, connect=10.0),
            trust_env=False,
        )
    except httpx.HTTPError as error:
        raise StartupRefused(
            f"the collector at {found.url} does not answer ({error}): it is starting or stopping, try again"
        ) from None
    if answer.status_code != 201:
        raise StartupRefused(f"the collector took no snapshot: {_detail(answer)}")


def _detail(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return f"it answered {answer.status_code}"


def _copy(settings: Settings, partial: Path, now_s: float) -> Manifest:
    """The snapshot as `partial`, with its manifest, synced; removes what it made where it fails."""
    files = _files(settings.data_dir)
    _require_room(settings, partial.parent, [path for _, path in files])
    partial.mkdir(mode=0o700)
    try:
        copied: list[File] = []
        for name, source in files:
            (partial / name).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            copied.append(manifest.copy(source, partial / name, name))
        made = _described(settings, copied, now_s)
        put_on_disk(partial)
        manifest.write(partial, made)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return made


def _files(data_dir: Path) -> list[tuple[str, Path]]:
    """Every file of the snapshot: its name in the backup, which is its place in a data directory, and its path now."""
    store = data_dir / snapshot.STORE
    parts = [(f"store/{path.relative_to(store).as_posix()}", path) for path in store.rglob("*") if path.is_file()]
    databases = [(path.name, path) for path in (data_dir / snapshot.FILES).glob("*.db")]
    return sorted(parts + databases)


def _require_room(settings: Settings, parent: Path, files: list[Path]) -> None:
    """Refuse before anything is written; on the collector's own disk, leave it what it needs to take data."""
    needed = _SPARE_BYTES + sum(path.stat().st_size + _BLOCK_BYTES for path in files)
    if parent.stat().st_dev == settings.data_dir.stat().st_dev:
        needed += settings.min_free_bytes
    free = shutil.disk_usage(parent).free
    if free < needed:
        raise StartupRefused(f"{parent} has {free // 2**20} MiB free, the backup needs {needed // 2**20 + 1} MiB")


def _described(settings: Settings, files: list[File], now_s: float) -> Manifest:
    """The manifest, from the snapshot's own words."""
    directory = settings.data_dir / snapshot.FILES
    about: dict[str, Any] = {"engine": None, "schema": None, "database": None, "tables": {}}
    if (directory / "store.json").exists():
        about = json.loads((directory / "store.json").read_text())
    tables = {name: _table(settings.data_dir / snapshot.STORE / path, path) for name, path in about["tables"].items()}
    with contextlib.closing(sqlite3.connect(directory / "spool.db")) as spool:
        version, records, dead = spool.execute(
            "SELECT (SELECT user_version FROM pragma_user_version), (SELECT count(*) FROM records), "
            "(SELECT count(*) FROM deadletter)"
        ).fetchone()
        ledger = read_ledger(spool)
    return Manifest(
        limelight=__version__,
        made_at=rfc3339(now_s),
        engine=about["engine"],
        schema=about["schema"],
        database=about["database"],
        spool_version=version,
        control_revision=_control_revision(directory / "control.db"),
        tables=tables,
        ledger=ledger,
        spooled_records=records,
        dead_letters=dead,
        files=files,
    )


def _table(directory: Path, path: str) -> dict[str, Any]:
    """Rows and parts of a frozen table, as its parts count them."""
    counts = [int(count.read_text()) for count in directory.glob("*/count.txt")]
    return {"rows": sum(counts), "parts": len(counts), "path": path}


def _control_revision(path: Path) -> str | None:
    if not path.exists():
        return None
    with contextlib.closing(sqlite3.connect(path)) as control:
        revision: str = control.execute("SELECT version_num FROM alembic_version").fetchone()[0]
    return revision
