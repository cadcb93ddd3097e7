"""What two senders store: traces that both have a part in, retries, late spans, later copies; several projects.

As a program it is one of the senders: `load.py URL DIRECTORY NUMBER` stores its batches in the server at URL.
"""

from __future__ import annotations

import json
import random
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

from collector.store.rows import SECOND, T0, flag, llm, log, point, score, span
from limelight_collector.batch import Batch
from limelight_collector.settings import Settings
from limelight_collector.store import open_store

Row = dict[str, Any]

SENDERS = 2
PROJECTS = ("one", "two", "thr'ee")
TRACES = 24
SPANS_A_TRACE = 8
START = T0 // (3600 * SECOND) * 3600 * SECOND
"""A full hour; the load starts within the three hours from here."""
MODELS = ["gpt-4o", "claude-ü", 'it\'s \\ "m"', ""]
MESSAGES = '[{"role":"user","parts":[{"type":"text","content":"Where is my \\"refund\\"?\\nü😀"}]}]'


def sender(number: int) -> list[Batch]:
    """The batches of one sender in the order it stores them."""
    chance = random.Random(100 + number)
    mine = [row for row in _spans() if chance.random() < 0.6]  # some spans reach both, as a retry elsewhere does
    points = [row for n, row in enumerate(_points()) if n % SENDERS == number or n % 7 == 0]
    records = [row for n, row in enumerate(_records()) if n % SENDERS == number or n % 5 == 0]
    batches: list[Batch] = []
    for start in range(0, len(mine), 40):
        rows = mine[start : start + 40]
        size = max(1, len(points) * 40 // len(mine)), max(1, len(records) * 40 // len(mine))
        turn = start // 40
        batches.append(
            _batch(rows, points[turn * size[0] : (turn + 1) * size[0]], records[turn * size[1] : (turn + 1) * size[1]])
        )
        if turn % 2:  # a client's retry, regrouped
            batches.append(_batch(chance.sample(mine[: start + 40], 30), points[:3], records[:3]))
    late = [row for row in mine if chance.random() < 0.1]
    changed = [row | {"received_ns": row["received_ns"] + SECOND, "status": "error"} for row in late]
    return [*batches, _batch(changed, points, records)]


def _batch(rows: list[Row], points: list[Row], records: list[Row]) -> Batch:
    failed = [row for row in rows if row["span_id"][-1] % 3 == 0]
    made = Batch(
        flags=[flag(row, code) for row in failed for code in ("truncated", "emp'ty")],
        scores=[score(row, "helpful", row["span_id"][-1] / 7) for row in failed],
        points=points,
        logs=records,
    )
    for row in rows:
        made.append(row)
    return made


def _spans() -> list[Row]:
    """All spans of all projects, in the order they start in."""
    chance = random.Random(1)
    rows: list[Row] = []
    for project in PROJECTS:
        for trace in range(1, TRACES + 1):
            at_s = chance.randrange(3 * 3600) + chance.randrange(10**9) / 10**9
            rows.append(span(trace, 1, at_s=at_s, project_id=project, name="agent", duration_ns=30 * SECOND))
            rows += [_step(chance, trace, n, at_s + n, project) for n in range(2, SPANS_A_TRACE + 1)]
    return sorted(rows, key=lambda row: (row["start_time"], row["project_id"], row["span_id"]))


def _step(chance: random.Random, trace: int, number: int, at_s: float, project: str) -> Row:
    make = chance.choice([llm, llm, span])
    failed = chance.random() < 0.3
    return make(
        trace,
        number,
        at_s=at_s + chance.random(),
        parent=1,
        project_id=project,
        duration_ns=chance.randrange(1, 10**10),
        name=chance.choice(["chat", "sea'rch", "lookup ü"]),
        status="error" if failed else "ok",
        error_type=chance.choice(["Timeout", "RateLimit"]) if failed else "",
        error_message=f"no answer after {chance.randrange(100)} s from 'host-{number}'" if failed else "",
        service_name=chance.choice(["api", "worker", ""]),
        environment=chance.choice(["prod", "dev", ""]),
        provider=chance.choice(["openai", "anthropic"]),
        request_model=chance.choice(MODELS),
        response_model=chance.choice(["", "gpt-4o-2026"]),
        usage_role=chance.choice(["own", "own", "own", "aggregate", "duplicate"]),
        input_tokens=chance.choice([None, 0, chance.randrange(10**4)]),
        output_tokens=chance.choice([None, chance.randrange(10**3)]),
        cache_read_tokens=chance.choice([None, 7]),
        cost_usd=chance.choice([None, Decimal(chance.randrange(10**6)).scaleb(-9)]),
        cost_state=chance.choice(["computed", "unpriced", ""]),
        ttft_s=chance.choice([None, chance.randrange(1000) / 1000]),
        tpot_s=chance.choice([None, chance.randrange(1000) / 1e5]),
        is_stream=chance.choice([None, True, False]),
        finish_reasons=chance.choice([[], ["stop"], ["length", "stop"]]),
        tags=chance.choice([[], ["vip"], ["vip", "b'eta"]]),
        session_id=chance.choice(["", f"chat-{trace % 5}"]),
        user_id=chance.choice(["", "u1", "u'2"]),
        input_messages=chance.choice(["", MESSAGES]),
        output_text=chance.choice(["", "On its way.\n\0\t\\"]),
        tool_args=chance.choice(["", '{"id":5,"q":"ü"}']),
        attributes=chance.choice([{}, {"team": '"a"'}, {"team": "5", "n.x": "1.7091", "l": '[1,"b"]'}]),
        resource={"service.name": '"api"'},
    )


def _points() -> list[Row]:
    chance = random.Random(2)
    kinds: list[Row] = [
        {"metric": "queue.size", "kind": "gauge", "unit": "1"},
        {"metric": "tokens", "kind": "sum", "temporality": "cumulative", "is_monotonic": True, "start_ns": START},
        {"metric": "calls", "kind": "sum", "temporality": "delta", "is_monotonic": True},
        {
            "metric": "latency",
            "kind": "histogram",
            "temporality": "delta",
            "value": None,
            "bucket_bounds": [0.5, 1.0, 5.0],
        },
        {"metric": "ttft", "kind": "exponential_histogram", "temporality": "delta", "value": None, "scale": 2},
        {"metric": "p", "kind": "summary", "value": None, "quantiles": [0.5, 0.95, 0.99]},
    ]
    rows: list[Row] = []
    for project in PROJECTS:
        for minute in range(0, 180, 12):
            for series, kind in enumerate(kinds * 2):
                counts = [chance.randrange(5) for _ in range(4)]
                rows.append(_point(project, series, minute, kind, counts))
    return rows


def _point(project: str, series: int, minute: int, kind: Row, counts: list[int]) -> Row:
    rising = float(minute * 3 + series)
    given: Row = {"value": rising, "description": kind["metric"], "service_name": ("api", "worker")[series % 2]}
    if kind["kind"] in ("histogram", "exponential_histogram", "summary"):
        given |= {"count": sum(counts), "sum": sum(counts) * 0.5, "value": None}
    if kind["kind"] == "histogram":
        given |= {"bucket_counts": counts, "min": 0.25, "max": 8.0}
    if kind["kind"] == "exponential_histogram":
        given |= {"positive_counts": counts, "positive_offset": -2}
    if kind["kind"] == "summary":
        given |= {"quantile_values": [0.5, 1.5, 2.5]}
    return point(series + 1, project_id=project, **(kind | given | {"time": START + minute * 60 * SECOND}))


def _records() -> list[Row]:
    chance = random.Random(3)
    return [
        log(
            1000 * n + 1,
            at_s=chance.randrange(3 * 3600),
            trace=chance.choice([0, chance.randrange(1, TRACES)]),
            project_id=project,
            severity_number=chance.choice([0, 9, 17]),
            body=json.dumps(chance.choice(["line", "it's\n\0", {"a": [1, None]}, 5])),
            attributes=chance.choice([{}, {"k": '"v"'}]),
        )
        for n in range(40)
        for project in PROJECTS
    ]


if __name__ == "__main__":
    url, directory, name = sys.argv[1:]
    store = open_store(Settings(data_dir=Path(directory), clickhouse_url=url, retention_days=36_500), migrate=False)
    for batch in sender(int(name)):
        store.insert(batch)
    store.close()
