"""Bodies cut anywhere: what is decoded depends on the bytes, never on where they were cut."""

from __future__ import annotations

import gzip
import json
import zlib
from itertools import pairwise
from typing import Any

import pytest

from limelight import wire

pytest.importorskip("hypothesis")
from hypothesis import given
from hypothesis import strategies as st

EVENTS, LINES, JSON = "text/event-stream; charset=utf-8", "application/x-ndjson", "application/json"
VALUES = st.lists(
    st.recursive(
        st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=5,
    ).filter(lambda value: value is not None),
    max_size=6,
)
CUTS = st.lists(st.integers(0, 10_000), max_size=12)


def _cut(body: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(body), *(cut % (len(body) + 1) for cut in cuts)})
    return [body[start:end] for start, end in pairwise(places)] or [body]


def _decoded(content_type: str, pieces: list[bytes]) -> list[Any]:
    decoder = wire.decoder(content_type)
    return [value for piece in pieces for value in decoder.feed(piece)] + decoder.end()


@given(VALUES, CUTS, st.sampled_from(["\n", "\r\n", "\r"]), st.booleans())
def test_events_cut_anywhere(values: list[Any], cuts: list[int], newline: str, is_ascii: bool) -> None:
    lines = [": a comment", "", "retry: 10", ""]
    for value in values:
        text = json.dumps(value, ensure_ascii=is_ascii, indent=1)
        lines += ["event: delta", *(f"data: {line}" for line in text.split("\n")), "id: 1", ""]
    body = newline.join([*lines, "data: [DONE]", "", ""]).encode()
    assert _decoded(EVENTS, _cut(body, cuts)) == values


@given(VALUES, CUTS, st.booleans(), st.booleans())
def test_lines_cut_anywhere(values: list[Any], cuts: list[int], ends: bool, is_ascii: bool) -> None:
    text = "\n".join(json.dumps(value, ensure_ascii=is_ascii) for value in values) + "\n" * ends
    assert _decoded(LINES, _cut(text.encode(), cuts)) == values


@given(VALUES, CUTS)
def test_one_value_cut_anywhere(values: list[Any], cuts: list[int]) -> None:
    body = json.dumps(values, ensure_ascii=False, indent=2).encode()
    assert _decoded(JSON, _cut(body, cuts)) == [values]


@given(st.sampled_from([EVENTS, LINES, JSON, "", "text/plain"]), st.binary(), CUTS)
def test_bytes_of_any_kind_depend_on_no_cut(content_type: str, body: bytes, cuts: list[int]) -> None:
    assert str(_decoded(content_type, _cut(body, cuts))) == str(_decoded(content_type, [body]))


def _inflated(pieces: list[bytes]) -> bytes:
    inflater = wire.Inflater()
    return b"".join(map(inflater.feed, pieces)) + inflater.end()


@given(st.binary(), CUTS, st.sampled_from([gzip.compress, zlib.compress]))
def test_compressed_bodies_cut_anywhere(body: bytes, cuts: list[int], compress: Any) -> None:
    assert _inflated(_cut(compress(body), cuts)) == body


@given(VALUES, CUTS)
def test_plain_bodies_pass_the_inflater(values: list[Any], cuts: list[int]) -> None:
    body = json.dumps(values).encode()
    assert _inflated(_cut(body, cuts)) == body


@given(st.binary(min_size=1), CUTS)
def test_broken_compression_is_no_error(rest: bytes, cuts: list[int]) -> None:
    assert len(_inflated(_cut(b"\x1f\x8b" + rest, cuts))) <= wire.MAX_BYTES


def test_one_byte_is_not_held_back_for_ever() -> None:
    assert _inflated([b"7"]) == b"7"


def test_what_is_too_long_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_BYTES", 20)
    long = b'"' + b"x" * 30 + b'"'
    assert _decoded(LINES, [b'1\n"', b"x" * 30, b'"', b"\n2\n"]) == [1, 2]
    assert _decoded(EVENTS, [b"data: 1\n\ndata: ", long, b"\n\ndata: 2\n\n"]) == [1, 2]
    assert _decoded(EVENTS, [b"data: [1,\n"] + [b"data: 1234567,\n"] * 9 + [b"data: 1]\n\ndata: 2\n\n"]) == [2]
    assert _decoded(JSON, [long]) == []
    assert len(_inflated([gzip.compress(b"x" * 1000)])) == 20


def test_a_lone_carriage_return_waits_for_its_line_feed() -> None:
    decoder = wire.decoder(EVENTS)
    assert decoder.feed(b"data: 1\r") == []
    assert decoder.feed(b"\n\r") == []
    assert decoder.feed(b"\n") == [1]
    assert decoder.end() == []
