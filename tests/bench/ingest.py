"""`make bench-ingest`: CPU per span from OTLP to queryable rows, acknowledgement times, memory, and the store alone.

Method: this process is the load generator, with every body made beforehand; the collector is a process of its own on a
fresh directory. Spans in traces of eight: three LLM calls with about 2.4 KB of text from this machine's standard
library, an agent, two tool calls, a retrieval, an HTTP request. gzip level 6, protobuf, HTTP.

1. A warm-up of 2,000 spans until they are readable: loading the price table (0.7 s) is no cost of a span.
2. Flat out over four connections. CPU is user + system time of the whole collector process from /proc, receiving,
   spool, normalising, insert and background merges, from the first request until every span is readable.
3. At a fixed rate over the same connections, each request at its own time whether or not others were answered: the
   quantiles of the acknowledgement, and the CPU at that rate (smaller batches, more merges).
4. In a third process: the same spans as rows that are ready, through the same Store in batches of 5,000.

On a shared machine CPU time is the measure and wall time a lower bound; each figure is the least of the repeats.
"""

from __future__ import annotations

import argparse
import gzip
import http.client
import multiprocessing
import os
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))
from bench.ingest_spans import request, texts
from e2e.processes import Collector

TICK_S = 1 / os.sysconf("SC_CLK_TCK")
CONNECTIONS = 4
WARM_UP_SPANS = 2_000
RETENTION_NS = 30 * 86_400 * 10**9
HEADERS = {"Content-Type": "application/x-protobuf", "Content-Encoding": "gzip"}


@dataclass(frozen=True)
class Measured:
    """One repeat: µs of CPU a span, spans a second, milliseconds of acknowledgement, MB."""

    flat_us: float
    flat_per_s: float
    flat_ms: tuple[float, float]
    paced_us: float
    paced_ms: tuple[float, float]
    idle_mb: float
    peak_mb: float
    ready_us: float


def cpu_s(pid: int) -> float:
    """User and system seconds of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK_S


def memory_mb(pid: int, name: str) -> float:
    """`VmRSS` (now) or `VmHWM` (the most there was) of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def send(port: int, bodies: list[bytes], period_s: float, headers: Mapping[str, str] = HEADERS) -> list[float]:
    """Send every body, one each `period_s` (0 = as fast as answered); seconds until each acknowledgement.

    Paced requests count from the time they were due: one that waits for a free connection is late, too.
    """
    took: list[float] = []
    started = time.monotonic()

    def run(first: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        for number in range(first, len(bodies), CONNECTIONS):
            due = started + number * period_s if period_s else time.monotonic()
            time.sleep(max(0.0, due - time.monotonic()))
            connection.request("POST", "/v1/traces", bodies[number], headers)
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                raise SystemExit(f"status {answer.status}")
            took.append(time.monotonic() - due)
        connection.close()

    threads = [threading.Thread(target=run, args=(first,)) for first in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return took


def wait_until_stored(collector: Collector) -> None:
    """Return once the spool is empty: its records leave it when the store has them."""
    while collector.get("status")["spool_records"]:
        time.sleep(0.25)


def ready_rows(bodies: list[bytes], spans: int, folder: str, answer: Any) -> None:
    """In a process of its own: CPU seconds of inserting the same spans as ready batches of 5,000."""
    from limelight_collector import pipeline
    from limelight_collector.batch import Batch
    from limelight_collector.settings import Settings
    from limelight_collector.spool import Record
    from limelight_collector.store import open_store

    batches: list[Batch] = []
    for number, body in enumerate(bodies):
        if number % (5_000 // spans) == 0:
            batches.append(Batch())
        record = Record(number, "default", "traces", time.time_ns(), spans, gzip.decompress(body))
        for row in pipeline.rows(record, RETENTION_NS, lambda _row: None).spans:
            batches[-1].append(row)
    store = open_store(Settings(data_dir=Path(folder)))
    before = time.process_time()
    for batch in batches:
        store.insert(batch)
    answer.put(time.process_time() - before)
    store.close()


def reference_s(bodies: list[bytes], spans: int, folder: str) -> float:
    """CPU seconds of `ready_rows`."""
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    process = context.Process(target=ready_rows, args=(bodies, spans, folder, answer))
    process.start()
    used: float = answer.get(timeout=600)
    process.join()
    return used


def quantiles_ms(seconds: list[float]) -> tuple[float, float]:
    """p50 and p99 in milliseconds."""
    cuts = statistics.quantiles(seconds, n=100)
    return cuts[49] * 1e3, cuts[98] * 1e3


def measure(spans: int, total: int, rate: float, seconds: float, seed: int) -> Measured:
    """One repeat with requests of `spans` spans."""
    chance, pool = random.Random(seed), texts()
    bodies = [request(chance, pool, spans, time.time_ns()) for _ in range(total // spans)]
    paced = [request(chance, pool, spans, time.time_ns()) for _ in range(int(rate * seconds) // spans)]
    warm = [request(chance, pool, spans, time.time_ns()) for _ in range(max(1, WARM_UP_SPANS // spans))]
    with tempfile.TemporaryDirectory() as folder:
        collector = Collector(Path(folder) / "data")
        collector.start()
        assert collector.process is not None
        pid, port = collector.process.pid, collector.http_port
        send(port, warm, 0)
        wait_until_stored(collector)
        idle_mb, before, started = memory_mb(pid, "VmRSS"), cpu_s(pid), time.monotonic()
        flat = send(port, bodies, 0)
        wait_until_stored(collector)
        flat_s, wall_s = cpu_s(pid) - before, time.monotonic() - started
        before = cpu_s(pid)
        acknowledged = send(port, paced, spans / rate)
        wait_until_stored(collector)
        paced_s, peak_mb = cpu_s(pid) - before, memory_mb(pid, "VmHWM")
        collector.stop()
        ready_s = reference_s(bodies, spans, f"{folder}/reference")
    sent, sent_paced = len(bodies) * spans, len(paced) * spans
    return Measured(
        flat_us=flat_s / sent * 1e6,
        flat_per_s=sent / wall_s,
        flat_ms=quantiles_ms(flat),
        paced_us=paced_s / sent_paced * 1e6,
        paced_ms=quantiles_ms(acknowledged),
        idle_mb=idle_mb,
        peak_mb=peak_mb,
        ready_us=ready_s / sent * 1e6,
    )


def report(spans: int, rate: float, runs: list[Measured]) -> None:
    """Print one column of the table: the least of each figure, the ratio of each run beside it."""
    flat = min(run.flat_us for run in runs)
    ratios = " ".join(f"{run.flat_us / run.ready_us:.2f}" for run in runs)
    print(f"{spans} spans a request, {len(runs)} runs")
    print(f"  CPU, flat out             {flat:.0f} µs a span ({1e6 / flat:.0f} spans/s per core)")
    print(f"  ready rows, same spans    {min(run.ready_us for run in runs):.0f} µs a span; ratio in each run {ratios}")
    print(f"  CPU at {rate:.0f} spans/s       {min(run.paced_us for run in runs):.0f} µs a span")
    for name, pairs in (("flat out", [run.flat_ms for run in runs]), ("paced", [run.paced_ms for run in runs])):
        p50, p99 = min(pair[0] for pair in pairs), min(pair[1] for pair in pairs)
        print(f"  acknowledged, {name:<11} p50 {p50:.1f} ms, p99 {p99:.1f} ms")
    print(f"  stored, wall              {max(run.flat_per_s for run in runs):.0f} spans/s")
    idle, peak = min(run.idle_mb for run in runs), max(run.peak_mb for run in runs)
    print(f"  memory                    {idle:.0f} MB idle, {peak:.0f} MB peak")


def main() -> None:
    """Run and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 500], help="spans a request")
    parser.add_argument("--spans", type=int, default=20_000, help="spans of the part that is flat out")
    parser.add_argument("--rate", type=float, default=2_000, help="spans a second of the paced part")
    parser.add_argument("--seconds", type=float, default=10, help="length of the paced part")
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    runs: dict[int, list[Measured]] = {size: [] for size in given.sizes}
    for repeat in range(given.repeats):  # sizes take turns: a busy minute of the machine hits each of them
        for size in given.sizes:
            runs[size].append(measure(size, given.spans, given.rate, given.seconds, seed=repeat))
    for size in given.sizes:
        report(size, given.rate, runs[size])


if __name__ == "__main__":
    main()
