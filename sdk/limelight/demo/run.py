"""`limelight demo`: start the product and a real model, run the sample application, show what came of it."""

from __future__ import annotations

import contextlib
import itertools
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import openai

import limelight
from limelight.demo import model_server
from limelight.demo.agent import SupportAgent, Turn
from limelight.demo.processes import Child, DemoFailed, Webhook, free_port
from limelight.demo.script import failures, turns

SERVICE = "support-agent"
ENVIRONMENT = "demo"
PRICE = {"input_per_million_usd": "0.10", "cache_read_per_million_usd": "0.01", "output_per_million_usd": "0.40"}
"""A shadow price for the local models, so that the cost page has something honest to show; it is printed."""

RULES = """\
# The demo's alert rule: the shipped one, with a window of seconds instead of minutes.
rules:
  - id: demo-error-rate
    name: Error rate of the support agent
    severity: critical
    signal: error_rate
    filter: environment = "demo"
    group_by: [service_name]
    window: 15s
    condition: {{kind: static, op: ">", threshold: 0.25}}
    for: 4s
    keep_firing_for: 4s
    min_events: 5
    annotations:
      summary: "{{service_name}}: {{value}} of the model calls fail"
    channels: [demo-webhook]
channels:
  - id: demo-webhook
    kind: webhook
    url: {url}
"""


@dataclass(frozen=True, slots=True)
class Backend:
    """The model endpoint the agent talks to."""

    base_url: str
    chat_models: list[str]
    embed_model: str | None
    stuck_model: str | None
    metrics_url: str | None


def run(flags: dict[str, Any]) -> int:
    """The command; returns its exit code."""
    try:
        with ExitStack() as stack:
            return _run(flags, stack)
    except DemoFailed as failure:
        print(f"limelight demo: {failure}", file=sys.stderr)
        return 1


def _run(flags: dict[str, Any], stack: ExitStack) -> int:
    own = _user_backend(flags) if flags["base_url"] else None
    data_dir = Path(flags["data_dir"] or "limelight-demo-data")
    data_dir.mkdir(parents=True, exist_ok=True)
    endpoint = f"http://127.0.0.1:{flags['http_port']}"
    dashboard = f"http://127.0.0.1:{flags['dashboard_port']}"
    webhook = Webhook()

    print("Starting Limelight on embedded storage …", flush=True)
    product = _start_product(flags, data_dir, webhook)
    stack.callback(product.stop)
    model = None if own else _start_model(data_dir)
    if model is not None:
        stack.callback(model[0].stop)
    ready_s = product.wait_ready(f"{endpoint}/readyz", 60)
    print(f"  collector ready after {ready_s:.1f} s: OTLP {endpoint}, gRPC port {flags['grpc_port']}")
    if model is not None:
        backend = model[1]
        model[0].wait_ready(f"{backend.base_url.removesuffix('/v1')}/health", 120)
        print(f"  real model ready: SmolLM2-135M under llama.cpp at {backend.base_url}")
        _set_prices(endpoint, backend)
    else:
        assert own is not None
        backend = own
    product.wait_ready(f"{dashboard}/_stcore/health", 60)
    print(f"  dashboard: {dashboard}\n", flush=True)

    limelight.init(endpoint=endpoint, service_name=SERVICE, environment=ENVIRONMENT)
    stack.callback(limelight.shutdown)
    agent = SupportAgent(openai.OpenAI(base_url=backend.base_url, api_key="local", max_retries=0), backend.embed_model)
    before = _server_counts(backend)
    started = time.time()
    outcome = play(agent, backend, int(flags["conversations"]))
    limelight.flush(10)
    time.sleep(2)  # the writer's longest wait for company, and the store's answer
    _report(endpoint, backend, before, started, outcome)
    _report_alert(webhook)
    print(f"\nOpen {dashboard} (press Ctrl-C here to stop; the data stays in {data_dir})", flush=True)
    if not flags["once"]:
        _trickle(agent, backend)
    return 0


def _start_product(flags: dict[str, Any], data_dir: Path, webhook: Webhook) -> Child:
    rules = data_dir / "demo-rules.yaml"
    rules.write_text(RULES.format(url=webhook.url))
    arguments = ["up", "--data-dir", str(data_dir), "--rules-file", str(rules)]
    for name in ("http_port", "grpc_port", "dashboard_port"):
        arguments += [f"--{name.replace('_', '-')}", str(flags[name])]
    environment = {"LIMELIGHT_ALERT_INTERVAL_S": "2", "LIMELIGHT_WEBHOOK_ALLOWED_HOSTS": '["127.0.0.1"]'}
    return Child("limelight up", "limelight.cli", arguments, data_dir / "demo-up.log", environment)


def _start_model(data_dir: Path) -> tuple[Child, Backend]:
    port = free_port()
    log = data_dir / "demo-model.log"
    child = Child("the model server", "limelight.demo.model_server", ["--port", str(port)], log, {})
    address = f"http://127.0.0.1:{port}"
    return child, Backend(
        base_url=f"{address}/v1",
        chat_models=[model_server.CHAT_MODEL, model_server.LONG_MODEL],
        embed_model=model_server.EMBED_MODEL,
        stuck_model=model_server.STUCK_MODEL,
        metrics_url=f"{address}/metrics",
    )


def _user_backend(flags: dict[str, Any]) -> Backend:
    """The user's own endpoint; an Ollama address gets the /v1 of its OpenAI-compatible side."""
    if not flags["model"]:
        raise DemoFailed("--base-url needs --model: the name of the model to ask there")
    base_url = str(flags["base_url"]).rstrip("/")
    if not urlsplit(base_url).path:
        base_url += "/v1"
    return Backend(base_url, [flags["model"]], embed_model=None, stuck_model=None, metrics_url=None)


def _set_prices(endpoint: str, backend: Backend) -> None:
    models = [*backend.chat_models, backend.embed_model]
    overrides = [{"provider": "openai", "model": model, **PRICE} for model in models]
    answer = httpx.put(f"{endpoint}/api/v1/prices/overrides", json={"overrides": overrides}, timeout=10)
    if answer.status_code >= 400:
        raise DemoFailed(f"the collector refused the demo's prices: {answer.text}")
    print(f"  shadow price of the local models: ${PRICE['input_per_million_usd']} in, "
          f"${PRICE['output_per_million_usd']} out per million tokens (PUT /api/v1/prices/overrides)")  # fmt: skip


def play(agent: SupportAgent, backend: Backend, conversations: int) -> dict[str, int]:
    """Calm, failures, recovery; returns how many turns were answered and how many failed, by error type."""
    calm = turns(backend.chat_models)
    third = max(conversations // 3, 4)
    bad = itertools.islice(failures(calm, backend.stuck_model), max(third * 2, 16))
    script: list[tuple[str, Iterable[Turn], float]] = [
        ("calm", itertools.islice(calm, third), 0.0),
        ("bad deploy", bad, 0.8),
        ("recovered", itertools.islice(calm, max(conversations - third, 0)), 0.0),
    ]
    outcome: dict[str, int] = {}
    for phase, phase_turns, pause_s in script:
        todo = list(phase_turns)
        with ThreadPoolExecutor(2) as pool:
            results = pool.map(lambda turn, pause=pause_s: _one(agent, turn, pause), todo)
            for result in _progress(phase, results, len(todo)):
                outcome[result] = outcome.get(result, 0) + 1
    return outcome


def _one(agent: SupportAgent, turn: Turn, pause_s: float) -> str:
    try:
        agent.handle(turn)
        result = "answered"
    except openai.OpenAIError as error:  # the application's own handling: it apologises and goes on
        result = type(error).__name__
    time.sleep(pause_s)
    return result


def _progress(title: str, results: Iterable[str], total: int) -> Iterator[str]:
    for done, result in enumerate(results, 1):
        yield result
        if done < total and not sys.stdout.isatty():
            continue
        bar = "█" * (30 * done // total)
        end = "\n" if done == total else ""
        print(f"\r  {title:<10} {bar:<30} {done}/{total}", end=end, flush=True)


def _server_counts(backend: Backend) -> dict[str, int]:
    """What the model server itself counted so far: input, cached and output tokens."""
    counts = {"input_tokens": 0, "cache_read_tokens": 0, "output_tokens": 0}
    if backend.metrics_url is None:
        return counts
    for line in httpx.get(backend.metrics_url, timeout=10).text.splitlines():
        name, _, value = line.partition("{")[0], None, line.rpartition(" ")[2]
        if name == "llamacpp:prompt_tokens_total":
            counts["input_tokens"] += int(float(value))
        elif name == "llamacpp:prompt_tokens_cached_total":
            counts["input_tokens"] += int(float(value))
            counts["cache_read_tokens"] += int(float(value))
        elif name == "llamacpp:tokens_predicted_total":
            counts["output_tokens"] += int(float(value))
    return counts


def _report(endpoint: str, backend: Backend, before: dict[str, int], started: float, outcome: dict[str, int]) -> None:
    print("\nTurns: " + ", ".join(f"{count} {name}" for name, count in sorted(outcome.items())))
    measures = [
        "request_count",
        "error_count",
        "input_tokens",
        "cache_read_tokens",
        "output_tokens",
        "cost_usd",
        "flag_count",
    ]
    query = {"measure": ",".join(measures), "from": f"{started:.3f}", "filter": f'service_name = "{SERVICE}"'}
    rows: list[dict[str, Any]] = httpx.get(f"{endpoint}/api/v1/series", params=query, timeout=30).json()["rows"]
    stored = rows[0] if rows else dict.fromkeys(measures, 0)
    print("Stored: " + ", ".join(f"{name} {stored[name]}" for name in measures))
    if backend.metrics_url is None:
        return
    after = _server_counts(backend)
    print(f"{'tokens':<20}{'Limelight':>12}{'model server':>14}")
    for name, count in after.items():
        ours, theirs = int(stored[name] or 0), count - before[name]
        print(f"{name:<20}{ours:>12}{theirs:>14}  {'equal' if ours == theirs else 'DIFFERENT'}")


def _report_alert(webhook: Webhook) -> None:
    webhook.wait_for("resolved", 40)
    for delivery in webhook.deliveries:
        rule = delivery.get("rule", {}).get("id")
        print(f"Webhook received: {rule} {delivery.get('status')}, value {delivery.get('value')}")
    if not webhook.deliveries:
        print("Webhook received nothing: no alert fired")


def _trickle(agent: SupportAgent, backend: Backend) -> None:
    """One turn every few seconds, so that the dashboard stays alive, until Ctrl-C."""
    with contextlib.suppress(KeyboardInterrupt):
        for turn in turns(backend.chat_models):
            _one(agent, turn, pause_s=5.0)
