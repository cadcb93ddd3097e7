"""API keys: what is stored, what is found, what ends them."""

import subprocess
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limelight_collector.auth import Principal
from limelight_collector.control import Control
from limelight_collector.errors import Rejected


def test_a_key_speaks_for_its_project_and_scopes(control):
    key = control.create_key("shop", ["ingest", "read"], name="checkout")
    (listed,) = control.list_keys()
    assert control.find_key(key) == Principal("shop", frozenset({"ingest", "read"}), listed.id)
    assert (listed.project_id, listed.name, listed.created_at) == ("shop", "checkout", "2023-11-14T22:13:20.000Z")
    assert [project.id for project in control.projects()] == ["shop"]


def test_keys_have_160_random_bits_and_never_repeat(control):
    keys = {control.create_key("p", ["read"]) for _ in range(20)}
    assert len({key.split("_")[2][:32] for key in keys}) == 20


def test_the_key_is_nowhere_on_disk(tmp_path, clock):
    control = Control(f"sqlite:///{tmp_path / 'control.db'}", now_s=clock)
    key = control.create_key("p", ["admin"])
    control.find_key(key)
    control.close()
    secret = key.split("_")[2][:32].encode()
    on_disk = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert key.split("_")[1].encode() in on_disk  # the public id is: the search looks where the data is
    assert key.encode() not in on_disk
    assert secret not in on_disk


@pytest.mark.parametrize("position", [3, 15, 30, -1])
def test_a_mistyped_key_is_unknown(control, position):
    key = control.create_key("p", ["read"])
    wrong = list(key)
    wrong[position] = "b" if wrong[position] == "a" else "a"
    assert control.find_key("".join(wrong)) is None


@given(st.text())
def test_any_other_text_is_unknown(text):
    assert KEYS.find_key(text) is None


KEYS = Control("sqlite://")  # in memory: every text is refused before the database


def test_right_id_with_another_keys_secret_is_unknown(control):
    import zlib

    one, two = (control.create_key("p", ["read"]).split("_") for _ in range(2))
    body = f"{one[1]}_{two[2][:32]}"
    assert control.find_key(f"ll_{body}{zlib.crc32(body.encode()):08x}") is None


def test_revoked_here_ends_at_once(control):
    key = control.create_key("p", ["read"])
    assert control.find_key(key) is not None
    key_id = control.list_keys()[0].id
    assert control.revoke_key(key_id)
    assert control.find_key(key) is None
    assert control.revoke_key(key_id)  # again: no error, the first time stays
    assert not control.revoke_key("nosuchkey0")


def test_revoked_by_another_process_ends_within_five_seconds(control, control_url, clock):
    key = control.create_key("p", ["read"])
    assert control.find_key(key) is not None
    code = (
        "import sys; from limelight_collector.control import Control; c = Control(sys.argv[1]);"
        "assert c.revoke_key(c.list_keys()[0].id); c.close()"
    )
    subprocess.run([sys.executable, "-c", code, control_url], check=True)
    clock.now_s += 5
    assert control.find_key(key) is None


def test_expiry(control, clock):
    key = control.create_key("p", ["read"], expires=clock.now_s + 2)
    assert control.find_key(key) is not None
    clock.now_s += 2
    assert control.find_key(key) is None
    for never in (clock.now_s, 253_402_300_800.0, float("inf"), float("nan")):  # the year 10000 has no date
        with pytest.raises(Rejected, match="past"):
            control.create_key("p", ["read"], expires=never)
    assert len(control.list_keys()) == 1


def test_revoking_the_last_key_does_not_open_the_door(control):
    assert not control.has_keys()
    control.create_key("p", ["read"])
    assert control.has_keys()
    control.revoke_key(control.list_keys()[0].id)
    assert control.has_keys()


def test_another_projects_key_cannot_be_seen_or_revoked(control):
    control.create_key("a", ["read"])
    key_id = control.list_keys("a")[0].id
    assert control.list_keys("b") == []
    assert not control.revoke_key(key_id, "b")
    assert control.list_keys("a")[0].revoked_at is None


@pytest.mark.parametrize(
    ("project", "scopes"), [("p", []), ("p", ["root"]), ("", ["read"]), ("A b", ["read"]), ("../x", ["read"])]
)
def test_bad_requests(control, project, scopes):
    with pytest.raises(Rejected) as caught:
        control.create_key(project, scopes)
    assert caught.value.kind == "bad_request"
    assert control.list_keys() == []


def test_last_use_is_written_later(control, clock):
    key = control.create_key("p", ["read"])
    control.find_key(key)
    assert control.list_keys()[0].last_used_at is None
    control.save_last_used()
    assert control.list_keys()[0].last_used_at == "2023-11-14T22:13:20.000Z"


def test_changes_are_audited_without_the_key(control):
    key = control.create_key("p", ["read"], name="n", actor="k1")
    control.revoke_key(control.list_keys()[0].id, actor="k2")
    revoked, created = control.audit("p")
    assert (created.actor, created.action, created.after["name"]) == ("k1", "key.create", "n")
    assert (revoked.actor, revoked.action, revoked.object) == ("k2", "key.revoke", created.object)
    assert key not in repr(control.audit("p"))


def test_threads_share_one_control(control):
    failures = []

    def work():
        try:
            for _ in range(10):
                assert control.find_key(control.create_key("p", ["read"])) is not None
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(control.list_keys()) == 40
