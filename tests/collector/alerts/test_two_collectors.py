"""Two collectors on one PostgreSQL: whoever leads evaluates and notifies; the other takes over; nothing goes twice."""

import threading

import pytest

from limelight_collector.alerts.evaluate import AlertLoop, evaluate
from limelight_collector.alerts.rule import Channel, Rule
from limelight_collector.alerts.state import Sample
from limelight_collector.control import Control
from limelight_collector.leader import LENGTH_S, Leader

RULE = {"id": "spike", "signal": "error_rate", "window": 60, "condition": {"threshold": 0.1}}


class Failing:
    """Values over the threshold, always."""

    def samples(self, *_):
        return [Sample({}, 0.5, 20)]

    def exemplars(self, *_):
        return []


@pytest.fixture
def control_url(postgresql_url):
    return postgresql_url


@pytest.fixture
def collectors(services, control, control_url, clock, receiver):
    """Two loops, each with a leader, a control and a connection of its own."""
    control.rules.save_channel("default", Channel(id="ops", url=receiver.url), create=True, actor="k")
    control.rules.save_rule("default", Rule.model_validate(RULE), create=True, actor="k")
    made, controls = [], []
    for name in ("one", "two"):
        own = Control(control_url, now_s=clock)
        controls.append(own)
        services.control = own
        leader = Leader(own.leases, name, now_s=clock)
        made.append((leader, AlertLoop(services, now_s=clock, values=Failing(), is_leader=leader.is_leader)))
    yield made
    for own in controls:
        own.close()


def both(collectors):
    """One round of each collector, side by side."""

    def turn(leader, loop):
        leader.renew()
        loop._evaluate()
        loop._notify()

    threads = [threading.Thread(target=turn, args=pair) for pair in collectors]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_an_alert_fires_and_is_told_once(collectors, receiver, control, clock):
    for _ in range(4):
        both(collectors)
        clock.now_s += 15
    assert [body["rule"]["id"] for body in receiver.bodies] == ["spike"]
    assert [event.to_state for event in control.progress.history("default", 0, clock.now_s)] == ["firing", "pending"]


def test_the_other_takes_over_from_one_that_died(collectors, receiver, control, clock):
    both(collectors)
    (dead, *_), (heir, loop) = sorted(collectors, key=lambda pair: not pair[0].is_leader())
    assert dead.is_leader()
    clock.now_s += LENGTH_S
    heir.renew()
    loop._evaluate()
    loop._notify()
    assert heir.is_leader()
    (stored,) = [one for one in control.rules.rules("default") if one.rule.id == "spike"]
    assert stored.evaluated_s == clock.now_s
    assert len(receiver.bodies) == 1  # it goes on where the other stopped: the firing was told


def test_two_that_both_believe_to_lead_still_tell_once(control, control_url, receiver, clock, collectors):
    del collectors
    failures = []

    def work(own):
        try:
            evaluate(own, Failing(), now_s=clock.now_s, complete_to_s=clock.now_s, link_base="http://d")
        except Exception as error:
            failures.append(error)

    owns = [Control(control_url, now_s=clock) for _ in range(4)]
    threads = [threading.Thread(target=work, args=(own,)) for own in owns]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for own in owns:
        own.close()
    assert failures == []
    assert len(control.outbox.due(clock.now_s)) == 1
