"""Outages: the store away for ten minutes, a disk without a free byte, a sync that fails, a mapping that was wrong."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from collector.ingest.otlp import NOW, PRICES, SECOND, MemoryStore, request, running, span
from limelight_collector import deadletters, normalise
from limelight_collector.api.app import create_app
from limelight_collector.batch import Batch
from limelight_collector.disk import BALLAST_BYTES
from limelight_collector.errors import Unavailable
from limelight_collector.services import Services
from limelight_collector.spool import Spool
from limelight_collector.writer import Writer

MIB = 2**20


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    with running(tmp_path, batch_max_wait_s=0.01) as found:
        yield found


def writer_of(services: Services, store: Any) -> Writer:
    return Writer(services.spool, store, PRICES, services.settings, now_ns=lambda: NOW)


def put(services: Services, number: int, at: int = NOW) -> None:
    payload = request(span(number, name=f"call {number}")).SerializeToString()
    assert services.spool.append("p", "traces", payload, at, 1).result(30)


def eventually(check: Callable[[], bool]) -> bool:
    for _ in range(1_000):
        if check():
            return True
        time.sleep(0.02)
    return False


def away(_: Batch) -> None:
    raise Unavailable("away")


def test_ten_minutes_without_the_store_are_invisible_to_clients(services: Services) -> None:
    store: Any = MemoryStore(away)
    writer = writer_of(services, store)
    checks = {"writer": True}
    services = dataclasses.replace(
        services, checks=lambda: checks | {"spool": services.spool.healthy}, degraded=lambda: writer.storage_failing
    )
    with TestClient(create_app(services)) as client:
        assert client.get("/readyz").json() == {
            "ready": True, "degraded": False, "checks": {"writer": True, "spool": True},
        }  # fmt: skip
        for number in range(1, 61):
            put(services, number, at=NOW + number * 10 * SECOND)
            with pytest.raises(Unavailable):
                writer.write_once()
        answer = client.get("/readyz")
        assert (answer.status_code, answer.json()["ready"], answer.json()["degraded"]) == (200, True, True)
        assert services.spool.oldest_received_ns == NOW + 10 * SECOND
        assert (services.spool.pending_spans, services.spool.deadletter_records) == (60, 0)
        store.refuse = lambda _: None
        while writer.write_once():
            pass
        assert client.get("/readyz").json()["degraded"] is False
        checks["writer"] = False
        assert client.get("/readyz").status_code == 503
        assert client.get("/healthz").status_code == 200
    assert [row["name"] for row in store.spans.values()] == [f"call {number}" for number in range(1, 61)]
    assert services.spool.ledger()["p"]["traces"]["stored"] == 60


def test_a_wrong_mapping_is_repaired_by_replaying(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise KeyError("a bug of this release")

    store: Any = MemoryStore()
    for number in (1, 2, 3):
        put(services, number)
    with monkeypatch.context() as release:
        release.setattr(normalise, "span_row", broken)
        writer_of(services, store).write_once()
    assert (len(store.spans), services.spool.deadletters()[2]) == (0, (3, "KeyError: 'a bug of this release'"))
    with deadletters.opened(tmp_path / "spool.db") as connection:
        assert deadletters.replay(connection, [3, 1, 2]) == [3, 1, 2]
    assert writer_of(services, store).write_once() == 3
    assert [row["name"] for row in store.spans.values()] == ["call 3", "call 1", "call 2"]
    assert services.spool.ledger()["p"]["traces"] == {
        "received": 3, "stored": 3, "rejected": 0, "dead_lettered": 0, "deduplicated": 0, "spooled": 0,
    }  # fmt: skip


def test_the_soft_mark_is_said_once_each_way(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    spool = Spool(tmp_path / "spool.db", max_bytes=100_000, min_free_bytes=0)
    spool.start()
    with caplog.at_level(logging.WARNING, "limelight.spool"):
        for _ in range(8):
            spool.append("p", "traces", os.urandom(9_000), NOW, 1).result(30)
        assert eventually(lambda: spool.over_soft_mark)
        spool.delete(10**9)
        assert eventually(lambda: not spool.over_soft_mark)
    spool.stop()
    assert [record.message for record in caplog.records] == [
        "the spool is over its soft mark",
        "the spool is below its soft mark again",
    ]


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of 128 MiB, outside pytest's folders: what a killed run leaves mounted must not fail the next."""
    mounted = Path(tempfile.mkdtemp(prefix="limelight-disk-"))
    command = ["mount", "-t", "tmpfs", "-o", "size=128m", "tmpfs", str(mounted)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        mounted.rmdir()
        pytest.skip("needs the right to mount")
    yield mounted
    subprocess.run(["umount", "--lazy", str(mounted)], check=True)
    mounted.rmdir()


def fill(spool: Spool) -> list[bytes]:
    """Records of half a MiB until the spool refuses one; what was acknowledged."""
    taken: list[bytes] = []
    while True:
        payload = os.urandom(MIB // 2)
        try:
            spool.append("p", "traces", payload, NOW, 1).result(60)
        except Unavailable:
            return taken
        taken.append(payload)


def drain(spool: Spool) -> list[bytes]:
    found: list[bytes] = []
    while records := spool.read(10):
        found += [record.payload for record in records]
        try:
            spool.delete(records[-1].seq)
        except Unavailable:  # this attempt found the disk full and gave up the ballast
            spool.delete(records[-1].seq)
    return found


def take_the_rest(file: Path) -> None:
    """What another program does to the disk."""
    with file.open("wb", buffering=0) as other, contextlib.suppress(OSError):
        while True:
            other.write(bytes(4096))


def test_on_a_full_disk_records_still_leave_the_spool(small_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    spool = Spool(small_disk / "spool.db", max_bytes=2**30, min_free_bytes=20 * MIB)
    spool.start()
    ballast, others = small_disk / "spool.ballast", small_disk / "others"
    assert ballast.stat().st_size == BALLAST_BYTES
    taken = fill(spool)
    assert len(taken) > 50
    assert shutil.disk_usage(small_disk).free > 5 * MIB
    take_the_rest(others)
    assert shutil.disk_usage(small_disk).free < MIB
    assert not spool.has_disk
    with pytest.raises(Unavailable, match="nearly full"):
        spool.append("p", "traces", b"not now", NOW, 1).result(30)
    assert drain(spool) == taken
    assert "gave up the spool's ballast" in caplog.text
    others.unlink()
    assert spool.append("p", "traces", b"after", NOW, 1).result(30)
    assert spool.healthy
    assert spool.has_disk
    assert eventually(ballast.exists)
    assert spool.ledger()["p"]["traces"]["stored"] == len(taken)
    spool.stop()


def test_a_commit_that_finds_the_disk_full_fails_and_what_was_acknowledged_stays(small_disk: Path) -> None:
    spool = Spool(small_disk / "spool.db", max_bytes=2**30, min_free_bytes=0)
    spool.start()
    taken = fill(spool)
    assert not spool.healthy
    spool.stop()
    again = Spool(small_disk / "spool.db", max_bytes=2**30, min_free_bytes=0)
    again.start()
    assert [record.payload for record in again.read(10_000)] == taken[: len(again.read(10_000))]
    assert again.pending_records == len(taken)
    again.stop()


SHIM = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
static int broken(void) { return access(getenv("BROKEN_DISK"), F_OK) == 0; }
static int fail(void) { ssize_t n = write(2, "F", 1); (void)n; errno = EIO; return -1; }
int fsync(int fd) { return broken() ? fail() : ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(fd); }
int fdatasync(int fd) { return broken() ? fail() : ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(fd); }
"""


def test_a_failed_sync_is_not_tried_again(tmp_path: Path) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("needs a C compiler")
    shim = tmp_path / "shim.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", str(shim), "-x", "c", "-"], input=SHIM, text=True, check=True)
    code = """
        import sys
        from pathlib import Path
        from limelight_collector.errors import Unavailable
        from limelight_collector.spool import Spool
        spool, broken = Spool(Path(sys.argv[1]) / "spool.db", max_bytes=2**30, min_free_bytes=0), Path(sys.argv[2])
        spool.start()
        assert spool.append("p", "traces", b"before", 1, 1).result(30)
        broken.touch()
        error = spool.append("p", "traces", b"lost", 1, 1).exception(30)
        assert isinstance(error, Unavailable) and not spool.healthy, error
        broken.unlink()
        assert spool.append("p", "traces", b"after", 1, 1).result(30) and spool.healthy
        assert spool.append("p", "traces", b"lost", 1, 1).result(30), "the client's retry was taken for a known one"
        assert [record.payload for record in spool.read(10)] == [b"before", b"after", b"lost"]
        spool.stop()
    """
    environment = {**os.environ, "LD_PRELOAD": str(shim), "BROKEN_DISK": str(tmp_path / "broken")}
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path), str(tmp_path / "broken")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert (done.returncode, done.stderr.count("F")) == (0, 1), done.stderr
