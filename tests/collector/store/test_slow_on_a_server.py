"""Slow queries over a server: they are kept and explained there as they are with the embedded engine."""

from __future__ import annotations

from pathlib import Path

from collector.store.rows import batch, span
from collector.store.servers import double
from limelight_collector.settings import load
from limelight_collector.store import open_store


def test_a_question_to_a_server_is_kept_and_explained(tmp_path: Path) -> None:
    with double(tmp_path / "server") as url:
        store = open_store(load({"data_dir": tmp_path, "clickhouse_url": url, "retention_days": 36_500}))
        store.insert(batch(span()))
        sql = "SELECT name FROM spans FINAL WHERE project_id = {project_id:String}"
        assert store.query(sql, {"project_id": "p"}).rows == [("span-1",)]
        (kept,) = store.slow.of("p")
        plan = store.query(f"EXPLAIN indexes = 1 {kept.sql}", kept.values)
        assert (kept.result_rows, kept.outcome) == (1, "answered")
        assert any("PrimaryKey" in line for (line,) in plan.rows)
        assert sum(len(block) for block in store.stream(sql, {"project_id": "p"})) == 1
        store.close()
