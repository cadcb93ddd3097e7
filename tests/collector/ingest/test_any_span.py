"""Whatever a span says under whichever name, it becomes a row that the store takes: no input is a dead letter."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from collector.ingest.otlp import NOW, PRICES, pairs, request, rows_of, span
from limelight_collector import dialects
from limelight_collector.batch import Batch
from limelight_collector.content_events import NAMES as CONTENT_EVENTS
from limelight_collector.content_events import read_events
from limelight_collector.query.preview import input_preview, output_preview
from limelight_collector.settings import Settings
from limelight_collector.settle import Settler
from limelight_collector.store import Store, open_store
from limelight_collector.unfold import FAMILIES
from limelight_collector.usage import read_cost, read_usage
from limelight_collector.vocabulary import KINDS, OPERATIONS

_TAILS = ("0.role", "0.content", "1.message.content", "0.message.tool_calls.0.tool_call.function.name", "x", "00", "0",
          "", "0.message.contents.0.message_content.type", "999999999999.role", "0.0.0", "1..", ".")  # fmt: skip
NAMES = sorted(
    {key for keys in dialects.ALIASES.values() for key in keys}
    | {key for keys in dialects.CONTENT.values() for key in keys}
    | {prefix + tail for prefix in FAMILIES for tail in _TAILS}
    | set(dialects.USAGE_OBJECTS)
    | set(dialects.USAGE_DETAILS)
    | set(dialects.COST_OBJECTS)
    | set(dialects.PARAMETER_OBJECTS)
    | set(dialects.KIND_KEYS)
    | set(dialects.DROPPED)
    | set(dialects.VERCEL_PARTS)
    | set(dialects.FIRST_TOKEN_TIMES)
    | {"ai.operationId", "logfire.span_type", "llm.request.type", "limelight.nested_in", "\0", "", "ünï.cödé"}
)
_WORDS = st.sampled_from(
    ["user", "assistant", "system", "tool", "text", "chat", "RETRIEVER", "stop", "gpt-4o", "openai", "https://x:y]/",
     "-1", "1e999", "NaN", "null", "{", "[{}]", '"\\ud83d"', "2026-11-18T11:05:00Z",
     "0001-01-01T00:00:00+14:00", "{'a': 1}"]
)  # fmt: skip
_KEYS = st.sampled_from(
    """
    role content parts type text tool_calls function name arguments id messages choices message finish_reason
    input output input_tokens prompt_tokens cache_read_input_tokens total candidates generations kwargs data items
    usage document metadata tools contents object input_tokens_details cached_tokens value functionCall thinking
    image_url url stop_reason
    """.split()  # noqa: SIM905  four lines instead of forty
)
_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | _WORDS
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
)
_VALUES = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=4), max_leaves=12
)


def _as_text(value: Any) -> str:
    return repr(value) if isinstance(value, dict) and len(value) == 1 else json.dumps(value)


SAID = _VALUES | _VALUES.map(_as_text)
SPANS = st.builds(
    lambda number, parent, said, events, name, start, length, status: span(
        number,
        said,
        name=name,
        parent_span_id=span(parent).span_id if parent else b"",
        events=events,
        start_time_unix_nano=start,
        end_time_unix_nano=max(0, start + length),
        status={"code": status},
    ),
    st.integers(1, 6),
    st.integers(0, 6),
    st.dictionaries(st.sampled_from(NAMES), SAID, max_size=12),
    st.lists(
        st.builds(
            lambda name, said, at: Span.Event(name=name, attributes=pairs(said), time_unix_nano=at),
            st.sampled_from([*sorted(CONTENT_EVENTS), "exception", "First Token Stream Event", "x"]),
            st.dictionaries(
                st.sampled_from(["gen_ai.event.content", "gen_ai.prompt", "content", "exception.type"]), SAID
            ),
            st.integers(0, 2**64 - 1),
        ),
        max_size=3,
    ),
    st.sampled_from(["chat gpt-4o", "llm_request", "InferRequest", ""]),
    st.integers(NOW - 10**9, NOW),
    st.integers(-(10**9), 10**10),
    st.sampled_from([0, 1, 2]),
)
SCOPES = st.sampled_from(
    ["", "litellm", "logfire.openai", "openlit.instrumentation.anthropic", "triton-server", "limelight"]
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    opened = open_store(Settings(data_dir=tmp_path_factory.mktemp("any"), retention_days=36_500))
    yield opened
    opened.close()


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.lists(SPANS, min_size=1, max_size=6), SCOPES)
def test_any_span_becomes_a_row_the_store_takes(store: Store, spans: list[Span], scope: str) -> None:
    found = rows_of(request(*spans, scope=scope).SerializeToString())
    assert len(found.spans) == len(spans)
    settled = Settler(store, is_shared=False).settle(found.spans, [], PRICES.for_project)
    store.insert(Batch([*found.spans, *settled.amended], found.flags + settled.flags, found.scores))
    for row in found.spans:
        for name in ("input_messages", "output_messages", "tool_calls", "tool_args", "retrieval_documents", "metadata"):
            json.loads(row[name]) if row.get(name) else None
        assert row["observation_type"] in {*KINDS.values(), *OPERATIONS.values(), "engine"}
        assert row.get("input_tokens") is None or row["input_tokens"] >= 0
        asked, answered = row.get("input_messages", ""), row.get("output_messages", "")
        assert (row.get("input_preview") or None) == input_preview(asked, row.get("input_text", ""))
        assert (row.get("output_preview") or None) == output_preview(answered, row.get("output_text", ""))


@given(SAID)
def test_any_object_is_read_or_not(value: Any) -> None:
    assert all(count >= 0 for count in read_usage(value).values())
    assert all(isinstance(amount, Decimal) for amount in read_cost(value).values())


@given(
    st.lists(
        st.tuples(st.sampled_from(sorted(CONTENT_EVENTS)), SAID, st.dictionaries(_KEYS, SAID, max_size=3)), max_size=5
    )
)
def test_any_event_is_read_or_not(events: list[tuple[str, Any, dict[str, Any]]]) -> None:
    assert isinstance(read_events(events), dict)


@pytest.mark.parametrize("depth", [20, 200, 300, 400, 600, 900, 1000, 5000, 100_000])
@pytest.mark.parametrize("kind", ["LLM", "TOOL", "RETRIEVER"])
def test_json_of_any_depth_inside_a_text(depth: int, kind: str) -> None:
    for opened, closed in (("[", "]"), ('{"a":', "}"), ('[{"content":', "}]")):
        text = opened * depth + "1" + closed * depth
        said = {key: text for keys in dialects.CONTENT.values() for key in keys}
        for key in said:
            assert (
                len(rows_of(request(span(1, {key: text, "openinference.span.kind": kind})).SerializeToString()).spans)
                == 1
            )
