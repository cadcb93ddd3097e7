"""`make bench-query`: what every API call behind the dashboard costs on a store of ten million spans.

Method: the store is made once by `query_build.py` (where DIR/built.json is missing) and kept. A collector opens it
until its rollups are computed and ends. Then a clone of the directory (large files as hard links: parts never change)
is served by a real collector process of its own, and asked over HTTP, one connection, one question at a time.

1. Start: seconds until /readyz, memory after 20 s of rest, CPU of a second at rest.
2. Cold: the process has just started, and before each question the store's files are dropped from the page cache.
3. Warm: each question up to REPEATS times within four seconds, after one that is not counted; ids are drawn at random.
   Wall time as the client sees it, answer read and not parsed; CPU is that of the whole collector process from /proc.
4. During ingest: a second process sends 2,000 spans a second, which end where the data ends.
5. Export of about 100,000 spans in each format.

On a shared machine CPU time is the measure and wall time an upper bound.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import itertools
import json
import multiprocessing
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

sys.path.insert(0, str(Path(__file__).parent.parent))
from bench.ingest import HEADERS, cpu_s, memory_mb, send
from bench.ingest_spans import request, texts
from bench.query_questions import (
    COLD,
    DURING_INGEST,
    QUESTIONS,
    Known,
    Question,
    by_name,
    end_of,
    export_window,
    window_of,
)
from bench.query_report import report
from e2e.processes import LIMELIGHT, Collector

LARGE, SMALL = "default", "lab"
KEY = "bench-query-admin"
_LINKED_BYTES = 65_536
_CELL_S = 4.0
_RATE, _SPANS_A_REQUEST, _FED_S = 2_000, 100, 40


@dataclass(frozen=True, slots=True)
class Cell:
    """One question about one project and window: milliseconds, KB of the answer; `refused` where that is a 422."""

    project: str
    question: str
    window: str
    p50_ms: float
    p95_ms: float
    cpu_ms: float
    kb: float
    refused: bool = False


class Client:
    """One connection to the collector with one project's key."""

    def __init__(self, port: int, key: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        self._headers = {"Authorization": f"Bearer {key}"}

    def ask(self, path: str, params: dict[str, object]) -> tuple[float, bytes]:
        """Seconds until the whole answer was read, and the answer; empty where the question is too big (422)."""
        query = urlencode({name: value for name, value in params.items() if value not in {"", None}})
        started = time.perf_counter()
        try:
            answer = self._get(f"/api/v1/{path}?{query}")
        except http.client.RemoteDisconnected:  # the collector hung up on an idle connection
            answer = self._get(f"/api/v1/{path}?{query}")
        body = answer.read()
        took = time.perf_counter() - started
        if answer.status == 422:
            return took, b""
        if answer.status != 200:
            raise SystemExit(f"{path}?{query}: status {answer.status}: {body[:500]!r}")
        return took, body

    def _get(self, path: str) -> http.client.HTTPResponse:
        self._connection.request("GET", path, headers=self._headers)
        return self._connection.getresponse()


@dataclass(frozen=True, slots=True)
class Bench:
    """A running collector and what is asked of it."""

    pid: int
    data: Path
    end: datetime
    clients: dict[str, Client]
    known: dict[str, Known]

    def once(self, project: str, question: Question, window: str, chance: random.Random) -> tuple[float, bytes]:
        """Ask once."""
        path, params = question.ask(window_of(window, self.end), self.known[project], chance)
        return self.clients[project].ask(path, params)

    def cell(self, project: str, question: Question, window: str, repeats: int) -> Cell:
        """Ask until `repeats` or four seconds are over, at least three times."""
        chance = random.Random(f"{question.name} {window}")
        self.once(project, question, window, chance)
        took: list[float] = []
        size, before = 0, cpu_s(self.pid)
        while len(took) < 3 or (len(took) < repeats and sum(took) < _CELL_S):
            seconds, body = self.once(project, question, window, chance)
            took.append(seconds)
            size += len(body)
        cpu_ms = (cpu_s(self.pid) - before) / len(took) * 1e3
        quantiles = _quantiles_ms(took)
        return Cell(project, question.name, window, *quantiles, cpu_ms, size / len(took) / 1e3, refused=not size)


def _quantiles_ms(seconds: list[float]) -> tuple[float, float]:
    cuts = statistics.quantiles(seconds, n=20, method="inclusive")
    return cuts[9] * 1e3, cuts[18] * 1e3


def roll_up(data: Path, spans: int) -> None:
    """Let a collector bring the schema and the rollups up to date and end."""
    collector = Collector(data)
    collector.start()
    deadline = time.monotonic() + 3600
    while time.monotonic() < deadline:
        week = collector.get("series", **{"from": "2000-01-01T00:00:00Z", "measure": "request_count"})
        waiting = collector.get("status")["rollups_pending"]
        if not waiting and (spans < 200_000 or "rollup_1h" in week.get("source", "")):
            break
        time.sleep(2)
    collector.stop()


def clone(data: Path, target: Path) -> None:
    """A copy of a data directory that shares its large files, which the engine never changes."""
    shutil.rmtree(target, ignore_errors=True)

    def copy(source: str, place: str) -> None:
        if Path(source).stat().st_size > _LINKED_BYTES and "/store/" in source:
            os.link(source, place)
        else:
            shutil.copyfile(source, place)

    shutil.copytree(data, target, symlinks=True, copy_function=copy)


def evict(data: Path) -> None:
    """Drop the store's files from the page cache; those that a merge removes meanwhile are gone anyway."""
    os.sync()
    for folder, _, files in os.walk(data / "store"):
        for name in files:
            with contextlib.suppress(FileNotFoundError):
                descriptor = os.open(Path(folder) / name, os.O_RDONLY)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(descriptor)


def known_of(client: Client, end: datetime, chance: random.Random) -> Known:
    """Forty traces and their sessions, from all of the week."""
    traces: list[dict[str, Any]] = []
    week = window_of("7d", end)
    for _ in range(40):
        until = week.start + (week.end - week.start) * (0.02 + 0.98 * chance.random())
        _, body = client.ask("traces", {"from": week.start.isoformat(), "to": until.isoformat(), "limit": 1})
        traces += json.loads(body)["traces"]
    sessions = dict.fromkeys(str(trace["session_id"]) for trace in traces)
    return Known(tuple(str(trace["trace_id"]) for trace in traces), tuple(sessions))


def feed(port: int, now_ns: int, is_ready: Any) -> None:
    """In a process of its own: make forty seconds of requests, then send them at 2,000 spans a second."""
    chance, pool = random.Random(1), texts()
    count = _RATE * _FED_S // _SPANS_A_REQUEST
    bodies = [request(chance, pool, _SPANS_A_REQUEST, now_ns) for _ in range(count)]
    is_ready.set()
    send(port, bodies, _SPANS_A_REQUEST / _RATE, {**HEADERS, "Authorization": f"Bearer {KEY}"})


def during_ingest(bench: Bench, port: int, end_ns: int) -> list[Cell]:
    """The questions of a person who watches the last hour, in turns while spans arrive."""
    context = multiprocessing.get_context("spawn")
    is_ready = context.Event()
    process = context.Process(target=feed, args=(port, end_ns, is_ready))
    process.start()
    is_ready.wait(300)
    chance, took = random.Random(1), {question.name: list[float]() for question in by_name(DURING_INGEST)}
    time.sleep(5)  # until batches are being written
    while process.is_alive():
        for question in by_name(DURING_INGEST):
            window = "1h" if "1h" in question.windows else "7d"
            took[question.name].append(bench.once(LARGE, question, window, chance)[0])
    process.join()
    return [Cell(LARGE, name, "1h", *_quantiles_ms(seconds), 0, 0) for name, seconds in took.items()]


def exports(bench: Bench, spans: int, wanted: int) -> dict[str, dict[str, float]]:
    """Format -> rows, rows a second, µs of CPU a row, MB of the file, peak memory in MB."""
    found: dict[str, dict[str, float]] = {}
    window = export_window(spans, bench.end, wanted)
    _, body = bench.clients[LARGE].ask("spans/export", {**window, "format": "jsonl"})
    rows = body.count(b"\n")
    for format_ in ("jsonl", "csv", "parquet"):
        before = cpu_s(bench.pid)
        seconds, body = bench.clients[LARGE].ask("spans/export", {**window, "format": format_})
        found[format_] = {
            "rows": rows,
            "rows_per_s": rows / seconds,
            "cpu_us": (cpu_s(bench.pid) - before) / rows * 1e6,
            "mb": len(body) / 1e6,
            "peak_mb": memory_mb(bench.pid, "VmHWM"),
        }
    return found


def measure(directory: Path, asked: argparse.Namespace) -> dict[str, Any]:
    """All figures, as JSON; `asked` is the command line."""
    built = json.loads((directory / "built.json").read_text())
    run = directory / "run"
    clone(directory / "data", run)
    make_key = [*LIMELIGHT, "keys", "create", "--project", SMALL, "--scope", "read", "--data-dir", str(run)]
    small_key = subprocess.run(make_key, check=True, capture_output=True, text=True).stdout.split()[-1]
    evict(run)
    collector = Collector(run, LIMELIGHT_BOOTSTRAP_KEY=KEY)
    try:
        found = {"spans": built["spans"], "start_s": collector.start()}
        return found | _figures(collector, built, small_key, asked)
    finally:
        collector.stop()
        shutil.rmtree(run)


def _figures(collector: Collector, built: dict[str, int], small_key: str, asked: argparse.Namespace) -> dict[str, Any]:
    assert collector.process is not None
    parts: list[str] = asked.parts
    pid, port = collector.process.pid, collector.http_port
    time.sleep(20)
    idle_mb, before = memory_mb(pid, "VmRSS"), cpu_s(pid)
    time.sleep(10)
    found: dict[str, Any] = {"idle_mb": idle_mb, "idle_cpu": (cpu_s(pid) - before) / 10}
    clients, end = {LARGE: Client(port, KEY), SMALL: Client(port, small_key)}, end_of(built["end_ns"])
    known = {name: known_of(client, end, random.Random(name)) for name, client in clients.items()}
    bench = Bench(pid, collector.data_dir, end, clients, known)
    found["cold"] = [asdict(cell) for cell in _cold(bench)] if "cold" in parts else []
    found["warm"] = []
    for question in QUESTIONS if "warm" in parts else ():
        windows = [window for window in question.windows if window in asked.windows or len(question.windows) == 1]
        for project, window in itertools.product(asked.projects, windows):
            found["warm"].append(asdict(bench.cell(project, question, window, asked.repeats)))
    found["asked_mb"] = memory_mb(pid, "VmRSS")
    found["ingest"] = [asdict(c) for c in during_ingest(bench, port, built["end_ns"])] if "ingest" in parts else []
    found["export"] = exports(bench, built["spans"], 100_000) if "export" in parts else {}
    found["peak_mb"] = memory_mb(pid, "VmHWM")
    return found


def _cold(bench: Bench) -> Iterable[Cell]:
    for question in by_name(COLD):
        evict(bench.data)
        seconds, body = bench.once(LARGE, question, "7d", random.Random(1))
        yield Cell(LARGE, question.name, "7d", seconds * 1e3, seconds * 1e3, 0, len(body) / 1e3)


def main() -> None:
    """Build what is missing, measure, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--spans", type=int, default=10_000_000, help="size of a store that is not built yet")
    parser.add_argument("--dir", type=Path, default=None, help="where it lies (/tmp/bench-query-SPANS)")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--projects", nargs="+", default=[LARGE, SMALL], choices=[LARGE, SMALL])
    parser.add_argument("--windows", nargs="+", default=["1h", "6h", "24h", "7d"])
    parser.add_argument("--parts", nargs="+", default=["cold", "warm", "ingest", "export"])
    parser.add_argument("--against", type=Path, help="results.json of a smaller store, for the growth")
    given = parser.parse_args()
    directory: Path = given.dir or Path(f"/tmp/bench-query-{given.spans}")
    if not (directory / "built.json").exists():
        build = [sys.executable, str(Path(__file__).parent / "query_build.py"), str(directory), str(given.spans)]
        subprocess.run(build, check=True)
    roll_up(directory / "data", json.loads((directory / "built.json").read_text())["spans"])
    found = measure(directory, given)
    (directory / "results.json").write_text(json.dumps(found, indent=1))
    report(found, json.loads(given.against.read_text()) if given.against else None)


if __name__ == "__main__":
    main()
