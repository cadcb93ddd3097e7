"""The spool keeps its promise: acknowledged is on disk, whatever happens to the process, the file or the disk."""

from __future__ import annotations

import gzip
import os
import random
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from concurrent.futures import wait
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.ingest.otlp import NOW, SECOND
from limelight_collector import spool_file
from limelight_collector.errors import StartupRefused, Unavailable
from limelight_collector.lock import DataDirLock
from limelight_collector.spool import RETRY_WINDOW_NS, Spool


def open_spool(path: Path, **given: int) -> Spool:
    spool = Spool(path / "spool.db", **{"max_bytes": 2**30, "min_free_bytes": 0, **given})
    spool.start()
    return spool


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    found = open_spool(tmp_path)
    yield found
    found.stop()


def put(spool: Spool, payload: bytes, project: str = "p", at: int = NOW, spans: int = 1) -> bool:
    return spool.append(project, "traces", payload, at, spans).result(30)


def test_records_come_back_in_order_until_deleted(spool: Spool) -> None:
    for number in range(5):
        put(spool, b"payload %d" % number, spans=10)
    first = spool.read(limit_spans=25)
    assert [record.payload for record in first] == [b"payload 0", b"payload 1"]
    assert (first[0].project_id, first[0].signal, first[0].received_ns, first[0].spans) == ("p", "traces", NOW, 10)
    assert spool.pending_spans == 50
    spool.delete(first[-1].seq)
    assert [record.payload for record in spool.read(1)] == [b"payload 2"]  # at least one, however large
    assert (spool.pending_records, spool.pending_spans, spool.oldest_received_ns) == (3, 30, NOW)
    spool.delete(10**9)
    assert (spool.read(10), spool.pending_bytes, spool.oldest_received_ns) == ([], 0, None)


def test_a_request_sent_in_gzip_is_kept_as_it_was_sent(spool: Spool) -> None:
    payload = b"the same words again and again. " * 100
    members = gzip.compress(payload[:1000]) + gzip.compress(payload[1000:])
    assert spool.append("p", "traces", payload, NOW, 1, gzipped=members).result(30)
    assert spool.pending_bytes == len(members)
    assert not put(spool, payload)  # the same request, not compressed: a retry all the same
    assert [record.payload for record in spool.read(10)] == [payload]


def test_what_gzip_makes_larger_is_compressed_here(spool: Spool) -> None:
    payload = b"the same words again and again. " * 100
    assert spool.append("p", "traces", payload, NOW, 1, gzipped=gzip.compress(payload, 0)).result(30)
    assert spool.pending_bytes < len(payload) // 2
    assert [record.payload for record in spool.read(10)] == [payload]


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_a_damaged_payload_is_known_in_either_form(data: st.DataObject) -> None:
    payload = bytes(range(256)) * 4
    packed = spool_file.pack(payload, gzip.compress(payload) if data.draw(st.booleans()) else None)
    digest = spool_file.checksum("p", "traces", payload)
    at = data.draw(st.integers(0, len(packed) - 1))
    damaged = data.draw(
        st.one_of(
            st.just(packed[:at]),
            st.integers(1, 255).map(lambda bits: packed[:at] + bytes([packed[at] ^ bits]) + packed[at + 1 :]),
            st.binary(max_size=50),
        )
    )
    assert spool_file.unpack(damaged, digest, "p", "traces") in {None, payload}  # some bits of a header mean nothing


def test_many_threads_share_commits_and_lose_nothing(spool: Spool) -> None:
    futures = [spool.append("p", "traces", b"%d" % number, NOW, 1) for number in range(500)]
    assert all(future.result(30) for future in futures)
    assert {record.payload for record in spool.read(10_000)} == {b"%d" % number for number in range(500)}
    assert spool.pending_records == 500


def test_a_retry_is_known_within_the_window_and_only_for_its_project(spool: Spool) -> None:
    assert put(spool, b"same")
    assert not put(spool, b"same", at=NOW + 60 * SECOND)
    assert put(spool, b"same", project="other")
    assert spool.append("p", "logs", b"same", NOW, 1).result(30)
    spool.delete(10**9)
    assert not put(spool, b"same", at=NOW + 60 * SECOND)  # stored meanwhile, still known
    assert put(spool, b"same", at=NOW + RETRY_WINDOW_NS + SECOND)
    assert spool.pending_records == 1


def test_counts_survive_a_restart(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    put(spool, b"one", spans=3)
    put(spool, b"two", spans=4)
    spool.bury(1, "because")
    spool.stop()
    with pytest.raises(Unavailable, match="stopping"):
        put(spool, b"three")
    again = open_spool(tmp_path)
    assert (again.pending_records, again.pending_spans, again.deadletter_records) == (1, 4, 1)
    assert again.deadletters() == [(1, "because")]
    assert not put(again, b"one")
    assert put(again, b"three")
    assert [record.seq for record in again.read(10)] == [2, 3]  # a number is never given twice
    again.stop()


def test_the_byte_budget_refuses_and_recovers(tmp_path: Path) -> None:
    spool = open_spool(tmp_path, max_bytes=50_000)
    for _ in range(4):
        put(spool, os.urandom(10_000))
    with pytest.raises(Unavailable) as caught:
        put(spool, os.urandom(10_000))
    assert 1 <= caught.value.retry_after_s <= 5
    assert spool.used_bytes <= 50_000
    spool.delete(10**9)
    assert put(spool, os.urandom(10_000))
    spool.stop()


def test_a_nearly_full_disk_refuses(tmp_path: Path) -> None:
    spool = open_spool(tmp_path, min_free_bytes=2**62)
    with pytest.raises(Unavailable, match="disk"):
        put(spool, b"x")
    spool.stop()


def test_a_damaged_record_is_set_aside_and_the_others_are_read(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    for payload in (b"one", b"two", b"three"):
        put(spool, payload)
    spool.stop()
    with sqlite3.connect(tmp_path / "spool.db") as connection:
        connection.execute("UPDATE records SET payload = zeroblob(30) WHERE seq = 2")
    connection.close()
    again = open_spool(tmp_path)
    assert [record.payload for record in again.read(10)] == [b"one", b"three"]
    assert again.deadletters()[0][0] == 2
    assert "checksum" in again.deadletters()[0][1]
    again.stop()


def test_a_damaged_file_is_set_aside_and_kept(tmp_path: Path) -> None:
    (tmp_path / "spool.db").write_bytes(b"this is no database" * 500)
    spool = open_spool(tmp_path)
    assert put(spool, b"x")
    spool.stop()
    assert [path.read_bytes()[:7] for path in tmp_path.glob("spool.db.damaged-*")] == [b"this is"]


def test_a_newer_file_and_a_missing_directory_refuse_the_start(tmp_path: Path) -> None:
    open_spool(tmp_path).stop()
    with sqlite3.connect(tmp_path / "spool.db") as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StartupRefused, match="newer version"):
        open_spool(tmp_path)
    with pytest.raises(StartupRefused, match="cannot open the spool"):
        open_spool(tmp_path / "missing")


def run_child(code: str, path: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(code), str(path)], stdout=subprocess.PIPE)


def test_a_failed_commit_fails_its_waiters_and_the_next_one_works(tmp_path: Path) -> None:
    # The kernel refuses writes past a file size limit: a real failure under SQLite, as a full disk is one.
    code = """
        import os, resource, signal, sys
        from pathlib import Path
        from limelight_collector.errors import Unavailable
        from limelight_collector.spool import Spool
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        spool = Spool(Path(sys.argv[1]) / "spool.db", max_bytes=2**30, min_free_bytes=0)
        spool.start()
        assert spool.append("p", "traces", b"before", 1, 1).result(30)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, -1))
        lost = [spool.append("p", "traces", os.urandom(150_000), 1, 1) for _ in range(3)]
        failures = [type(future.exception(30)) for future in lost]
        assert Unavailable in failures, failures
        kept = 1 + failures.count(type(None))
        assert not spool.healthy and spool.pending_records == kept, (spool.healthy, spool.pending_records)
        resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
        assert spool.append("p", "traces", b"after", 1, 1).result(30)
        assert spool.healthy and len(spool.read(100)) == kept + 1
        spool.stop()
    """
    child = run_child(code, tmp_path)
    assert child.wait(60) == 0
    assert child.stdout is not None
    child.stdout.close()


@pytest.mark.slow
def test_kill_9_loses_no_acknowledged_record(tmp_path: Path) -> None:
    code = """
        import os, sys
        from pathlib import Path
        from limelight_collector.spool import Spool
        spool = Spool(Path(sys.argv[1]) / "spool.db", max_bytes=2**30, min_free_bytes=0)
        spool.start()
        print("ready", flush=True)
        while True:
            batch = [os.urandom(16).hex().encode() * 50 for _ in range(5)]
            futures = [spool.append("p", "traces", payload, 1, 1) for payload in batch]
            for payload, future in zip(batch, futures):
                future.result()
                os.write(1, payload[:32] + b"\\n")
    """
    dice = random.Random(7)
    acknowledged: set[bytes] = set()
    for _ in range(6):
        child = run_child(code, tmp_path)
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        for _ in range(dice.randrange(1, 80)):
            acknowledged.add(child.stdout.readline().strip())
        child.send_signal(signal.SIGKILL)
        acknowledged.update(line.strip() for line in child.stdout if len(line) == 33)
        child.stdout.close()
        child.wait(30)
        spool = open_spool(tmp_path)
        assert acknowledged <= {record.payload[:32] for record in spool.read(10**6)}
        assert spool.deadletters() == []
        spool.stop()
    assert len(acknowledged) > 50


def test_the_data_directory_has_one_owner(tmp_path: Path) -> None:
    refusal = f"held by process {os.getpid()}; stop it or pass another --data-dir"
    with DataDirLock(tmp_path), pytest.raises(StartupRefused, match=refusal):
        DataDirLock(tmp_path).acquire()
    with DataDirLock(tmp_path):
        pass
    with pytest.raises(StartupRefused, match="cannot write"):
        DataDirLock(tmp_path / "missing").acquire()


def test_stop_commits_what_was_queued(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    futures = [spool.append("p", "traces", os.urandom(100_000), NOW, 1) for _ in range(30)]
    spool.stop()
    assert not wait(futures, 30).not_done
    assert all(future.result() for future in futures)
