"""`make bench-ingest`: CPU per span from OTLP to queryable rows, and what of it is the store alone.

Method: this process is the load generator; the collector is a process of its own on a fresh directory. Requests of 100
spans (37.5 % LLM calls with about 3 KB of text from this machine's standard library, the rest tool, retrieval and HTTP
spans), gzip, over HTTP, one connection, at the rate asked for (0 = as fast as acknowledged). CPU is user + system time
of the whole collector process from /proc, start-up left out, until every span is readable. The reference inserts rows
that are ready, through the same Store, in a third process. Figures are for comparing two versions on one machine.
"""

from __future__ import annotations

import argparse
import gzip
import multiprocessing
import os
import random
import statistics
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

sys.path.insert(0, str(Path(__file__).parent.parent))
from e2e.processes import Collector

SPANS = 100
TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def texts() -> list[str]:
    """About 3,000 pieces of English and code, 1 to 2 KB each."""
    files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))[:120]
    text = "".join(file.read_text(errors="ignore") for file in files)
    return [text[start : start + 1500] for start in range(0, min(len(text), 4_500_000), 1500)]


def request(chance: random.Random, pool: list[str], now_ns: int) -> bytes:
    """One gzipped request of SPANS spans in traces of eight."""
    message = ExportTraceServiceRequest()
    resource_spans = message.resource_spans.add()
    attribute(resource_spans.resource.attributes, "service.name", "bench")
    attribute(resource_spans.resource.attributes, "deployment.environment.name", "production")
    spans = resource_spans.scope_spans.add().spans
    trace_id = b""
    for number in range(SPANS):
        if number % 8 == 0:
            trace_id, root = chance.randbytes(16), chance.randbytes(8)
        start = now_ns - chance.randrange(60 * 10**9)
        span = spans.add(trace_id=trace_id, span_id=root if number % 8 == 0 else chance.randbytes(8), kind=3)
        span.start_time_unix_nano, span.end_time_unix_nano = start, start + chance.randrange(10**6, 5 * 10**9)
        if number % 8:
            span.parent_span_id = root
        (llm if number % 8 in (1, 3, 5) else step)(span, chance, pool)
    return gzip.compress(message.SerializeToString(), 6)


def llm(span: Any, chance: random.Random, pool: list[str]) -> None:
    """A chat call with 20 attributes."""
    import json

    model = chance.choice(["gpt-4o-mini", "gpt-4o", "claude-sonnet-4-5", "qwen3-32b"])
    span.name = f"chat {model}"
    messages = [{"role": "user", "parts": [{"type": "text", "content": chance.choice(pool)}]}]
    answer = [
        {
            "role": "assistant",
            "parts": [{"type": "text", "content": chance.choice(pool)[:900]}],
            "finish_reason": "stop",
        }
    ]
    values: dict[str, Any] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "anthropic" if model.startswith("claude") else "openai",
        "gen_ai.request.model": model,
        "gen_ai.response.model": model,
        "gen_ai.response.id": f"chatcmpl-{chance.randrange(10**12)}",
        "gen_ai.request.temperature": 0.2,
        "gen_ai.request.max_tokens": 512,
        "gen_ai.request.stream": True,
        "gen_ai.response.time_to_first_chunk": chance.random(),
        "gen_ai.usage.input_tokens": chance.randrange(100, 3000),
        "gen_ai.usage.output_tokens": chance.randrange(10, 600),
        "gen_ai.usage.cache_read.input_tokens": chance.randrange(100),
        "gen_ai.input.messages": json.dumps(messages),
        "gen_ai.output.messages": json.dumps(answer),
        "server.address": "api.openai.com",
        "session.id": f"chat-{chance.randrange(5000)}",
        "user.id": f"user-{chance.randrange(500)}",
        "gen_ai.prompt.name": "support",
        "gen_ai.prompt.version": "3",
    }
    for key, value in values.items():
        attribute(span.attributes, key, value)
    span.attributes.add(key="gen_ai.response.finish_reasons").value.array_value.values.add(string_value="stop")


def step(span: Any, chance: random.Random, _pool: list[str]) -> None:
    """A tool call with eight attributes."""
    span.name = "execute_tool lookup_order"
    for key, value in {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "lookup_order",
        "gen_ai.tool.call.id": f"call_{chance.randrange(10**9)}",
        "gen_ai.tool.call.arguments": '{"order_id": "88213"}',
        "gen_ai.tool.call.result": '{"status": "shipped", "due": "tomorrow"}',
        "session.id": f"chat-{chance.randrange(5000)}",
        "team": chance.choice(["a", "b", "c"]),
        "attempt": chance.randrange(3),
    }.items():
        attribute(span.attributes, key, value)


def attribute(target: Any, key: str, value: Any) -> None:
    """Append one attribute of the value's own type."""
    kind = {bool: "bool_value", int: "int_value", float: "double_value", str: "string_value"}[type(value)]
    setattr(target.add(key=key).value, kind, value)


def cpu_s(pid: int) -> float:
    """User and system seconds of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK_S


def rss_mb(pid: int) -> float:
    """Resident memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def ready_columns(bodies: list[bytes], folder: str, answer: Any) -> None:
    """In a process of its own: CPU seconds of inserting the same spans as ready batches of 5,000."""
    from limelight_collector import pipeline
    from limelight_collector.batch import Batch
    from limelight_collector.settings import Settings
    from limelight_collector.spool import Record
    from limelight_collector.store import open_store

    batches: list[Batch] = []
    for number, body in enumerate(bodies):
        if number % 50 == 0:
            batches.append(Batch())
        record = Record(number, "default", "traces", time.time_ns(), SPANS, gzip.decompress(body))
        for row in pipeline.rows(record, 30 * 86400 * 10**9, lambda _row: None).spans:
            batches[-1].append(row)
    store = open_store(Settings(data_dir=Path(folder)))
    before = time.process_time()
    for batch in batches:
        store.insert(batch)
    answer.put(time.process_time() - before)


def main() -> None:
    """Run and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--rate", type=float, default=0.0, help="spans a second; 0 = as fast as acknowledged")
    arguments = parser.parse_args()
    chance, pool = random.Random(7), texts()
    bodies = [request(chance, pool, time.time_ns()) for _ in range(arguments.requests)]
    total = SPANS * len(bodies)
    with tempfile.TemporaryDirectory() as folder:
        collector = Collector(Path(folder) / "data")
        ready_s = collector.start()
        assert collector.process is not None
        pid = collector.process.pid
        idle_mb, before, started = rss_mb(pid), cpu_s(pid), time.monotonic()
        acknowledged: list[float] = []
        headers = {"Content-Type": "application/x-protobuf", "Content-Encoding": "gzip"}
        with httpx.Client() as client:
            for number, body in enumerate(bodies):
                if arguments.rate:
                    time.sleep(max(0.0, started + number * SPANS / arguments.rate - time.monotonic()))
                sent = time.monotonic()
                client.post(f"{collector.url}/v1/traces", content=body, headers=headers).raise_for_status()
                acknowledged.append(time.monotonic() - sent)
            sent_s = time.monotonic() - started
            while collector.get("status")["spool_records"]:
                time.sleep(0.2)
        used, wall = cpu_s(pid) - before, time.monotonic() - started
        peak_mb = rss_mb(pid)
        collector.stop()
        context = multiprocessing.get_context("spawn")
        answer = context.Queue()
        reference = context.Process(target=ready_columns, args=(bodies, f"{folder}/reference", answer))
        reference.start()
        insert_s = answer.get(timeout=600)
        reference.join()
    quantiles = statistics.quantiles(acknowledged, n=100)
    print(f"spans                           {total}  ({sum(map(len, bodies)) / total:.0f} bytes each, gzipped)")
    print(f"ready after                     {ready_s:.1f} s, {idle_mb:.0f} MB idle, {peak_mb:.0f} MB after")
    print(f"collector CPU per span          {used / total * 1e6:.0f} µs  ({total / used:.0f} spans/s per core)")
    print(f"ready columns, CPU per span     {insert_s / total * 1e6:.0f} µs  (ratio {used / insert_s:.2f})")
    print(f"acknowledged p50 / p99          {quantiles[49] * 1e3:.0f} / {quantiles[98] * 1e3:.0f} ms")
    print(f"sent / readable within          {sent_s:.1f} / {wall:.1f} s")


if __name__ == "__main__":
    main()
