"""What other schemas would cost: `make bench-schema`; `ROWS=1000000` by default, `ONLY=orders,search` narrows.

Builds the store of the query bench (bench/query_build.py: seven days, five projects of very different size, text of the
standard library) and copies its spans into tables that differ from `spans` in one thing each. Printed are bytes a span,
CPU of the copy in µs a span, and CPU of the questions in ms, of all threads of this process, the least of three runs:
wall times say little on a shared machine. Every copy is merged to one part a partition before it is asked.
"""

from __future__ import annotations

import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
from bench.query_build import GROUPS, build
from bench.query_data import COMMON_WORD, RARE_WORD
from limelight_collector.query.spans import find_spans
from limelight_collector.query.window import BOUND, Window
from limelight_collector.settings import Settings
from limelight_collector.store import Store, open_store
from limelight_collector.store.text_index import STORED_TEXT

END_NS = 1_790_000_000 * 10**9
WEEK_NS, DAY_NS = 7 * 86_400 * 10**9, 86_400 * 10**9
PROJECT = "default"
REPEATS = 3


@dataclass
class Bench:
    """The store, the number of its spans, their end, and one trace of it."""

    store: Store
    rows: int
    end_ns: int
    trace: dict[str, object]

    def cpu_of(self, run: Callable[[], object], repeats: int = REPEATS) -> float:
        """CPU seconds of the cheapest of some runs."""
        found: list[float] = []
        for _ in range(repeats):
            before = cpu_s()
            run()
            found.append(cpu_s() - before)
        return min(found)

    def copied(self, name: str, *changes: tuple[str, str], order_by: str = "", source: str = "spans") -> float:
        """Make table `name` as `spans` with some of its DDL replaced and copy all spans; CPU µs a span."""
        ddl = self.store.query("SHOW CREATE TABLE spans").rows[0][0]
        ddl = ddl[: ddl.index("\nTTL")] + ddl[ddl.index("\nSETTINGS") :]  # what is old must stay
        for old, new in (("CREATE TABLE default.spans", f"CREATE TABLE {name}"), *changes):
            if old not in ddl:
                raise SystemExit(f"{name}: the DDL of spans has no {old!r}")
            ddl = ddl.replace(old, new)
        self.store.execute(f"DROP TABLE IF EXISTS {name} SYNC")
        self.store.execute(ddl)
        columns = [
            row[0]
            for row in self.store.query(
                "SELECT name FROM system.columns WHERE table = 'spans' AND default_kind = ''"
            ).rows
        ]
        ordered = f" ORDER BY {order_by}" if order_by else ""
        # a day at a time, in blocks of the writer's kind: no more parts than the engine takes
        days = self.store.query("SELECT DISTINCT toDate(start_time) FROM spans ORDER BY 1").rows
        cost = self.cpu_of(
            lambda: [
                self.store.execute(
                    f"INSERT INTO {name} ({', '.join(columns)}) SELECT {', '.join(columns)} FROM {source} "
                    f"WHERE toDate(start_time) = {{day:Date}}{ordered} SETTINGS max_insert_threads = 1",
                    {"day": day},
                )
                for (day,) in days
            ],
            repeats=1,
        )
        self.store.execute(f"OPTIMIZE TABLE {name} FINAL")
        return cost / self.rows * 1e6

    def size(self, name: str) -> float:
        """Bytes a span on disk, with marks and indexes."""
        sql = "SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND table = {t:String}"
        return self.store.query(sql, {"t": name}).rows[0][0] / self.rows

    def column_size(self, name: str, *columns: str) -> float:
        """Compressed bytes a span of some columns."""
        sql = (
            "SELECT sum(column_data_compressed_bytes) FROM system.parts_columns WHERE active AND table = {t:String} "
            "AND column IN {c:Array(String)}"
        )
        return self.store.query(sql, {"t": name, "c": list(columns)}).rows[0][0] / self.rows

    def asked(self, sql: str) -> float:
        """CPU ms of a question about the table it names."""
        parameters = {"project_id": PROJECT, "start_ns": self.end_ns - WEEK_NS, "end_ns": self.end_ns, **self.trace}
        return self.cpu_of(lambda: self.store.query(sql, parameters)) * 1000


def cpu_s() -> float:
    """CPU seconds of this process and its threads so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def table(title: str, head: str, rows: list[tuple[str, list[float]]]) -> None:
    """Print a table as Markdown."""
    print(f"\n**{title}**\n\n| | {head} |\n|{'---|' * (head.count('|') + 2)}")
    for name, values in rows:
        print(f"| {name} | {' | '.join(f'{value:.1f}' if value < 100 else f'{value:.0f}' for value in values)} |")
    sys.stdout.flush()


COST = f"SELECT request_model, sum(cost_usd), count() FROM {{t}} FINAL WHERE {BOUND} GROUP BY request_model"
NEWEST = (
    f"SELECT start_time, trace_id, span_id FROM {{t}} FINAL WHERE {BOUND} AND status = 'error' "
    "ORDER BY start_time DESC LIMIT 51"
).replace("{start_ns:Int64}", f"{{end_ns:Int64}} - {DAY_NS}")
TRACE = "SELECT name, input_messages, attributes FROM {t} FINAL PREWHERE {where} AND trace_id = unhex({id:String})"
HINT = (
    "project_id = {project_id:String} AND start_time >= fromUnixTimestamp64Nano({first:Int64}) "
    "AND start_time <= fromUnixTimestamp64Nano({last:Int64})"
)
SESSION = f"SELECT count() FROM {{t}} FINAL WHERE {BOUND} AND session_id = {{session:String}}"


def orders(bench: Bench) -> None:
    """Order keys, on the questions asked most."""
    keys = {
        "project, start, trace, span (ours)": "project_id, start_time, trace_id, span_id",
        "project, trace, start, span": "project_id, trace_id, start_time, span_id",
        "project, service, start, trace, span": "project_id, service_name, start_time, trace_id, span_id",
        "project, hour, trace, start, span": "project_id, toStartOfHour(start_time), trace_id, start_time, span_id",
    }
    ours = "ORDER BY (project_id, start_time, trace_id, span_id)"
    rows: list[tuple[str, list[float]]] = []
    for name, key in keys.items():
        cost = bench.copied("t", (ours, f"ORDER BY ({key})"))
        questions = [COST, NEWEST, TRACE.replace("{where}", HINT), TRACE.replace("{where}", BOUND), SESSION]
        rows.append((name, [bench.size("t"), cost, *(bench.asked(q.replace("{t}", "t")) for q in questions)]))
    head = "bytes | copy µs | cost by model, 7 d | newest errors, 1 d | trace, times known | trace, 7 d | session"
    table("Order key", head, rows)


def partitions(bench: Bench) -> None:
    """Partitions by day, week, month."""
    rows: list[tuple[str, list[float]]] = []
    for name, by in {"day (ours)": "toDate", "week": "toMonday", "month": "toYYYYMM"}.items():
        cost = bench.copied("t", ("PARTITION BY toDate(start_time)", f"PARTITION BY {by}(start_time)"))
        questions = [COST, NEWEST, TRACE.replace("{where}", HINT), SESSION]
        rows.append((name, [bench.size("t"), cost, *(bench.asked(q.replace("{t}", "t")) for q in questions)]))
    table("Partitions", "bytes | copy µs | cost by model, 7 d | newest errors, 1 d | trace | session", rows)


def codecs(bench: Bench) -> None:
    """Codecs: of everything, then of single columns."""
    rows: list[tuple[str, list[float]]] = []
    for name, codec in {"ZSTD(1) (ours)": "ZSTD(1)", "ZSTD(3)": "ZSTD(3)", "ZSTD(6)": "ZSTD(6)", "LZ4": "LZ4"}.items():
        cost = bench.copied("t", ("ZSTD(1)", codec))
        read = bench.asked("SELECT sum(length(input_messages) + length(output_messages)) FROM t")
        rows.append((name, [bench.size("t"), cost, bench.asked(COST.replace("{t}", "t")), read]))
    table("Codec of all columns", "bytes | copy µs | cost by model | read all messages", rows)
    sql = "SELECT name, type FROM system.columns WHERE table = 'spans'"
    types = {row[0]: row[1] for row in bench.store.query(sql).rows}
    tried = {
        "start_time": "Delta DoubleDelta NONE",
        "received_ns": "Delta DoubleDelta T64 NONE",
        "duration_ns": "NONE T64",
        "input_tokens": "NONE T64 Delta",
        "cost_usd": "NONE",
        "ttft_s": "NONE Gorilla FPC",
        "trace_id": "NONE",
        "attributes": "NONE",
    }
    rows = []
    for column, ways in tried.items():
        for way in ways.split():
            for level in ("ZSTD(1)", "ZSTD(3)"):
                codec = level if way == "NONE" else f"{way}, {level}"
                bench.store.execute("DROP TABLE IF EXISTS c SYNC")
                made = (
                    f"CREATE TABLE c (v {types[column]} CODEC({codec})) ENGINE = MergeTree ORDER BY tuple() "
                    "SETTINGS min_bytes_for_wide_part = 0"  # sizes of columns are known of wide parts
                )
                bench.store.execute(made)
                sql = f"INSERT INTO c SELECT {column} FROM spans ORDER BY project_id, start_time, trace_id, span_id"
                cost = bench.cpu_of(lambda sql=sql: bench.store.execute(sql), repeats=1)
                bench.store.execute("OPTIMIZE TABLE c FINAL")
                rows.append((f"{column} {codec}", [bench.column_size("c", "v"), cost / bench.rows * 1e6]))
    table("Codec of one column", "bytes | copy µs", rows)


def types(bench: Bench) -> None:
    """LowCardinality against String; Map against JSON."""
    changes = {
        "LowCardinality, Map (ours)": (),
        "String for LowCardinality(String)": (("LowCardinality(String)", "String"),),
        "Map(LowCardinality(String), String)": (("Map(String, String)", "Map(LowCardinality(String), String)"),),
    }
    by_attribute = f"SELECT attributes['team'] AS v, count() FROM {{t}} FINAL WHERE {BOUND} GROUP BY v"
    rows: list[tuple[str, list[float]]] = []
    for name, change in changes.items():
        cost = bench.copied("t", *change)
        questions = [COST, NEWEST, by_attribute, "SELECT attributes FROM {t} LIMIT 20000"]
        sizes = [bench.size("t"), bench.column_size("t", "attributes", "resource"), cost]
        rows.append((name, [*sizes, *(bench.asked(q.replace("{t}", "t")) for q in questions)]))
    head = "bytes | of maps | copy µs | cost by model | newest errors | group by attribute | read 20,000 maps"
    table("Types", head, rows)
    rows = []
    pairs = "arrayMap((k, v) -> concat(toJSONString(k), ':', v), mapKeys(a), mapValues(a))"
    text = f"concat('{{', arrayStringConcat({pairs}, ','), '}}')"
    for name, type_, expression, key in (
        ("Map(String, String)", "Map(String, String)", "a", "a['team']"),
        ("JSON", "JSON", f"CAST({text} AS JSON)", "a.team::String"),
    ):
        bench.store.execute("DROP TABLE IF EXISTS m SYNC")
        bench.store.execute(f"CREATE TABLE m (a {type_} CODEC(ZSTD(1))) ENGINE = MergeTree ORDER BY tuple()")
        made = f"SELECT {expression} FROM (SELECT attributes AS a FROM spans)"
        text_alone = f"INSERT INTO FUNCTION null('s String') SELECT {text} FROM (SELECT attributes AS a FROM spans)"
        off = bench.cpu_of(lambda sql=text_alone: bench.store.execute(sql), 1) if type_ == "JSON" else 0.0
        cost = bench.cpu_of(lambda sql=f"INSERT INTO m {made}": bench.store.execute(sql), 1) - off
        bench.store.execute("OPTIMIZE TABLE m FINAL")
        read = "SELECT count() FROM (SELECT a FROM m LIMIT 20000) WHERE NOT ignore(a)"
        asked = [f"SELECT {key} AS v, count() FROM m GROUP BY v", read]
        rows.append((name, [bench.size("m"), cost / bench.rows * 1e6, *(bench.asked(sql) for sql in asked)]))
    table(
        "Attributes alone (the cost of making JSON's text taken off)",
        "bytes | copy µs | group by key | read 20,000",
        rows,
    )


def blooms(bench: Bench) -> None:
    """Bloom filters: those there are, and more."""
    both = "INDEX by_session session_id TYPE bloom_filter(0.01) GRANULARITY 1"
    more = ", ".join(f"INDEX i_{c} {c} TYPE bloom_filter(0.01) GRANULARITY 1" for c in ("response_id", "tool_call_id"))
    user = ",\n    INDEX by_user user_id TYPE bloom_filter(0.01) GRANULARITY 1"
    rows: list[tuple[str, list[float]]] = []
    response = f"SELECT count() FROM {{t}} FINAL WHERE {BOUND} AND response_id = 'chatcmpl-none'"
    for name, change in {
        "none": ((both + user, "INDEX x duration_ns TYPE minmax GRANULARITY 1"),),
        "session, user (ours)": (),
        "and response_id, tool_call_id": ((both, f"{more}, {both}"),),
    }.items():
        cost = bench.copied("t", *change)
        asked = [bench.asked(q.replace("{t}", "t")) for q in (SESSION, response)]
        rows.append((name, [bench.size("t"), cost, *asked]))
    table("Bloom filters", "bytes | copy µs | session | response_id", rows)


def groups(bench: Bench) -> None:
    """Bytes a span by group of columns."""
    bench.copied("t")
    named = {name: columns.split() for name, columns in GROUPS.items()}
    every = [
        row[0]
        for row in bench.store.query("SELECT name FROM system.columns WHERE table = 'spans' AND default_kind = ''").rows
    ]
    named["other"] = [column for column in every if not any(column in columns for columns in named.values())]
    rows = [(name, [bench.column_size("t", *columns)]) for name, columns in named.items()]
    sql = "SELECT sum(secondary_indices_compressed_bytes) FROM system.parts WHERE active AND table = 't'"
    rows.append(("bloom filters", [bench.store.query(sql).rows[0][0] / bench.rows]))
    rows.append(("all, with marks and keys", [bench.size("t")]))
    table("Where the bytes are", "bytes", rows)


def search(bench: Bench) -> None:
    """Text indexes: what each costs and whether it helps to find a part of a word."""
    rare, part = RARE_WORD, RARE_WORD[2:-2]

    def grams(n: int) -> str:
        return "[" + ", ".join(f"'{rare[i : i + n]}'" for i in range(len(rare) - n + 1)) + "]"

    whole = f"hasAllTokens({STORED_TEXT}, ['{rare}'])"
    like = f"{STORED_TEXT} LIKE '%{part}%'"
    ways = {
        "none": ("", like),
        "splitByNonAlpha, word": ("splitByNonAlpha", whole),
        "splitByNonAlpha, part of a word": ("splitByNonAlpha", like),
        "ngrams(3)": ("ngrams(3)", f"hasAllTokens({STORED_TEXT}, {grams(3)})"),
        "ngrams(4)": ("ngrams(4)", f"hasAllTokens({STORED_TEXT}, {grams(4)})"),
        "sparseGrams": ("sparseGrams", f"hasAllTokens({STORED_TEXT}, '{rare}')"),
    }
    rows: list[tuple[str, list[float]]] = []
    built = ""
    for name, (tokenizer, condition) in ways.items():
        cost = 0.0
        if tokenizer and tokenizer != built:
            bench.store.execute("ALTER TABLE spans DROP INDEX IF EXISTS tried SETTINGS mutations_sync = 1")
            bench.store.execute(f"ALTER TABLE spans ADD INDEX tried {STORED_TEXT} TYPE text(tokenizer = {tokenizer})")
            made = "ALTER TABLE spans MATERIALIZE INDEX tried SETTINGS mutations_sync = 1"
            cost, built = bench.cpu_of(lambda sql=made: bench.store.execute(sql), 1) / bench.rows * 1e6, tokenizer
        size = bench.store.query(
            "SELECT sum(data_compressed_bytes) FROM system.data_skipping_indices WHERE name = 'tried'"
        ).rows[0][0]
        asked = bench.asked(f"SELECT count() FROM spans FINAL WHERE {BOUND} AND {condition}")
        rows.append((name, [size / bench.rows, cost, asked]))
    bench.store.execute("ALTER TABLE spans DROP INDEX IF EXISTS tried SETTINGS mutations_sync = 1")
    table("Text index", "bytes of the index | build µs | count of a rare word, 7 d", rows)


def api_search(bench: Bench, title: str) -> None:
    """GET spans?q= over seven days, as the API asks it."""
    window = Window(PROJECT, bench.end_ns - WEEK_NS, bench.end_ns)
    rows: list[tuple[str, list[float]]] = []
    for q in (
        RARE_WORD,
        RARE_WORD[2:-2],
        "no-such-word-here",
        COMMON_WORD,
        "the",
        "self.assert",
        "content",
        "取消订单",
    ):
        asked: dict[str, object] = {"filter_text": "", "search": q, "limit": 50, "cursor": ""}
        started = time.perf_counter()
        found = find_spans(bench.store, window, **asked)[0]  # type: ignore[arg-type]
        wall = time.perf_counter() - started
        spent = bench.cpu_of(lambda asked=asked: find_spans(bench.store, window, **asked), 2)  # type: ignore[arg-type]
        rows.append((f"`{q}`", [float(len(found)), spent * 1000, wall * 1000]))
    table(f"GET spans?q=, limit 50, {title}", "found | CPU ms | first, wall ms", rows)


SECTIONS: dict[str, Callable[[Bench], None]] = {
    "groups": groups,
    "orders": orders,
    "partitions": partitions,
    "codecs": codecs,
    "types": types,
    "blooms": blooms,
    "search": search,
}


def main() -> None:
    """Build, copy, ask, print."""
    rows = int(os.environ.get("ROWS") or 1_000_000)
    only = [name for name in (os.environ.get("ONLY") or ",".join([*SECTIONS, "api"])).split(",") if name]
    directory = Path(os.environ.get("DIR") or tempfile.mkdtemp(prefix="bench-schema-"))
    given = {"data_dir": directory, "retention_days": 36_500, "query_timeout_s": 600}
    try:
        store = open_store(Settings(**given))
        if not store.query("SELECT count() FROM spans").rows[0][0]:
            build(store, rows, END_NS, directory / "corpus.txt")
        count, end_ns = store.query("SELECT count(), toUnixTimestamp64Nano(max(start_time)) + 1 FROM spans").rows[0]
        bench = Bench(store, count, end_ns, one_trace(store, end_ns))
        print(f"{bench.rows} spans", flush=True)
        for name in only:
            if name in SECTIONS:
                SECTIONS[name](bench)
        if "api" in only:
            api_search(bench, "without an index")
            store.close()
            before = cpu_s()
            bench.store = store = open_store(Settings(**given, text_index=True))
            while store.query("SELECT count() FROM system.mutations WHERE NOT is_done").rows[0][0]:
                time.sleep(1)
            print(f"\nindex built in the background: {(cpu_s() - before) / bench.rows * 1e6:.0f} µs a span")
            api_search(bench, "with the index")
        store.close()
    finally:
        if "DIR" not in os.environ:
            shutil.rmtree(directory)


def one_trace(store: Store, end_ns: int) -> dict[str, object]:
    """Parameters that name one trace in the middle of the week: its id, times and session."""
    sql = (
        "SELECT lower(hex(trace_id)), toUnixTimestamp64Nano(min(start_time)), toUnixTimestamp64Nano(max(start_time)), "
        "max(session_id) FROM spans WHERE project_id = {p:String} AND start_time > fromUnixTimestamp64Nano({t:Int64}) "
        "GROUP BY trace_id ORDER BY min(start_time) LIMIT 1"
    )
    row = store.query(sql, {"p": PROJECT, "t": end_ns - WEEK_NS // 2}).rows[0]
    return dict(zip(("id", "first", "last", "session"), row, strict=True))


if __name__ == "__main__":
    main()
