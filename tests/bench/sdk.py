"""`make bench-sdk`: CPU per OpenAI call under Limelight, a span written by hand, and other tracers; import time; size.

Method: each contender is a process of its own in one environment (.cache/bench: one OpenTelemetry, one `openai`). It
calls a real client whose HTTP transport answers from memory: the client's own work counts, the network's does not. A
call has 2.0 KB of prompt and 1.4 KB of answer; a streamed one 50 chunks of text, a head, an end and usage. Every
contender keeps content and sends its spans in real OTLP over HTTP on 127.0.0.1, to a sink in this process: Limelight
and Langfuse with their own exporters as they come (Langfuse compresses), the others through the stock batch processor
and exporter.

CPU of a call = here + elsewhere. Here: on the calling thread (`time.thread_time`), the median difference between a
traced call and an untraced one just before or after it, in the same process; the median of all turns. Elsewhere: all
else the process does for a call, background threads and a flush at the end of a turn (`time.process_time`); the
smallest of all turns, less the bare client's. ± is half the distance between the quartiles of the turns. Contenders
take turns, in another order each round, and are started anew several times.

The floor is one span with Limelight's attributes, written by hand: `json.dumps` of the messages,
`start_as_current_span`, `set_attributes`; for a stream, by someone who iterates and joins the text. Before the clock
runs, each contender makes one call of each kind, and what it sent is read: spans, prompt, answer, token counts.

Start is the CPU of imports and start-up in a fresh process that has loaded the OpenTelemetry SDK, its exporter and the
client. Size is the files of the package and its dependencies over those. "Pass-through" is our wrapper around a
function that does nothing, after `shutdown`. Figures are for comparing within one run.
"""

from __future__ import annotations

import argparse
import gzip
import importlib.metadata
import json
import os
import random
import re
import statistics
import subprocess
import sys
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import sdk_contender
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

ROOT = Path(__file__).parent.parent.parent
CALLS = {"chat": 256, "stream": 160}
"""Pairs of calls of a turn."""
BASE = ("opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http", "openai")
PACKAGES = {
    "limelight": "limelight",
    "otel-genai": "opentelemetry-instrumentation-genai-openai",
    "openllmetry": "opentelemetry-instrumentation-openai",
    "openinference": "openinference-instrumentation-openai",
    "logfire": "logfire",
    "langfuse": "langfuse",
}


@dataclass
class Row:
    """One start of a contender: CPU seconds of starting, what it sent, and the turns, by workload, in µs a call."""

    start_s: float
    sent: str
    here: dict[str, list[float]] = field(default_factory=lambda: {workload: [] for workload in CALLS})
    elsewhere: dict[str, list[float]] = field(default_factory=lambda: {workload: [] for workload in CALLS})


class Sink(ThreadingHTTPServer):
    """Takes OTLP for an answer of success; `bodies` keeps what arrives while it is a list."""

    daemon_threads = True
    bodies: list[bytes] | None = None

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Sink

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.bodies is not None and self.path.endswith("/traces"):
            self.server.bodies.append(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


def _path() -> dict[str, str]:
    """The way to another `limelight` than the environment's, where the caller names one (to compare two versions)."""
    return {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}


class Process:
    """A running contender."""

    def __init__(self, name: str, sink: Sink) -> None:
        self.name = name
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", sdk_contender.__file__, name, sink.url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={"PYDANTIC_DISABLE_PLUGINS": "__all__", "PYTHONHASHSEED": "0", **_path()},  # no vendor's plugin for all
        )
        self.start_s: float = self._answer()["start_s"]

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"{self.name} died"
        return json.loads(line)

    def run(self, workload: str, calls: int) -> tuple[float, float]:
        """Make `calls` calls and flush; CPU µs a call: on the calling thread, and elsewhere."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"workload": workload, "calls": calls}) + "\n")
        self._process.stdin.flush()
        answer = self._answer()
        return answer["here_s"] * 1e6, answer["elsewhere_s"] * 1e6

    def close(self) -> None:
        """Let it end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)


def sent(process: Process, sink: Sink) -> str:
    """What one call and one stream send, in a few letters."""
    told: list[str] = []
    for workload in CALLS:
        sink.bodies = bodies = []
        process.run(workload, 1)
        sink.bodies = None
        requests = [ExportTraceServiceRequest.FromString(body) for body in bodies]
        spans = [s for r in requests for rs in r.resource_spans for ss in rs.scope_spans for s in ss.spans]
        text = "".join(str(span) for span in spans)
        found = {
            "p": re.findall(r"[a-z ]{20,}", sdk_contender.PROMPTS[0][1]["content"])[0] in text,
            "a": sdk_contender.WORDS[7] in text,
            "t": bool(re.search(r"int_value: 412\b", text) and re.search(r"int_value: 230\b", text)),
        }
        told.append(f"{len(spans)}{''.join(letter for letter, is_there in found.items() if is_there)}")
    return " / ".join(told)


def needed(names: Iterable[str]) -> set[str]:
    """Distributions that `names` need, themselves included; extras and what is not installed left out."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found:
            continue
        try:
            requires = importlib.metadata.distribution(name).requires or []
        except importlib.metadata.PackageNotFoundError:
            continue
        found.add(name)
        waiting += [re.split(r"[ ;<>=!~\[(]", one)[0] for one in requires if "extra ==" not in one]
    return found


def size_mb(package: str) -> float:
    """Megabytes of a package's files and of its dependencies' over the base; compiled files left out."""
    if package == "limelight":  # installed for editing, so its files are the tree's; all four packages of the wheel
        trees = [ROOT / "sdk", ROOT / "collector", ROOT / "dashboard", ROOT / "migrations"]
        files = [f for tree in trees for f in tree.rglob("*") if f.is_file() and "__pycache__" not in f.parts]
        return sum(f.stat().st_size for f in files) / 1e6
    total = 0
    for name in needed([package]) - needed(BASE):
        for file in importlib.metadata.files(name) or []:
            if "__pycache__" not in file.parts and file.size:
                total += file.size
    return total / 1e6


PASS_THROUGH = """
import time, timeit
setup = '''
from limelight.around import wrap
from limelight.providers.openai import _CHAT
def plain(*args, **kwargs): pass
wrapped = wrap(plain, _CHAT)
'''
plain, wrapped = (
    min(timeit.repeat(f"{name}(None, model=1)", setup, time.process_time, 9, 100_000)) for name in ("plain", "wrapped")
)
print((wrapped - plain) * 1e4)
"""


def pass_through_ns() -> float:
    """Nanoseconds that our wrapper adds to a call where the SDK does not run."""
    done = subprocess.run([sys.executable, "-c", PASS_THROUGH], capture_output=True, text=True, check=True)
    return float(done.stdout)


def one_start(names: list[str], rounds: int, chance: random.Random, sink: Sink) -> dict[str, Row]:
    """Start every contender, see what it sends, and let them take turns."""
    processes = [Process(name, sink) for name in names]
    rows = {process.name: Row(process.start_s, sent(process, sink)) for process in processes}
    for number in range(-1, rounds):  # the first one warms up
        for workload, calls in CALLS.items():
            for process in chance.sample(processes, len(processes)):
                here_us, elsewhere_us = process.run(workload, calls if number >= 0 else calls // 4)
                if number >= 0:
                    rows[process.name].here[workload].append(here_us)
                    rows[process.name].elsewhere[workload].append(elsewhere_us)
    for process in processes:
        process.close()
    return rows


def cost(starts: list[dict[str, Row]], name: str, workload: str) -> tuple[float, float]:
    """µs a call over the bare client: on the calling thread, and elsewhere."""

    def turns(of: str, place: str) -> list[float]:
        return [us for rows in starts for us in getattr(rows[of], place)[workload]]

    here = statistics.median(turns(name, "here"))
    return here, min(turns(name, "elsewhere")) - min(turns("bare", "elsewhere"))


def cell(starts: list[dict[str, Row]], name: str, workload: str) -> str:
    """`200 ± 5 = 100 + 100  1.00`: cost, spread, on the calling thread and elsewhere, ratio to the floor."""
    here, elsewhere = cost(starts, name, workload)
    turns = [us for rows in starts for us in rows[name].here[workload]]
    low, _, high = statistics.quantiles(turns, n=4, method="inclusive") if len(turns) > 1 else turns * 3
    ratio = (here + elsewhere) / sum(cost(starts, "floor", workload))
    parts = f" = {here:.0f} + {elsewhere:.0f}".ljust(16)
    return f"{here + elsewhere:5.0f} ± {(high - low) / 2:<3.0f}{parts}{ratio:6.2f}"


def main() -> None:
    """Run and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--starts", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each start")
    parser.add_argument("--only", nargs="+", help="these contenders, with bare and floor")
    arguments = parser.parse_args()
    only = {"bare", "floor", *(arguments.only or sdk_contender.CONTENDERS)}
    names = [name for name in sdk_contender.CONTENDERS if name in only]
    chance, sink = random.Random(7), Sink()
    starts = [one_start(names, arguments.rounds, chance, sink) for _ in range(arguments.starts)]
    print(f"{'':20} {'µs a call':>10} = here + elsewhere  ratio {'µs a stream':>12} = here + elsewhere  ratio", end="")
    print(f"  {'start':>8} {'size':>8}  sent")
    for name in names:
        start = f"{statistics.median(rows[name].start_s for rows in starts) * 1e3:.0f} ms"
        size = f"{size_mb(PACKAGES[name]):.1f} MB" if name in PACKAGES else ""
        chat, stream = (cell(starts, name, workload) for workload in CALLS)
        print(f"{name:20} {chat}   {stream}   {start:>8} {size:>8}  {starts[0][name].sent}")
    print("sent: spans of a call / of a stream, with p = prompt, a = answer, t = token counts as numbers")
    print(f"pass-through: {pass_through_ns():.0f} ns a call")
    versions = {name: importlib.metadata.version(name) for name in sorted({*BASE, *PACKAGES.values()})}
    print(", ".join(f"{name} {version}" for name, version in versions.items()))


if __name__ == "__main__":
    main()
