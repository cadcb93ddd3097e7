"""The pool of reading connections: what one question leaves behind, the next one must not see."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from clickhouse_connect.driver.exceptions import ClickHouseError

from limelight_collector.errors import QueryLimit
from limelight_collector.settings import Settings
from limelight_collector.store import Store, open_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """One with a single reading connection."""
    opened = open_store(Settings(data_dir=tmp_path, reader_count=1))
    yield opened
    opened.close()


@pytest.mark.parametrize(
    ("failing", "error"),
    [
        ("SELECT toString('theirs') AS text FROM numbers(3000000)", QueryLimit),
        ("SELECT toString('theirs') AS text FROM numbers(1000000) WHERE NOT throwIf(number = 900000)", ClickHouseError),
        ("SELECT 'theirs' AS text; DROP TABLE spans", ClickHouseError),
    ],
    ids=["too many rows", "fails late", "a second statement"],
)
def test_the_answer_of_a_question_that_failed_is_nobody_elses(
    store: Store, failing: str, error: type[Exception]
) -> None:
    """The embedded engine keeps what it had answered until then for the next query of the connection."""
    for _ in range(2):
        with pytest.raises(error):
            store.query(failing)
        assert store.query("SELECT toString('mine') AS text").rows == [("mine",)]
        assert list(store.stream("SELECT toString('mine') AS text")) == [[("mine",)]]


def test_a_question_that_is_refused_costs_no_connection(store: Store) -> None:
    for _ in range(20):
        with pytest.raises(ClickHouseError):
            store.query("SELECT nonsense")
    store.ping()
