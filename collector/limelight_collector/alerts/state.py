"""What one series of one rule does next: a pure function of rule, stored state, sample and time.

    inactive -> pending -> firing -> recovering -> inactive         no_data, paused: set aside

- inactive: nothing is wrong. pending: the condition holds, not yet for `for_s`; one evaluation without it ends that.
- firing: people have been told. recovering: beyond the recovery threshold, not yet for `keep_firing_for_s`.
- no_data: the rule wants silence where there is nothing to measure. paused: the rule is switched off.

Everything an evaluation needs is in the `State`, so a restarted collector goes on where it stopped and an alert that
was firing is not announced again. A failed query is no sample: the caller does not call `advance` and nothing changes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from limelight_collector.alerts.rule import Rule

StateName = Literal["inactive", "pending", "firing", "recovering", "no_data", "paused"]
Notify = Literal["firing", "resolved"]

MISSING_LIMIT = 2
"""Evaluations without a series after which its alert is resolved."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A series' value over the window: `value` None = nothing to measure; `events` = the requests it is made of."""

    labels: dict[str, str]
    value: float | None
    events: int


@dataclass(frozen=True, slots=True)
class State:
    """A series as stored. Times in unix seconds; `fired_s` without `resolved_s` = people think that it is firing.

    `since_s`: in this state since; `missing`: evaluations in a row without it; `value`, `events`: the last known.
    """

    name: StateName = "inactive"
    since_s: float = 0.0
    value: float | None = None
    events: int = 0
    fired_s: float | None = None
    resolved_s: float | None = None
    missing: int = 0
    evaluated_s: float = 0.0

    @property
    def is_open(self) -> bool:
        """Whether a firing was announced whose end was not."""
        return self.fired_s is not None and self.resolved_s is None


@dataclass(frozen=True, slots=True)
class Transition:
    """A change of state, and what to announce with it (None: nothing)."""

    from_state: StateName
    to_state: StateName
    time_s: float
    value: float | None
    events: int
    reason: str
    notify: Notify | None = None


Step = tuple[State, list[Transition]]


def advance(rule: Rule, state: State, sample: Sample | None, now_s: float) -> Step:
    """The state after an evaluation at `now_s`, and the transition that led there (none or one).

    `sample` None = the query answered and the series was not in it. Where the clock was set back, a wait starts again.
    """
    state = replace(state, evaluated_s=now_s, since_s=min(state.since_s, now_s))
    if not rule.enabled:
        return _settle(state, "paused", now_s, "paused")
    if sample is None:
        return _miss(state, now_s)
    value = None if sample.value is None or math.isnan(sample.value) else sample.value
    events = sample.events
    if value is None:
        if rule.no_data == "set_no_data":
            return _move(replace(state, missing=0), "no_data", now_s, "no_data")
        value, events = (0.0, 0) if rule.no_data == "treat_as_0" else (state.value, state.events)
    state = _wake(replace(state, missing=0, value=value, events=events))
    if value is None:  # keep_last, and nothing was ever known
        return state, []
    return _judge(rule, state, now_s)


def end(state: State, now_s: float, reason: str) -> Step:
    """The end of a series whose rule is gone: resolved where it was open."""
    return _settle(state, "inactive", now_s, reason)


def _judge(rule: Rule, state: State, now_s: float) -> Step:
    """The step for a known value: too few events count as good, for no single failure should wake anyone."""
    assert state.value is not None
    enough = state.events >= rule.min_events
    bad = enough and rule.condition.holds(state.value)
    if not state.is_open:
        return _judge_quiet(rule, state, now_s, bad=bad)
    reason = "recovered" if enough else "too_few_events"
    if enough and not rule.has_recovered(state.value):
        return _move(state, "firing", now_s, "condition_holds" if bad else "above_recovery")
    if state.name != "recovering" and rule.keep_firing_for_s > 0:
        return _move(state, "recovering", now_s, reason)
    if state.name == "recovering" and now_s - state.since_s < rule.keep_firing_for_s:
        return state, []
    return _settle(state, "inactive", now_s, reason)


def _judge_quiet(rule: Rule, state: State, now_s: float, *, bad: bool) -> Step:
    if not bad:
        return _move(state, "inactive", now_s, "condition_cleared")
    if rule.for_s > 0 and state.name != "pending":
        return _move(state, "pending", now_s, "condition_holds")
    if state.name == "pending" and now_s - state.since_s < rule.for_s:
        return state, []
    # Each firing has a moment of its own, also on a clock set back: it is the name that receivers know it by.
    fired_s = now_s if state.fired_s is None else max(now_s, state.fired_s + 0.001)
    return _move(replace(state, fired_s=fired_s, resolved_s=None), "firing", now_s, "held", notify="firing")


def _miss(state: State, now_s: float) -> Step:
    """The series is not in the answer: a pending one did not hold; an open one gets a second chance."""
    state = replace(state, missing=state.missing + 1)
    if state.is_open and state.missing < MISSING_LIMIT:
        return state, []
    return _settle(state, "inactive", now_s, "missing_series")


def _wake(state: State) -> State:
    """Data again: an announced alert goes on firing (no second announcement), any other starts afresh."""
    if state.name not in ("no_data", "paused"):
        return state
    return replace(state, name="firing" if state.is_open else "inactive")


def _settle(state: State, name: StateName, now_s: float, reason: str) -> Step:
    """Go to a quiet state; an open alert is announced as resolved."""
    if not state.is_open:
        return _move(state, name, now_s, reason)
    return _move(replace(state, resolved_s=now_s), name, now_s, reason, notify="resolved")


def _move(state: State, name: StateName, now_s: float, reason: str, notify: Notify | None = None) -> Step:
    if state.name == name:
        return state, []
    transition = Transition(state.name, name, now_s, state.value, state.events, reason, notify)
    return replace(state, name=name, since_s=now_s), [transition]
