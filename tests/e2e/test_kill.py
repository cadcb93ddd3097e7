"""kill -9 during traffic: every acknowledged span is readable once, none twice."""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest

from e2e.ledger import Sender
from e2e.processes import Collector

ROUNDS = 10


def stored_span_ids(collector: Collector, since: float) -> Counter[str]:
    """How often each span id is readable, by the export."""
    import json

    query = {"format": "jsonl", "from": str(since), "filter": 'service_name = "ledger"'}
    counts: Counter[str] = Counter()
    with httpx.stream("GET", f"{collector.url}/api/v1/spans/export", params=query, timeout=120) as answer:
        assert answer.status_code == 200
        for line in answer.iter_lines():
            counts[json.loads(line)["span_id"]] += 1
    return counts


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nothing_acknowledged_is_lost_or_doubled(tmp_path: Path) -> None:
    chance = random.Random(20261123)
    collector = Collector(tmp_path / "data")
    started = time.time() - 5
    collector.start()
    senders = [Sender(collector.url, collector.grpc_port, transport) for transport in ("http", "grpc")]
    for sender in senders:
        sender.start()
    for _ in range(ROUNDS):
        time.sleep(chance.uniform(0.3, 2.5))
        collector.kill()
        collector.start()
    time.sleep(1)
    for sender in senders:
        sender.stop()
    acknowledged = set[str]().union(*(sender.acknowledged for sender in senders))
    sent = set[str]().union(*(sender.sent for sender in senders))

    deadline = time.monotonic() + 60
    stored = Counter[str]()
    while time.monotonic() < deadline and not acknowledged <= stored.keys():
        time.sleep(0.5)
        stored = stored_span_ids(collector, started)
    window = {"from": started, "filter": 'service_name = "ledger"'}
    totals = collector.get("series", measure="request_count,input_tokens", **window)
    collector.stop()

    print(f"{ROUNDS} kills: {len(acknowledged)} acknowledged, {len(stored)} stored, {len(sent)} sent")
    assert len(acknowledged) > 1000
    assert not acknowledged - stored.keys()
    assert [span_id for span_id, count in stored.items() if count > 1] == []
    assert stored.keys() <= sent
    assert totals["rows"] == [{"request_count": len(stored), "input_tokens": 10 * len(stored)}]
