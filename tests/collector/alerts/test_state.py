"""The state machine: tables of (time, sample) -> state, and what must hold for any history."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limelight_collector.alerts.rule import Rule
from limelight_collector.alerts.state import Sample, State, advance, end

GONE = "gone"  # the query answered without the series
NODATA = "nodata"


def rule(**fields):
    return Rule.model_validate(
        {
            "id": "r",
            "signal": "error_rate",
            "window": 60,
            "condition": {"threshold": 0.5},
            "for": 30,
            "keep_firing_for": 20,
            "min_events": 5,
            **fields,
        }
    )


def sample_of(value):
    if value == GONE:
        return None
    if value == NODATA:
        return Sample({}, None, 0)
    value, events = value if isinstance(value, tuple) else (value, 10)
    return Sample({}, value, events)


def run(the_rule, values, step_s=10):
    """States and announcements of evaluations `step_s` apart."""
    state, names, told = State(), [], []
    for number, value in enumerate(values):
        state, transitions = advance(the_rule, state, sample_of(value), 1000.0 + number * step_s)
        names.append(state.name)
        told += [(transition.notify, transition.reason) for transition in transitions if transition.notify]
    return names, told


_, P, F, R = "inactive", "pending", "firing", "recovering"
FIRED, RECOVERED, TOO_FEW = ("firing", "held"), ("resolved", "recovered"), ("resolved", "too_few_events")
QUICK = {"for": 0, "keep_firing_for": 0}
GOOD, BAD, MIDDLE = 0.1, 0.9, 0.45  # recovery is 0.4

TABLE = {
    "quiet": ({}, [GOOD, GOOD], [_, _], []),
    "held for the whole time": ({}, [BAD] * 4, [P, P, P, F], [FIRED]),
    "one good evaluation starts the wait again": ({}, [BAD, GOOD, BAD, BAD, BAD, BAD], [P, _, P, P, P, F], [FIRED]),
    "no wait": ({"for": 0}, [BAD], [F], [FIRED]),
    "exactly the threshold is not above it": ({"for": 0}, [0.5], [_], []),
    "too few events never start one": ({"for": 0}, [(1.0, 4)], [_], []),
    "recovers after its time": ({"for": 0}, [BAD, GOOD, GOOD, GOOD], [F, R, R, _], [FIRED, RECOVERED]),
    "between recovery and threshold it goes on": ({"for": 0}, [BAD, MIDDLE, MIDDLE, MIDDLE], [F, F, F, F], [FIRED]),
    "back from recovering is not announced": ({"for": 0}, [BAD, GOOD, BAD, GOOD], [F, R, F, R], [FIRED]),
    "no keep_firing_for": (QUICK, [BAD, GOOD], [F, _], [FIRED, RECOVERED]),
    "own recovery threshold": ({**QUICK, "recovery": 0.05}, [BAD, GOOD, 0.05], [F, F, _], [FIRED, RECOVERED]),
    "traffic stops": (QUICK, [BAD, (1.0, 1)], [F, _], [FIRED, TOO_FEW]),
    "missing once is forgiven": ({"for": 0}, [BAD, GONE, BAD], [F, F, F], [FIRED]),
    "missing twice resolves": ({"for": 0}, [BAD, GONE, GONE], [F, F, _], [FIRED, ("resolved", "missing_series")]),
    "missing is not held": ({}, [BAD, BAD, BAD, GONE, BAD], [P, P, P, _, P], []),
    "fires again with a new announcement": (
        QUICK, [BAD, GOOD, BAD], [F, _, F], [FIRED, RECOVERED, FIRED],
    ),
    "no data counts as 0": (QUICK, [BAD, NODATA], [F, _], [FIRED, TOO_FEW]),
    "no data keeps the last": ({"for": 0, "no_data": "keep_last"}, [BAD, NODATA, NODATA], [F, F, F], [FIRED]),
    "no data, nothing before": ({"no_data": "keep_last"}, [NODATA], [_], []),
    "no data set aside silently": (
        {"for": 0, "no_data": "set_no_data"}, [BAD, NODATA, NODATA, BAD], [F, "no_data", "no_data", F], [FIRED],
    ),
    "no data ends a wait": ({"no_data": "set_no_data"}, [BAD, NODATA, BAD], [P, "no_data", P], []),
    "not a number is no data": (QUICK, [BAD, float("nan")], [F, _], [FIRED, TOO_FEW]),
    "less is worse": (
        {**QUICK, "condition": {"op": "<", "threshold": 0.4}},
        [0.3, 0.45, 0.5], [F, F, _], [FIRED, RECOVERED],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", TABLE)
def test_table(case):
    fields, values, names, told = TABLE[case]
    assert run(rule(**fields), values) == (names, told)


def test_pausing_resolves_what_was_announced_and_only_that():
    on, off = rule(**{"for": 0}), rule(**{"for": 0, "enabled": False})
    fired, _ = advance(on, State(), sample_of(BAD), 0)
    paused, (transition,) = advance(off, fired, None, 10)
    assert (paused.name, transition.notify, transition.reason) == ("paused", "resolved", "paused")
    assert advance(off, paused, None, 20)[1] == []
    again, (transition,) = advance(on, paused, sample_of(BAD), 30)
    assert (again.name, again.fired_s, transition.from_state) == ("firing", 30, "inactive")
    _, (transition,) = advance(off, State(), None, 10)
    assert transition.notify is None


def test_the_end_of_a_rule():
    fired, _ = advance(rule(**{"for": 0}), State(), sample_of(BAD), 0)
    ended, (transition,) = end(fired, 10, "rule_deleted")
    assert (ended.name, ended.resolved_s, transition.notify) == ("inactive", 10, "resolved")
    assert end(State(), 10, "rule_deleted") == (State(), [])


def test_a_clock_set_back_starts_the_wait_again():
    waiting, _ = advance(rule(), State(), sample_of(BAD), 1000)
    back, transitions = advance(rule(), waiting, sample_of(BAD), 400)
    assert (back.name, transitions) == ("pending", [])
    assert advance(rule(), back, sample_of(BAD), 420)[0].name == "pending"
    assert advance(rule(), back, sample_of(BAD), 430)[0].name == "firing"


def test_two_firings_at_one_reading_of_the_clock_are_two():
    state, fired = State(), []
    for value in (BAD, GOOD, BAD):
        state, _ = advance(rule(**QUICK), state, sample_of(value), 50)
        fired.append(state.fired_s)
    assert fired == [50, 50, 50.001]


values_strategy = st.lists(
    st.one_of(
        st.just(GONE),
        st.just(NODATA),
        st.tuples(st.sampled_from([0.0, 0.4, 0.45, 0.5, 0.51, 1.0]), st.sampled_from([0, 4, 5, 100])),
    ),
    max_size=40,
)
rules_strategy = st.builds(
    lambda for_s, keep_s, no_data: rule(**{"for": for_s, "keep_firing_for": keep_s, "no_data": no_data}),
    st.sampled_from([0, 10, 30]),
    st.sampled_from([0, 10, 30]),
    st.sampled_from(["treat_as_0", "keep_last", "set_no_data"]),
)


@given(rules_strategy, values_strategy)
def test_announcements_alternate_and_match_what_is_open(the_rule, values):
    state, told = State(), []
    for number, value in enumerate(values):
        before = state
        state, transitions = advance(the_rule, state, sample_of(value), number * 10.0)
        assert len(transitions) <= 1
        told += [transition.notify for transition in transitions if transition.notify]
        assert (state.name in ("firing", "recovering")) <= state.is_open
        assert all(item.from_state == before.name or before.name in ("no_data", "paused") for item in transitions)
        assert state.name == before.name or transitions or before.name in ("no_data", "paused")
    assert told == ["firing", "resolved"] * (len(told) // 2) + ["firing"] * (len(told) % 2)
    assert state.is_open == bool(len(told) % 2)


@given(rules_strategy, values_strategy)
def test_a_firing_was_bad_at_every_evaluation_of_its_wait(the_rule, values):
    state, bad_since = State(), None
    for number, value in enumerate(values):
        now_s = number * 10.0
        state, transitions = advance(the_rule, state, sample_of(value), now_s)
        last_known = state.value is not None and state.events >= 5 and state.value > 0.5
        present = value != GONE and not (value == NODATA and the_rule.no_data != "keep_last")
        bad_since = (now_s if bad_since is None else bad_since) if present and last_known else None
        if any(item.notify == "firing" for item in transitions):
            assert bad_since is not None
            assert now_s - bad_since >= the_rule.for_s


@given(rules_strategy, values_strategy, st.integers(0, 40))
def test_a_restart_anywhere_changes_nothing(the_rule, values, at):
    """The state survives being written as JSON; the machine has no other memory."""
    plain, restarted = State(), State()
    for number, value in enumerate(values):
        if number == at:
            restarted = State(**json.loads(json.dumps(dataclasses.asdict(restarted))))
        plain, one = advance(the_rule, plain, sample_of(value), number * 10.0)
        restarted, other = advance(the_rule, restarted, sample_of(value), number * 10.0)
        assert (plain, one) == (restarted, other)
