"""Captured telemetry through the collector's stages, as the span JSON that the API would answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from collector.ingest.otlp import NOW, PRICES, RETENTION, MemoryStore
from limelight_collector import decode, pipeline
from limelight_collector.batch import Batch
from limelight_collector.query.span_json import span_object
from limelight_collector.settle import Settler
from limelight_collector.spool import Record

FIXTURES = Path(__file__).parents[2] / "fixtures" / "otlp"


def expectation(fixture: Path) -> Path:
    """Where what a fixture must become is written."""
    return fixture.with_name(f"{fixture.stem}.expected.json")


def fixtures() -> list[Path]:
    """Every captured case."""
    return sorted(path for path in FIXTURES.glob("*/*.json") if not path.name.endswith(".expected.json"))


def spans_of(fixture: Path) -> list[dict[str, Any]]:
    """The spans of a capture in order of their start, as the API shows them: only the fields that are known.

    The raw attributes, resource and events are as captured and left out; so are 0 dropped attributes.
    """
    batch = Batch()
    for seq, request in enumerate(json.loads(fixture.read_text())["requests"], start=1):
        valid = decode.validate(json.dumps(request["body"]).encode(), "json", request["signal"])
        if not valid.spans:
            continue
        record = Record(seq, "p", request["signal"], NOW, valid.spans, valid.payload)
        for row in pipeline.rows(record, RETENTION, PRICES.for_project("p")).spans:
            batch.append(row)
    Settler(MemoryStore(), is_shared=False).settle(batch.rows, PRICES.for_project)  # type: ignore[arg-type]
    columns = batch.columns
    rows = [{name: values[index] for name, values in columns.items()} for index in range(len(batch))]
    rows.sort(key=lambda row: (row["start_time"], row["span_id"]))
    return [known(span_object(row)) for row in rows]


def known(span: dict[str, Any]) -> dict[str, Any]:
    """`span` without what is unknown (null, or a list that is empty), and without what is raw."""
    raw = ("attributes", "resource", "events", "links")
    found = {name: value for name, value in span.items() if name not in raw and value is not None and value != []}
    if found["dropped_attributes_count"] == 0:
        del found["dropped_attributes_count"]
    return found
