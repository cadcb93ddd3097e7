"""Deletion requests and retention policies as stored, on each kind of database."""

import pytest

from limelight_collector.control.models import ALERT_EVENTS, OUTBOX
from limelight_collector.errors import Rejected
from limelight_collector.retention import Policy

NS = 10**18


def ask(control, id_, kind="user_id", value="ada", project="p", at_ns=NS):
    control.deletions.ask(project, kind, value, id_=id_, requested_ns=at_ns, actor="k")
    return control.deletions.one(project, id_)


def test_a_deletion_goes_from_queued_to_verified_and_forgets_whose_it_was(control, clock):
    first, second = ask(control, "b"), ask(control, "a", "everything", None, at_ns=NS + 1)
    assert [deletion.id for deletion in control.deletions.open()] == ["b", "a"]
    assert [deletion.id for deletion in control.deletions.listed("p")] == ["a", "b"]
    assert control.deletions.listed("q") == []
    assert control.deletions.one("q", "b") is None
    running = control.deletions.save(first, state="running", rows={"spans": 2}, portion={"traces": ["00"]})
    assert control.deletions.one("p", "b") == running
    assert (running.value, running.portion) == ("ada", {"traces": ["00"]})
    control.deletions.finish(running, "verified", "")
    done = control.deletions.one("p", "b")
    assert (done.state, done.value, done.portion, done.rows, done.finished_s) == (
        "verified",
        None,
        None,
        {"spans": 2},
        clock.now_s,
    )
    assert control.deletions.open() == [second]
    assert [(entry.action, entry.object) for entry in control.audit("p")] == [
        ("deletion.finish", "b"),
        ("deletion.request", "a"),
        ("deletion.request", "b"),
    ]
    assert "ada" not in str(control.audit("p"))


def test_a_failed_one_keeps_the_value_until_the_same_is_verified(control):
    for id_, value in (("f", "ada"), ("g", "bob")):
        control.deletions.finish(ask(control, id_, value=value), "failed", "look there")
    assert (control.deletions.one("p", "f").value, control.deletions.one("p", "f").detail) == ("ada", "look there")
    control.deletions.finish(ask(control, "v"), "verified", "")
    assert [control.deletions.one("p", id_).value for id_ in "fgv"] == [None, "bob", None]


@pytest.mark.parametrize(
    ("kind", "value", "left"), [("user_id", "ada", 1), ("trace_id", "00", 2), ("everything", None, 0)]
)
def test_alert_history_and_sent_notifications_that_name_them_go(control, kind, value, left):
    for project in ("p", "q"):
        control.create_key(project, ["read"])
        with control._database.write() as connection:
            for number, user in enumerate(("ada", "adam")):
                labels = {"user_id": user}
                event = {"rule_id": "r", "rule_name": "r", "severity": "s", "labels": labels, "time_s": 1.0}
                event |= {"from_state": "ok", "to_state": "firing", "value": None, "events": 1, "reason": ""}
                connection.execute(ALERT_EVENTS.insert().values(project_id=project, **event))
                sent = {"rule_id": "r", "series": "s", "channel_id": "c", "event": "firing", "payload": labels}
                sent |= {"attempts": 1, "next_attempt_s": 1.0, "created_s": 1.0, "project_id": project}
                for status in ("delivered", "queued"):
                    key = f"{project}{number}{status}"
                    connection.execute(OUTBOX.insert().values(dedupe_key=key, status=status, **sent))
    control.deletions.finish(ask(control, "d", kind, value), "verified", "")
    with control._database.read() as connection:

        def count(table, project):
            return len(connection.execute(table.select().where(table.c.project_id == project)).all())

        assert (count(ALERT_EVENTS, "p"), count(OUTBOX, "p")) == (left, left + 2)  # what is queued is still to be sent
        assert (count(ALERT_EVENTS, "q"), count(OUTBOX, "q")) == (2, 4)


def test_policies_are_replaced_whole_and_audited(control):
    assert control.retention.of("p") == Policy()
    control.retention.replace("p", Policy(7, 2**40, 14), actor="k")
    control.retention.replace("q", Policy(max_bytes=1), actor="command")
    control.retention.replace("p", Policy(8), actor="k")
    assert control.retention.all() == {"p": Policy(8), "q": Policy(max_bytes=1)}
    newest = control.audit("p")[0]
    assert (newest.action, newest.before["max_bytes"], newest.after["max_age_days"]) == ("retention.replace", 2**40, 8)
    with pytest.raises(Rejected, match="project id"):
        control.retention.replace("No Slug", Policy(1), actor="k")
