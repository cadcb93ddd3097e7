"""Rules as written: durations, what is refused and how it is said, the words of an annotation."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from limelight_collector.alerts import notice
from limelight_collector.alerts.durations import parse_duration_s, write_duration
from limelight_collector.alerts.rule import Channel, Rule, json_of
from limelight_collector.alerts.state import State

PLAIN = {"id": "r", "signal": "error_rate", "window": "5m", "condition": {"threshold": 0.1}}


def test_durations_under_both_names():
    rule = Rule.model_validate({**PLAIN, "for": "1m30s", "keep_firing_for_s": 7})
    assert (rule.window_s, rule.for_s, rule.keep_firing_for_s) == (300, 90, 7)
    assert Rule.model_validate(json_of(rule)) == rule


@given(st.integers(0, 10**9))
def test_a_duration_written_is_read_back(milliseconds):
    assert parse_duration_s(write_duration(milliseconds / 1000)) == pytest.approx(milliseconds / 1000)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"signal": "latency_p95"}, "signal 'latency_p95' is not supported by this version; it evaluates: error_rate"),
        ({"condition": {"kind": "spike", "threshold": 0.1}}, "condition kind 'spike' is not supported"),
        ({"condition": {"threshold": 10}}, "10 % is 0.1"),
        ({"condition": {"threshold": float("nan")}}, "finite"),
        ({"condition": {"op": "=", "threshold": 0.1}}, "'>', '>=', '<' or '<='"),
        ({"recovery": 0.2}, "itself bad"),
        ({"window": "5 minutes"}, 'like "30s"'),
        ({"window": "500ms"}, "greater than or equal to 1"),
        ({"window": "30d"}, "less than or equal to 604800"),
        ({"id": "Bad Id"}, "pattern"),
        ({"severity": "page"}, "'warning' or 'critical'"),
        ({"treshold": 1}, "Extra inputs"),
        ({"group_by": ["a", "a"]}, "twice"),
        ({"min_events": 0}, "greater than or equal to 1"),
        ({"channels": ["No Good"]}, "pattern"),
    ],
)
def test_a_bad_rule_is_refused_by_name(change, message):
    with pytest.raises(ValidationError, match=message.replace("(", r"\(").replace("*", r"\*")):
        Rule.model_validate({**PLAIN, **change})


anything = st.one_of(st.none(), st.text(), st.floats(), st.lists(st.text()))


@given(st.dictionaries(st.sampled_from([*PLAIN, "for", "group_by", "recovery", "x"]), anything))
def test_any_object_is_a_rule_or_a_validation_error(changes):
    try:
        rule = Rule.model_validate({**PLAIN, **changes})
    except ValidationError:
        return
    assert Rule.model_validate(json_of(rule)) == rule


def test_a_channel_never_shows_its_secret():
    channel = Channel(id="c", url="https://example.com", secret="do-not-show")
    assert "do-not-show" not in repr(channel)
    assert "secret" not in json_of(channel)


FIRING = State("firing", 0.0, value=0.345, events=40, fired_s=0.0)


def rendered(text, labels=None):
    return notice.render(text, Rule.model_validate(PLAIN), labels or {}, FIRING)


def test_known_names_are_replaced():
    text = "{service_name}: {value} of {events} in {window} > {threshold} {rule_name} {rule_id} {severity} {state}"
    assert rendered(text, {"service_name": "shop"}) == "shop: 34.5% of 40 in 5m > 10.0% r r warning firing"


@pytest.mark.parametrize(
    "text",
    ["{unknown}", "{value.__class__}", "{value!r}", "{value:>9999999}", "{0}", "{}", "{{7*7}}", "%(value)s"],
)
def test_everything_else_stays_as_it_is(text):
    assert rendered(text) == text


def test_a_value_is_not_a_template():
    assert rendered("{model}", {"model": "{value} {rule_id}"}) == "{value} {rule_id}"


def test_labels_cannot_pose_as_the_rule():
    assert rendered("{severity}", {"severity": "none"}) == "warning"


@given(st.text(), st.text())
def test_any_text_renders(text, label):
    assert len(rendered(text, {"x": label})) <= notice.TEXT_MAX
