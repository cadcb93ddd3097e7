"""Rules, channels, prices and the audit log as stored."""

import pytest
import sqlalchemy as sa

from limelight_collector.alerts.rule import Channel, Rule
from limelight_collector.enrich.cost import PriceOverride
from limelight_collector.errors import Rejected


def rule(id_="spike", **fields):
    return Rule.model_validate(
        {"id": id_, "signal": "error_rate", "window": "5m", "condition": {"threshold": 0.1}, **fields}
    )


def channel(id_="ops", **fields):
    return Channel.model_validate({"id": id_, "url": "https://hooks.example.com/x", **fields})


def test_rule_round_trip(control):
    mine = rule(group_by=["service_name"], labels={"team": "a"}, channels=["ops"], recovery=0.02)
    assert control.rules.save_rule("p", mine, create=True, actor="k").rule == mine
    assert [stored.rule for stored in control.rules.rules("p")] == [mine]
    assert control.rules.rules("q") == []
    control.rules.delete_rule("p", "spike", actor="k")
    assert control.rules.rules() == []
    assert [entry.action for entry in control.audit("p")] == ["rule.delete", "rule.create"]


def test_creating_twice_replacing_or_deleting_nothing(control):
    control.rules.save_rule("p", rule(), create=True, actor="k")
    for attempt, kind in [
        (lambda: control.rules.save_rule("p", rule(), create=True, actor="k"), "conflict"),
        (lambda: control.rules.save_rule("q", rule(), create=False, actor="k"), "not_found"),
        (lambda: control.rules.rule("q", "spike"), "not_found"),
        (lambda: control.rules.delete_rule("q", "spike", actor="k"), "not_found"),
    ]:
        with pytest.raises(Rejected) as caught:
            attempt()
        assert caught.value.kind == kind


def test_the_files_rules_are_read_only_and_follow_the_file(control):
    control.rules.sync_file("p", [rule("a"), rule("b")], [channel()])
    with pytest.raises(Rejected, match="belongs to the rules file"):
        control.rules.save_rule("p", rule("a"), create=False, actor="k")
    with pytest.raises(Rejected, match="belongs to the rules file"):
        control.rules.delete_channel("p", "ops", actor="k")
    audited = len(control.audit("p"))
    control.rules.sync_file("p", [rule("a"), rule("b")], [channel()])
    assert len(control.audit("p")) == audited  # nothing changed, nothing written
    control.rules.sync_file("p", [rule("b", severity="critical")], [])
    assert [(stored.rule.id, stored.rule.severity) for stored in control.rules.rules("p")] == [("b", "critical")]
    assert control.rules.channels("p") == []


def test_a_file_rule_never_replaces_one_made_by_api(control):
    control.rules.save_rule("p", rule("mine"), create=True, actor="k")
    with pytest.raises(Rejected, match="made by API"):
        control.rules.sync_file("p", [rule("new"), rule("mine", severity="critical")], [])
    assert [stored.rule for stored in control.rules.rules("p")] == [rule("mine")]


def test_defaults_come_once_and_stay_deleted(control):
    control.rules.install_defaults([rule("d")], 1, "default")
    control.create_key("later", ["read"])
    control.rules.install_defaults([rule("d")], 1, "default")
    assert [(stored.project_id, stored.source) for stored in control.rules.rules()] == [
        ("default", "default"),
        ("later", "default"),
    ]
    control.rules.delete_rule("default", "d", actor="k")
    control.rules.install_defaults([rule("d")], 1, "default")
    assert control.rules.rules("default") == []
    control.rules.sync_file("later", [rule("d", severity="critical")], [])
    assert control.rules.rule("later", "d").source == "file"


def test_a_channel_keeps_its_secret_until_given_another(control):
    control.rules.save_channel("p", channel(secret="12345678"), create=True, actor="k")
    control.rules.save_channel("p", channel(name="n"), create=False, actor="k")
    assert control.rules.channel("p", "ops").channel == channel(name="n", secret="12345678")
    control.rules.save_channel("p", channel(secret="abcdefgh"), create=False, actor="k")
    assert control.rules.channel("p", "ops").channel.secret == "abcdefgh"
    assert "12345678" not in repr([control.audit("p"), control.rules.channels("p")])


def test_price_overrides_are_replaced_as_a_set(control, clock):
    dear = PriceOverride("openai", "gpt-4o", "2.50", "10.00", "1.25")
    own = PriceOverride("", "my-model", "0.000000000000000001", "0.40")
    assert control.price_overrides("p") == []
    control.replace_price_overrides("p", [dear], actor="k")
    control.replace_price_overrides("p", [own, dear], actor="k")
    assert control.price_overrides("p") == [own, dear]
    assert control.price_overrides("q") == []
    newest = control.audit("p")[0]
    assert (newest.action, len(newest.before["overrides"]), len(newest.after["overrides"])) == ("prices.replace", 1, 2)


def test_price_overrides_by_another_process_are_seen_soon(control, other_process, clock):
    control.replace_price_overrides("p", [], actor="k")
    assert control.price_overrides("p") == []
    other_process("INSERT INTO price_overrides VALUES ('p', 'x', 'm', '1', '2', NULL)")
    clock.now_s += 5
    assert control.price_overrides("p") == [PriceOverride("x", "m", "1", "2")]


@pytest.mark.parametrize("statement", ["UPDATE audit_log SET actor = 'nobody'", "DELETE FROM audit_log"])
def test_the_audit_log_cannot_be_rewritten(control, other_process, statement):
    control.create_key("p", ["read"])
    with pytest.raises(sa.exc.DBAPIError, match="append-only"):
        other_process(statement)
    assert len(control.audit("p")) == 1


def test_a_refused_change_leaves_no_audit_entry(control):
    with pytest.raises(Rejected):
        control.rules.save_rule("p", rule(), create=False, actor="k")
    assert control.audit("p") == []
