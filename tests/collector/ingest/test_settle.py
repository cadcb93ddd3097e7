"""Counted once, also when the pieces of a trace arrive in different requests, in any order, across restarts."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from collector.ingest.otlp import PRICES
from collector.store.rows import T0, llm, log, span
from limelight_collector import settle
from limelight_collector.batch import Batch
from limelight_collector.errors import QueryLimit
from limelight_collector.settings import Settings
from limelight_collector.settle import Settler
from limelight_collector.store import Store, open_store
from limelight_collector.trace_memory import Known, SeenTraces, TraceMemory
from limelight_collector.traces import fact_of

SHOWN = (
    "lower(hex(span_id)) AS id, usage_role, billable, duplicate_of, input_tokens, aggregate_input_tokens, cost_usd, "
    "request_model"
)
COST = Decimal("0.00045")
"""100 tokens in and 20 out of gpt-4o."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    opened = open_store(Settings(data_dir=tmp_path_factory.mktemp("settle"), retention_days=36_500))
    yield opened
    opened.close()


def write(settler: Settler, store: Store, *rows: dict[str, Any], logs: list[dict[str, Any]] | None = None) -> int:
    """What the writer does with a batch; how many earlier rows it stored again."""
    copies = [{"attributes": {}} | dict(row, scope_name=row.get("scope_name", f"scope-{row['name']}")) for row in rows]
    for row in copies:
        PRICES.for_project("p")(row)
    settled = settler.settle(copies, logs or [], PRICES.for_project)
    store.insert(Batch(copies, logs=logs or []))
    store.insert(Batch(settled.amended, settled.flags))
    settler.stored(settled, 0)
    return len(settled.amended)


def stored(store: Store, project: str) -> dict[int, dict[str, Any]]:
    """Span number -> what a reader sees of it."""
    rows = store.query(f"SELECT {SHOWN} FROM spans FINAL WHERE project_id = {{p:String}}", {"p": project}).dicts()
    return {int(row.pop("id"), 16) % 1000: row for row in rows}


def log_row(project: str, number: int, event: str, body: str, at: int = 0, **given: Any) -> dict[str, Any]:
    return log(trace=7, project_id=project, log_id=bytes([number, at]) * 8, **given) | {
        "span_id": (7000 + number).to_bytes(8, "big"),
        "event_name": event,
        "body": body,
        "attributes": {},
        "original_ns": 0,
        "time": T0 + at,
    }


def call(project: str, number: int, **given: Any) -> dict[str, Any]:
    return llm(7, number, project_id=project, **given)


def own(**given: Any) -> dict[str, Any]:
    found = {
        "usage_role": "own",
        "billable": True,
        "duplicate_of": "",
        "input_tokens": 100,
        "aggregate_input_tokens": None,
        "cost_usd": COST,
        "request_model": "gpt-4o",
    }
    return found | given


def duplicate(of: int) -> dict[str, Any]:
    return own(usage_role="duplicate", billable=False, duplicate_of=f"{7000 + of:016x}", cost_usd=None)


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_three_layers_in_any_order(store: Store, order: tuple[int, ...], restarts: bool) -> None:
    project = f"layers-{order}-{restarts}"
    pieces = [
        call(project, 1),
        span(7, 2, parent=1, project_id=project),
        call(project, 3, parent=2, response_id="r"),
    ]
    settler = Settler(store, is_shared=False)
    for turn, index in enumerate(order):
        if restarts:
            settler = Settler(store, is_shared=False)
        write(settler, store, dict(pieces[index], received_ns=T0 + turn))
    found = stored(store, project)
    assert (found[1], found[3]) == (own(), duplicate(of=1))
    assert found[2]["usage_role"] == "none"


def test_a_client_that_sends_again_changes_nothing(store: Store) -> None:
    settler = Settler(store, is_shared=False)
    pieces = [call("again", 1), call("again", 2, parent=1)]
    write(settler, store, pieces[1])
    assert write(settler, store, pieces[0]) == 1
    for again in range(1, 4):
        rows = [dict(row, received_ns=row["received_ns"] + again * 10**9) for row in reversed(pieces)]
        assert write(settler, store, *rows[: 1 + again % 2]) == 0
        assert stored(store, "again") == {1: own(), 2: duplicate(of=1)}


def test_sums_move_out_of_the_way_and_back(store: Store) -> None:
    settler = Settler(store, is_shared=False)
    write(settler, store, call("sums", 1, input_tokens=200, output_tokens=40))
    write(settler, store, call("sums", 2, parent=1))
    assert stored(store, "sums")[1]["usage_role"] == "own"
    write(settler, store, call("sums", 3, parent=1))
    total = stored(store, "sums")[1]
    assert total == own(
        usage_role="aggregate", billable=False, input_tokens=None, aggregate_input_tokens=200, cost_usd=None
    )
    write(settler, store, call("sums", 4, parent=1))  # now it is no sum any more
    assert stored(store, "sums")[1] == own(input_tokens=200, cost_usd=2 * COST)


def test_an_engine_takes_the_model_of_the_client_that_comes_later(store: Store) -> None:
    settler = Settler(store, is_shared=False)
    engine = call(
        "engine", 2, parent=1, observation_type="engine", usage_role="engine", billable=False, provider="vllm"
    )
    write(settler, store, dict(engine, request_model=""))
    write(settler, store, call("engine", 1, request_model="qwen3"))
    found = stored(store, "engine")[2]
    assert (found["request_model"], found["usage_role"], found["billable"]) == ("qwen3", "engine", False)


def test_projects_do_not_meet(store: Store) -> None:
    settler = Settler(store, is_shared=False)
    write(settler, store, call("one", 1))
    write(settler, store, call("two", 2, parent=1))
    assert stored(store, "two")[2]["usage_role"] == "own"


def test_two_collectors_agree_in_the_end(store: Store) -> None:
    first, second = (Settler(store, is_shared=True) for _ in range(2))
    # Both read before either wrote.
    rows = [
        dict(call("shared", 1), attributes={}, scope_name="a"),
        dict(call("shared", 2, parent=1), attributes={}, scope_name="b"),
    ]
    settled = [
        settler.settle([row], [], PRICES.for_project) for settler, row in zip((first, second), rows, strict=True)
    ]
    for settler, row, found in zip((first, second), rows, settled, strict=True):
        store.insert(Batch([row]))
        settler.stored(found, 0)
    assert {row["usage_role"] for row in stored(store, "shared").values()} == {"own"}
    assert first.revisit(10**9, PRICES.for_project).amended == []
    later = first.revisit(60 * 10**9, PRICES.for_project)
    store.insert(Batch(later.amended))
    assert [row["usage_role"] for _, row in sorted(stored(store, "shared").items())] == ["own", "duplicate"]
    assert second.revisit(60 * 10**9, PRICES.for_project).amended == []


def test_what_is_too_much_to_read_never_stops_ingest(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    settler = Settler(store, is_shared=False)
    write(settler, store, call("limit", 1))

    def refuse(*_: Any, **__: Any) -> Any:
        raise QueryLimit("too much")

    monkeypatch.setattr(settle, "rows_of", refuse)
    assert write(settler, store, call("limit", 2, parent=1, reasoning_tokens=5)) == 0
    assert stored(store, "limit")[2]["usage_role"] == "own"


def test_memory_is_bounded_and_forgets_the_least_recent() -> None:
    memory = TraceMemory(max_spans=3)
    facts = {row["span_id"]: fact_of(row) for row in (span(1, n, scope_name="") for n in range(2))}
    for name in ("a", "b", "a", "c"):
        memory.keep((name, b""), Known(dict(facts)))
    assert [name for name in "abc" if memory.get((name, b""))] == ["c"]


def test_a_seen_trace_is_known_and_few_others_are() -> None:
    seen = SeenTraces()
    ids = [bytes([n % 256, n // 256]) * 8 for n in range(2000)]
    for trace_id in ids[:1000]:
        seen.add(trace_id)
    assert all(trace_id in seen for trace_id in ids[:1000])
    assert sum(trace_id in seen for trace_id in ids[1000:]) < 300


def test_the_store_of_an_earlier_run_is_remembered(store: Store, tmp_path: Path) -> None:
    write(Settler(store, is_shared=False), store, call("earlier", 2, parent=1))
    later = Settler(store, is_shared=False)
    assert write(later, store, call("earlier", 1)) == 1
    assert stored(store, "earlier")[2]["usage_role"] == "duplicate"


# -- content in log records --------------------------------------------------------------------------------------------
SAID = [
    ("gen_ai.system.message", {"content": "Be brief."}),
    ("gen_ai.user.message", {"content": "Where is my order?"}),
    ("gen_ai.choice", {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Here."}}),
]


def content(store: Store, project: str, number: int = 1) -> tuple[Any, Any, str]:
    """Input and output messages and instructions of a span, as stored."""
    rows = store.query(
        "SELECT input_messages, output_messages, system_instructions FROM spans FINAL "
        "WHERE project_id = {p:String} AND span_id = toFixedString(unhex({s:String}), 8)",
        {"p": project, "s": (7000 + number).to_bytes(8, "big").hex()},
    ).rows
    given, answered, instructions = rows[0]
    return json.loads(given or "null"), json.loads(answered or "null"), instructions


WHOLE = (
    [
        {"role": "system", "parts": [{"type": "text", "content": "Be brief."}]},
        {"role": "user", "parts": [{"type": "text", "content": "Where is my order?"}]},
    ],
    [{"role": "assistant", "parts": [{"type": "text", "content": "Here."}], "finish_reason": "stop"}],
    "Be brief.",
)


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("order", list(itertools.permutations(range(4)))[::3])
def test_log_records_join_their_span_in_any_order(store: Store, order: tuple[int, ...], restarts: bool) -> None:
    project = f"logs-{order}-{restarts}"
    settler = Settler(store, is_shared=False)
    for turn, index in enumerate(order):
        if restarts:
            settler = Settler(store, is_shared=False)
        if index == 3:
            write(settler, store, call(project, 1, received_ns=T0 + turn))
        else:
            event, body = SAID[index]
            write(settler, store, logs=[log_row(project, 1, event, json.dumps(body), at=index)])
    assert content(store, project) == WHOLE


def test_a_record_in_the_same_batch_and_one_that_comes_again(store: Store) -> None:
    settler = Settler(store, is_shared=False)
    records = [log_row("same", 1, event, json.dumps(body), at=n) for n, (event, body) in enumerate(SAID)]
    assert write(settler, store, call("same", 1), logs=records) == 0
    assert content(store, "same") == WHOLE
    write(settler, store, logs=records)
    write(settler, store, call("same", 1, received_ns=T0 + 7200 * 10**9))
    assert content(store, "same") == WHOLE


def test_a_span_with_content_of_its_own_keeps_it(store: Store) -> None:
    settler = Settler(store, is_shared=False)
    own_content = '[{"role":"user","parts":[{"type":"text","content":"mine"}]}]'
    given = {"attributes": {"gen_ai.input.messages": json.dumps(own_content)}, "input_messages": own_content}
    write(settler, store, call("kept", 1, **given))
    write(settler, store, logs=[log_row("kept", 1, *_event(1))])
    assert content(store, "kept")[0][0]["parts"][0]["content"] == "mine"


def test_the_newest_event_carries_whole_messages(store: Store) -> None:
    settler = Settler(store, is_shared=False)
    messages = {"gen_ai.input.messages": json.dumps(WHOLE[0]), "gen_ai.output.messages": json.dumps(WHOLE[1])}
    record = log_row("newest", 1, "gen_ai.client.inference.operation.details", "")
    write(settler, store, logs=[record | {"attributes": messages}])
    write(settler, store, call("newest", 1))
    assert content(store, "newest") == WHOLE


def test_content_that_comes_later_is_looked_at_by_the_detectors(store: Store) -> None:
    settler = Settler(store, is_shared=False)
    write(settler, store, call("flags", 1))
    refusal = {"index": 0, "finish_reason": "content_filter", "message": {"content": "I cannot help with that."}}
    write(settler, store, logs=[log_row("flags", 1, "gen_ai.choice", json.dumps(refusal))])
    found = store.query("SELECT code FROM flags FINAL WHERE project_id = 'flags'").rows
    assert found == [("refusal",)]


def _event(index: int) -> tuple[str, str]:
    return SAID[index][0], json.dumps(SAID[index][1])
