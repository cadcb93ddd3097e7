"""Every captured dialect becomes exactly the spans that are written beside it: each field, and no other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from collector.ingest.golden import FIXTURES, expectation, fixtures, spans_of


@pytest.mark.parametrize("fixture", fixtures(), ids=lambda path: str(path.relative_to(FIXTURES).with_suffix("")))
def test_a_captured_case_becomes_its_spans(fixture: Path) -> None:
    if fixture.with_name("PENDING").exists():  # captured and judged, not mapped yet
        pytest.xfail(fixture.with_name("PENDING").read_text())
    assert spans_of(fixture) == json.loads(expectation(fixture).read_text())["spans"]


def test_there_are_fixtures() -> None:
    assert len(fixtures()) >= 1
    assert not set(FIXTURES.glob("*/*.expected.json")) - {expectation(path) for path in fixtures()}
