"""Answers as files: what is in them, their types, and that one which breaks off does not look whole."""

from __future__ import annotations

import csv
import io
import json
import threading
from collections.abc import Iterator
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uvicorn
from fastapi import FastAPI
from starlette.testclient import TestClient

from collector.api.conftest import HOSTILE
from collector.store.rows import T0, batch, flag, llm, log, point, span
from limelight_collector import metrics
from limelight_collector.api import file_columns
from limelight_collector.api.export import Blocks, FileAnswer, as_csv, as_jsonl, as_parquet, columns_of
from limelight_collector.batch import Batch
from limelight_collector.errors import Unavailable
from limelight_collector.query.span_json import span_object
from limelight_collector.services import Services

KINDS = ["csv", "jsonl", "parquet"]
NAME = "queue.size"
LISTS = {
    "spans": ("spans", "spans"),
    "traces": ("traces", "traces"),
    "flags": ("flags", "flags"),
    "logs": ("logs", "logs"),
    "errors": ("errors", "groups"),
    "fields/model/values": ("values", "values"),
    "series?measure=request_count,cost_usd,latency_p95&group_by=model&step=1m": ("series", "rows"),
    f"metrics/{NAME}/series?step=10s&group_by=service_name": ("metric-series", "rows"),
}
"""Question -> name of its file, key of its list."""


@pytest.fixture(scope="module", autouse=True)
def _stored(services: Services) -> None:
    """Project `other` gets spans of two days and of everything else a little."""
    day = 86_400
    made = [llm(20 + n, 1, at_s=n * day / 8, project_id="other", status="error") for n in range(9)]
    rest = Batch(points=[point(project_id="other")], logs=[log(n, at_s=n, project_id="other") for n in (1, 2)])
    services.store.insert(batch(*made, span(20, 2, at_s=1, parent=1, project_id="other"), flags=[flag(made[0])]))
    services.store.insert(rest)


def hostile() -> dict[str, Any]:
    return span_object({name: values[0] for name, values in batch(llm(1, 1, **HOSTILE)).columns.items()})


def rows_of(kind: str, body: bytes) -> list[dict[str, Any]]:
    if kind == "csv":
        return list(csv.DictReader(io.StringIO(body.decode())))
    if kind == "jsonl":
        return [json.loads(line) for line in body.splitlines()]
    return pq.read_table(io.BytesIO(body)).to_pylist()


def ask(client: TestClient, question: str, **params: Any) -> Any:
    path, _, given = question.partition("?")
    window = {"from": T0 // 10**9, "to": T0 // 10**9 + 2 * 86_400}
    asked = window | dict(pair.split("=") for pair in given.split("&") if pair) | params
    return client.get(f"/api/v1/{path}", params=asked, headers={"Authorization": "Bearer other"})


# -- encoders ----------------------------------------------------------------------------------------------------------
def test_csv_cells_are_never_formulas_and_numbers_stay_numbers() -> None:
    text = b"".join(as_csv(file_columns.SPANS, [[hostile() | {"cost_usd": "-0.5"}]])).decode()
    (row,) = csv.DictReader(io.StringIO(text))
    assert (row["name"], row["session_id"], row["user_id"]) == ('\'=cmd|"/c calc"!A1', "'@x", "'-1+2")
    assert (row["request_seed"], row["tags"], row["ttft_s"], row["cost_usd"]) == ("-7", '["=1"]', "", "-0.5")
    assert json.loads(row["attributes"])["n"] is None


def test_jsonl_is_one_object_a_line() -> None:
    lines = b"".join(as_jsonl(file_columns.SPANS, [[hostile()], [], [hostile()]])).decode().splitlines()
    assert [json.loads(line)["name"] for line in lines] == [HOSTILE["name"]] * 2


def test_parquet_keeps_types() -> None:
    spans = [hostile(), hostile() | {"cost_usd": "0.000000000000000001"}]
    table = pq.read_table(io.BytesIO(b"".join(as_parquet(file_columns.SPANS, [spans[:1], spans[1:]]))))
    assert table.column_names == [column.name for column in file_columns.SPANS]
    assert table.schema.field("start_time").type == pa.timestamp("ns", tz="UTC")
    row = table.to_pylist()[1]
    assert (row["request_seed"], row["input_tokens"], row["tags"]) == (-7, 100, ["=1"])
    assert (row["cost_usd"], row["billable"]) == (Decimal("1E-18"), True)
    assert table.column("start_time").cast(pa.int64()).to_pylist() == [T0, T0]


def test_what_a_type_cannot_hold_is_null_alone() -> None:
    rows = [{"t": "9999-01-01T00:00:00.000000000Z", "c": "1"}, {"t": "2026-01-01T00:00:00.000000001Z", "c": "1" * 30}]
    table = pq.read_table(io.BytesIO(b"".join(as_parquet(columns_of(time="t", decimal="c"), [rows]))))
    assert table.column("t").cast(pa.int64()).to_pylist() == [None, 1767225600000000001]
    assert table.column("c").to_pylist() == [Decimal(1), None]


def test_row_groups_are_of_a_good_size() -> None:
    blocks = ([{"n": n + i} for i in range(1000)] for n in range(0, 25_000, 1000))
    file = pq.ParquetFile(io.BytesIO(b"".join(as_parquet(columns_of(int="n"), blocks))))
    assert [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)] == [10_000, 10_000, 5000]


# -- questions ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("question", LISTS)
def test_a_file_holds_what_the_list_holds(client: TestClient, question: str, kind: str) -> None:
    name, key = LISTS[question]
    listed = ask(client, question).json()[key]
    path, mark, given = question.partition("?")
    answer = ask(client, f"{path}/export{mark}{given}", format=kind)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-disposition"] == f'attachment; filename="{name}.{kind}"'
    assert len(listed) > 0
    found = rows_of(kind, answer.content)
    left_out = {"flags", "scores"} if name == "spans" else set()
    assert [set(row) for row in found] == [set(row) - left_out for row in listed]
    if kind == "jsonl":
        newest_first = name in ("spans", "traces", "flags", "logs")
        shown = [{k: v for k, v in row.items() if k not in left_out} for row in listed]
        assert found == (shown[::-1] if newest_first else shown)


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_export_is_a_valid_file(client: TestClient, kind: str) -> None:
    answer = ask(client, "spans/export", format=kind, filter='name = "nothing"')
    assert answer.status_code == 200
    assert rows_of(kind, answer.content) == []
    if kind == "csv":
        assert answer.text.startswith("project,trace_id")


def test_times_and_money_of_files_are_typed(client: TestClient) -> None:
    (group,) = rows_of("parquet", ask(client, "errors/export", format="parquet").content)
    assert group["first_seen"].replace(nanosecond=0) == datetime.fromtimestamp(T0 / 1e9, timezone.utc)
    table = pq.read_table(io.BytesIO(ask(client, "traces/export", format="parquet").content))
    assert table.schema.field("cost_usd").type == pa.decimal128(38, 18)


def test_a_bad_question_is_an_error_and_no_file(client: TestClient) -> None:
    for question in LISTS:
        path, mark, given = question.partition("?")
        answer = ask(client, f"{path}/export{mark}{given}", format="xls")
        assert (answer.status_code, "format" in answer.json()["detail"]) == (400, True)
    answer = ask(client, "spans/export", filter="(")
    assert (answer.status_code, answer.headers.get("content-disposition")) == (400, None)


def test_a_list_says_that_there_is_more(client: TestClient, services: Services) -> None:
    services.store.insert(batch(*(llm(60 + n, 1, at_s=n, request_model=f"m{n}", project_id="other") for n in range(3))))
    values = ask(client, "fields/model/values", limit=2).json()
    assert (len(values["values"]), values["truncated"]) == (2, True)
    assert ask(client, "fields/model/values", limit=4).json()["truncated"] is False
    assert ask(client, "errors", limit=1).json()["truncated"] is False


# -- breaking off ------------------------------------------------------------------------------------------------------
class Source:
    """Blocks that go on for ever or fail after the second, and say when they are closed."""

    def __init__(self, *, fails: bool) -> None:
        self._fails = fails
        self.closed = threading.Event()

    def blocks(self) -> Blocks:
        try:
            yield [{"n": 1}] * 1000
            yield [{"n": 1}] * 1000
            while not self._fails:
                yield [{"n": 1}] * 1000
            raise Unavailable("the store went away")
        finally:
            self.closed.set()


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def server(kind: str) -> Iterator[tuple[str, dict[str, Source]]]:
    """A real server with a file that fails and one without an end."""
    sources = {"failing": Source(fails=True), "endless": Source(fails=False)}
    app = FastAPI()
    app.get("/{name}", response_model=None)(
        lambda name: FileAnswer("n", kind, columns_of(int="n"), sources[name].blocks())  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType, reportUnknownMemberType]
    )
    serving = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None))
    thread = threading.Thread(target=serving.run)
    thread.start()
    while not serving.started:
        threading.Event().wait(0.01)
    yield f"http://127.0.0.1:{serving.servers[0].sockets[0].getsockname()[1]}", sources
    serving.should_exit = True
    thread.join(30)


def ended(kind: str, outcome: str) -> float:
    return metrics.REGISTRY.get_sample_value("limelight_exports_total", {"format": kind, "outcome": outcome}) or 0.0


def test_a_file_that_fails_is_broken_off(server: tuple[str, dict[str, Source]], kind: str) -> None:
    url, sources = server
    before = ended(kind, "failed")
    with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
        httpx.get(f"{url}/failing", timeout=30)
    assert sources["failing"].closed.wait(30)
    while ended(kind, "failed") == before:  # counted once it is closed
        threading.Event().wait(0.01)


def test_a_client_that_goes_away_frees_the_reader(server: tuple[str, dict[str, Source]], kind: str) -> None:
    url, sources = server
    before = ended(kind, "abandoned")
    with httpx.stream("GET", f"{url}/endless", timeout=30) as answer:
        next(answer.iter_raw())
    assert sources["endless"].closed.wait(30)
    while ended(kind, "abandoned") == before:  # counted once it is closed
        threading.Event().wait(0.01)
