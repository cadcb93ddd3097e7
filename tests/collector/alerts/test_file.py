"""The rules file: what is read, which line is wrong, and what a change while running does."""

import os

import pytest

from limelight_collector.alerts.evaluate import AlertLoop
from limelight_collector.alerts.file import DEFAULT_RULES, RulesFile, load_rules_file
from limelight_collector.errors import StartupRefused

GOOD = """\
rules:
  - id: one
    signal: error_rate
    window: 5m
    condition: {threshold: 0.1}
    channels: [ops]
channels:
  - id: ops
    url: https://hooks.example.com/x
    secret: 12345678x
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "rules.yaml"


def test_a_good_file(path):
    path.write_text(GOOD)
    loaded = load_rules_file(str(path), [])
    assert [(rule.id, rule.window_s, rule.channels) for rule in loaded.rules] == [("one", 300, ("ops",))]
    assert [(channel.id, channel.secret) for channel in loaded.channels] == [("ops", "12345678x")]


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "rules: []\n"])
def test_an_empty_file_holds_no_rules(path, text):
    path.write_text(text)
    assert load_rules_file(path).rules == []


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("window: 5m", "window: soon", 4, 'rules[0].window: write a duration as seconds or like "30s"'),
        ("threshold: 0.1", "threshold: 10", 2, "10 % is 0.1"),
        ("signal: error_rate", "signal: latency_p95", 3, "it evaluates: error_rate"),
        ("    window: 5m\n", "", 2, "Field required"),
        ("window: 5m", "windwo: 5m", 2, "Field required (and 1 more)"),
        ("signal: error_rate", 'signal: error_rate\n    filter: nosuch = "x"', 4, "unknown field 'nosuch'"),
        ("signal: error_rate", "signal: error_rate\n    group_by: [output_text]", 2, "cannot group by output_text"),
        ("channels: [ops]", "channels: [opps]", 6, "there is no channel 'opps' in this file"),
        ("id: ops", "id: ops\n    url: https://a.example\n  - id: ops", 10, "the id 'ops' is used twice"),
        ("https://hooks", "http://hooks", 9, "use https"),
        ("https://hooks.example.com/x", "https://10.0.0.1/", 9, "inside the network"),
        ("rules:", "rules: {", 2, "expected the node content"),
        ("rules:\n", "rule:\n", 1, "Extra inputs"),
        (GOOD, "- just\n- a list\n", 1, "mapping with `rules` and `channels`"),
        (GOOD, "rules: !!python/object/apply:os.system ['true']\n", 1, "constructor"),
    ],
)
def test_a_bad_file_names_the_line(path, old, new, line, message):
    path.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(StartupRefused) as caught:
        load_rules_file(path, [])
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_or_unreadable_file_is_one_line(tmp_path):
    with pytest.raises(StartupRefused, match="No such file"):
        load_rules_file(tmp_path / "none.yaml")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(StartupRefused, match="cannot read the rules file"):
        load_rules_file(tmp_path / "bytes")


def test_the_shipped_rules_are_valid():
    assert {rule.signal for rule in load_rules_file(DEFAULT_RULES, []).rules} == {"error_rate"}


def test_a_bad_change_keeps_the_old_rules_and_a_good_one_is_taken(path, control):
    path.write_text(GOOD)
    file = RulesFile(path, control, [])
    file.load()
    path.write_text(GOOD.replace("5m", "soon"))
    file.reload()
    assert control.rules.rule("default", "one").rule.window_s == 300
    path.write_text(GOOD.replace("5m", "60s"))
    file.reload()
    assert control.rules.rule("default", "one").rule.window_s == 60
    path.unlink()
    file.reload()
    assert control.rules.rule("default", "one").source == "file"


def test_an_unchanged_file_is_not_read_again(path, control):
    path.write_text(GOOD)
    file = RulesFile(path, control, [])
    file.load()
    stamp = path.stat()
    path.write_text(GOOD.replace("5m", "9m"))  # same size, and told to be as old: only the stamp is looked at
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    file.reload()
    assert control.rules.rule("default", "one").rule.window_s == 300


def test_a_bad_file_refuses_the_start_with_nothing_changed(path, services, control, clock):
    path.write_text(GOOD.replace("5m", "soon"))
    services.settings.rules_file = path
    with pytest.raises(StartupRefused, match=":4: "):
        AlertLoop(services, now_s=clock).start()
    assert control.rules.rules() == []


def test_starting_without_the_file_takes_its_rules_away_and_ships_the_defaults(path, services, control, clock):
    path.write_text(GOOD)
    RulesFile(path, control, []).load()
    loop = AlertLoop(services, now_s=clock)
    loop.start()
    loop.stop()
    loop.tick(clock.now_s)
    assert [(stored.rule.id, stored.source) for stored in control.rules.rules()] == [("error-rate-spike", "default")]
