"""Captured telemetry through the collector, from the request to the store, as the span JSON that the API answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from collector.ingest.otlp import KEYS, NOW, PRICES, running
from limelight_collector import pipeline
from limelight_collector.auth import SCOPES, Principal
from limelight_collector.query.trace import find_trace
from limelight_collector.services import Services
from limelight_collector.settings import Settings
from limelight_collector.store import Store, open_store
from limelight_collector.writer import Writer

FIXTURES = Path(__file__).parents[2] / "fixtures" / "otlp"

Request = dict[str, Any]
"""`{"signal": traces | logs | metrics, "body": OTLP/JSON}`."""

_ITEMS = {
    "traces": ("resourceSpans", "scopeSpans", "spans"),
    "logs": ("resourceLogs", "scopeLogs", "logRecords"),
    "metrics": ("resourceMetrics", "scopeMetrics", "metrics"),
}


@dataclass(frozen=True, slots=True, eq=False)
class Collector:
    """A real spool, writer and embedded store; `write` moves what was accepted into the store."""

    services: Services
    store: Store
    writer: Writer

    def accept(self, project: str, request: Request) -> None:
        """Take one request as a receiver would."""
        principal = Principal(project, SCOPES, KEYS["ingest-key"].key_id)
        body = json.dumps(request["body"]).encode()
        accepted = pipeline.accept(self.services, principal, request["signal"], body, "json")
        if accepted.durable:
            accepted.durable.result(30)

    def write(self) -> None:
        """Move everything accepted into the store."""
        while self.writer.write_once():
            pass

    def spans(self, project: str) -> list[dict[str, Any]]:
        """The project's spans in order of their start, only the fields that are known."""
        found = self.store.query("SELECT DISTINCT trace_id FROM spans WHERE project_id = {p:String}", {"p": project})
        spans = [span for (trace_id,) in found.rows for span in find_trace(self.store, project, trace_id)]
        return [known(span) for span in sorted(spans, key=lambda span: (span["start_time"], span["span_id"]))]


@contextmanager
def collector(path: Path) -> Iterator[Collector]:
    """A collector in `path`, without servers and without threads of its own."""
    store = open_store(Settings(data_dir=path, retention_days=36_500))
    try:
        with running(path, retention_days=36_500) as services:
            writer = Writer(services.spool, store, PRICES, services.settings, now_ns=lambda: NOW)
            yield Collector(services, store, writer)
    finally:
        store.close()


def expectation(fixture: Path) -> Path:
    """Where what a fixture must become is written."""
    return fixture.with_name(f"{fixture.stem}.expected.json")


def fixtures() -> list[Path]:
    """Every captured case."""
    return sorted(path for path in FIXTURES.glob("*/*.json") if not path.name.endswith(".expected.json"))


def spans_of(target: Collector, captured: list[Path], *, in_pieces: bool = False) -> dict[Path, list[dict[str, Any]]]:
    """What captures become. `in_pieces`: each span, log record and metric in a request of its own, the last one
    first, and the first half of them stored before the rest arrives."""
    halves: tuple[list[tuple[str, Request]], list[tuple[str, Request]]] = ([], [])
    projects = {path: f"{path.parent.name}/{path.stem}/{in_pieces}" for path in captured}
    for path, project in projects.items():
        requests: list[Request] = json.loads(path.read_text())["requests"]
        if in_pieces:
            requests = [piece for request in requests for piece in _pieces(request)][::-1]
        for number, request in enumerate(requests):
            halves[in_pieces and number > len(requests) // 2].append((project, request))
    for half in halves:
        for project, request in half:
            target.accept(project, request)
        target.write()
    return {path: target.spans(project) for path, project in projects.items()}


def _pieces(request: Request) -> Iterator[Request]:
    resources, scopes, items = _ITEMS[request["signal"]]
    for resource in request["body"][resources]:
        for scope in resource[scopes]:
            for item in scope[items]:
                body = {resources: [{**resource, scopes: [{**scope, items: [item]}]}]}
                yield {"signal": request["signal"], "body": body}


def known(span: dict[str, Any]) -> dict[str, Any]:
    """`span` without what is unknown (null, or a list that is empty) and without what is raw or the same everywhere."""
    left_out = ("attributes", "resource", "events", "links", "project")
    found = {name: value for name, value in span.items() if name not in left_out and value is not None and value != []}
    if found["dropped_attributes_count"] == 0:
        del found["dropped_attributes_count"]
    return found
