"""What both databases must do for us: transactions that are whole, writers one at a time, an outage that is said."""

import threading
from contextlib import contextmanager

import psycopg
import pytest
import sqlalchemy as sa

from limelight_collector.alerts.rule import Rule
from limelight_collector.control import Control
from limelight_collector.control.keys import CACHE_S, STALE_S
from limelight_collector.control.models import PROJECTS
from limelight_collector.enrich.cost import PriceOverride
from limelight_collector.errors import Rejected, Unavailable


def test_collectors_that_write_at_once_wait_for_each_other(control, control_url, clock):
    rules = [Rule.model_validate({"id": "d", "signal": "error_rate", "window": "5m", "condition": {"threshold": 0.1}})]
    others = [control, *(Control(control_url, now_s=clock) for _ in range(3))]
    failures = []

    def work(one):
        try:
            for n in range(5):
                one.create_key(f"project-{n}", ["read"])  # all make the same projects
                one.rules.install_defaults(rules, n + 1, "default")
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(one,)) for one in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in others[1:]:
        one.close()
    assert failures == []
    assert len(control.list_keys()) == 20
    assert len(control.rules.rules("default")) == 1


def test_a_read_sees_one_state(control, control_url, clock):
    other = Control(control_url, now_s=clock)
    count = sa.select(sa.func.count()).select_from(PROJECTS)
    with control._database.read() as connection:
        before = connection.execute(count).scalar()
        other.create_key("later", ["read"])
        assert connection.execute(count).scalar() == before
    other.close()
    assert len(control.projects()) == before + 1


def test_a_failed_write_changes_nothing(control):
    def attempt():
        with control._database.write() as connection:
            connection.execute(PROJECTS.insert().values(id="p", name="p", default_rules=0, created_s=0.0))
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        attempt()
    assert control.projects() == []


def test_text_and_numbers_come_back_as_they_were_stored(control, clock):
    clock.now_s = 1_700_000_000.123456
    control.create_key("p", ["read"], name="ü \U0001f600 ' \" \\ %s :x {y}", expires=2e10 + 0.5)
    (key,) = control.list_keys()
    assert key.name == "ü \U0001f600 ' \" \\ %s :x {y}"
    assert (key.created_at, key.expires_at) == ("2023-11-14T22:13:20.123Z", "2603-10-11T11:33:20.500Z")


@contextmanager
def away(url, server):
    """Nobody gets a connection to this database, and who has one loses it."""
    name = url.split("?")[0].rsplit("/", 1)[1]
    with psycopg.connect(server.format("postgres"), autocommit=True) as admin:
        admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        admin.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
        yield
        admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")


def test_a_database_that_is_away_is_unavailable_and_comes_back(postgresql_url, postgresql_server, clock):
    control = Control(postgresql_url, now_s=clock)
    control.create_key("p", ["read"])
    with away(postgresql_url, postgresql_server):
        with pytest.raises(Unavailable, match="control database does not answer"):
            control.projects()
        with pytest.raises(Unavailable):
            control.create_key("q", ["read"])
    assert [project.id for project in control.projects()] == ["p"]
    control.close()


def test_known_keys_and_prices_hold_while_the_database_is_away(postgresql_url, postgresql_server, clock):
    control = Control(postgresql_url, now_s=clock)
    known, unknown = control.create_key("p", ["ingest"]), control.create_key("p", ["ingest"])
    control.replace_price_overrides("p", [PriceOverride("openai", "m", "1", "2")], actor="k")
    assert control.find_key(known) is not None
    assert len(control.price_overrides("p")) == 1
    with away(postgresql_url, postgresql_server):
        clock.now_s += STALE_S - 1
        assert control.find_key(known) is not None
        assert len(control.price_overrides("p")) == 1
        with pytest.raises(Unavailable):
            control.find_key(unknown)
        with pytest.raises(Unavailable):
            control.price_overrides("q")
        clock.now_s += CACHE_S
        with pytest.raises(Unavailable):  # not for ever
            control.find_key(known)
    key_id = control.find_key(known).key_id
    assert control.revoke_key(key_id)
    assert control.find_key(known) is None
    control.close()


def test_a_text_that_postgresql_cannot_hold_is_rejected(postgresql_url):
    control = Control(postgresql_url)
    with pytest.raises(Rejected, match="cannot hold this"):
        control.create_key("p", ["read"], name="a\0b")
    assert control.list_keys() == []
    control.close()
