"""A cluster: the statements it gets, the settings that keep answers whole, and the questions over Distributed tables.

What runs here is the real engine with the cluster `main` of two shards in its configuration. It reaches neither shard
(it listens on no port), and there is no Keeper. So statements are parsed and distributed tables made as they are; and
for questions a second store has each table over its local one as a single shard in the same process, not replicated.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError

from collector.store.rows import SECOND, T0, batch, flag, llm, log, point, score, span
from collector.store.servers import double
from limelight_collector.batch import Batch
from limelight_collector.errors import StartupRefused, Unavailable
from limelight_collector.query.flags import find_flags
from limelight_collector.query.logs import find_logs
from limelight_collector.query.trace import find_trace
from limelight_collector.query.traces import find_traces
from limelight_collector.query.window import Window
from limelight_collector.rollups import Rollups
from limelight_collector.settings import Settings
from limelight_collector.store import Store, clickhouse, open_store, schema
from limelight_collector.store.connect import UPKEEP, connect, reader_limits
from limelight_collector.store.schema import preview
from limelight_collector.store.server import server_settings
from limelight_migrations.clickhouse.cluster import SHARDING, render

SHARD = (
    "<shard>{}<replica><default_database>{}</default_database><host>localhost</host><port>9</port></replica></shard>"
)


def configuration(directory: Path, *, internal_replication: str = "true") -> str:
    """A path for chDB with a cluster of two shards that nobody reaches."""
    flag_ = f"<internal_replication>{internal_replication}</internal_replication>"
    shards = "".join(SHARD.format(flag_, name) for name in ("one", "two"))
    file = directory / "config.xml"
    file.write_text(f"<clickhouse><remote_servers><main>{shards}</main></remote_servers></clickhouse>")
    return f"{directory / 'engine'}?config-file={file}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with double(Path(configuration(tmp_path_factory.mktemp("cluster")))) as url:
        yield url


@pytest.fixture
def engine(server: str, tmp_path: Path) -> Iterator[Client]:
    client = connect(Settings(data_dir=tmp_path, clickhouse_url=server), {})
    yield client
    client.close()


def on_cluster(**given: Any) -> Settings:
    return Settings(clickhouse_cluster="main", text_index=True, **given)


def test_every_statement_parses_and_names_the_cluster(engine: Client, tmp_path: Path) -> None:
    statements = preview(None, on_cluster(data_dir=tmp_path))
    for statement in statements:
        tree = str(engine.command("EXPLAIN AST " + statement))
        if statement.startswith("INSERT"):
            continue
        assert tree.startswith(("CreateQuery", "AlterQuery"))
        assert " ON CLUSTER 'main'" in statement
        if "MergeTree" in statement:
            assert "ENGINE = Replicated" in statement
    made = {match[1] for one in statements if (match := re.match(r"CREATE TABLE IF NOT EXISTS (\w+) ", one))}
    assert made == {name for table in SHARDING for name in (table, f"{table}_local")}


def test_distributed_tables_are_made_over_the_local_ones_as_written(engine: Client, tmp_path: Path) -> None:
    engine.command("CREATE DATABASE made")
    client = connect(Settings(data_dir=tmp_path, clickhouse_url=f"{engine.url}/made"), {})  # type: ignore[attr-defined]
    for statement in preview(None, on_cluster(data_dir=tmp_path)):
        if not statement.startswith("INSERT"):  # which would have to reach the shards
            client.command(statement.replace(" ON CLUSTER 'main'", "").replace("ENGINE = Replicated", "ENGINE = "))
    engines = dict(client.query("SELECT name, engine FROM system.tables WHERE database = 'made'").result_rows)
    assert {table: engines[table] for table in SHARDING} == dict.fromkeys(SHARDING, "Distributed")
    columns = "SELECT name, type FROM system.columns WHERE database = 'made' AND table = '{}' ORDER BY position"
    for table in SHARDING:
        whole, part = (client.query(columns.format(name)).result_rows for name in (table, f"{table}_local"))
        assert list(whole) == list(part)
        assert whole
    client.close()


DOUBLE_DISTRIBUTED = 288
TWO_TABLES = "SELECT count() FROM trace_times WHERE trace_id IN (SELECT trace_id FROM spans FINAL)"


def test_a_subquery_over_another_table_is_answered_once_for_all_shards(engine: Client, tmp_path: Path) -> None:
    engine.command("CREATE DATABASE asked")
    for table in ("spans", "trace_times"):
        engine.command(
            f"CREATE TABLE asked.{table}_local (trace_id FixedString(16)) ENGINE = ReplacingMergeTree ORDER BY trace_id"
        )
        engine.command(
            f"CREATE TABLE asked.{table} AS asked.{table}_local ENGINE = Distributed('main', 'asked', {table}_local)"
        )
    url = f"{engine.url}/asked"  # type: ignore[attr-defined]
    codes: dict[str, Any] = {}
    for cluster in ("", "main"):
        settings = Settings(data_dir=tmp_path, clickhouse_url=url, clickhouse_cluster=cluster)
        client = connect(settings, reader_limits(settings))
        with pytest.raises(DatabaseError) as caught:
            client.query(TWO_TABLES)
        codes[cluster] = caught.value.code
        client.close()
    assert codes[""] == DOUBLE_DISTRIBUTED  # the engine's own choice: it refuses
    assert codes["main"] in (210, 279, 519)  # ours: it goes to the shards, which nobody reaches here


def test_what_a_cluster_stores_is_waited_for_and_stored_whole(tmp_path: Path) -> None:
    settings = on_cluster(data_dir=tmp_path, clickhouse_url="http://nobody")
    writing = server_settings(settings, UPKEEP)
    assert writing["distributed_foreground_insert"] == "1"
    assert writing["parallel_distributed_insert_select"] == "0"
    assert (writing["mutations_sync"], writing["async_insert"]) == ("2", "0")
    reading = server_settings(settings, reader_limits(settings))
    assert reading["skip_unavailable_shards"] == "0"
    assert list(reading)[-1] == "readonly"


# -- questions ---------------------------------------------------------------------------------------------------------
DISTRIBUTED = re.compile(r"(CREATE TABLE IF NOT EXISTS \w+) AS \w+ ENGINE = Distributed\('main', \S+, (\w+), (.*)\)$")


def over_one_shard(statement: str, cluster: str) -> list[str]:
    """The cluster's statements, but for replication and for the shards: here is one, in this process."""
    found = []
    for one in render(statement, cluster):
        plain = one.replace(f" ON CLUSTER '{cluster}'", "").replace("ENGINE = Replicated", "ENGINE = ")
        found.append(DISTRIBUTED.sub(r"\1 AS remote('127.0.0.1', currentDatabase(), '\2', \3)", plain))
    return found


@contextmanager
def opened(engine: Client, server: str, data_dir: Path, cluster: str) -> Iterator[Store]:
    database = f"questions{cluster}"
    engine.command(f"CREATE DATABASE {database}")
    settings = Settings(data_dir=data_dir, clickhouse_url=f"{server}/{database}", clickhouse_cluster=cluster)
    settings.retention_days = 36_500
    store = open_store(settings)
    yield store
    store.close()


def fill(store: Store) -> None:
    for trace in range(5):
        root = span(trace, 1, at_s=trace, project_id="p")
        call = llm(trace, 2, at_s=trace + 0.5, parent=1, project_id="p")
        marks = {"flags": [flag(call)], "scores": [score(call)]} if trace % 2 else {}
        for _ in range(2):  # copies collapse
            store.insert(batch(root, call, **marks))
    series = Batch(points=[point(n, at_s=n, project_id="p") for n in range(3)])
    store.insert(Batch(points=series.points, logs=[log(n, at_s=n, trace=n, project_id="p") for n in range(4)]))


def answers(store: Store) -> list[Any]:
    window = Window("p", T0 - SECOND, T0 + 3600 * SECOND)
    calls = 'observation_type = "llm"'
    page, cursor = find_traces(store, window, filter_text=calls, order="newest", limit=2, cursor="")
    slowest, _ = find_traces(store, window, filter_text="", order="slowest", limit=10, cursor="")
    flags, _ = find_flags(store, window, code="", filter_text=calls, limit=10, cursor="")
    logs, _ = find_logs(store, window, filter_text="", trace_id=None, span_id=None, limit=10, cursor="")
    rolled = store.query("SELECT bucket, request_count, input_tokens FROM rollup_1m FINAL WHERE request_count > 0").rows
    points = store.query("SELECT count() FROM metric_points FINAL WHERE project_id = 'p'").rows
    return [page, cursor, slowest, flags, logs, find_trace(store, "p", (3).to_bytes(16, "big")), rolled, points]


def test_questions_over_distributed_tables_are_answered_as_over_one_table(
    engine: Client, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "render", over_one_shard)
    monkeypatch.setattr(clickhouse, "render", over_one_shard)
    found: list[list[Any]] = []
    for cluster in ("", "main"):
        with opened(engine, server, tmp_path, cluster) as store:
            fill(store)
            Rollups(store, lambda: T0 + 10**8 * SECOND).roll()
            gone = "trace_id = toFixedString(unhex({t:String}), 16)"
            store.execute(f"ALTER TABLE spans DELETE WHERE {gone}", {"t": "0" * 31 + "4"})
            found.append(answers(store))
    single, distributed = found
    assert len(single[2]) == 4
    assert single[6]
    assert distributed == single


def test_a_statement_that_means_nothing_on_a_cluster_is_refused_and_not_run_on_one_node(tmp_path: Path) -> None:
    for statement in ("ALTER TABLE spans DROP PART 'x'", "ALTER TABLE spans DROP PARTITION 1", "SYSTEM FLUSH LOGS"):
        with pytest.raises(ValueError, match="no statement for a cluster"):
            render(statement, "main")
    with pytest.raises(ValueError, match="other has no sharding key"):
        render("CREATE TABLE IF NOT EXISTS other (a String) ENGINE = MergeTree ORDER BY a", "main")
    added = render("ALTER TABLE spans ADD COLUMN IF NOT EXISTS x String", "main")
    assert added == [
        "ALTER TABLE spans_local ON CLUSTER 'main' ADD COLUMN IF NOT EXISTS x String",
        "ALTER TABLE spans ON CLUSTER 'main' ADD COLUMN IF NOT EXISTS x String",
    ]


# -- refusals ----------------------------------------------------------------------------------------------------------
def test_a_cluster_that_the_server_does_not_know_is_refused(server: str, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, clickhouse_url=f"{server}/never", clickhouse_cluster="other")
    with pytest.raises(StartupRefused, match=r"knows no cluster 'other': see remote_servers"):
        open_store(settings)


def test_a_cluster_without_a_server_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StartupRefused, match="needs LIMELIGHT_CLICKHOUSE_URL"):
        open_store(Settings(data_dir=tmp_path, clickhouse_cluster="main"))


def test_a_cluster_that_would_write_every_row_twice_is_refused(tmp_path: Path) -> None:
    with double(Path(configuration(tmp_path, internal_replication="false"))) as url:
        settings = Settings(data_dir=tmp_path, clickhouse_url=f"{url}/never", clickhouse_cluster="main")
        with pytest.raises(StartupRefused, match="set internal_replication to true"):
            open_store(settings)


def test_a_shard_that_is_away_makes_questions_wait_and_not_smaller(engine: Client, tmp_path: Path) -> None:
    engine.command("CREATE DATABASE away")
    settings = Settings(data_dir=tmp_path, clickhouse_url=f"{engine.url}/away")  # type: ignore[attr-defined]
    store = open_store(settings)
    engine.command("CREATE TABLE away.whole AS away.spans ENGINE = Distributed('main', 'away', spans)")
    with pytest.raises(Unavailable):
        store.query("SELECT count() FROM whole")
    store.close()
