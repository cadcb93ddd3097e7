"""The spool against the plainest thing that is as safe: an append-only file that is synced before every answer.

Method: 58 kB records (100 gzipped spans; random bytes, so that nothing compresses), written one or ten at a time as one
group; wall time of each group, CPU of the process. Run on the disk that matters: `python tests/bench/spool.py [DIR]`.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path

from limelight_collector.spool import Spool

RECORD = 58_000
GROUPS = 150


def measure(name: str, group: int, write: Callable[[list[bytes]], None]) -> None:
    """Print groups and records a second, and the quantiles of one group."""
    batches = [[os.urandom(RECORD) for _ in range(group)] for _ in range(GROUPS)]
    times: list[float] = []
    cpu = time.process_time()
    for batch in batches:
        started = time.perf_counter()
        write(batch)
        times.append(time.perf_counter() - started)
    cpu = (time.process_time() - cpu) / (GROUPS * group)
    cuts = statistics.quantiles(times, n=100)
    rate = GROUPS / sum(times)
    print(
        f"{name:<22} {group:>2} a group: {rate:7.0f} groups/s {rate * group:7.0f} records/s  "
        f"p50 {cuts[49] * 1e3:5.1f} ms  p99 {cuts[98] * 1e3:6.1f} ms  CPU {cpu * 1e3:.2f} ms a record"
    )


def main(directory: Path) -> None:
    """Both candidates, both group sizes."""
    for group in (1, 10):
        path = directory / f"log-{group}"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

        def append(batch: list[bytes], descriptor: int = descriptor) -> None:
            for payload in batch:
                os.write(descriptor, zlib.crc32(payload).to_bytes(4, "big") + payload)
            os.fdatasync(descriptor)

        measure("file, fdatasync", group, append)
        os.close(descriptor)
        spool = Spool(directory / f"spool-{group}.db", max_bytes=2**34)
        spool.start()

        def spooled(batch: list[bytes], spool: Spool = spool) -> None:
            futures = [spool.append("p", "traces", payload, time.time_ns(), 100) for payload in batch]
            for future in futures:
                future.result()

        measure("SQLite spool", group, spooled)
        spool.stop()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as scratch:
        main(Path(scratch))
