"""Backups without a process: what is refused, what a damaged backup says, what an interrupted one leaves."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from collector.ingest.otlp import request
from collector.ingest.otlp import span as otlp_span
from collector.store.rows import T0, batch, flag, llm, log, point, score
from limelight_collector import backup, commands, manifest, owner, restore, snapshot
from limelight_collector.control import Control
from limelight_collector.errors import Rejected, StartupRefused, Unavailable
from limelight_collector.main import migrate_all
from limelight_collector.settings import Settings
from limelight_collector.spool import Spool
from limelight_collector.store import open_store
from limelight_migrations.clickhouse import migrations

NOW_S = T0 / 1e9


def settings_of(data_dir: Path, **given: Any) -> Settings:
    return Settings(data_dir=data_dir, retention_days=36_500, **{"min_free_bytes": 0, **given})


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a collector left that ended: some of everything, one request queued, one dead."""
    path = tmp_path_factory.mktemp("backup") / "data"
    settings = settings_of(path)
    migrate_all(settings)
    store = open_store(settings)
    call = llm(1, 2, at_s=1)
    store.insert(batch(call, flags=[flag(call)], scores=[score(call)]))
    filled = batch()
    filled.points.append(point())
    filled.logs.append(log(trace=1))
    store.insert(filled)
    store.close()
    with contextlib.closing(Control(f"sqlite:///{path / 'control.db'}")) as control:
        control.create_key("default", frozenset({"read"}), "kept", None)
    spool = Spool(path / "spool.db", max_bytes=2**30, min_free_bytes=0)
    spool.start()
    for number in (1, 2):
        payload = request(otlp_span(number)).SerializeToString()
        assert spool.append("p", "traces", payload, T0, 1).result()
    spool.bury(1, "the store refuses it")
    spool.stop()
    return path


@pytest.fixture(scope="module")
def whole(data_dir: Path) -> Path:
    """A backup of it."""
    target = data_dir.parent / "whole"
    backup.back_up(settings_of(data_dir), target, NOW_S)
    return target


@pytest.fixture
def copied(whole: Path, tmp_path: Path) -> Path:
    """The backup, to be damaged."""
    return shutil.copytree(whole, tmp_path / "copied")


def test_a_backup_counts_what_is_in_it(data_dir: Path, whole: Path) -> None:
    found = manifest.read(whole)
    manifest.verify(whole, found)
    counts = {name: table["rows"] for name, table in found.tables.items()}
    once = ("spans", "flags", "scores", "trace_times", "metric_points", "metric_series", "logs", "log_times")
    assert {name: counts[name] for name in once} == dict.fromkeys(once, 1)
    assert counts["schema_migrations"] == len(migrations())
    assert (found.spooled_records, found.dead_letters) == (1, 1)
    assert (
        found.ledger["p"]["traces"] | {"received": 2, "spooled": 1, "dead_lettered": 1} == found.ledger["p"]["traces"]
    )
    on_disk = {path.relative_to(whole).as_posix(): path for path in whole.rglob("*") if path.is_file()}
    assert on_disk.keys() - {file.path for file in found.files} == {"manifest.json", "manifest.json.sha256"}
    for file in found.files:
        content = on_disk[file.path].read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (file.bytes, file.sha256)
    assert {path.stat().st_mode & 0o077 for path in whole.rglob("*") if path.is_file() and path.parent != whole} == {0}
    assert not list((data_dir / "store" / "shadow").glob("*/*"))
    assert not (data_dir / snapshot.FILES).exists()
    if shutil.which("sha256sum"):
        assert subprocess.run(["sha256sum", "-c", "manifest.json.sha256"], cwd=whole).returncode == 0


def test_every_file_damaged_cut_or_removed_is_named(copied: Path, tmp_path: Path) -> None:
    files = sorted(path for path in copied.rglob("*") if path.is_file())
    assert len(files) > 60
    for number, path in enumerate(files):
        content = path.read_bytes()
        damages: list[bytes | None] = [None, content + b"\0"]
        if content:
            flipped = bytearray(content)
            flipped[len(content) // 2] ^= 1
            damages += [content[:-1], bytes(flipped)]
        for damage in damages:
            path.unlink(missing_ok=True)
            if damage is not None:
                path.write_bytes(damage)
            # What keeps the size is found by reading alone; a restore copies what is before it, so not each time.
            same_size = damage is not None and len(damage) == len(content)
            for check in (verify, restored) if number % 9 == 0 else (verify,) if same_size else (restored,):
                with pytest.raises(StartupRefused, match=r"damaged|missing|no whole backup") as refusal:
                    check(copied, tmp_path / "new")
                assert path.name.removesuffix(".sha256") in str(refusal.value)
                assert not (tmp_path / "new").exists()
        path.write_bytes(content)
    manifest.verify(copied, manifest.read(copied))


def verify(target: Path, _: Path) -> None:
    manifest.verify(target, manifest.read(target))


def restored(target: Path, data_dir: Path) -> None:
    restore.restore(settings_of(data_dir), target)


def test_a_file_that_does_not_belong_there_is_refused(copied: Path, tmp_path: Path) -> None:
    (copied / "store" / "store" / "more.bin").write_bytes(b"1")
    for check in (verify, restored):
        with pytest.raises(StartupRefused, match=r"more\.bin does not belong"):
            check(copied, tmp_path / "new")


def rewritten(target: Path, **changes: Any) -> None:
    """The manifest with other words and a checksum that is right."""
    text = json.dumps(json.loads((target / "manifest.json").read_text()) | changes).encode()
    (target / "manifest.json").write_bytes(text)
    (target / "manifest.json.sha256").write_text(f"{hashlib.sha256(text).hexdigest()}  manifest.json\n")


@pytest.mark.parametrize(
    "changes", [{"format": 2}, {"schema": 9999}, {"spool_version": 9999}, {"control_revision": "9999"}]
)
def test_a_newer_backup_is_refused(copied: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    rewritten(copied, **changes)
    with pytest.raises(StartupRefused, match=r"newer Limelight.*upgrade first"):
        restored(copied, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_path_that_leads_out_is_refused(copied: Path, tmp_path: Path) -> None:
    rewritten(copied, files=[{"path": "../out", "bytes": 0, "sha256": ""}])
    with pytest.raises(StartupRefused, match="outside the backup"):
        restored(copied, tmp_path / "new")


def test_an_older_backup_is_migrated(data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    older = tmp_path / "older"
    backup.back_up(settings_of(data_dir), tmp_path / "b", NOW_S)
    restored(tmp_path / "b", older)
    store = open_store(settings_of(older))
    newest = migrations()[-1]
    store.execute("ALTER TABLE schema_migrations DELETE WHERE version = {n:UInt32}", {"n": newest.version})
    store.close()
    backup.back_up(settings_of(older), tmp_path / "b2", NOW_S)
    assert commands.restore({"target": tmp_path / "b2", "data_dir": tmp_path / "new"}) == 0
    assert f"applied {newest.name}" in capsys.readouterr().out
    store = open_store(settings_of(tmp_path / "new"), migrate=False)
    assert store.query("SELECT count() FROM spans").rows == [(1,)]
    assert store.query("SELECT max(version) FROM schema_migrations").rows == [(newest.version,)]
    store.close()


def test_a_restored_directory_is_the_old_one(data_dir: Path, whole: Path, tmp_path: Path) -> None:
    restored(whole, tmp_path / "new")
    assert {path.stat().st_mode & 0o077 for path in (tmp_path / "new", *(tmp_path / "new").glob("*.db"))} == {0}
    for name in ("spool.db", "control.db"):
        dumps = []
        for path in (data_dir, tmp_path / "new"):
            with contextlib.closing(sqlite3.connect(path / name)) as database:
                dumps.append(list(database.iterdump()))
        assert dumps[0] == dumps[1]
        assert len(dumps[0]) > 10


def test_nothing_is_overwritten(data_dir: Path, whole: Path, tmp_path: Path) -> None:
    settings = settings_of(data_dir)
    (tmp_path / "b.partial").mkdir()
    refused = {
        whole: "exists: a backup never overwrites",
        tmp_path / "b": r"b\.partial exists",
        tmp_path / "none" / "b": "there is no directory",
        data_dir / "b": "inside the data directory",
    }
    for target, said in refused.items():
        with pytest.raises(StartupRefused, match=said):
            backup.back_up(settings, target, NOW_S)
    with pytest.raises(StartupRefused, match="nothing to back up"):
        backup.back_up(settings_of(tmp_path / "nowhere"), tmp_path / "c", NOW_S)
    with pytest.raises(StartupRefused, match="not empty"):
        restored(whole, data_dir)
    with pytest.raises(StartupRefused, match="there is no backup"):
        restored(tmp_path / "c", tmp_path / "new")
    (tmp_path / "new" / restore.PARTIAL).mkdir(parents=True)
    with pytest.raises(StartupRefused, match="unfinished restore"):
        restored(whole, tmp_path / "new")
    with pytest.raises(StartupRefused, match="unfinished restore"):  # nor does a collector start there
        migrate_all(settings_of(tmp_path / "new"))


def test_a_backup_runs_alone_and_clears_up_after_a_killed_one(data_dir: Path, tmp_path: Path) -> None:
    settings = settings_of(data_dir)
    left = [data_dir / snapshot.FILES, data_dir / snapshot.STORE]
    with snapshot.alone(data_dir):
        snapshot.take(settings, None)
        with pytest.raises(StartupRefused, match="another backup"):
            backup.back_up(settings, tmp_path / "b", NOW_S)
        with pytest.raises(Rejected, match="has its snapshot"):
            snapshot.take(settings, None)
        snapshot.tidy(data_dir)  # a collector that starts leaves a running backup alone
        assert left[0].exists()
    for path in left:
        path.mkdir(parents=True)
        (path / "old").write_text("of a killed backup")
    snapshot.tidy(data_dir)
    assert not any(path.exists() for path in left)
    for path in left:
        path.mkdir(parents=True)
    backup.back_up(settings, tmp_path / "b", NOW_S)
    assert manifest.read(tmp_path / "b").tables["spans"]["rows"] == 1


def test_only_the_command_gets_a_snapshot(data_dir: Path) -> None:
    with pytest.raises(Rejected, match="no backup runs"):
        snapshot.take(settings_of(data_dir), None)
    assert not (data_dir / snapshot.FILES).exists()


def test_too_little_disk_is_said_before_anything_is_written(data_dir: Path, whole: Path, tmp_path: Path) -> None:
    greedy = settings_of(data_dir, min_free_bytes=2**60)
    with pytest.raises(StartupRefused, match="too little for a copy of the spool"):
        backup.back_up(greedy, tmp_path / "b", NOW_S)
    with pytest.raises(StartupRefused, match="MiB free"):
        restore.restore(settings_of(tmp_path / "new", min_free_bytes=2**60), whole)
    assert list(tmp_path.iterdir()) == []
    assert not (data_dir / snapshot.FILES).exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 96 KiB."""
    path = tmp_path / "disk"
    path.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96k", "tmpfs", path]).returncode:
        pytest.skip("mounting needs root")
    yield path
    subprocess.run(["umount", path], check=True)


def test_a_full_disk_leaves_nothing(
    data_dir: Path, whole: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StartupRefused, match="has 0 MiB free, the backup needs"):
        backup.back_up(settings_of(data_dir), small_disk / "b", NOW_S)
    monkeypatch.setattr(backup, "_require_room", lambda *_: None)  # it was free when we looked
    with pytest.raises(StartupRefused, match="No space left on device; nothing of it is left"):
        backup.back_up(settings_of(data_dir), small_disk / "b", NOW_S)
    with pytest.raises(StartupRefused, match="has 0 MiB free, the restored collector needs"):
        restored(whole, small_disk / "new")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(2**40, 0, 2**40))
    with pytest.raises(StartupRefused, match="No space left on device; nothing of it is left"):
        restored(whole, small_disk / "new")
    assert list(small_disk.iterdir()) == []
    assert not (data_dir / snapshot.FILES).exists()


def test_a_damaged_spool_is_no_backup(data_dir: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(data_dir, tmp_path / "data", symlinks=True)
    content = bytearray((copy / "spool.db").read_bytes())
    content[8192:] = os.urandom(len(content) - 8192)
    (copy / "spool.db").write_bytes(content)
    with pytest.raises(StartupRefused, match=r"damaged|malformed"):
        backup.back_up(settings_of(copy), tmp_path / "b", NOW_S)
    assert not (tmp_path / "b").exists()
    assert not (tmp_path / "b.partial").exists()


def test_a_server_keeps_its_own_tables(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIMELIGHT_CLICKHOUSE_URL", "http://user@clickhouse.example:8123/limelight")
    monkeypatch.setenv("LIMELIGHT_MIN_FREE_BYTES", "0")
    assert commands.backup({"words": [str(tmp_path / "b")], "data_dir": data_dir}) == 0
    assert "not in it: what clickhouse.example keeps" in capsys.readouterr().err
    found = manifest.read(tmp_path / "b")
    assert [file.path for file in found.files] == ["control.db", "spool.db"]
    assert (found.database, found.tables) == (None, {})
    assert restore.restore(settings_of(tmp_path / "new"), tmp_path / "b") == found
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["control.db", "spool.db"]


def test_a_collector_that_does_not_answer(data_dir: Path, tmp_path: Path) -> None:
    settings = settings_of(data_dir)
    from limelight_collector.lock import DataDirLock

    with DataDirLock(data_dir):
        with pytest.raises(StartupRefused, match="held by process"):
            backup.back_up(settings, tmp_path / "b", NOW_S)
        with (
            owner.announced(data_dir, owner.Owner("http://127.0.0.1:9", "key")),
            pytest.raises(StartupRefused, match=r"does not answer.*try again"),
        ):
            backup.back_up(settings, tmp_path / "b", NOW_S)
    assert owner.find(data_dir) is None


def test_changes_wait_while_the_store_is_frozen(data_dir: Path, tmp_path: Path) -> None:
    import threading

    restored_dir = tmp_path / "new"
    backup.back_up(settings_of(data_dir), tmp_path / "b", NOW_S)
    restored(tmp_path / "b", restored_dir)
    store = open_store(settings_of(restored_dir))
    with store.frozen("held"):
        threads = [
            threading.Thread(target=store.insert, args=(batch(llm(7, 7)),)),
            threading.Thread(target=store.execute, args=("ALTER TABLE spans DELETE WHERE 0",)),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(0.2)
            assert thread.is_alive()
        assert store.query("SELECT count() FROM spans").rows == [(1,)]  # reads go on
    for thread in threads:
        thread.join(30)
    assert store.query("SELECT count() FROM spans").rows == [(2,)]
    frozen = sum(int(path.read_text()) for path in (restored_dir / "store/shadow/held").rglob("2026*/count.txt"))
    assert frozen > 0
    store.close()
    with pytest.raises(Unavailable), store.frozen("closed"):
        pass


def test_the_route_says_what_is_in_the_way(data_dir: Path) -> None:
    import dataclasses
    from typing import cast

    from limelight_collector.api.app import create_app
    from limelight_collector.auth import ANYONE
    from limelight_collector.services import Services

    services = cast("Any", Services)(
        **{field.name: None for field in dataclasses.fields(Services)}
        | {"settings": settings_of(data_dir), "authenticate": lambda _: ANYONE}
    )
    with TestClient(create_app(services)) as client:
        answer = client.post("/api/v1/backups")
    assert answer.status_code == 409
    assert "limelight backup TARGET" in answer.json()["detail"]
