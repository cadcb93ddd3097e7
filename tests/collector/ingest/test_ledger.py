"""Every item is accounted for, and dead letters are a person's to list, replay and drop, beside a running collector."""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from collector.ingest.otlp import NOW, PRICES, MemoryStore, request, span
from limelight import cli
from limelight_collector import deadletters, spool_file
from limelight_collector.batch import Batch
from limelight_collector.errors import Rejected, StartupRefused
from limelight_collector.settings import Settings
from limelight_collector.spool import Spool
from limelight_collector.writer import Writer

VERSION_1 = """
CREATE TABLE records(
    seq INTEGER PRIMARY KEY AUTOINCREMENT, project_id TEXT NOT NULL, signal TEXT NOT NULL, received_ns INTEGER NOT NULL,
    spans INTEGER NOT NULL, digest BLOB NOT NULL, payload BLOB NOT NULL);
CREATE TABLE deadletter(
    seq INTEGER PRIMARY KEY, project_id TEXT NOT NULL, signal TEXT NOT NULL, received_ns INTEGER NOT NULL,
    spans INTEGER NOT NULL, digest BLOB NOT NULL, payload BLOB NOT NULL, reason TEXT NOT NULL);
CREATE TABLE seen(digest BLOB PRIMARY KEY, received_ns INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX seen_age ON seen(received_ns);
PRAGMA user_version = 1;
"""
"""The schema of the first spools."""


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    found = Spool(tmp_path / "spool.db", max_bytes=2**30, min_free_bytes=0)
    found.start()
    yield found
    found.stop()


def put(spool: Spool, payload: bytes, project: str = "p", spans: int = 1, rejected: int = 0) -> bool:
    return spool.append(project, "traces", payload, NOW, spans, rejected).result(30)


def counts(spool: Spool, project: str = "p", kind: str = "traces") -> dict[str, int]:
    """What is not zero; the identity holds or this raises."""
    found = spool.ledger()[project][kind]
    assert found["received"] == sum(items for state, items in found.items() if state != "received"), found
    return {state: items for state, items in found.items() if items}


def eventually(check: Callable[[], bool]) -> bool:
    for _ in range(1_000):
        if check():
            return True
        time.sleep(0.02)
    return False


def test_each_step_moves_items_from_one_state_to_the_next(spool: Spool) -> None:
    put(spool, b"one", spans=10, rejected=3)
    assert counts(spool) == {"received": 13, "rejected": 3, "spooled": 10}
    put(spool, b"one", spans=10, rejected=3)
    assert counts(spool) == {"received": 26, "rejected": 6, "spooled": 10, "deduplicated": 10}
    put(spool, b"", spans=0, rejected=4)
    assert counts(spool) == {"received": 30, "rejected": 10, "spooled": 10, "deduplicated": 10}
    put(spool, b"two", spans=5)
    put(spool, b"three", project="other")
    spool.bury(2, "because")
    spool.delete(1)
    assert counts(spool) == {"received": 35, "rejected": 10, "stored": 10, "deduplicated": 10, "dead_lettered": 5}
    assert counts(spool, "other") == {"received": 1, "spooled": 1}
    assert (spool.pending_records, spool.pending_spans, spool.deadletter_records) == (1, 1, 1)
    spool.delete(10**9)
    assert (spool.pending_records, spool.pending_spans, spool.pending_bytes) == (0, 0, 0)
    spool.bury(99, "there is none")
    assert counts(spool, "other") == {"received": 1, "stored": 1}


def test_a_refused_request_is_not_accounted_for(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db", max_bytes=10, min_free_bytes=0)
    spool.start()
    assert spool.append("p", "traces", b"x" * 100, NOW, 7, 1).exception(30) is not None
    assert spool.ledger() == {}
    spool.stop()


def test_a_file_of_version_1_is_upgraded_in_place(tmp_path: Path) -> None:
    payload = b"of an older release"
    digest = spool_file.checksum("p", "traces", payload)
    packed = __import__("zlib").compress(payload)
    with sqlite3.connect(tmp_path / "spool.db") as old:
        old.executescript(VERSION_1)
        old.execute("INSERT INTO records VALUES (7, 'p', 'traces', ?, 3, ?, ?)", (NOW, digest, packed))
        old.execute("INSERT INTO deadletter VALUES (5, 'p', 'traces', ?, 2, ?, ?, 'odd')", (NOW, digest, packed))
    old.close()
    spool = Spool(tmp_path / "spool.db", max_bytes=2**30, min_free_bytes=0)
    spool.start()
    assert counts(spool) == {"received": 5, "spooled": 3, "dead_lettered": 2}
    assert [(record.seq, record.payload) for record in spool.read(10)] == [(7, payload)]
    put(spool, b"new")
    assert [record.seq for record in spool.read(10)] == [7, 8]
    spool.stop()


def test_what_is_whole_in_a_damaged_file_is_kept(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db", max_bytes=2**30, min_free_bytes=0)
    spool.start()
    sent = [random.Random(number).randbytes(20_000) for number in range(40)]
    for payload in sent:
        put(spool, payload)
    spool.bury(1, "odd")
    spool.stop()
    file = tmp_path / "spool.db"
    with sqlite3.connect(file) as connection:
        root = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'ledger'").fetchone()[0]
    connection.close()
    content = bytearray(file.read_bytes())
    content[(root - 1) * 8192 : root * 8192] = b"\xff" * 8192  # the ledger's page
    middle = content.index(sent[20][:64])
    content[middle : middle + 64] = bytes(64)  # and one record's payload
    file.write_bytes(content)
    again = Spool(file, max_bytes=2**30, min_free_bytes=0)
    again.start()
    kept = [record.payload for record in again.read(10_000)]
    assert kept == [payload for number, payload in enumerate(sent) if number not in (0, 20)]
    assert again.deadletters() == [(1, "odd")]
    assert counts(again) == {"received": 39, "spooled": 38, "dead_lettered": 1}
    assert not put(again, sent[5])
    again.stop()
    assert len(list(tmp_path.glob("spool.db.damaged-*"))) >= 1


def test_the_identity_survives_kill_9(tmp_path: Path) -> None:
    code = """
        import os, sys
        from pathlib import Path
        from limelight_collector.spool import Spool
        spool = Spool(Path(sys.argv[1]) / "spool.db", max_bytes=2**30, min_free_bytes=0)
        spool.start()
        print("ready", flush=True)
        number = 0
        while True:
            number += 1
            futures = [spool.append("p", "traces", os.urandom(100), 1, 3, 1) for _ in range(4)]
            futures.append(spool.append("p", "traces", b"a retry", 1, 2))
            for future in futures:
                future.result()
            os.write(1, b".")
            records = spool.read(4)
            spool.bury(records[0].seq, "odd")
            spool.delete(records[-1].seq)
    """
    dice = random.Random(11)
    for _ in range(5):
        child = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code), str(tmp_path)], stdout=subprocess.PIPE)
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        child.stdout.read(dice.randrange(1, 40))
        child.send_signal(signal.SIGKILL)
        child.wait(30)
        child.stdout.close()
        spool = Spool(tmp_path / "spool.db", max_bytes=2**30, min_free_bytes=0)
        spool.start()
        assert counts(spool)["received"] > 0
        assert spool.ledger()["p"]["traces"]["spooled"] == sum(record.spans for record in spool.read(10**6))
        spool.stop()


def command(path: Path, *arguments: str) -> int:
    return cli.main(["deadletters", *arguments, "--data-dir", str(path)])


def test_the_command_lists_without_content_and_shows_with_it(
    tmp_path: Path, spool: Spool, capsys: pytest.CaptureFixture[str]
) -> None:
    sent = request(span(1, {"prompt": "a secret", "n": float("inf"), "list": [1, b"\0"]}, kind=3), resource={"a": 1})
    put(spool, sent.SerializeToString())
    spool.bury(1, "KeyError:\n'a bug'")
    assert command(tmp_path, "list") == 0
    listed = capsys.readouterr().out
    assert listed.startswith("1  p  traces  2026-")
    assert listed.strip().endswith("KeyError: 'a bug'")
    assert "secret" not in listed
    assert command(tmp_path, "show", "1") == 0
    shown: Any = json.loads(capsys.readouterr().out)
    found = shown["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    assert found["traceId"] == "0102030405060708090a0b0c0d0e0f10"
    assert found["attributes"][0] == {"key": "prompt", "value": {"stringValue": "a secret"}}
    assert found["attributes"][1]["value"] == {"doubleValue": "Infinity"}
    from limelight_collector.json_otlp import parse_json

    assert parse_json(json.dumps(shown).encode(), type(sent)) == sent
    for wrong in ("show", "drop"):
        assert command(tmp_path, wrong, "9") == 1
        assert "no dead letter 9" in capsys.readouterr().err


def test_replayed_letters_reach_the_store_of_the_running_collector(
    tmp_path: Path, spool: Spool, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = {"odd"}

    def refuse(batch: Batch) -> None:
        if bad & set(batch.columns["name"]):
            raise Rejected("bad_request", "cannot be stored")

    store: Any = MemoryStore(refuse)
    writer = Writer(spool, store, PRICES, Settings(data_dir=tmp_path, batch_max_wait_s=0.01), now_ns=lambda: NOW)
    for number in range(1, 4):
        put(spool, request(span(number, name="odd" if number < 3 else "good")).SerializeToString())
    writer.start()
    try:
        assert eventually(lambda: spool.deadletter_records == 2 and spool.pending_records == 0)
        assert command(tmp_path, "replay") == 2
        assert command(tmp_path, "replay", "1", "--all") == 2
        bad.clear()  # the new release can store it
        assert command(tmp_path, "replay", "1", "77") == 1
        assert "77" in capsys.readouterr().err
        assert eventually(lambda: len(store.spans) == 2)
        assert command(tmp_path, "replay", "--all") == 0
        assert eventually(lambda: len(store.spans) == 3 and spool.deadletter_records == 0)
        assert eventually(lambda: counts(spool) == {"received": 3, "stored": 3})
    finally:
        writer.stop(30)


def test_letters_wait_for_the_next_start_and_dropped_ones_are_gone(tmp_path: Path, spool: Spool) -> None:
    for number in range(1, 4):
        put(spool, b"%d" % number, spans=number)
        spool.bury(number, "odd")
    spool.stop()
    assert command(tmp_path, "drop", "2") == 0
    assert command(tmp_path, "replay", "3") == 0
    again = Spool(tmp_path / "spool.db", max_bytes=2**30, min_free_bytes=0)
    again.start()
    assert [(record.payload, record.spans) for record in again.read(10)] == [(b"3", 3)]
    assert again.deadletters() == [(1, "odd")]
    assert counts(again) == {"received": 6, "dead_lettered": 3, "spooled": 3}
    again.stop()


def test_a_damaged_letter_is_not_replayed(tmp_path: Path, spool: Spool, capsys: pytest.CaptureFixture[str]) -> None:
    put(spool, b"x")
    spool.bury(1, "odd")
    spool.stop()
    with deadletters.opened(tmp_path / "spool.db") as connection:
        connection.execute("UPDATE deadletter SET payload = zeroblob(9)")
    assert command(tmp_path, "replay", "--all") == 1
    assert command(tmp_path, "show", "1") == 1
    assert "damaged" in capsys.readouterr().err
    assert command(tmp_path, "drop", "1") == 0


def test_a_directory_without_a_spool_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(tmp_path, "list") == 2
    assert f"there is no spool in {tmp_path}" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(StartupRefused, match="cannot use"), deadletters.opened(tmp_path):
        pass
