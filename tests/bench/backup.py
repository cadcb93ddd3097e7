"""A backup beside a running collector: `python tests/bench/backup.py DIR`, DIR as `query_build.py` made it.

Sends 500 spans a second to a collector on DIR/data, each request at its own time, first alone and then while `limelight
backup` runs; prints acknowledgement times of both, how long inserts waited, and time, CPU and size of backup, verify
and restore. Leaves DIR/data with the spans it sent.
"""

from __future__ import annotations

import gzip
import http.client
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx

sys.path.insert(0, str(Path(__file__).parent.parent))
from e2e.ledger import request
from e2e.processes import LIMELIGHT, Collector

EVERY_S = 0.1
SPANS = 50
HEADERS = {"Content-Type": "application/x-protobuf", "Content-Encoding": "gzip"}


class Pace(threading.Thread):
    """One request of `SPANS` spans every `EVERY_S` seconds; `times_ms` from when it was due to its acknowledgement."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.times_ms: list[float] = []
        self.refused = 0
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self._stopped = threading.Event()

    def run(self) -> None:
        due = time.monotonic()
        while not self._stopped.is_set():
            body = gzip.compress(request([os.urandom(8) for _ in range(SPANS)]).SerializeToString())
            time.sleep(max(0.0, due - time.monotonic()))
            self._connection.request("POST", "/v1/traces", body, HEADERS)
            answer = self._connection.getresponse()
            answer.read()
            self.refused += answer.status != 200
            self.times_ms.append((time.monotonic() - due) * 1000)
            due += EVERY_S

    def stop(self) -> str:
        self._stopped.set()
        self.join()
        cuts = statistics.quantiles(self.times_ms, n=100)
        many = f"{len(self.times_ms)} requests, {self.refused} refused"
        return f"{many}, p50 {cuts[49]:.0f} ms, p99 {cuts[98]:.0f} ms, most {max(self.times_ms):.0f} ms"


def timed(*words: str | Path) -> str:
    """Run a command; what it said, and what it cost."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run([*LIMELIGHT, *map(str, words)], capture_output=True, text=True, check=True)
    wall_s, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return f"{wall_s:.1f} s, {cpu_s:.1f} s CPU: {done.stdout.strip()}"


def main(directory: Path) -> None:
    target, new = directory / "backup", directory / "restored"
    for path in (target, new):
        shutil.rmtree(path, ignore_errors=True)
    collector = Collector(directory / "data")
    collector.start()
    try:
        for verb in ("alone", "during the backup"):
            pace = Pace(collector.http_port)
            pace.start()
            if verb == "alone":
                time.sleep(15)
            else:
                print(f"backup: {timed('backup', target, '--data-dir', collector.data_dir)}")
            print(f"acknowledgements {verb}: {pace.stop()}", flush=True)
        said = httpx.get(f"{collector.url}/metrics").text
        print(f"inserts waited: {re.findall(r'store_held_seconds_sum (.*)', said)[0]} s")
    finally:
        collector.stop()
    print(f"verify: {timed('backup', 'verify', target)}")
    print(f"restore: {timed('restore', target, '--data-dir', new)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
