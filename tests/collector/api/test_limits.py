"""Every question meets each limit of the store as a problem that says what to do; so do many at one time."""

from __future__ import annotations

import threading
from typing import Any, cast

import pytest
from starlette.testclient import TestClient

from collector.store.rows import T0, batch, flag, llm, log, point
from limelight_collector.api.app import create_app
from limelight_collector.auth import ANYONE, Principal
from limelight_collector.batch import Batch
from limelight_collector.errors import Unavailable
from limelight_collector.services import Services
from limelight_collector.settings import Settings, load
from limelight_collector.store import Store, open_store
from limelight_collector.store.slow import OWN, ROUTE

NAME = "queue.size"
SPANS = 20_000
QUESTIONS = [
    *("traces", "traces?order=slowest", "spans", "spans?q=needle", "flags", "logs", "errors", "fields/user_id/values"),
    *("series?measure=latency_p95&group_by=user_id", "metrics", f"traces/{1:032x}"),
    f"metrics/{NAME}/series?group_by=attr%5B%22engine%22%5D",
]
HIT = {"flags", "logs", "errors", "metrics", f"traces/{1:032x}", "series?measure=latency_p95&group_by=user_id"}
"""Those that meet every limit."""
EXPORTS = ["traces/export", "flags/export", "errors/export", "series/export?measure=latency_p95&group_by=user_id"]
STREAMED = ["spans/export", "logs/export"]


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A data directory with one trace of 20,000 failed model calls, each flagged, and as many points and records."""
    settings = load({"data_dir": tmp_path_factory.mktemp("limits"), "retention_days": 36_500})
    store = open_store(settings)
    made = [
        llm(1, n, at_s=n / 100, status="error", user_id=f"u{n}", name=f"n{n}", attributes={"k": '"' + "v" * 200 + '"'})
        for n in range(SPANS)
    ]
    store.insert(batch(*made, flags=[flag(row) for row in made]))
    points = [point(n, at_s=n / 100, metric=NAME if n else f"other{n}") for n in range(SPANS)]
    store.insert(Batch(points=points, logs=[log(n, at_s=n / 100, trace=1) for n in range(SPANS)]))
    store.insert(Batch(points=[point(1, metric=f"other{n}") for n in range(10)]))
    store.close()
    return settings


LIMITS = {
    "it takes too long": {"query_timeout_s": 0.0001},
    "it needs too much memory": {"query_max_memory_bytes": 2000},
    "its answer is too large": {"query_max_rows": 1},
    "its answer is too large ": {"query_max_result_bytes": 20},
}


def asked(settings: Settings, questions: list[str]) -> dict[str, Any]:
    """The answers of a collector with these settings."""
    store = open_store(settings)
    nothing = cast("Any", None)  # no route here asks it
    app = create_app(
        Services(
            settings=settings,
            store=store,
            control=nothing,
            spool=nothing,
            now_ns=lambda: T0 + 3000 * 10**9,
            authenticate=lambda _: Principal("p", ANYONE.scopes),
            checks=dict[str, bool],
            degraded=lambda: False,
        )
    )
    try:
        with TestClient(app, base_url="http://limelight", raise_server_exceptions=False) as client:
            return {question: client.get(f"/api/v1/{question}") for question in questions}
    finally:
        store.close()


@pytest.fixture(scope="module")
def whole(full: Settings) -> dict[str, Any]:
    """What is answered without a limit in the way."""
    return asked(full, QUESTIONS + EXPORTS)


@pytest.mark.parametrize("reason", LIMITS)
def test_a_limit_is_said_and_never_a_part_of_the_answer(full: Settings, whole: dict[str, Any], reason: str) -> None:
    streamed = STREAMED if "answer" not in reason else []  # files may have any number of rows
    answers = asked(full.model_copy(update=LIMITS[reason]), QUESTIONS + EXPORTS + streamed)
    hit = {question for question, answer in answers.items() if answer.status_code == 422}
    assert hit >= HIT | set(streamed)
    for question, answer in answers.items():
        if question in hit:
            assert answer.headers["content-type"] == "application/problem+json"
            detail = answer.json()["detail"]
            assert reason.strip() in detail, question
            assert "choose a shorter time range" in detail
        else:
            is_a_part = answer.json().get("next_cursor") if "export" not in question else None
            assert answer.status_code == 200
            assert is_a_part or answer.content == whole[question].content, question


def test_a_file_of_more_groups_than_it_may_have_is_refused(full: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("limelight_collector.api.questions.MAX_FILE_GROUPS", 100)
    for answer in asked(full, ["errors/export", "fields/user_id/values/export"]).values():
        assert (answer.status_code, "more than 100 rows" in answer.json()["detail"]) == (422, True)


# -- many at one time --------------------------------------------------------------------------------------------------
def test_one_question_too_many_is_told_to_come_again(full: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("limelight_collector.store.clickhouse._MOST_WAITING", 0)
    store = open_store(full.model_copy(update={"reader_count": 1}))

    def heavy() -> None:
        ROUTE.set("/heavy")
        store.query("SELECT sleepEachRow(1) FROM numbers(3)")

    thread = threading.Thread(target=heavy)
    token = ROUTE.set("/light")
    try:
        thread.start()
        with pytest.raises(Unavailable, match="too many questions"):
            ask_while(thread, store)
        ROUTE.set(OWN)  # the collector's own questions do not wait for those of people
        assert store.query("SELECT 1").rows == [(1,)]
        thread.join(30)
        ROUTE.set("/light")
        assert store.query("SELECT 1").rows == [(1,)]
    finally:
        ROUTE.reset(token)
        store.close()


def ask_while(thread: threading.Thread, store: Store) -> None:
    while thread.is_alive():
        store.query("SELECT 1")


def test_so_many_exports_run_and_one_that_ends_makes_room(full: Settings) -> None:
    store = open_store(full.model_copy(update={"reader_count": 1}))
    sql = "SELECT number FROM numbers(1000000)"
    first = store.stream(sql)
    assert len(next(first)) <= 65_536
    with pytest.raises(Unavailable, match="too many exports"):
        next(store.stream(sql))
    first.close()  # type: ignore[attr-defined]
    assert sum(len(block) for block in store.stream(sql)) == 1_000_000
    assert [query.outcome for query in store.slow.of("")] == ["answered"]
    store.close()
