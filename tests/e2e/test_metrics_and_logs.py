"""Metrics and log records of programs that run: our SDK's, and stock OpenTelemetry's over each transport."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from e2e.processes import Collector

CALLS = textwrap.dedent(
    """
    import http.server, json, sys, threading
    import openai
    import limelight

    class Model(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            message = {"role": "assistant", "content": "Hello."}
            body = json.dumps({
                "id": "c1", "object": "chat.completion", "created": 1, "model": "gpt-4o-2024-08-06",
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12},
            }).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        def log_message(self, *args): pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Model)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    limelight.init(endpoint=sys.argv[1], service_name="shop", environment="test")
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{server.server_port}/v1", api_key="local")
    def ask():
        client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "Hi"}])
    ask()
    assert limelight.flush(20)
    ask()
    ask()
    limelight.score("helpful", 1.0, trace_id="0af7651916cd43dd8448eb211c80319c")
    assert limelight.flush(20)
    limelight.shutdown()
    """
)

STOCK = textwrap.dedent(
    """
    import sys, time
    from opentelemetry._logs import LogRecord, SeverityNumber
    from opentelemetry.metrics import Observation
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
    from opentelemetry.sdk.resources import Resource

    transport, endpoint = sys.argv[1:]
    if transport == "http":
        from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        metric_exporter = OTLPMetricExporter(endpoint=endpoint + "/v1/metrics")
        log_exporter = OTLPLogExporter(endpoint=endpoint + "/v1/logs")
    else:
        from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
        metric_exporter = OTLPMetricExporter(endpoint=endpoint, insecure=True)
        log_exporter = OTLPLogExporter(endpoint=endpoint, insecure=True)

    resource = Resource.create({"service.name": "stock"})
    reader = PeriodicExportingMetricReader(metric_exporter, export_interval_millis=3_600_000)
    view = View(instrument_name="fine", aggregation=ExponentialBucketHistogramAggregation())
    provider = MeterProvider([reader], resource=resource, views=[view])
    meter = provider.get_meter("meter", "1.0")
    counter, queue = meter.create_counter("calls", unit="{call}"), meter.create_up_down_counter("queue")
    coarse, fine = meter.create_histogram("coarse", unit="s"), meter.create_histogram("fine", unit="s")
    meter.create_observable_gauge("kv_cache.usage", [lambda _: [Observation(0.25, {"engine": "0"})]])
    for value in range(1, 101):
        counter.add(1, {"model": "a" if value % 4 else "b"})
        coarse.record(value / 10)
        fine.record(value / 10)
        if value == 50:
            provider.force_flush()
    queue.add(7)
    provider.shutdown()

    logs = LoggerProvider(resource=resource)
    logs.add_log_record_processor(BatchLogRecordProcessor(log_exporter))
    logger = logs.get_logger("logger")
    fields = dict(timestamp=time.time_ns(), trace_id=0xABC, span_id=0xDEF)
    logger.emit(LogRecord(**fields, event_name="gen_ai.choice", body={"index": 0, "message": {"content": "Hi"}}))
    logger.emit(LogRecord(timestamp=time.time_ns(), severity_number=SeverityNumber.ERROR, severity_text="ERROR",
                          body="It broke", attributes={"code": 7, "tags": ["x", "y"]}))
    logs.shutdown()
    """
)


def run(tmp_path: Path, program: str, *arguments: str) -> None:
    path = tmp_path / "program.py"
    path.write_text(program)
    done = subprocess.run([sys.executable, str(path), *arguments], capture_output=True, text=True, timeout=90)
    assert (done.returncode, done.stderr) == (0, "")


def eventually(ask: Callable[[], Any], is_it: Callable[[Any], bool]) -> Any:
    """The answer once it is what was waited for."""
    for _ in range(150):
        found = ask()
        if is_it(found):
            return found
        time.sleep(0.2)
    raise AssertionError(f"still {found}")


def metrics_of(collector: Collector, *names: str) -> dict[str, dict[str, Any]]:
    """The metrics by name, once all of `names` are there."""
    found = eventually(
        lambda: {metric["name"]: metric for metric in collector.get("metrics")["metrics"]},
        lambda metrics: metrics.keys() >= set(names),
    )
    return dict(found)


def total(collector: Collector, name: str, aggregation: str, **params: Any) -> float | None:
    (row,) = collector.get(f"metrics/{name}/series", aggregation=aggregation, **params)["rows"]
    return row["value"]


def test_the_sdks_own_metrics_and_scores(collector: Collector, tmp_path: Path) -> None:
    run(tmp_path, CALLS, collector.url)
    duration, usage = "gen_ai.client.operation.duration", "gen_ai.client.token.usage"
    found = metrics_of(collector, duration, usage, "otel.sdk.exporter.span.exported")
    assert (found[duration]["kind"], found[duration]["unit"], found[duration]["series_count"]) == ("histogram", "s", 1)
    assert {"gen_ai.request.model", "gen_ai.operation.name"} <= set(found[duration]["attribute_keys"])
    eventually(lambda: total(collector, duration, "count"), lambda value: value == 3)
    by_type = collector.get(f"metrics/{usage}/series", aggregation="sum", group_by='attr["gen_ai.token.type"]')
    assert by_type["rows"] == [
        {'attr["gen_ai.token.type"]': "input", "value": 30.0},
        {'attr["gen_ai.token.type"]': "output", "value": 6.0},
    ]
    median = total(collector, duration, "p50", filter='service_name = "shop" and environment = "test"')
    assert median is not None
    assert 0 < median < 10
    (judged,) = eventually(lambda: collector.get("logs")["logs"], bool)
    assert judged["event_name"] == "gen_ai.evaluation.result"
    assert (judged["trace_id"], judged["service_name"]) == ("0af7651916cd43dd8448eb211c80319c", "shop")
    assert judged["attributes"]["gen_ai.evaluation.name"] == "helpful"


@pytest.mark.parametrize("transport", ["http", "grpc"])
def test_stock_opentelemetry(collector: Collector, tmp_path: Path, transport: str) -> None:
    run(tmp_path, STOCK, transport, collector.url if transport == "http" else f"127.0.0.1:{collector.grpc_port}")
    found = metrics_of(collector, "calls", "queue", "coarse", "fine", "kv_cache.usage")
    assert {name: (metric["kind"], metric["series_count"]) for name, metric in found.items()} == {
        "calls": ("sum", 2),
        "queue": ("sum", 1),
        "coarse": ("histogram", 1),
        "fine": ("exponential_histogram", 1),
        "kv_cache.usage": ("gauge", 1),
    }
    eventually(lambda: total(collector, "calls", "sum"), lambda value: value == 100)
    rows = collector.get("metrics/calls/series", group_by='attr["model"],service_name')["rows"]
    assert [(row['attr["model"]'], row["service_name"], row["value"]) for row in rows] == [
        ("a", "stock", 75.0),
        ("b", "stock", 25.0),
    ]
    assert total(collector, "queue", "last") == 7
    assert total(collector, "kv_cache.usage", "avg") == 0.25
    for name, within in (("coarse", 0.26), ("fine", 0.02)):  # 0.1 to 10: half of them up to 5
        assert total(collector, name, "count") == 100
        assert total(collector, name, "avg") == pytest.approx(5.05)
        assert total(collector, name, "p50") == pytest.approx(5.0, rel=within)

    logs = eventually(lambda: collector.get("logs")["logs"], lambda records: len(records) == 2)
    broke, choice = sorted(logs, key=lambda record: record["event_name"] or "")
    assert (broke["severity_number"], broke["severity_text"], broke["body"]) == (17, "ERROR", "It broke")
    assert (broke["attributes"], broke["trace_id"]) == ({"code": 7, "tags": ["x", "y"]}, None)
    assert (choice["body"], choice["span_id"]) == ({"index": 0, "message": {"content": "Hi"}}, f"{0xDEF:016x}")
    (of_trace,) = collector.get("logs", trace_id=f"{0xABC:032x}")["logs"]
    assert of_trace["log_id"] == choice["log_id"]


def test_a_model_servers_metrics_as_a_prometheus_receiver_sends_them(collector: Collector) -> None:
    # A scrape's first point is a base: the receiver's start time is the scrape's own.
    now_ns = time.time_ns()
    times = [now_ns - 120 * 10**9 + n * 30 * 10**9 for n in range(4)]

    def point(at_ns: int, **value: Any) -> dict[str, Any]:
        attributes = [{"key": "model_name", "value": {"stringValue": "m"}}]
        return {"timeUnixNano": str(at_ns), "startTimeUnixNano": str(times[0]), "attributes": attributes, **value}

    counts = [point(at, asDouble=1000.0 + 15 * n) for n, at in enumerate(times)]
    buckets = [
        point(at, count=str(100 + 2 * n), sum=5.0 + n, bucketCounts=["100", str(2 * n), "0"], explicitBounds=[0.1, 0.3])
        for n, at in enumerate(times)
    ]
    metrics = [
        {"name": "vllm:num_requests_running", "gauge": {"dataPoints": [point(at, asDouble=2.0) for at in times]}},
        {"name": "vllm:prompt_tokens_total", "sum": {"dataPoints": counts, "isMonotonic": True}},
        {"name": "vllm:time_to_first_token_seconds", "histogram": {"dataPoints": buckets}},
    ]
    for metric in metrics[1:]:
        next(value for value in metric.values() if isinstance(value, dict))["aggregationTemporality"] = 2
    body = {"resourceMetrics": [{"scopeMetrics": [{"metrics": metrics}]}]}
    for _ in range(2):  # a retry changes nothing
        answer = httpx.post(f"{collector.url}/v1/metrics", json=body)
        assert (answer.status_code, answer.json()) == (200, {})
    metrics_of(collector, *(str(metric["name"]) for metric in metrics))
    assert total(collector, "vllm:num_requests_running", "avg") == 2.0
    assert total(collector, "vllm:prompt_tokens_total", "sum") == 45.0
    assert total(collector, "vllm:prompt_tokens_total", "rate") == pytest.approx(45 / 3600)
    assert total(collector, "vllm:time_to_first_token_seconds", "count") == 6.0
    assert total(collector, "vllm:time_to_first_token_seconds", "p50") == pytest.approx(0.2)
