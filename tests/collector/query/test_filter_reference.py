"""The filter language through the API against the reference in Python: the same spans, or the same mistake.

(Over 400 lines: all of it asks one store that is filled once.)
"""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from collector.query.filter_rows import (
    CODES,
    DURATIONS,
    FLOATS,
    INTEGERS,
    KEYS,
    MONEY,
    NASTY,
    flags_of,
    hostile,
    in_every_place,
    quote,
    rows,
)
from collector.query.reference import Mistake, Predicate, reference
from collector.store.rows import SECOND, T0
from limelight_collector.api.app import create_app
from limelight_collector.auth import ANYONE, Principal
from limelight_collector.query.filter import FilterError, parse
from limelight_collector.query.filter_sql import Sql
from limelight_collector.query.window import BOUND, Window
from limelight_collector.services import Services
from limelight_collector.settings import Settings
from limelight_collector.store import Store, open_store

WINDOW = Window("filter", T0, T0 + 2 * 3600 * SECOND)
ASKED = {"from": str(T0 // SECOND), "to": str(T0 // SECOND + 7200), "limit": "1000"}
TABLES = ("spans", "trace_times", "flags", "scores", "metric_points", "logs")
# No shrinking: an example holds many filters and the message names the one; making it small takes minutes.
RANDOM = settings(
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
)
SECRET = "what no filter ever reads"
ON_ONE_PAGE = 40


@dataclass
class World:
    """A store of two projects' spans, the API over it, and what the first project's spans look like there."""

    store: Store
    api: TestClient
    spans: list[dict[str, Any]]
    types: dict[str, str]
    fingerprints: dict[str, str]
    strings: list[str]
    listener: socket.socket

    def get(self, path: str, filter_text: str, **params: str) -> Any:
        return self.api.get(f"/api/v1/{path}", params={**ASKED, "filter": filter_text, **params})

    def means(self, text: str) -> Predicate:
        return reference(text, self.types, self.fingerprints)

    def expected(self, text: str) -> set[str] | int:
        """Ids of the spans that pass, or the position of the mistake."""
        try:
            predicate = self.means(text)
        except Mistake as mistake:
            return mistake.position
        return {span["span_id"] for span in self.spans if predicate(span)}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory: Path = tmp_path_factory.mktemp("filters")
    given = Settings(data_dir=directory, retention_days=36_500)
    (directory / "secret.txt").write_text(SECRET)
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    address = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    store = open_store(given)
    made = rows("filter", 150, seed=1)
    store.insert(flags_of(made, seed=2))
    other = [row | {"project_id": "other"} for row in made[:75]] + rows("other", 75, seed=3)  # also the very same ids
    store.insert(flags_of(other, seed=4))
    services = Services(
        settings=given,
        store=store,
        control=cast("Any", None),
        spool=cast("Any", None),
        now_ns=lambda: T0,
        authenticate=lambda _: Principal("filter", ANYONE.scopes),
        checks=dict,
        degraded=lambda: False,
    )
    api = TestClient(create_app(services), base_url="http://limelight")
    fields = api.get("/api/v1/fields").json()["fields"]
    yield World(
        store,
        api,
        api.get("/api/v1/spans", params=ASKED).json()["spans"],
        {field["name"]: field["type"] for field in fields if field["filterable"] and "[" not in field["name"]},
        fingerprints(api),
        hostile(500, 5, address, str(directory / "secret.txt")),
        listener,
    )
    listener.close()
    store.close()


def fingerprints(api: TestClient) -> dict[str, str]:
    """Failed span -> its group, asked one trace at a time."""
    found: dict[str, str] = {}
    failed = api.get("/api/v1/spans", params={**ASKED, "filter": "status = error"}).json()["spans"]
    for span in failed:
        only = f'span_id = "{span["span_id"]}" and trace_id = "{span["trace_id"]}"'
        (group,) = api.get("/api/v1/errors", params={**ASKED, "filter": only}).json()["groups"]
        found[span["span_id"]] = group["fingerprint"]
    return found


def state(store: Store) -> dict[str, Any]:
    """How many rows each table has, how it is declared, and which tables there are."""
    found = {table: store.query(f"SELECT count() FROM {table}").rows for table in TABLES}
    found |= {f"{table} is": store.query(f"SHOW CREATE TABLE {table}").rows for table in TABLES}
    return found | {"tables": store.query("SHOW TABLES").rows}


def position_or_sql(text: str, sql: Sql) -> int | str:
    """The condition of a filter, or where it is wrong."""
    try:
        return sql.condition(parse(text))
    except FilterError as error:
        return error.position


def answers(world: World, texts: list[str]) -> dict[str, set[str] | int]:
    """What the store says to each filter, many of them in one question."""
    found: dict[str, set[str] | int] = {}
    sql = Sql(BOUND)
    conditions: dict[str, str] = {}
    for text in texts:
        said = position_or_sql(text, sql)
        if isinstance(said, int):
            found[text] = said
        else:
            conditions[text] = said
    for start in range(0, len(conditions), ON_ONE_PAGE):
        page = list(conditions)[start : start + ON_ONE_PAGE]
        columns = ", ".join(f"{conditions[text]} AS passes{n}" for n, text in enumerate(page))
        asked = world.store.query(
            f"SELECT span_id, {columns} FROM spans FINAL WHERE {BOUND}", WINDOW.parameters | sql.parameters
        )
        for n, text in enumerate(page, 1):
            assert {row[n] for row in asked.rows} <= {0, 1}, text
            found[text] = {row[0].hex() for row in asked.rows if row[n]}
    return found


# -- hostile strings ---------------------------------------------------------------------------------------------------
def test_500_strings_in_every_place_mean_what_they_say_or_are_refused_where_they_are_wrong(world: World) -> None:
    before = state(world.store)
    assert len(world.strings) == 500
    texts = [text for string in world.strings for text in in_every_place(string)]
    said = answers(world, texts)
    wrong = {text: (said[text], want) for text in said if said[text] != (want := world.expected(text))}
    assert not wrong, list(wrong.items())[:3]
    understood = [found for found in said.values() if isinstance(found, set)]
    assert len(understood) > 3000
    assert sum(0 < len(found) < len(world.spans) for found in understood) > 200  # not all of them are empty or whole
    assert state(world.store) == before
    assert nobody_called(world.listener)


def nobody_called(listener: socket.socket) -> bool:
    try:
        listener.accept()
    except BlockingIOError:
        return True
    return False


def test_the_spans_route_answers_them_with_these_spans_or_400_and_the_position(world: World) -> None:
    chance = random.Random(6)
    texts = chance.sample([text for string in world.strings for text in in_every_place(string)], 250)
    before = state(world.store)
    for text in texts:
        expected = world.expected(text)
        answer = world.get("spans", text)
        assert SECRET not in answer.text
        if isinstance(expected, set):
            assert answer.status_code == 200, (text, answer.text)
            assert {span["span_id"] for span in answer.json()["spans"]} == expected, text
            assert {span["project"] for span in answer.json()["spans"]} <= {"filter"}
        else:
            assert (answer.status_code, answer.json().get("position")) == (400, expected), text
            assert str(expected) in answer.json()["detail"]
    assert state(world.store) == before
    assert nobody_called(world.listener)


@pytest.mark.parametrize(
    ("path", "place"),
    [
        *(("series", place) for place in ("group_by", "measure", "step", "from")),
        *(("traces", place) for place in ("order", "cursor")),
        *(("spans", place) for place in ("cursor", "q", "to")),
        *(("flags", place) for place in ("cursor", "code")),
    ],
)
def test_hostile_strings_beside_the_filter_are_answered_or_refused(world: World, path: str, place: str) -> None:
    before = state(world.store)
    for string in world.strings[::12]:
        asked = {**ASKED, "measure": "request_count", "limit": "1", place: string}
        answer = world.api.get(f"/api/v1/{path}", params=asked)
        assert answer.status_code in (200, 400), (path, string, answer.text)
        assert SECRET not in answer.text
    assert state(world.store) == before
    assert nobody_called(world.listener)


def test_values_of_fields_and_of_attributes_with_hostile_names(world: World) -> None:
    for key in KEYS:
        counts: dict[str, int] = {}
        for span in world.spans:
            found = span["attributes"].get(key)
            text = found if isinstance(found, str) else json.dumps(found, ensure_ascii=False, separators=(",", ":"))
            if found is not None and text:
                counts[text] = counts.get(text, 0) + 1
        name = quote_address(f"attr[{quote(key)}]")
        answer = world.api.get(f"/api/v1/fields/{name}/values", params=ASKED)
        assert {row["value"]: row["count"] for row in answer.json()["values"]} == counts, key
        grouped = world.get("series", "", measure="request_count", group_by=f"attr[{quote(key)}]").json()["rows"]
        assert {row[f"attr[{quote(key)}]"] for row in grouped} <= {None, *counts}
        assert sum(row["request_count"] for row in grouped) == len([s for s in world.spans if is_request(s)])
    for string in world.strings[::8]:
        answer = world.api.get(f"/api/v1/fields/{quote_address(string)}/values", params=ASKED)
        known = answer.status_code == 200 and string in world.types
        assert known or answer.status_code in (400, 404), string


def quote_address(text: str) -> str:
    return "".join(f"%{byte:02x}" for byte in text.encode())


def is_request(span: dict[str, Any]) -> bool:
    kind, role = span["observation_type"], span["usage_role"]
    return kind in ("llm", "embedding", "rerank") and role not in ("aggregate", "duplicate", "engine")


# -- well-formed filters -----------------------------------------------------------------------------------------------
NUMBERS = [
    *(str(number) for number in [*INTEGERS, *DURATIONS, -1, -(2**63), 2**64, 10**30]),
    *(repr(number) for number in FLOATS if 1e-300 <= number < 1e300),
    *(f"{amount:f}" for amount in MONEY),
    *("1.5", "1.500", "0.001", "0.0000005", "9007199254740992.5", "1e3", "1E+2", "-0", "1e-12", "0.999999", "1e300"),
]
TIMES = [
    *(str(T0 // SECOND), f"{T0 // SECOND}.000000001", f"{T0 // SECOND}.9999999995", "0", "-1"),
    *('"2026-09-21T14:13:20Z"', '"2026-09-21T14:13:20.000000001z"', '"2026-09-21T16:14:20+02:00"', '"1790000001"'),
]
WORDS = st.sampled_from(NASTY) | st.sampled_from(CODES) | st.text(max_size=3)


def literals(kind: str, name: str) -> st.SearchStrategy[str]:
    """Values as a person would write them beside a field of that type."""
    if kind in ("text", "list", "flag"):
        return WORDS.map(quote)
    if kind == "attribute":
        return WORDS.map(quote) | st.sampled_from([*NUMBERS, "true", "FALSE"])
    if kind == "decimal":
        return st.sampled_from([f"{amount:f}" for amount in MONEY] + ["1", "2.50", "-1e1", "1e-18"])
    if kind == "time":
        return st.sampled_from(TIMES)
    if kind == "bool":
        return st.sampled_from(["true", "false"])
    if kind == "hex":
        digits = 32 if name == "trace_id" else 16
        return st.sampled_from([f'"{n:0{digits}X}"' for n in (0, 1, 2, 1000, 2003, 5012, 0x6162 << (digits * 4 - 16))])
    return st.sampled_from(NUMBERS)


def atoms(types: dict[str, str]) -> st.SearchStrategy[str]:
    """One comparison with any field, of every operator its type takes."""
    entries = [f"{map_}[{quote(key)}]" for map_ in ("attr", "resource") for key in KEYS]
    named = [*types.items(), *((entry, "attribute") for entry in entries)]

    def of(field: tuple[str, str]) -> st.SearchStrategy[str]:
        name, kind = field
        literal = literals(kind, name)
        ordered = ["=", "!=", "<", "<=", ">", ">="] if kind not in ("bool", "hex", "flag", "list") else ["=", "!="]
        some = [
            st.builds(lambda word, value: f"{name} {word} {value}", st.sampled_from(ordered), literal),
            st.builds(lambda values: f"{name} in ({', '.join(values)})", st.lists(literal, min_size=1, max_size=4)),
            st.sampled_from([f"{name} exists", f"EXISTS {name}"]),
        ]
        if kind in ("text", "list", "attribute"):
            some.append(WORDS.map(lambda word: f"{name} contains {quote(word)}"))
        return st.one_of(some)

    # attributes are refused beside true and false but for = and in, so the reference says which are mistakes
    return st.sampled_from(named).flatmap(of)


def trees(types: dict[str, str]) -> st.SearchStrategy[str]:
    """Filters of up to eight comparisons, nested."""

    def around(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        some = st.lists(inner, min_size=2, max_size=3)
        return st.one_of(
            inner.map(lambda part: f"not ({part})"),
            some.map(lambda parts: f"({' and '.join(parts)})"),
            some.map(lambda parts: f"({' OR '.join(parts)})"),
            some.map(lambda parts: f"({' and not '.join(parts)} or {parts[0]})"),
        )

    return st.recursive(atoms(types), around, max_leaves=8)


def test_random_filters_over_all_fields_pass_the_same_spans(world: World) -> None:
    seen: set[str] = set()

    @settings(RANDOM, max_examples=30)
    @given(st.lists(trees(world.types), min_size=5, max_size=12, unique=True))
    def compare(texts: list[str]) -> None:
        seen.update(texts)
        for text, found in answers(world, texts).items():
            assert found == world.expected(text), text

    compare()
    assert len(seen) > 150


def test_every_field_with_each_of_its_operators(world: World) -> None:
    chance = random.Random(8)
    texts: list[str] = []
    for name, kind in world.types.items():
        spans = [span for span in world.spans if span.get(name) is not None]
        own = [literal_of(kind, span[name]) for span in chance.sample(spans, min(4, len(spans)))]
        own = [value for value in own if kind != "float" or float(value) == 0 or 1e-300 <= abs(float(value)) < 1e301]
        words = ("=", "<", ">=") if kind in ("text", "int", "float", "decimal", "time") else ("=",)
        texts += [f"{name} {word} {value}" for word in words for value in own]
        texts += [f"{name} exists", f"not {name} in ({', '.join(own)})" if own else f"not {name} exists"]
    for text, found in answers(world, texts).items():
        assert isinstance(found, set), text
        assert found == world.expected(text), text


def literal_of(kind: str, value: Any) -> str:
    """A value of a span as a filter names it."""
    if isinstance(value, list | dict) and kind in ("list", "flag"):
        value = value[0] if kind == "list" else value[0]["code"]
    if kind == "text" and not isinstance(value, str):
        value = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    if kind in ("text", "list", "flag", "hex", "time"):
        return quote(value)[: None if len(value) < 2000 else 2000] + ("" if len(value) < 2000 else '"')
    return str(value).lower() if kind == "bool" else format(value) if kind == "decimal" else repr(value)


PIECES = [
    *'=()[],<"5ü',
    "name",
    "tags",
    "flag",
    "cost_usd",
    "has_error",
    "start_time",
    "trace_id",
    "nope",
    "a.b",
    "attr",
]
PIECES += ["and", "or", "not", "in", "contains", "exists", "true", "!=", ">=", "-5", "1e3", "1.5.2", "5x"]
PIECES += ['attr["k"]', '"a"', r'"\u00e4"', r'"\ud800"', r'"\x"']
SOUP = st.lists(st.sampled_from(PIECES), max_size=12).map(" ".join)


def test_garbage_is_refused_where_the_reference_refuses_it(world: World) -> None:
    @settings(RANDOM, max_examples=300)
    @given(SOUP | SOUP.map(lambda text: text.replace(" ", "")) | st.text(max_size=40))
    def compare(text: str) -> None:
        said, expected = position_or_sql(text, Sql(BOUND)), world.expected(text)
        assert isinstance(said, int) == isinstance(expected, int), text
        assert not isinstance(said, int) or said == expected, text

    compare()


# -- the other routes --------------------------------------------------------------------------------------------------
def test_every_route_lets_the_same_spans_through(world: World) -> None:
    texts = [text for string in NASTY for text in in_every_place(string)[3:20:2]]
    chance = random.Random(9)
    texts = [text for text in texts if isinstance(world.expected(text), set)]
    texts = [*chance.sample(texts, 15), *chance.sample([t for t in texts if world.expected(t)], 15)]
    by_id = {span["span_id"]: span for span in world.spans}
    for text in texts:
        expected = world.expected(text)
        assert isinstance(expected, set)
        spans = [by_id[span_id] for span_id in expected]
        traces = world.get("traces", text).json()["traces"]
        assert {trace["trace_id"] for trace in traces} == {span["trace_id"] for span in spans}, text
        (row,) = world.get("series", text, measure="request_count,error_count").json()["rows"]
        requests = [span for span in spans if is_request(span)]
        failed = [span for span in requests if span["status"] == "error"]
        assert row == {"request_count": len(requests), "error_count": len(failed)}, text
        groups = world.get("errors", text).json()["groups"]
        assert sum(group["count"] for group in groups) == sum(span["status"] == "error" for span in spans), text
        flags = world.get("flags", text).json()["flags"]
        flagged = [span for span in spans if span["usage_role"] != "duplicate"]
        assert len(flags) == sum(len(span["flags"]) for span in flagged), text
        lines = world.get("spans/export", text, format="jsonl").text.split("\n")[:-1]
        exported = [json.loads(line)["span_id"] for line in lines]
        assert (set(exported), len(exported)) == (expected, len(expected)), text
