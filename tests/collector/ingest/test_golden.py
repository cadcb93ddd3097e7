"""Every captured dialect becomes exactly the spans that are written beside it: each field, and no other."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from collector.ingest.golden import FIXTURES, Collector, collector, expectation, fixtures, spans_of
from limelight_collector.query.preview import input_preview, output_preview


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    with collector(tmp_path_factory.mktemp("golden")) as found:
        yield found


@cache
def spans(target: Collector, dialect: Path, in_pieces: bool) -> dict[Path, list[dict[str, Any]]]:
    """What the dialect's captures become, a batch for all of them."""
    return spans_of(target, [path for path in fixtures() if path.parent == dialect], in_pieces=in_pieces)


@pytest.mark.parametrize("in_pieces", [False, True], ids=["whole", "pieces"])
@pytest.mark.parametrize("fixture", fixtures(), ids=lambda path: str(path.relative_to(FIXTURES).with_suffix("")))
def test_a_captured_case_becomes_its_spans(target: Collector, fixture: Path, in_pieces: bool) -> None:
    expected = json.loads(expectation(fixture).read_text())["spans"]
    found = spans(target, fixture.parent, in_pieces)[fixture]
    assert len(found) == len(expected)
    for span, wanted in zip(found, expected, strict=True):
        assert span == wanted


def test_previews_are_those_of_the_stored_messages(target: Collector) -> None:
    for dialect in {path.parent for path in fixtures()}:
        spans(target, dialect, in_pieces=True)  # content in log records among them, before and after its span
    rows = target.store.query(
        "SELECT input_messages, input_text, output_messages, output_text, input_preview, output_preview FROM spans"
    ).rows
    assert sum(bool(asked and answered) for *_, asked, answered in rows) > 50
    for asked, asked_text, answered, answered_text, *stored in rows:
        shown = [input_preview(asked, asked_text), output_preview(answered, answered_text)]
        assert [text or None for text in stored] == shown


def test_there_are_fixtures() -> None:
    assert len(fixtures()) >= 1
    assert not set(FIXTURES.glob("*/*.expected.json")) - {expectation(path) for path in fixtures()}


def test_no_fixture_tells_of_the_machine_it_came_from() -> None:
    told = re.compile(
        r"/(?:home|root|Users|tmp|usr)/|(?:127\.0\.0\.1|localhost):(?!8080|431[78]|9\b)\d|\d\.\d+\.\d+-[a-z]+-"
    )
    found = {str(path.relative_to(FIXTURES)): told.findall(path.read_text()) for path in fixtures()}
    assert {path: words for path, words in found.items() if words} == {}
