"""Full text: what a search finds, compared with a plain reference, on a store with a text index and on one without."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collector.store.rows import SECOND, T0, batch, llm, span
from limelight_collector.attributes import dumps
from limelight_collector.errors import QueryLimit, Rejected
from limelight_collector.query.spans import find_spans, span_condition
from limelight_collector.query.traces import find_traces
from limelight_collector.query.window import Window
from limelight_collector.settings import Settings
from limelight_collector.store import Rows, Store, open_store
from limelight_collector.store.text_index import apply_text_index

END = T0 + 60 * SECOND
PLAIN = ("system_instructions", "input_text", "output_text", "retrieval_query")
JSON = ("input_messages", "output_messages", "tool_args", "tool_result", "retrieval_documents")
NUMBERS = count()


# -- the reference -----------------------------------------------------------------------------------------------------
def holds(row: dict[str, Any], search: str) -> bool:
    """What query/search.py promises, in Python."""
    wanted = search.casefold()
    return not search.strip() or any(wanted in text.casefold() for text in texts(row))


def texts(row: dict[str, Any]) -> Iterator[str]:
    for column in PLAIN:
        yield row.get(column, "")
    for column in JSON:
        stored = row.get(column, "")
        if stored:
            as_written = json.loads(stored, parse_float=Digits, parse_int=Digits)
            yield from leaves(as_written, is_message=column.endswith("messages"))


class Digits(str):
    """A number as it is written: no text, though searched as one."""

    __slots__ = ()


def leaves(value: Any, *, is_message: bool) -> Iterator[str]:
    match value:
        case dict():
            for name, inner in value.items():
                if not (is_message and name in ("role", "type", "finish_reason") and type(inner) is str):
                    yield from leaves(inner, is_message=is_message)
        case list():
            for inner in value:
                yield from leaves(inner, is_message=is_message)
        case str():
            yield value
        case _:
            yield json.dumps(value)  # true, false, null


# -- the store, with and without the index -----------------------------------------------------------------------------
@pytest.fixture(scope="module", params=["no index", "index"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Half of the table of texts is stored before the index was asked for, half of it after."""
    given: dict[str, Any] = {"data_dir": tmp_path_factory.mktemp("search"), "retention_days": 36_500}
    before = open_store(Settings(**given))
    before.insert(batch(*TABLE[::2]))
    before.close()
    opened = open_store(Settings(**given, text_index=request.param == "index"))
    opened.insert(batch(*TABLE[1::2]))
    yield opened
    opened.close()


def found(store: Store, project: str, search: str) -> set[str]:
    spans, _ = find_spans(store, Window(project, T0, END), filter_text="", search=search, limit=500, cursor="")
    return {span["name"] for span in spans}


def message(text: str, role: str = "user", **more: Any) -> str:
    return dumps([{"role": role, "parts": [{"type": "text", "content": text}], **more}])


CONTENT: list[dict[str, Any]] = [
    {},
    {"input_messages": message("Where is my REFUND for order 88213?")},
    {"output_messages": message("I am the assistant.", "assistant", finish_reason="stop")},
    {"output_messages": message("It stopped.\nNew line\tand tab", "assistant", finish_reason="stop")},
    {"input_messages": message('She said "no\\yes" and 100% of a_b; C:\\new\\table')},
    {"input_messages": message("first")[:-1] + "," + message("second")[1:]},
    {"input_text": 'plain "quotes" \\ and \n line', "output_text": "the role of type and content"},
    {"system_instructions": "Straße ﬁne ΟΔΟΣ İstanbul", "retrieval_query": "Weiße Größe \u2126 \u212a"},
    {"tool_args": dumps({"order": 12.50, "flags": [True, None, "x"], "type": "express", "nested": {"käse": "Käse"}})},
    {"tool_result": dumps("just text with 'quotes'")},
    {"tool_result": dumps([1e20, -0.5, 10**25, "12e3"])},
    {"tool_result": dumps({}), "tool_args": dumps([[], [""], {"a": {}}])},
    {"input_messages": message("退款政策：请在三十天内退货。谢谢")},
    {"output_text": "Возврат денег оформлен", "input_text": "ขอเงินคืน 환불해 주세요 مرحبا"},
    {
        "retrieval_documents": dumps(
            [{"id": "d-7", "score": 0.25, "content": "Handbook §4: refunds", "metadata": {"page": 3}}]
        )
    },
    {"output_text": "e\u0301 and \u00e9 and \U0001f600\u200d\U0001f525 joined"},
    {"input_text": "bell \x07 and escape \x1b[0m and \x7f"},
    {"tool_args": dumps({'na"me': ':"', "b": ",:", "c\\": "\\", "d": '","e":"', "f": "\\n"})},
    {
        "input_messages": dumps(
            [{"role": "user", "parts": [{"type": "tool_call", "arguments": {"type": "urgent", "role": ["boss"]}}]}]
        )
    },
    {"output_text": "x" * 5000 + "needle" + "y" * 5000},
    {"output_text": "first\0second"},
    {"input_messages": dumps({"type": 4711, "role": "nobody"})},
]
TABLE = [
    span(1, n + 1, at_s=n, project_id="table", name=f"s{n}", **content) | {"received_ns": T0 + n}
    for n, content in enumerate(CONTENT)
]
SEARCHES = [
    # parts of words, several words, any case
    *("refund", "REFUND", "efun", "refunds", "my refund for", "is my  refund", "88213", "8213?", "order 88213"),
    # names of fields, roles and types are no text; the same words said are
    *("order", "assistant", "user", "stop", "text", "content", "parts", "role", "type", "first", "second"),
    "firstsecond",
    # what JSON escapes, and what SQL's LIKE and our own SQL would take for something else
    *("nnew", "\nNew", "line\tand", "\\n", "\n", "\t", '"', '"no', '"no\\yes"', "\\", "\\\\", "\\new", "%", "100%"),
    *("_", "a_b", "a%b", "'", "'; DROP TABLE spans --", "{f0:String}", "%s", "\x07", "\x1b[", "\x7f"),
    # case beyond ASCII
    *("STRASSE", "straße", "ss", "fine", "FI", "οδος", "ΟΔΟΣ", "οδοσ", "i̇stanbul", "istanbul", "ω", "k", "KÄSE"),
    # values that are no text
    *(
        "12.50",
        "12.5",
        "true",
        "null",
        "express",
        "nested",
        "just text",
        "4711",
        "nobody",
        "1e",
        "1e+20",
        "-0.5",
        "12e3",
        "0.25",
        "3",
    ),
    # scripts without spaces, and others
    *(
        "first second",
        "a\tb c",
        "line and tab",
        "New line\tand",
        "\nNew line\tand tab",
        "stopped.\nNew line",
        "order 88213?",
    ),
    *("退款", "退款政策", "退", "请在三十天内退货", "政策：请", "谢谢", "возврат", "ВОЗВРАТ ДЕНЕГ", "зврат"),
    *("เงิน", "환불", "مرحبا", "é", "e\u0301", "\U0001f600", "\U0001f525"),
    *("handbook §4", "d-7", "page", "name", 'na"me', "urgent", "boss", "needle", "xneedley", "x" * 1000, "e"),
    # punctuation alone, nothing, nothing there
    *(":", ",", ":,", '":"', "{", "[", "}", "[]", "", "   ", "\n\t ", "?", "...", "->", "--", "no such thing at all"),
]


@pytest.mark.parametrize("search", SEARCHES)
def test_a_search_finds_what_the_reference_finds(store: Store, search: str) -> None:
    assert found(store, "table", search) == {row["name"] for row in TABLE if holds(row, search)}


TEXT = st.text(
    st.one_of(
        st.characters(exclude_categories=["Cs", "Cn"], exclude_characters="\0"),
        st.sampled_from('aAbBß"\\\n{}[]:, %_éÉ退'),
    ),
    max_size=12,
)
VALUE = st.recursive(
    TEXT | st.integers() | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT | st.just("type"), inner, max_size=3),
    max_leaves=6,
)
ANY_ROW = st.fixed_dictionaries({"input_text": TEXT, "tool_args": VALUE.map(dumps), "input_messages": VALUE.map(dumps)})


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_search_finds_what_the_reference_finds(store: Store, data: st.DataObject) -> None:
    project = f"any-{next(NUMBERS)}"
    contents: list[dict[str, Any]] = data.draw(st.lists(ANY_ROW, min_size=1, max_size=4))
    rows = [span(1, n + 1, at_s=n, project_id=project, **content) for n, content in enumerate(contents)]
    store.insert(batch(*rows))
    some = [text for row in rows for text in texts(row) if text.strip()] or ["x"]
    for _ in range(2):
        text = data.draw(st.sampled_from(some) | TEXT.filter(bool))
        start = data.draw(st.integers(0, len(text) - 1))
        part = text[start : data.draw(st.integers(start + 1, len(text)))]
        search = data.draw(st.sampled_from([part, part.upper(), part.swapcase()]))
        assert found(store, project, search) == {row["name"] for row in rows if holds(row, search)}, repr(search)


def test_folding_a_character_that_is_part_of_a_word_leaves_a_word() -> None:
    # The index is asked for folded words: folding must not make one of its separators.
    characters = (chr(code) for code in range(0x80, sys.maxunicode + 1))
    assert [c for c in characters if any(f < "\x80" and not f.isalnum() for f in c.casefold())] == []


def test_the_engine_asks_the_index_where_there_is_one(store: Store, request: pytest.FixtureRequest) -> None:
    store.execute("OPTIMIZE TABLE spans FINAL")  # with every part's index built
    condition = span_condition(Window("table", T0, END), "", "my refund for")
    plan = store.query(f"EXPLAIN indexes = 1 SELECT name FROM spans FINAL WHERE {condition.sql}", condition.parameters)
    has_index = request.node.callspec.params["store"] == "index"
    assert any("text_1" in line for (line,) in plan.rows) == has_index


def test_the_index_goes_when_it_is_no_longer_asked_for(tmp_path: Path) -> None:
    # an engine of its own: chDB opens one directory a process
    script = """
import sys
from pathlib import Path
from limelight_collector.settings import Settings
from limelight_collector.store import open_store
for wanted in (True, True, False):
    store = open_store(Settings(data_dir=Path(sys.argv[1]), text_index=wanted))
    print(store.query("SELECT count() FROM system.data_skipping_indices WHERE type = 'text'").rows[0][0])
    store.close()
"""
    said = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["1", "1", "0"]


def test_of_a_span_stored_again_the_newest_copy_counts(store: Store) -> None:
    first = span(project_id="again", name="first", output_text="a word that was redacted", received_ns=5)
    store.insert(batch(first))
    store.insert(batch(first | {"name": "second", "output_text": "nothing", "received_ns": 6}))
    assert found(store, "again", "redacted") == set()
    assert found(store, "again", "nothing") == {"second"}


def test_a_search_stays_in_its_project_and_passes_the_filter(store: Store) -> None:
    store.insert(batch(span(project_id="mine", output_text="shared"), span(project_id="other", output_text="shared")))
    assert len(found(store, "mine", "shared")) == 1
    spans, _ = find_spans(
        store, Window("mine", T0, END), filter_text="status = error", search="shared", limit=9, cursor=""
    )
    assert spans == []


@pytest.mark.parametrize("order", ["newest", "slowest"])
def test_traces_are_found_by_the_text_of_any_span(store: Store, order: str) -> None:
    store.insert(
        batch(
            span(1, 1, project_id="traces"),
            llm(1, 2, at_s=1, parent=1, project_id="traces", output_messages=message("Lighthouse")),
            span(2, 1, at_s=2, project_id="traces", output_text="lamp"),
        )
    )
    asked: dict[str, Any] = {"filter_text": "", "order": order, "limit": 9, "cursor": ""}
    traces, _ = find_traces(store, Window("traces", T0, END), search="lightHOUSE", **asked)
    assert [(trace["trace_id"], trace["span_count"]) for trace in traces] == [((1).to_bytes(16, "big").hex(), 2)]
    assert len(find_traces(store, Window("traces", T0, END), search="", **asked)[0]) == 2


def test_a_search_for_nul_is_refused(store: Store) -> None:
    with pytest.raises(Rejected, match="the character NUL"):
        found(store, "table", "a\0b")


class Impatient:
    """A store that answers no question about more than `longest_ns`, as the real one after its time limit."""

    def __init__(self, store: Store, longest_ns: int) -> None:
        self._store, self._longest_ns = store, longest_ns

    def query(self, sql: str, parameters: Mapping[str, Any] | None = None, *, max_rows: int | None = None) -> Rows:
        asked = parameters or {}
        if asked["end_ns"] - asked["start_ns"] > self._longest_ns if "end_ns" in asked else False:
            raise QueryLimit("this question is too big")
        return self._store.query(sql, parameters, max_rows=max_rows)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def test_a_search_that_hits_a_limit_gives_what_it_found_and_goes_on_from_there(store: Store) -> None:
    rows = [span(1, n, at_s=200 * n, project_id="limit", output_text="rare") for n in range(1, 6)]
    store.insert(batch(*rows))
    impatient: Any = Impatient(store, 500 * SECOND)
    window = Window("limit", T0, T0 + 2_000 * SECOND)
    pages: list[list[str]] = []
    cursor: str | None = ""
    while cursor is not None:
        spans, cursor = find_spans(impatient, window, filter_text="", search="rare", limit=2, cursor=cursor)
        pages.append([span["name"] for span in spans])
        assert len(pages) < 20
    assert [name for page in pages for name in page] == [f"span-{n}" for n in (5, 4, 3, 2, 1)]
    assert [] in pages  # a stretch without any
    with pytest.raises(QueryLimit):
        find_spans(Impatient(store, SECOND), window, filter_text="", search="rare", limit=2, cursor="")  # type: ignore[arg-type]


class Engine:
    """A store as changes of the schema see it; it merges, and builds indexes, from the first DROP on."""

    def __init__(self, store: Store) -> None:
        self._store = store
        store.execute("SYSTEM STOP MERGES spans")

    def command(self, sql: str) -> None:
        if "DROP INDEX" in sql:
            self._store.execute("SYSTEM START MERGES spans")
        self._store.execute(sql)

    def query(self, sql: str) -> Any:
        return SimpleNamespace(result_rows=self._store.query(sql).rows)


def test_an_index_that_is_still_being_built_goes_as_well(store: Store, request: pytest.FixtureRequest) -> None:
    unfinished = "SELECT count() FROM system.mutations WHERE NOT is_done AND command LIKE '%MATERIALIZE INDEX%'"
    engine: Any = Engine(store)
    if request.node.callspec.params["store"] == "no index":
        apply_text_index(engine, wanted=True)
        assert store.query(unfinished).rows == [(1,)]
    apply_text_index(engine, wanted=False)
    assert store.query(unfinished).rows == [(0,)]
    assert store.query("SELECT count() FROM system.data_skipping_indices WHERE type = 'text'").rows == [(0,)]
