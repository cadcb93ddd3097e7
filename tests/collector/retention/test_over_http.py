"""Retention and deletion through ClickHouse's HTTP protocol, with more ids than an address holds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.ingest.otlp import request
from collector.retention.test_applied import Policy, apply, put, traces
from collector.retention.test_forgotten import Place, call
from collector.store.servers import double
from limelight_collector.settings import Settings
from limelight_collector.store import Store, open_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with double(tmp_path / "server") as url:
        opened = open_store(Settings(data_dir=tmp_path, clickhouse_url=url))
        yield opened
        opened.close()


def test_the_same_over_http(store: Store, tmp_path: Path) -> None:
    place = Place(tmp_path, store)
    try:
        for start in (1, 1001):
            place.send(request(*(call(n, 1, "x", **{"session.id": "s"}) for n in range(start, start + 1000))))
        place.send(request(call(5000, 1, "x", **{"session.id": "other"})))
        place.write()
        done = place.delete("session_id", "s")
        assert done.rows["spans"] == 2000
        for _ in range(20):  # the double's own connections may hold a part for a moment
            if done.state != "running":
                break
            place.upkeep.run()
            done = place.state()
        assert (done.state, done.detail) == ("verified", "")
        assert traces(store, "spans") == [5000]
    finally:
        place.close()
    for trace, age_days, project in ((1, 10, "r"), (2, 10, "s"), (3, 1, "r")):
        put(store, trace, age_days, project)
    apply(store, r=Policy(7, 10**12))
    assert (traces(store, "spans", "r"), traces(store, "spans", "s")) == ([3], [2])
