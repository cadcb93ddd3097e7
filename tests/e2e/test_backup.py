"""`limelight backup` beside a running collector, and what a collector on the restored directory says."""

from __future__ import annotations

import contextlib
import gzip
import json
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from collector.ingest.otlp import request, span
from e2e.ledger import INPUT_TOKENS, Sender
from e2e.processes import LIMELIGHT, Collector
from limelight_collector.spool_file import read_ledger

PRICE_USD = Decimal("0.15") / 10**6 * INPUT_TOKENS
"""What one span of the ledger's traffic costs."""


def limelight(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*LIMELIGHT, *map(str, words)], capture_output=True, text=True, timeout=120)


@contextlib.contextmanager
def restored(backup: Path, data_dir: Path) -> Iterator[Collector]:
    """A collector on the restored backup, running."""
    done = limelight("restore", backup, "--data-dir", data_dir)
    assert done.returncode == 0, done.stderr
    collector = Collector(data_dir)
    collector.start()
    yield collector
    assert collector.stop() == 0


def drained(collector: Collector) -> None:
    deadline = time.monotonic() + 60
    while collector.get("status")["spool_records"]:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_backup_under_load_holds_what_was_acknowledged_once(collector: Collector, tmp_path: Path) -> None:
    started = time.time() - 5
    sender = Sender(collector.url, collector.grpc_port, "both")
    sender.start()
    deadline = time.monotonic() + 60
    while len(sender.acknowledged) < 1000 and time.monotonic() < deadline:
        time.sleep(0.05)
    before = set(sender.acknowledged)
    taken = limelight("backup", tmp_path / "b", "--data-dir", collector.data_dir)
    collector.kill()
    sender.stop()
    assert taken.returncode == 0, taken.stderr
    assert len(before) >= 1000

    with restored(tmp_path / "b", tmp_path / "new") as again:
        drained(again)
        window = {"from": started, "filter": 'service_name = "ledger"'}
        export = httpx.get(f"{again.url}/api/v1/spans/export", params={"format": "jsonl", **window}, timeout=60)
        stored = Counter(json.loads(line)["span_id"] for line in export.text.splitlines())
        (totals,) = again.get("series", measure="request_count,input_tokens,cost_usd", **window)["rows"]
    with contextlib.closing(sqlite3.connect(again.data_dir / "spool.db")) as connection:
        ledger = read_ledger(connection)["default"]["traces"]
    assert not before - stored.keys()
    assert set(stored.values()) == {1}
    assert stored.keys() <= sender.sent
    assert (totals["request_count"], totals["input_tokens"]) == (len(stored), INPUT_TOKENS * len(stored))
    assert totals["cost_usd"] == pytest.approx(float(PRICE_USD * len(stored)), rel=1e-9)
    # The spool's view and the store's are of one instant: not one item more is stored than is accounted for.
    assert ledger["stored"] == len(stored)
    assert ledger["received"] == sum(items for state, items in ledger.items() if state != "received")
    assert ledger["spooled"] == 0


def answers(collector: Collector, window: dict[str, Any], key: str) -> dict[str, Any]:
    """What the API says to the questions that a page asks, without what passes with time."""
    questions = {
        "traces": window,
        "spans": window,
        "series": window | {"measure": "request_count,cost_usd,error_rate,latency_p95,flag_count", "group_by": "model"},
        "metrics": window,
        "metrics/queue.size/series": window,
        "logs": window,
        "errors": window,
        "flags": window,
        "alert-rules": {},
        "channels": {},
        "prices": {},
        "keys": {},
        "audit": {},
        "status": {},
    }
    said: dict[str, Any] = {}
    for path, params in questions.items():
        answer = httpx.get(
            f"{collector.url}/api/v1/{path}", params=params, headers={"Authorization": f"Bearer {key}"}, timeout=30
        )
        assert answer.status_code == 200, (path, answer.text)
        said[path] = answer.json()
    passing = {"last_evaluated", "last_error", "last_used_at", "last_attempt_at"}
    for path, found in (("alert-rules", "rules"), ("channels", "channels"), ("keys", "keys")):
        said[path] = [{name: item[name] for name in item.keys() - passing} for item in said[path][found]]
    kept = ("accounting", "deadletter_records", "newest_span_time", "spool_records")
    said["status"] = {name: said["status"][name] for name in kept}
    return said


def send(collector: Collector, signal: str, body: bytes, content_type: str = "application/x-protobuf") -> None:
    headers = {"Content-Type": content_type, "Content-Encoding": "gzip"}
    answer = httpx.post(f"{collector.url}/v1/{signal}", content=gzip.compress(body), headers=headers, timeout=30)
    assert answer.status_code == 200, answer.text


def fill(collector: Collector, now_ns: int) -> str:
    """Some of everything, by the front door; an admin key."""
    times = {"start_time_unix_nano": now_ns - 2 * 10**9, "end_time_unix_nano": now_ns - 10**9}
    call = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "own-model"}
    call |= {"gen_ai.usage.input_tokens": 1000, "gen_ai.response.finish_reasons": ["length"]}
    price = {"model": "own-model", "input_per_million_usd": "2.5", "output_per_million_usd": "10"}
    api = f"{collector.url}/api/v1"
    assert httpx.put(f"{api}/prices/overrides", json={"overrides": [price]}).status_code == 200
    channel = {"id": "ops", "kind": "webhook", "url": "https://hooks.example.com/x", "secret": "12345678"}
    assert httpx.post(f"{api}/channels", json=channel).status_code == 201
    rule = {"id": "mine", "signal": "error_rate", "window": "5m", "channels": ["ops"]}
    rule["condition"] = {"kind": "static", "op": ">", "threshold": 0.5}
    assert httpx.post(f"{api}/alert-rules", json=rule).status_code == 201
    send(collector, "traces", request(*(span(n, call, **times) for n in range(1, 51))).SerializeToString())
    scored = {"trace_id": bytes(range(1, 17)).hex(), "span_id": f"{1:016x}", "name": "helpful", "value": 0.5}
    assert httpx.post(f"{api}/scores", json=scored).status_code == 201
    point = {"timeUnixNano": str(now_ns), "asDouble": 3.5}
    metric = {"scopeMetrics": [{"metrics": [{"name": "queue.size", "gauge": {"dataPoints": [point]}}]}]}
    send(collector, "metrics", json.dumps({"resourceMetrics": [metric]}).encode(), "application/json")
    record = {"timeUnixNano": str(now_ns), "body": {"stringValue": "out of memory"}, "severityNumber": 17}
    logs = {"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}
    send(collector, "logs", json.dumps(logs).encode(), "application/json")
    made = limelight("keys", "create", "--project", "default", "--scope", "admin", "--data-dir", collector.data_dir)
    return made.stdout.splitlines()[-1]


def bury_one(collector: Collector, now_ns: int) -> None:
    """A request that is in the spool as a dead letter (the collector does not run)."""
    from limelight_collector.spool import Spool

    spool = Spool(collector.data_dir / "spool.db", max_bytes=2**30, min_free_bytes=0)
    spool.start()
    assert spool.append("default", "traces", request(span(99)).SerializeToString(), now_ns, 1).result()
    spool.bury(spool.read(10)[0].seq, "the store refuses it")
    spool.stop()


def test_a_restored_collector_says_the_same(collector: Collector, tmp_path: Path) -> None:
    now_ns = time.time_ns()
    key = fill(collector, now_ns)
    window = {"from": now_ns / 1e9 - 60, "to": now_ns / 1e9 + 60}
    deadline = time.monotonic() + 60
    reader = {"headers": {"Authorization": f"Bearer {key}"}, "timeout": 30}
    while httpx.get(f"{collector.url}/api/v1/status", **reader).json()["spool_records"]:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    collector.stop()
    bury_one(collector, now_ns)
    stopped = limelight("backup", tmp_path / "stopped", "--data-dir", collector.data_dir)
    assert stopped.returncode == 0, stopped.stderr
    collector.start()
    before = answers(collector, window, key)
    online = limelight("backup", tmp_path / "online", "--data-dir", collector.data_dir)
    assert online.returncode == 0, online.stderr
    letters = limelight("deadletters", "list", "--data-dir", collector.data_dir).stdout

    assert len(before["spans"]["spans"]) == 50
    assert before["series"]["rows"][0]["cost_usd"] == pytest.approx(50 * 1000 * 2.5 / 10**6)
    assert before["series"]["rows"][0]["flag_count"] == 50
    assert [len(before[name][name]) for name in ("metrics", "logs")] == [1, 1]
    assert before["metrics/queue.size/series"]["rows"][0]["value"] == 3.5
    assert any(found["scores"] for found in before["spans"]["spans"])
    assert before["status"]["accounting"]["traces"]["dead_lettered"] == 1
    assert "the store refuses it" in letters
    for name in ("stopped", "online"):
        checked = limelight("backup", "verify", tmp_path / name)
        assert (checked.returncode, f"{tmp_path / name} is whole" in checked.stdout) == (0, True), checked.stderr
        with restored(tmp_path / name, tmp_path / f"new-{name}") as again:
            assert answers(again, window, key) == before
            assert limelight("deadletters", "list", "--data-dir", again.data_dir).stdout == letters
            unknown = httpx.get(f"{again.url}/api/v1/status")
            assert unknown.status_code == 401


def test_a_killed_backup_or_collector_leaves_nothing_that_looks_whole(collector: Collector, tmp_path: Path) -> None:
    fill(collector, time.time_ns())
    command = [*LIMELIGHT, "backup", str(tmp_path / "b"), "--data-dir", str(collector.data_dir)]
    partial = tmp_path / "b.partial"
    killed = 0
    for wait_s in (0.05, 0.1, 0.2):  # counted from when it asks for the snapshot
        process = subprocess.Popen(command)
        snapshot = collector.data_dir / "snapshot"
        while process.poll() is None and not snapshot.exists():
            time.sleep(0.001)
        time.sleep(wait_s)
        process.kill()
        killed += process.wait() == -9
        if (tmp_path / "b").exists():  # it was faster than the kill
            assert limelight("backup", "verify", tmp_path / "b").returncode == 0
            (tmp_path / "b").rename(tmp_path / f"whole-{wait_s}")
        elif partial.exists():
            for words in (["backup", "verify", partial], ["restore", partial, "--data-dir", tmp_path / "no"]):
                refused = limelight(*words)
                assert (refused.returncode, "no whole backup" in refused.stderr) == (2, True), refused
            assert "delete it" in limelight("backup", tmp_path / "b", "--data-dir", collector.data_dir).stderr
            assert limelight("backup", tmp_path / "b2", "--data-dir", collector.data_dir).returncode == 0
            (tmp_path / "b2").rename(tmp_path / f"b2-{wait_s}")
            partial.rename(tmp_path / f"partial-{wait_s}")
    assert killed
    collector.kill()
    assert (collector.data_dir / "owner.json").exists()
    (collector.data_dir / "snapshot").mkdir(exist_ok=True)
    collector.start()
    assert not (collector.data_dir / "snapshot").exists()
    assert limelight("backup", tmp_path / "b3", "--data-dir", collector.data_dir).returncode == 0
    assert collector.stop() == 0
    assert not (collector.data_dir / "owner.json").exists()
