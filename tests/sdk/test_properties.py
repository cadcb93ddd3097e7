"""Open-ended input: captured values of any shape, any environment, any Retry-After."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import pytest

from limelight.config import Config, resolve
from limelight.content import Content

pytest.importorskip("hypothesis")
from hypothesis import given
from hypothesis import strategies as st

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.tuples(inner),
    max_leaves=30,
)


@given(VALUES)
def test_any_value_becomes_valid_json_in_utf8(value: Any) -> None:
    text = Content().json(value)
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    text.encode("utf-8")


@given(st.text(alphabet=st.characters(codec=None, categories=["Cs", "L", "Zs"])))
def test_lone_surrogates_cannot_reach_the_wire(text: str) -> None:
    Content().value(text).encode("utf-8")


@given(st.dictionaries(st.sampled_from([v for f in fields(Config) for v in f.metadata["env"]]), st.text()))
def test_no_environment_can_stop_the_program(environ: dict[str, str]) -> None:
    assert isinstance(resolve({}, environ), Config)


@given(st.text(), st.floats(min_value=0, max_value=4e9))
def test_any_retry_after_is_seconds_or_nothing(header: str, now_s: float) -> None:
    from limelight.otlp import retry_after_s

    seconds = retry_after_s(header, now_s)
    assert seconds is None or seconds >= 0
