"""kill -9 during traffic: every acknowledged span is readable once, none twice, and every item is accounted for.

Ten rounds by default; `make chaos` runs 50 (LIMELIGHT_CHAOS_ROUNDS).
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import sqlite3
import time
from collections import Counter
from decimal import Decimal
from pathlib import Path

import httpx
import pytest

from e2e.ledger import INPUT_TOKENS, Sender
from e2e.processes import Collector
from limelight_collector.spool_file import read_ledger

ROUNDS = int(os.environ.get("LIMELIGHT_CHAOS_ROUNDS", "10"))
PRICE_USD = Decimal("0.15") / 10**6 * INPUT_TOKENS
"""What one span costs."""
FILTER = 'service_name = "ledger"'


def stored_spans(collector: Collector, since: float) -> tuple[Counter[str], set[str]]:
    """How often each span id is readable by the export, and every cost that was seen."""
    query = {"format": "jsonl", "from": str(since), "filter": FILTER}
    counts: Counter[str] = Counter()
    costs: set[str] = set()
    with httpx.stream("GET", f"{collector.url}/api/v1/spans/export", params=query, timeout=120) as answer:
        assert answer.status_code == 200
        for line in answer.iter_lines():
            found = json.loads(line)
            counts[found["span_id"]] += 1
            costs.add(found["cost_usd"])
    return counts, costs


def accounts(collector: Collector) -> dict[str, int]:
    """The ledger of a collector that does not run; the identity holds, and the queue is what it says."""
    with contextlib.closing(sqlite3.connect(collector.data_dir / "spool.db")) as connection:
        found = read_ledger(connection).get("default", {}).get("traces", {"received": 0, "spooled": 0})
        queued = connection.execute("SELECT coalesce(sum(spans), 0) FROM records").fetchone()[0]
    assert found["received"] == sum(items for state, items in found.items() if state != "received"), found
    assert found["spooled"] == queued
    return found


def run_rounds(collector: Collector, chance: random.Random) -> int:
    """Kill and start; every third time again at once, while the spool is being replayed. How many kills that were."""
    kills = 0
    for number in range(ROUNDS):
        time.sleep(chance.uniform(0.3, 2.5))
        collector.kill()
        kills += 1
        accounts(collector)
        if number % 3 == 0:
            collector.start()
            time.sleep(chance.uniform(0, 0.3))
        elif number % 3 == 1:
            collector.spawn()
            time.sleep(chance.uniform(0.5, 3))
        if number % 3 != 2:
            collector.kill()
            kills += 1
            accounts(collector)
        collector.start()
    return kills


@pytest.mark.slow
@pytest.mark.timeout(300 + 30 * ROUNDS)
def test_nothing_acknowledged_is_lost_or_doubled(tmp_path: Path) -> None:
    collector = Collector(tmp_path / "data")
    started = time.time() - 5
    collector.start()
    senders = [Sender(collector.url, collector.grpc_port, transport) for transport in ("http", "grpc", "both")]
    for sender in senders:
        sender.start()
    kills = run_rounds(collector, random.Random(20261123))
    time.sleep(1)
    for sender in senders:
        sender.stop()
    acknowledged = set[str]().union(*(sender.acknowledged for sender in senders))
    sent = set[str]().union(*(sender.sent for sender in senders))

    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and collector.get("status")["spool_records"]:
        time.sleep(0.2)
    stored, costs = stored_spans(collector, started)
    window = {"from": started, "filter": FILTER}
    totals = collector.get("series", measure="request_count,input_tokens,cost_usd", **window)["rows"]
    assert collector.stop() == 0
    ledger = accounts(collector)

    print(f"{kills} kills: {len(acknowledged)} acknowledged, {len(stored)} stored, {len(sent)} sent; {ledger}")
    assert len(acknowledged) > 1000
    assert not acknowledged - stored.keys()
    assert [span_id for span_id, count in stored.items() if count > 1] == []
    assert stored.keys() <= sent
    assert {Decimal(cost) for cost in costs} == {PRICE_USD}
    total_usd = float(PRICE_USD * len(stored))
    assert [row | {"cost_usd": pytest.approx(total_usd, rel=1e-9)} for row in totals] == totals
    counted = {"request_count": len(stored), "input_tokens": INPUT_TOKENS * len(stored)}
    assert [{name: row[name] for name in counted} for row in totals] == [counted]
    assert ledger["stored"] == len(stored)
    assert (ledger["rejected"], ledger["dead_lettered"], ledger["spooled"]) == (0, 0, 0)
