"""Which error kind an engine's error becomes; the cases an embedded engine cannot be brought into here."""

from __future__ import annotations

from pathlib import Path

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError, DataError, OperationalError

from limelight_collector.errors import QueryLimit, Rejected, StartupRefused, Unavailable
from limelight_collector.settings import Settings
from limelight_collector.store import failures, open_store


@pytest.mark.parametrize("code", [209, 210, 241, 242, 243, 252, 516, 999, None])
def test_an_insert_that_may_work_later_is_unavailable(code: int | None) -> None:
    assert isinstance(failures.of_insert(DatabaseError("Code", code=code)), Unavailable)


def test_a_full_disk_below_the_engine_is_unavailable() -> None:
    assert isinstance(failures.of_insert(OSError(28, "No space left on device")), Unavailable)


@pytest.mark.parametrize("error", [DataError("x"), TypeError("x"), DatabaseError("x", code=53), OverflowError("x")])
def test_data_that_can_never_be_stored_is_rejected(error: Exception) -> None:
    assert isinstance(failures.of_insert(error), Rejected)


@pytest.mark.parametrize("code", [158, 159, 241, 396])
def test_a_limit_of_the_query_is_the_askers(code: int) -> None:
    assert isinstance(failures.of_query(DatabaseError("memory limit exceeded", code=code)), QueryLimit)


def test_the_memory_of_the_whole_engine_is_not_the_askers() -> None:
    error = DatabaseError("(total) memory limit exceeded", code=241)
    assert isinstance(failures.of_query(error), Unavailable)


def test_a_lost_connection_is_unavailable_and_a_wrong_query_a_bug() -> None:
    assert isinstance(failures.of_query(OperationalError("connection refused")), Unavailable)
    wrong = DatabaseError("unknown column", code=47)
    assert failures.of_query(wrong) is wrong


def test_a_server_that_is_not_there_is_one_line_without_the_password(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, clickhouse_url="http://user:secret@127.0.0.1:9/limelight")
    with pytest.raises(StartupRefused) as caught:
        open_store(settings)
    assert "cannot open the store at http://user:***@127.0.0.1:9/limelight" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
