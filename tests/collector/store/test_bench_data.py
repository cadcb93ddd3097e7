"""The query bench's rows against those of the real pipeline: the same columns filled, in the same form."""

from __future__ import annotations

import gzip
import json
import random
import time
from collections.abc import Iterator
from typing import Any

import pytest

from bench.ingest_spans import request, texts
from bench.query_build import close_days, corpus_text, flags_sql, scores_sql, stretches
from bench.query_data import PROJECTS, SPANS_A_TRACE, insert_sql
from limelight_collector import pipeline
from limelight_collector.batch import Batch
from limelight_collector.enrich.cost import Prices
from limelight_collector.settings import Settings
from limelight_collector.spool import Record
from limelight_collector.store import Store, open_store

_SPANS = 2000
_END_NS = 1_790_000_000_000_000_000
_HOUR_NS = 3600 * 10**9
_JSON = ("input_messages", "output_messages", "retrieval_documents", "tool_args", "tool_result")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Both kinds of rows: the pipeline's in project `sent`, the bench's in its own."""
    folder = tmp_path_factory.mktemp("bench")
    corpus = folder / "corpus.txt"
    corpus.write_text("def answer(question):\n\treturn 'it is \"so\"' + question \\\n" * 200)
    opened = open_store(Settings(data_dir=folder / "data", retention_days=36_500))
    body = request(random.Random(1), texts()[:50], _SPANS, _END_NS)
    record = Record(1, "sent", "traces", _END_NS, _SPANS, gzip.decompress(body))
    rows = pipeline.rows(record, time.time_ns(), Prices().for_project("sent"))
    opened.insert(Batch(rows=rows.spans))
    opened.execute(insert_sql(0, _SPANS // SPANS_A_TRACE, _END_NS - _HOUR_NS, _HOUR_NS, corpus))
    opened.execute(flags_sql())
    opened.execute(scores_sql())
    yield opened
    opened.close()


def _kind(row: dict[str, Any]) -> str:
    return str(row["observation_type"])


def _rows(store: Store, sent: bool) -> list[dict[str, Any]]:
    of = "=" if sent else "!="
    return store.query(f"SELECT * FROM spans FINAL WHERE project_id {of} 'sent' AND status = 'ok'").dicts()


def _filled(rows: list[dict[str, Any]]) -> dict[str, set[str]]:
    """Columns that some row of each kind fills."""
    found: dict[str, set[str]] = {}
    for row in rows:
        filled = {name for name, value in row.items() if (any(value) if isinstance(value, bytes) else value)}
        found.setdefault(_kind(row), set()).update(filled)
    return found


def _shape(value: Any) -> Any:
    """A JSON value with its leaves replaced by the names of their types."""
    if isinstance(value, dict):
        return {name: _shape(inner) for name, inner in value.items()}
    return [_shape(inner) for inner in value] if isinstance(value, list) else type(value).__name__


def _forms(row: dict[str, Any]) -> str:
    """Attributes in their order with the types of their values, the resource, and the shape of each JSON column."""
    maps = {
        name: {key: _shape(json.loads(text)) for key, text in row[name].items()} for name in ("attributes", "resource")
    }
    return json.dumps([maps, {name: _shape(json.loads(row[name])) for name in _JSON if row[name]}])


def test_rows_fill_the_columns_the_pipeline_fills(store: Store) -> None:
    assert _filled(_rows(store, sent=False)) == _filled(_rows(store, sent=True))


def test_json_attributes_and_resource_have_the_pipelines_form(store: Store) -> None:
    def forms(rows: list[dict[str, Any]]) -> set[tuple[str, str]]:
        return {(_kind(row), _forms(row)) for row in rows}

    assert forms(_rows(store, sent=False)) == forms(_rows(store, sent=True))


def test_attributes_carry_what_the_columns_say(store: Store) -> None:
    pairs = {"gen_ai.input.messages": "input_messages", "gen_ai.retrieval.documents": "retrieval_documents"}
    for sent in (True, False):
        for row in _rows(store, sent=sent):
            for key, column in pairs.items():
                told = json.loads(row["attributes"].get(key, '""'))
                assert (json.loads(told) if told else None) == (json.loads(row[column]) if row[column] else None)
                assert not row[column] or json.dumps(json.loads(told)) == told  # spaced as a client writes it
                assert json.dumps(json.loads(row[column] or "0"), separators=(",", ":")) == (row[column] or "0")


def test_a_failed_span_says_why_and_has_no_answer(store: Store) -> None:
    failed = store.query("SELECT * FROM spans WHERE status = 'error' AND observation_type = 'llm'").dicts()
    assert len(failed) > 5
    assert {row["output_messages"] for row in failed} == {""}
    assert all(row["error_type"] and row["error_message"] == row["status_message"] for row in failed)
    assert all(json.loads(row["attributes"]["error.type"]) == row["error_type"] for row in failed)


def test_traces_are_whole_and_their_times_are_kept(store: Store) -> None:
    traces = store.query(
        "SELECT count(), uniqExact(span_id), countIf(reinterpretAsUInt64(parent_span_id) = 0), any(project_id), "
        "uniqExact(project_id) FROM spans WHERE project_id != 'sent' GROUP BY trace_id"
    ).rows
    assert {row[:3] + row[4:] for row in traces} == {(8, 8, 1, 1)}
    assert {row[3] for row in traces} == set(PROJECTS)
    known = store.query("SELECT count() FROM (SELECT DISTINCT trace_id FROM trace_times WHERE project_id != 'sent')")
    assert known.rows[0][0] == len(traces)


def test_flags_and_scores_hang_on_answers(store: Store) -> None:
    for table in ("flags", "scores"):
        answers = "SELECT trace_id, span_id FROM spans WHERE observation_type = 'llm' AND status = 'ok'"
        found = store.query(f"SELECT count(), countIf((trace_id, span_id) IN ({answers})) FROM {table}").rows[0]
        assert found[0] > 0
        assert found[0] == found[1]


def test_days_that_are_over_become_one_part(store: Store) -> None:
    for number, days in enumerate((3, 3, 2)):
        start = _END_NS - days * 24 * _HOUR_NS
        row = {"project_id": "days", "trace_id": bytes([number] * 16), "span_id": bytes(8), "start_time": start}
        store.insert(Batch(rows=[row]))
    parts = "SELECT partition_id, count() FROM system.parts WHERE active AND table = 'spans' GROUP BY 1 ORDER BY 1"
    close_days(store)
    assert [count for _, count in store.query(parts).rows][:-1] == [1, 1]


def test_stretches_are_all_of_the_week_each_within_a_day() -> None:
    found = list(stretches(100_000, _END_NS))
    assert sum(traces for _, traces, _, _ in found) == 100_000
    assert [first for first, *_ in found[1:]] == [first + traces for first, traces, _, _ in found[:-1]]
    assert found[0][2] == _END_NS - 7 * 24 * _HOUR_NS
    assert found[-1][2] + found[-1][3] == _END_NS
    day_ns = 24 * _HOUR_NS
    assert all(start // day_ns == (start + length - 1) // day_ns for _, _, start, length in found)


def test_the_corpus_is_text_that_json_can_hold() -> None:
    text = corpus_text()
    assert len(text) > 2_000_000
    assert json.loads(json.dumps(text.decode("ascii"))) == text.decode("ascii")
