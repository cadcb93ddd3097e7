"""Two collectors in front of one ClickHouse (its HTTP double) and one PostgreSQL: rows and costs are those of one."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from collector.store.servers import PASSWORD, double
from e2e.processes import LIMELIGHT, Collector

pytestmark = pytest.mark.slow
TRACES = 30
FACTS = ("span_id", "usage_role", "billable", "duplicate_of", "input_tokens", "aggregate_input_tokens", "cost_usd")


@pytest.fixture
def two(tmp_path: Path, postgresql_url: str) -> Iterator[list[Collector]]:
    with double(tmp_path / "engine", password=PASSWORD) as url:
        shared = {
            "LIMELIGHT_CLICKHOUSE_URL": f"{url}/limelight",
            "LIMELIGHT_CLICKHOUSE_PASSWORD": PASSWORD,
            "LIMELIGHT_CONTROL_URL": postgresql_url,
        }
        collectors = [Collector(tmp_path / name, **shared) for name in ("one", "two")]
        for collector in collectors:
            collector.spawn()  # at once: both find empty databases and migrate them
        for collector in collectors:
            wait_until(lambda found=collector: ready(found), 60, collector.log.read_text)
        yield collectors
        for collector in collectors:
            collector.stop()


@pytest.fixture
def single(tmp_path: Path) -> Iterator[Collector]:
    collector = Collector(tmp_path / "single")
    collector.start()
    yield collector
    collector.stop()


def ready(collector: Collector) -> bool:
    try:
        return httpx.get(f"{collector.url}/readyz", timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


def wait_until(is_so: Callable[[], bool], timeout_s: float, say: Callable[[], Any]) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline, say()
        time.sleep(0.2)


def pieces(trace: int, now_ns: int) -> list[bytes]:
    """One request a span: an agent with a sum, a framework's call in it, and the same call by the client's library."""
    trace_id = trace.to_bytes(16, "big")
    made = []
    for number, (scope, operation, parent) in enumerate(
        [("agents", "invoke_agent", 0), ("framework", "chat", 1), ("openai", "chat", 2)], start=1
    ):
        message = trace_service_pb2.ExportTraceServiceRequest()
        spans = message.resource_spans.add().scope_spans.add()
        spans.scope.name = scope
        start = now_ns + number * 1_000_000
        span = spans.spans.add(
            trace_id=trace_id, span_id=id_of(trace, number), name=operation, kind=Span.SPAN_KIND_CLIENT
        )
        span.parent_span_id = id_of(trace, parent) if parent else b""
        span.start_time_unix_nano, span.end_time_unix_nano = start, now_ns + 100_000_000 - number * 1_000_000
        said = {"gen_ai.operation.name": operation, "gen_ai.provider.name": "openai", "gen_ai.response.id": f"r{trace}"}
        said["gen_ai.request.model"] = "gpt-4o-mini-2024-07-18"
        for key, value in said.items():
            span.attributes.append(KeyValue(key=key, value=AnyValue(string_value=value)))
        for key, tokens in (("input_tokens", 1000), ("output_tokens", 10)):
            span.attributes.append(KeyValue(key=f"gen_ai.usage.{key}", value=AnyValue(int_value=tokens)))
        made.append(message.SerializeToString())
    return made


def id_of(trace: int, number: int) -> bytes:
    return (trace * 10 + number).to_bytes(8, "big")


def send(collector: Collector, bodies: list[bytes]) -> None:
    with httpx.Client(timeout=30) as client:
        for body in bodies:
            answer = client.post(
                f"{collector.url}/v1/traces", content=body, headers={"content-type": "application/x-protobuf"}
            )
            assert answer.status_code == 200, answer.text


def facts(collector: Collector) -> list[tuple[Any, ...]]:
    spans = collector.get("spans", limit=1000)["spans"]
    return sorted(tuple(span[name] for name in FACTS) for span in spans)


def leads(collector: Collector) -> bool:
    return "limelight_leader 1.0" in httpx.get(f"{collector.url}/metrics", timeout=5).text


def test_pieces_of_the_same_traces_to_either_collector_cost_what_they_cost_with_one(
    two: list[Collector], single: Collector
) -> None:
    now_ns = time.time_ns() - 10**9
    all_pieces = [pieces(trace, now_ns) for trace in range(1, TRACES + 1)]
    send(single, [body for trace in all_pieces for body in trace])
    # the two calls that repeat each other go to different collectors, at the same time
    shares = [
        [trace[0] for trace in all_pieces] + [trace[1] for trace in all_pieces],
        [trace[2] for trace in all_pieces],
    ]
    threads = [threading.Thread(target=send, args=pair) for pair in zip(two, shares, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_until(lambda: len(facts(single)) == 3 * TRACES, 30, single.log.read_text)
    expected = facts(single)
    assert sum(fact[2] for fact in expected) == TRACES  # one billed call a trace
    # what both stored in the same second is decided on again 20 s later
    wait_until(lambda: facts(two[0]) == expected, 60, lambda: set(facts(two[0])) ^ set(expected))
    assert facts(two[1]) == expected
    assert [leads(collector) for collector in two].count(True) == 1
    leader, other = sorted(two, key=leads, reverse=True)
    leader.stop()
    wait_until(lambda: leads(other), 30, other.log.read_text)
    assert facts(other) == expected


def test_a_key_made_beside_one_collector_opens_both(two: list[Collector]) -> None:
    elsewhere = two[0].data_dir.parent / "elsewhere"
    made = subprocess.run(
        [*LIMELIGHT, "keys", "create", "--project", "default", "--scope", "read", "--data-dir", str(elsewhere)],
        env={**os.environ, **two[0].environment},
        capture_output=True,
        text=True,
    )
    key = made.stdout.strip().splitlines()[-1]
    for collector in two:
        wait_until(
            lambda found=collector: httpx.get(f"{found.url}/api/v1/traces").status_code == 401, 10, made.stderr.strip
        )
        answer = httpx.get(f"{collector.url}/api/v1/traces", headers={"authorization": f"Bearer {key}"})
        assert answer.status_code == 200
