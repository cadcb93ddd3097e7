"""Make the store of the query bench: `python tests/bench/query_build.py DIR SPANS [END]`, END in unix seconds (now).

Prints what it cost, what lies on the disk and which columns it belongs to. A process of its own: an embedded store
belongs to one. Seven days with quiet nights, in inserts of three hours; text is cut from this machine's standard
library, so that it compresses as text does. The last day is left as background merges leave it once they rest; days
that are over are merged into one part each, which the store does by itself four hours later. DIR/data is a data
directory as `limelight collector --data-dir` takes it; DIR/built.json says how many spans it holds and when they end.
"""

from __future__ import annotations

import json
import math
import resource
import sys
import sysconfig
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
from bench.query_data import SPANS_A_TRACE, insert_sql
from limelight_collector.settings import Settings
from limelight_collector.store import Store, open_store

GROUPS = {
    "identity": "project_id trace_id span_id parent_span_id",
    "times": "start_time duration_ns received_ns original_start_ns ttft_s tpot_s",
    "tokens and money": "input_tokens output_tokens cache_read_tokens computed_cost_usd cost_usd cost_state",
    "content": "input_messages output_messages tool_args tool_result retrieval_query retrieval_documents",
    "attributes, resource, events": "attributes resource events links",
}
"""Group -> columns; every other column is in the group "other"."""
DAYS = 7
_REST_S = 5.0
_HOUR_NS = 3600 * 10**9
_STRETCH_NS = 3 * _HOUR_NS


def build(store: Store, spans: int, end_ns: int, corpus: Path) -> None:
    """Fill an empty, migrated store with `spans` spans that end at `end_ns`; `corpus` is a file to write text to."""
    corpus.write_bytes(corpus_text())
    for first, traces, start_ns, length_ns in stretches(spans // SPANS_A_TRACE, end_ns):
        store.execute(insert_sql(first, traces, start_ns, length_ns, corpus))
    store.execute(flags_sql())
    store.execute(scores_sql())


def corpus_text() -> bytes:
    """6 MB of the standard library's sources, ASCII."""
    files = sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py"))
    wanted = [file for file in files if not {"site-packages", "test", "encodings"} & set(file.parts)]
    return "".join(file.read_text(errors="ignore") for file in wanted).encode("ascii", "ignore")[:6_000_000]


def stretches(traces: int, end_ns: int) -> Iterator[tuple[int, int, int, int]]:
    """(first trace, number of traces, start, length in ns) of each insert: three hours, within one day.

    Nights have a quarter of the traffic of the day.
    """
    edges = [end_ns - DAYS * 24 * _HOUR_NS]
    while edges[-1] < end_ns:
        edges.append(min(end_ns, (edges[-1] // _STRETCH_NS + 1) * _STRETCH_NS))
    pieces = list(pairwise(edges))
    weights = [(end - start) * _traffic((start + end) / 2) for start, end in pieces]
    done, first = 0.0, 0
    for (start, end), weight in zip(pieces, weights, strict=True):
        done += weight
        last = round(done / sum(weights) * traces)
        if last > first:
            yield first, last - first, start, end - start
        first = last


def _traffic(time_ns: float) -> float:
    """Traffic at a time of day, relative: most at 15:00 UTC."""
    hour = time_ns / _HOUR_NS % 24
    return 1 + 0.6 * math.cos((hour - 15) / 24 * 2 * math.pi)


def flags_sql() -> str:
    """The INSERT of a flag on one stored answer of a hundred."""
    cut, odd = "has(finish_reasons, 'length')", "sipHash64(span_id, 'odd') % 1000 < 4"
    return f"""INSERT INTO flags (project_id, trace_id, span_id, start_time, code, severity, source, confidence,
        evidence, detector, detector_version, created_ns)
    SELECT project_id, trace_id, span_id, start_time,
        multiIf({cut}, 'truncated', sipHash64(span_id) % 2 = 0, 'empty', 'refusal') AS code,
        if(code = 'refusal', 'info', 'warning'), if(code = 'refusal', 'heuristic', 'rule'),
        if(code = 'refusal', 0.8, 1),
        multiIf(code = 'truncated', concat('finish reason length after ', toString(output_tokens), ' output tokens'),
            code = 'empty', 'the captured answer has no text, tool call, reasoning or refusal',
            'characters 0–28 of the answer: "I''m sorry, I can''t help with"'),
        code, 1, received_ns
    FROM spans WHERE observation_type = 'llm' AND status = 'ok' AND ({cut} OR {odd})"""


def scores_sql() -> str:
    """The INSERT of a score on one stored answer of twenty."""
    return """INSERT INTO scores (project_id, trace_id, span_id, name, value, label, explanation, source, created_ns,
        score_id)
    SELECT project_id, trace_id, span_id, 'helpfulness', sipHash64(span_id, 'score') % 101 / 100, '', '', 'sdk',
        received_ns, lower(hex(span_id))
    FROM spans WHERE observation_type = 'llm' AND status = 'ok' AND sipHash64(span_id, 'scored') % 20 = 0"""


def settle(store: Store) -> None:
    """Return once no merge has run for five seconds."""
    quiet_since = time.monotonic()
    while time.monotonic() - quiet_since < _REST_S:
        if store.query("SELECT count() FROM system.merges").rows[0][0]:
            quiet_since = time.monotonic()
        time.sleep(0.2)


def close_days(store: Store) -> None:
    """Merge all days but the last into one part each, as the store does after four hours (migration 0008)."""
    for table in ("spans", "flags"):
        days = store.query(
            "SELECT DISTINCT partition_id FROM system.parts WHERE active AND database = currentDatabase() "
            f"AND table = '{table}' ORDER BY partition_id"
        ).rows
        for (day,) in days[:-1]:
            store.execute(f"OPTIMIZE TABLE {table} PARTITION ID '{day}' FINAL")


def sizes(store: Store) -> tuple[int, int, dict[str, float]]:
    """Rows and parts of the spans, and bytes on disk a span of each group of columns and of the tables beside."""
    tables = store.query(
        "SELECT table, sum(rows), count(), sum(bytes_on_disk), "
        "sum(secondary_indices_compressed_bytes + marks_bytes + primary_key_size) FROM system.parts "
        "WHERE active AND database = currentDatabase() GROUP BY table"
    ).rows
    of_table = {str(row[0]): row for row in tables}
    rows, parts, whole, marks = (int(value) for value in of_table["spans"][1:])
    columns = store.query(
        "SELECT column, sum(column_data_compressed_bytes) FROM system.parts_columns "
        "WHERE active AND database = currentDatabase() AND table = 'spans' GROUP BY column"
    ).rows
    of_column = {str(name): int(size) for name, size in columns}
    found = {group: float(sum(of_column.pop(name, 0) for name in names.split())) for group, names in GROUPS.items()}
    found["other"] = float(sum(of_column.values()))
    found["indexes, marks"] = float(marks)
    found["rest (compact parts, checksums)"] = whole - sum(found.values())
    found |= {f"table {name}": float(row[3]) for name, row in sorted(of_table.items()) if name != "spans"}
    return rows, parts, {name: size / rows for name, size in found.items()}


def main(directory: Path, spans: int, end_ns: int) -> None:
    """Build and report."""
    directory.mkdir(parents=True, exist_ok=True)
    store = open_store(Settings(data_dir=directory / "data"))
    started, cpu_s = time.monotonic(), time.process_time()
    build(store, spans, end_ns, directory / "corpus.txt")
    inserted_s = time.monotonic() - started
    settle(store)
    close_days(store)
    wall_s, cpu_s = time.monotonic() - started, time.process_time() - cpu_s
    rows, parts, found = sizes(store)
    store.close()
    (directory / "built.json").write_text(json.dumps({"spans": rows, "end_ns": end_ns}))
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{rows} spans in {wall_s:.0f} s (inserted after {inserted_s:.0f} s), {cpu_s / rows * 1e6:.0f} µs CPU a span, "
    )
    print(f"{parts} parts, peak memory {peak_mb:.0f} MB; bytes on disk a span:")
    for name, size in found.items():
        print(f"  {name:<34}{size:8.1f}")
    print(f"  {'all':<34}{sum(found.values()):8.1f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(float(sys.argv[3]) * 1e9) if len(sys.argv) > 3 else time.time_ns())
