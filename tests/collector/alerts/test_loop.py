"""From values to a delivered webhook, with restarts, failures and deletions in between."""

import pytest

from collector.store.rows import SECOND, T0, batch, llm
from limelight_collector.alerts.evaluate import MAX_SERIES, AlertLoop, evaluate
from limelight_collector.alerts.notify import deliver_due
from limelight_collector.alerts.rule import Channel, Rule
from limelight_collector.alerts.state import Sample
from limelight_collector.alerts.values import StoreValues
from limelight_collector.control import Control
from limelight_collector.control.outbox import BACKOFF_S
from limelight_collector.errors import Unavailable

BAD, GOOD = Sample({"service_name": "shop"}, 0.5, 20), Sample({"service_name": "shop"}, 0.0, 20)


class Given:
    """Values as a test wants them: a list of samples, or an exception to raise."""

    def __init__(self, answer=()):
        self.answer = answer
        self.asked = []

    def samples(self, project_id, rule, start_ns, end_ns):
        self.asked.append((project_id, rule.id, start_ns, end_ns))
        if isinstance(self.answer, Exception):
            raise self.answer
        return list(self.answer)

    def exemplars(self, project_id, rule, labels, start_ns, end_ns):
        return ["ab" * 16]


def rule(**fields):
    return Rule.model_validate(
        {
            "id": "spike",
            "signal": "error_rate",
            "severity": "critical",
            "group_by": ["service_name"],
            "window": 60,
            "condition": {"threshold": 0.1},
            "for": 30,
            "annotations": {"summary": "{service_name} at {value}"},
            "labels": {"team": "a"},
            **fields,
        }
    )


@pytest.fixture
def values():
    return Given()


@pytest.fixture
def tick(control, clock, values):
    """Set the samples, move the clock, evaluate; returns the states in the database."""

    def run(answer, after_s=0.0, on=control):
        clock.now_s += after_s
        values.answer = answer
        evaluate(on, values, now_s=clock.now_s, complete_to_s=clock.now_s - 5, link_base="http://d")
        return [item.state.name for item in on.progress.alerts("p")]

    return run


@pytest.fixture
def installed(control, receiver):
    control.rules.save_channel("p", Channel(id="ops", url=receiver.url), create=True, actor="k")
    control.rules.save_rule("p", rule(), create=True, actor="k")


@pytest.fixture
def deliver(control, clock):
    return lambda on=control: deliver_due(on, ["127.0.0.1"], clock)


@pytest.mark.usefixtures("installed")
def test_firing_then_resolved_once_each(tick, deliver, receiver, clock, values):
    assert tick([BAD]) == ["pending"]
    assert tick([BAD], 15) == ["pending"]
    assert deliver() == 0
    assert tick([BAD], 15) == ["firing"]
    fired_s = clock.now_s
    assert deliver() == 1
    assert tick([BAD], 15) == ["firing"]
    assert tick([GOOD], 15) == ["inactive"]
    assert deliver() == 1
    assert deliver() == 0
    firing, resolved = receiver.bodies
    assert values.asked[0] == ("p", "spike", T0 - 65 * SECOND, T0 - 5 * SECOND)
    assert firing == {
        "version": 1,
        "status": "firing",
        "reason": "held",
        "rule": {"id": "spike", "name": "spike", "severity": "critical"},
        "labels": {"team": "a", "service_name": "shop"},
        "annotations": {"summary": "shop at 50.0%", "runbook": ""},
        "signal": "error_rate",
        "value": 0.5,
        "threshold": 0.1,
        "events": 20,
        "window_s": 60.0,
        "since": "2026-09-21T14:13:50.000Z",
        "started_at": "2026-09-21T14:13:50.000Z",
        "ended_at": None,
        "dedupe_key": firing["dedupe_key"],
        "exemplar_trace_ids": ["ab" * 16],
        "link": "http://d/alerts?rule_id=spike",
    }
    assert (resolved["status"], resolved["started_at"], resolved["value"]) == ("resolved", firing["started_at"], 0.0)
    assert resolved["ended_at"] == "2026-09-21T14:14:20.000Z"
    assert resolved["dedupe_key"] == firing["dedupe_key"]
    assert fired_s == clock.now_s - 30


@pytest.mark.usefixtures("installed")
def test_a_restart_between_pending_and_firing_keeps_the_wait(tick, deliver, receiver, control, control_url, clock):
    tick([BAD])
    control.close()
    again = Control(control_url, now_s=clock)
    assert tick([BAD], 20, on=again) == ["pending"]
    assert tick([BAD], 10, on=again) == ["firing"]
    assert deliver(on=again) == 1
    again.close()


@pytest.mark.usefixtures("installed")
def test_a_restart_while_firing_sends_nothing_new(tick, deliver, receiver, control, control_url, clock):
    tick([BAD])
    tick([BAD], 30)
    deliver()
    control.close()
    again = Control(control_url, now_s=clock)
    assert tick([BAD], 15, on=again) == ["firing"]
    assert deliver(on=again) == 0
    assert tick([GOOD], 15, on=again) == ["inactive"]
    deliver(on=again)
    assert [body["status"] for body in receiver.bodies] == ["firing", "resolved"]
    again.close()


@pytest.mark.usefixtures("installed")
def test_a_crash_before_delivery_delivers_after_the_restart(tick, deliver, receiver, control, control_url, clock):
    tick([BAD])
    tick([BAD], 30)
    control.close()
    again = Control(control_url, now_s=clock)
    assert deliver(on=again) == 1
    assert len(receiver.bodies) == 1
    again.close()


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("error", [Unavailable("the store is away"), ZeroDivisionError("a bug")])
def test_a_failed_query_changes_no_state(tick, control, error):
    tick([BAD])
    before = control.progress.states("p", "spike")
    assert tick(error, 10) == ["pending"]
    assert control.progress.states("p", "spike") == before
    assert control.rules.rule("p", "spike").last_error
    tick([BAD], 10)
    assert control.rules.rule("p", "spike").last_error is None


@pytest.mark.usefixtures("installed")
def test_one_broken_rule_does_not_stop_the_others(control, clock, values):
    control.rules.save_rule("p", rule(id="a-first"), create=True, actor="k")

    class OneFails(Given):
        def samples(self, project_id, rule, start_ns, end_ns):
            if rule.id == "a-first":
                raise Unavailable("away")
            return [BAD]

    evaluate(control, OneFails(), now_s=clock.now_s, complete_to_s=clock.now_s, link_base="")
    assert [item.rule_id for item in control.progress.alerts("p")] == ["spike"]


@pytest.mark.usefixtures("installed")
def test_too_many_series_are_an_error_not_a_flood(tick, control):
    assert tick([Sample({"service_name": str(n)}, 1.0, 20) for n in range(MAX_SERIES + 1)]) == []
    assert "at most 1000" in control.rules.rule("p", "spike").last_error


@pytest.mark.usefixtures("installed")
def test_series_stand_for_themselves(tick):
    other = Sample({"service_name": "other"}, 0.0, 20)
    assert tick([BAD, other]) == ["pending"]
    assert sorted(tick([BAD, Sample({"service_name": "other"}, 1.0, 20)], 30)) == ["firing", "pending"]


@pytest.mark.usefixtures("installed")
def test_a_deleted_rule_resolves_where_it_was_announced(tick, deliver, receiver, control):
    tick([BAD])
    tick([BAD], 30)
    deliver()
    control.rules.delete_rule("p", "spike", actor="k")
    assert tick([], 15) == []
    deliver()
    assert [(body["status"], body["reason"]) for body in receiver.bodies] == [
        ("firing", "held"),
        ("resolved", "rule_deleted"),
    ]
    newest = control.progress.history("p", 0, 2e9)[0]
    assert (newest.rule_name, newest.from_state, newest.to_state, newest.reason) == (
        "spike",
        "firing",
        "inactive",
        "rule_deleted",
    )


@pytest.mark.usefixtures("installed")
def test_a_failing_channel_is_tried_five_times_in_order_and_stays_on(tick, deliver, receiver, control, clock):
    tick([BAD])
    tick([BAD], 30)
    tick([GOOD], 10)
    receiver.statuses = [500] * 5
    for wait in BACKOFF_S:
        assert deliver() == 1
        assert deliver() == 0  # not before its time, and "resolved" waits for "firing"
        clock.now_s += wait
    assert deliver() == 1
    assert [body["status"] for body in receiver.bodies] == ["firing"] * 5
    channel = control.rules.channel("p", "ops")
    assert (channel.failures, channel.last_error, channel.channel.enabled) == (5, "answered 500", True)
    deliver()
    assert receiver.bodies[-1]["status"] == "resolved"
    resolved, firing = control.progress.alerts("p")[0].notifications
    assert (firing.status, firing.attempts, resolved.status) == ("failed", 5, "delivered")
    assert control.rules.channel("p", "ops").failures == 0


@pytest.mark.usefixtures("installed")
def test_a_forbidden_address_is_not_tried_again(tick, control, clock, receiver):
    tick([BAD])
    tick([BAD], 30)
    deliver_due(control, [], clock)  # the operator took 127.0.0.1 off the list
    clock.now_s += 1000
    assert deliver_due(control, [], clock) == 0
    assert receiver.bodies == []
    assert "use https" in control.rules.channel("p", "ops").last_error


@pytest.mark.usefixtures("installed")
def test_only_what_is_finished_and_old_is_forgotten(tick, deliver, control, clock):
    tick([BAD])
    tick([BAD], 30)
    deliver()
    control.rules.save_rule("p", rule(id="waiting", **{"for": 0}), create=True, actor="k")
    tick([BAD])
    clock.now_s += 31 * 86400
    control.outbox.forget_old(clock.now_s)
    control.progress.forget_old(clock.now_s)
    left = {item.rule_id: len(item.notifications) for item in control.progress.alerts("p")}
    assert left == {"spike": 0, "waiting": 1}
    assert len(control.outbox.due(clock.now_s)) == 1
    assert len(control.progress.history("p", 0, 2e9)) == 3
    control.progress.forget_old(clock.now_s + 366 * 86400)
    assert control.progress.history("p", 0, 2e9) == []


def test_only_wanted_channels_are_told(tick, deliver, receiver, control):
    for name, enabled in (("one", True), ("two", True), ("off", False)):
        control.rules.save_channel("p", Channel(id=name, url=receiver.url, enabled=enabled), create=True, actor="k")
    control.rules.save_rule("p", rule(**{"for": 0, "channels": ["one", "off"]}), create=True, actor="k")
    control.rules.save_rule("p", rule(**{"id": "none", "for": 0, "channels": []}), create=True, actor="k")
    tick([BAD])
    assert [due.channel_id for due in control.outbox.due(2e9)] == ["one"]


def test_the_running_loop_over_a_real_store(services, store, control, receiver, clock, tmp_path):
    """The rules file, the store's values, two threads and a receiver; only the clock is moved by hand."""
    rows = [llm(n, at_s=-10, status="error" if n % 2 else "ok", project_id="default") for n in range(1, 11)]
    store.insert(batch(*rows))
    services.settings.rules_file = tmp_path / "rules.yaml"
    services.settings.rules_file.write_text(
        "rules:\n- {id: live, signal: error_rate, window: 60s, condition: {threshold: 0.25}, min_events: 5}\n"
        f"channels:\n- {{id: hook, url: '{receiver.url}'}}\n"
    )
    loop = AlertLoop(services, now_s=clock)
    loop.start()
    wait_for(lambda: len(receiver.bodies) == 1)
    clock.now_s += 120  # the failures leave the window
    wait_for(lambda: len(receiver.bodies) == 2)
    loop.stop()
    firing, resolved = receiver.bodies
    assert (firing["status"], firing["value"], firing["events"]) == ("firing", 0.5, 10)
    assert len(firing["exemplar_trace_ids"]) == 5
    assert set(firing["exemplar_trace_ids"]) == {f"{n:032x}" for n in (1, 3, 5, 7, 9)}
    assert (resolved["status"], resolved["dedupe_key"]) == ("resolved", firing["dedupe_key"])
    assert [(row.from_state, row.to_state) for row in control.progress.history("default", 0, 2e9)] == [
        ("firing", "inactive"),
        ("inactive", "firing"),
    ]


def test_unspooled_spans_hold_the_window_back(services, values, clock, control):
    """What was received and is not stored yet must not look like silence."""
    control.rules.save_rule("p", rule(), create=True, actor="k")
    services.spool.oldest_received_ns = T0 - 100 * SECOND
    AlertLoop(services, now_s=clock, values=values).tick(clock.now_s)
    assert ("p", "spike", T0 - 160 * SECOND, T0 - 100 * SECOND) in values.asked


def test_store_values(store):
    at = {"project_id": "values", "at_s": 0}
    store.insert(
        batch(
            llm(1, status="error", service_name="a", **at),
            llm(2, service_name="a", **at),
            llm(3, service_name="", **at),
            llm(4, status="error", service_name="b", request_model="x", **at),
        )
    )
    asked = StoreValues(store)

    def samples(**fields):
        found = asked.samples("values", rule(**fields), T0, T0 + SECOND)
        return {tuple(sample.labels.values()): (sample.value, sample.events) for sample in found}

    assert samples() == {("a",): (0.5, 2), ("",): (0.0, 1), ("b",): (1.0, 1)}
    assert samples(filter='request_model != "x"', group_by=[]) == {(): (pytest.approx(1 / 3), 3)}
    assert asked.samples("nobody", rule(group_by=[]), T0, T0 + SECOND) == [Sample({}, None, 0)]
    assert asked.samples("nobody", rule(), T0, T0 + SECOND) == []
    assert asked.exemplars("values", rule(), {"service_name": "a"}, T0, T0 + SECOND) == [f"{1:032x}"]
    assert asked.exemplars("values", rule(), {"service_name": ""}, T0, T0 + SECOND) == []


def wait_for(condition):
    """Until it holds; the suite's own timeout is the limit."""
    import time

    while not condition():
        time.sleep(0.02)
