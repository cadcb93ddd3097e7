"""Leases: the rule, the table, and who leads when a holder dies, stops or loses the database."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limelight_collector import leader as leader_module
from limelight_collector.control import Control
from limelight_collector.control.leases import Lease, claimed
from limelight_collector.errors import Unavailable
from limelight_collector.leader import LENGTH_S, Leader


@pytest.mark.parametrize(
    ("held", "granted"),
    [
        (None, True),
        (Lease("a", 50.0), True),  # its own, run out
        (Lease("a", 150.0), True),  # its own, renewed
        (Lease("b", 100.001), False),
        (Lease("b", 100.0), True),  # run out at this very moment
    ],
)
def test_the_rule(held, granted):
    assert claimed(held, "a", 100.0, 30.0) == (Lease("a", 130.0) if granted else None)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 40)), max_size=30))
def test_never_two_holders_at_one_time(asks):
    held, now_s, until = None, 0.0, {}
    for holder, pause_s in asks:
        now_s += pause_s
        lease = claimed(held, holder, now_s, 30.0)
        if lease is not None:
            held = lease
            until[holder] = lease.expires_s
            assert [name for name, end_s in until.items() if end_s > now_s] == [holder]


def test_a_holder_that_died_is_followed_after_the_lease_ran_out(control, clock):
    one, two = (Leader(control.leases, name, now_s=clock) for name in ("one", "two"))
    one.renew()
    two.renew()
    assert (one.is_leader(), two.is_leader()) == (True, False)
    clock.now_s += LENGTH_S - 1
    two.renew()  # "one" is dead, nobody knows yet
    assert (one.is_leader(), two.is_leader()) == (True, False)
    clock.now_s += 1
    two.renew()
    assert (one.is_leader(), two.is_leader()) == (False, True)
    one.renew()  # it was only asleep
    assert (one.is_leader(), two.is_leader()) == (False, True)


def test_a_holder_that_stops_is_followed_at_once(control, clock):
    one, two = (Leader(control.leases, name, now_s=clock) for name in ("one", "two"))
    one.start()
    two.renew()
    assert not two.is_leader()
    one.stop()
    assert not one.is_leader()
    two.renew()
    assert two.is_leader()
    one.stop()  # gives nothing away that is not its own
    one.renew()
    assert not one.is_leader()


def test_of_many_that_ask_at_once_one_gets_it(control_url, clock):
    controls = [Control(control_url, now_s=clock) for _ in range(4)]
    leaders = [Leader(one.leases, str(n), now_s=clock) for n, one in enumerate(controls)]
    threads = [threading.Thread(target=one.renew) for one in leaders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(one.is_leader() for one in leaders) == 1
    for one in controls:
        one.close()


def test_without_the_database_a_leader_stays_one_until_its_lease_runs_out(control, clock, monkeypatch):
    one = Leader(control.leases, "one", now_s=clock)
    one.renew()

    def away(*_):
        raise Unavailable("away")

    monkeypatch.setattr(control.leases, "claim", away)
    clock.now_s += LENGTH_S / 2
    one.renew()
    assert one.is_leader()
    clock.now_s += LENGTH_S / 2
    one.renew()
    assert not one.is_leader()


def test_the_thread_renews(control, clock, monkeypatch):
    monkeypatch.setattr(leader_module, "RENEWAL_S", 0.01)
    one = Leader(control.leases, "one", now_s=clock)
    one.start()
    clock.now_s += LENGTH_S  # run out, unless it is renewed from here on
    deadline = threading.Event()
    for _ in range(1000):
        if one.is_leader():
            break
        deadline.wait(0.01)
    one.stop()
    assert control.leases.claim(leader_module.LEASE, "two", clock.now_s, LENGTH_S)
