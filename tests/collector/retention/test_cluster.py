"""What retention and deletion would run on a cluster has a form there; run here on one engine, which stands for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from collector.ingest.otlp import NOW, PRICES, request
from collector.retention.test_applied import DAY_NS, Policy, Retention, put, traces
from collector.retention.test_applied import NOW as THEN
from collector.retention.test_forgotten import call, settings_of
from limelight_collector.control import Control
from limelight_collector.deletion import Deletions
from limelight_collector.spool import Spool
from limelight_collector.store import Rows, Store, open_store
from limelight_collector.writer import Writer
from limelight_migrations.clickhouse.cluster import render


class Pretending:
    """A store whose statements are rendered for cluster `c`, and run as they were."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.rendered: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def execute(self, sql: str, parameters: Any = None) -> None:
        self.rendered += render(sql, "c")
        self._store.execute(sql, parameters)

    def query(self, sql: str, parameters: Any = None, **limits: Any) -> Rows:
        for function in ("clusterAllReplicas", "cluster"):
            sql = sql.replace(f"{function}('c', system.parts)", "system.parts")
            sql = sql.replace(f"{function}('c', system.detached_parts)", "system.detached_parts")
        if "tables" in (parameters or {}):
            assert all(table.endswith("_local") for table in parameters["tables"])
            parameters = {"tables": [table.removesuffix("_local") for table in parameters["tables"]]}
        return self._store.query(sql, parameters, **limits)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pretending]:
    opened = open_store(settings_of(tmp_path_factory.mktemp("cluster")))
    yield Pretending(opened)
    opened.close()


def test_retention_deletes_rows_where_parts_have_no_common_name(store: Any) -> None:
    put(store, 1, 20)
    put(store, 2, 20, status="error")
    put(store, 3, 1)
    policy = {"p": Policy(7, 10**12, 25)}
    Retention(store, lambda: policy, now_ns=lambda: THEN, cluster="c").apply()
    assert traces(store, "spans") == [2, 3]
    assert sum(Retention(store, dict, now_ns=lambda: THEN, cluster="c").sizes()["p"].values()) > 0
    Retention(store, lambda: {"p": Policy(7)}, now_ns=lambda: THEN + DAY_NS, cluster="c").apply()
    assert (traces(store, "spans"), traces(store, "trace_times")) == ([3], [3])
    deleted = [sql for sql in store.rendered if " DELETE " in sql]
    assert deleted
    assert all("_local ON CLUSTER 'c' DELETE" in sql for sql in deleted)


def test_a_deletion_says_what_the_nodes_have_not_removed_yet(store: Any, tmp_path: Path) -> None:
    control, spool = Control(f"sqlite:///{tmp_path / 'control.db'}"), Spool(tmp_path / "spool.db", max_bytes=2**20)
    spool.start()
    try:
        writer = Writer(spool, store, PRICES, settings_of(tmp_path), now_ns=lambda: NOW)
        payload = request(call(7, 1, "x", **{"user.id": "ada"})).SerializeToString()
        spool.append("c", "traces", payload, NOW, 1).result(30)
        writer.write_once()
        control.deletions.ask("c", "user_id", "ada", id_="d", requested_ns=NOW + 1, actor="k")
        Deletions(control.deletions, store, tmp_path, forget=writer.forget, cluster="c").run()
        [deletion] = control.deletions.listed("c")
        assert deletion.rows["spans"] == 1
        assert deletion.state == "verified" or "not removed yet" in deletion.detail
        assert traces(store, "spans", "c") == []
    finally:
        spool.stop()
        control.close()
