"""Whose usage counts in a trace: one span a call, whatever order the spans came in."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limelight_collector.traces import OWN, Fact, Verdict, decide

MS = 1_000_000
IDS = {name: name.encode().ljust(8, b"\0") for name in "abcdefgh"}


def call(name: str, parent: str = "", start: int = 0, end: int = 100, /, **given: Any) -> Fact:
    """A model call from `start` to `end` milliseconds with the usage 120/45 of gpt-4o."""
    fields: dict[str, Any] = {
        "kind": "llm",
        "scope_name": f"scope-{name}",
        "models": frozenset({"gpt-4o"}),
        "input_tokens": 120,
        "output_tokens": 45,
    }
    return Fact(IDS[name], IDS[parent] if parent else bytes(8), start * MS, end * MS, **(fields | given))


def step(name: str, parent: str = "", start: int = 0, end: int = 100) -> Fact:
    return Fact(IDS[name], IDS[parent] if parent else bytes(8), start * MS, end * MS, "span", "app")


def roles(*facts: Fact) -> dict[str, str]:
    """Name -> role, with the name of the span it repeats."""
    names = {span_id: name for name, span_id in IDS.items()}
    verdicts = decide({fact.span_id: fact for fact in facts})
    return {
        names[span_id]: f"{verdict.role} {names[verdict.duplicate_of]}" if verdict.duplicate_of else verdict.role
        for span_id, verdict in sorted(verdicts.items())
    }


def test_a_call_and_its_copy_below_count_once() -> None:
    assert roles(call("a"), call("b", "a", 1, 99)) == {"a": "own", "b": "duplicate a"}


def test_spans_between_them_change_nothing() -> None:
    assert roles(call("a"), step("c", "a"), step("d", "c"), call("b", "d", 1, 99))["b"] == "duplicate a"


def test_without_the_spans_between_there_is_no_proof() -> None:
    assert roles(call("a"), call("b", "d", 1, 99)) == {"a": "own", "b": "own"}


def test_the_span_that_knows_more_counts() -> None:
    assert roles(call("a"), call("b", "a", details=3)) == {"a": "duplicate b", "b": "own"}


def test_three_layers_count_once() -> None:
    assert roles(call("a"), call("b", "a"), call("c", "b")) == {"a": "own", "b": "duplicate a", "c": "duplicate a"}


@pytest.mark.parametrize(
    "inner",
    [
        {"output_tokens": 46},
        {"models": frozenset({"gpt-4o-mini"})},
        {"scope_name": "scope-a", "response_id": "r2"},
    ],
    ids=["other usage", "other model", "two ids of one library"],
)
def test_another_call_below_is_another_call(inner: dict[str, Any]) -> None:
    assert roles(call("a", response_id="r1"), call("b", "a", **inner)) == {"a": "own", "b": "own"}


def test_a_call_after_its_parent_is_another_call() -> None:
    assert roles(call("a", "", 0, 100), call("b", "a", 150, 200)) == {"a": "own", "b": "own"}
    assert roles(call("a", "", 0, 100), call("b", "a", -2, 103))["b"] == "duplicate a"  # clocks of milliseconds


def test_gateways_name_models_their_own_way() -> None:
    assert roles(call("a"), call("b", "a", models=frozenset({"openai/GPT-4o"})))["b"] == "duplicate a"
    assert roles(call("a"), call("b", "a", models=frozenset()))["b"] == "duplicate a"
    outer = call("a", models=frozenset({"gpt-4o", "gpt-4o-2024-08-06"}))
    assert roles(outer, call("b", "a", models=frozenset({"gpt-4o-2024-08-06"})))["b"] == "duplicate a"


def test_parallel_calls_with_the_same_usage_stay_two() -> None:
    assert roles(step("a"), call("b", "a", 0, 100), call("c", "a", 10, 90)) == {"b": "own", "c": "own"}


def test_an_outer_span_is_a_copy_of_one_call_below_it() -> None:
    assert roles(call("a"), call("b", "a", 0, 40), call("c", "a", 50, 90)) == {
        "a": "own",
        "b": "duplicate a",
        "c": "own",
    }


def test_one_response_counts_once_wherever_its_spans_are() -> None:
    first, second = call("a", response_id="r"), call("b", "", 500, 600, response_id="r")
    assert roles(first, second) == {"a": "own", "b": "duplicate a"}
    assert roles(first, call("b", "", 500, 600, response_id="r", input_tokens=7)) == {"a": "own", "b": "own"}
    without = call("b", "", 500, 600, response_id="r", input_tokens=None, output_tokens=None)
    assert roles(without, first) == {"a": "own", "b": "duplicate a"}


def test_a_layer_that_saw_no_usage_is_no_second_request() -> None:
    blind = {"input_tokens": None, "output_tokens": None}
    assert roles(call("a", **blind), call("b", "a")) == {"a": "duplicate b", "b": "own"}
    assert roles(call("a", **blind), call("b", "a", **blind)) == {"a": "own", "b": "duplicate a"}
    one_scope = {"scope_name": "s", **blind}
    assert roles(call("a", **one_scope), call("b", "a", **one_scope)) == {"a": "own", "b": "own"}


def test_a_span_that_says_where_it_is_nested_is_believed() -> None:
    outer = call("a", input_tokens=20)
    assert roles(outer, call("b", "a", nested_in="scope-a")) == {"a": "own", "b": "duplicate a"}
    assert roles(outer, call("b", "a", nested_in="scope-z")) == {"a": "own", "b": "own"}


def test_a_sum_of_calls_is_an_aggregate() -> None:
    total = call("a", input_tokens=240, output_tokens=90)
    calls = (call("b", "a", 0, 40), call("c", "a", 50, 90))
    assert roles(total, *calls) == {"a": "aggregate", "b": "own", "c": "own"}
    assert roles(total, *calls, call("d", "b", 1, 39)) == {"a": "aggregate", "b": "own", "c": "own", "d": "duplicate b"}
    assert roles(call("a", input_tokens=241, output_tokens=90), *calls)["a"] == "own"


def test_an_engine_counts_nothing_and_takes_the_model_above() -> None:
    engine = Fact(IDS["b"], IDS["c"], 0, 100 * MS, "engine", "vllm.llm_engine", input_tokens=120, output_tokens=45)
    found = decide({fact.span_id: fact for fact in (call("a"), step("c", "a"), engine)})
    assert found[IDS["b"]] == Verdict("engine", model="gpt-4o")
    assert found[IDS["a"]] == OWN
    assert decide({IDS["b"]: engine}) == {IDS["b"]: Verdict("engine")}


def test_circles_of_parents_end() -> None:
    assert roles(call("a", "b"), call("b", "a"), call("c", "c")).keys() == {"a", "b", "c"}
    assert roles(step("a", "b"), step("b", "a"), call("c", "a"), call("d", "b"))["c"] == "own"


def test_a_deep_trace_costs_no_recursion() -> None:
    ids = [number.to_bytes(8, "big") for number in range(1, 20_001)]
    facts = {
        span_id: Fact(
            span_id, ids[n - 1] if n else bytes(8), 0, 100, "llm", f"s{n % 2}", input_tokens=n, output_tokens=1
        )
        for n, span_id in enumerate(ids)
    }
    assert {verdict.role for verdict in decide(facts).values()} == {"own"}


FACTS = st.builds(
    lambda name, parent, start, length, usage, response, details, scope, kind: call(
        name,
        parent if parent != name else "",
        start,
        start + length,
        kind=kind,
        input_tokens=usage,
        output_tokens=usage,
        response_id=response,
        details=details,
        scope_name=scope,
    ),
    st.sampled_from(sorted(IDS)),
    st.sampled_from(["", *IDS]),
    st.integers(0, 3),
    st.integers(0, 3),
    st.sampled_from([None, 1, 2, 3]),
    st.sampled_from(["", "", "r1", "r2"]),
    st.integers(0, 2),
    st.sampled_from("st"),
    st.sampled_from(["llm", "llm", "span", "engine", "embedding"]),
)


@given(st.lists(FACTS, max_size=8, unique_by=lambda fact: fact.span_id), st.randoms(use_true_random=False))
def test_the_order_of_arrival_decides_nothing(facts: list[Fact], chance: Any) -> None:
    in_order = decide({fact.span_id: fact for fact in facts})
    chance.shuffle(facts)
    assert decide({fact.span_id: fact for fact in facts}) == in_order
    for verdict in in_order.values():
        if verdict.role == "duplicate":
            assert in_order[verdict.duplicate_of].role != "duplicate"
        else:
            assert verdict.duplicate_of == b""


def test_a_triton_model_queued_until_its_compute_span_began() -> None:
    model = Fact(IDS["a"], bytes(8), 0, 100 * MS, "engine", "triton-server", frozenset({"m"}), queue_start_ns=10 * MS)
    compute = Fact(IDS["b"], IDS["a"], 25 * MS, 90 * MS, "engine", "triton-server")
    step_of_ensemble = Fact(IDS["c"], IDS["a"], 15 * MS, 90 * MS, "engine", "triton-server", frozenset({"n"}))
    found = decide({fact.span_id: fact for fact in (model, compute, step_of_ensemble)})
    assert (found[IDS["a"]].queue_ns, found[IDS["b"]].queue_ns) == (15 * MS, None)
    assert decide({IDS["a"]: model})[IDS["a"]].queue_ns is None
