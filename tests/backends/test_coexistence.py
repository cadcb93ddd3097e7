"""Beside other vendors' instrumentations of `openai`: each makes its span, and the user's calls are the same.

Run in the environment of the benchmark: `.cache/bench/bin/python -m pytest tests/backends/test_coexistence.py`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from limelight.testing import recording
from sdk.server import Peer, json_reply
from sdk.test_openai import CHUNKS, COMPLETION, MESSAGES, _async_client, _client, _stream_reply

VENDORS = {
    "openinference": ("openinference.instrumentation.openai", "OpenAIInstrumentor"),
    "openllmetry": ("opentelemetry.instrumentation.openai", "OpenAIInstrumentor"),
}
if find_spec("openinference") is None:
    if os.environ.get("LIMELIGHT_REQUIRE_BACKENDS") == "1":
        pytest.fail("not installed: openinference; run this file with .cache/bench/bin/python", pytrace=False)
    pytest.skip("needs .cache/bench (make bench-sdk)", allow_module_level=True)
# other vendors' packages warn of their own affairs
pytestmark = [pytest.mark.backend, pytest.mark.filterwarnings("default")]


@pytest.fixture
def peer() -> Iterator[Peer]:
    with Peer() as running:
        yield running


class Vendor:
    """Another instrumentation, and the spans it makes."""

    def __init__(self, name: str) -> None:
        module, kind = VENDORS[name]
        self.instrumentor = getattr(__import__(module, fromlist=[kind]), kind)()
        self.memory = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.memory))

    def start(self) -> None:
        self.instrumentor.instrument(tracer_provider=self.provider)

    def stop(self) -> None:
        self.instrumentor.uninstrument()


def _calls(peer: Peer) -> list[Any]:
    client = _client(peer)
    peer.says(json_reply(COMPLETION))
    whole = client.chat.completions.create(model="m", messages=MESSAGES).model_dump(exclude_unset=True)
    peer.says(_stream_reply)
    chunks = list(client.chat.completions.create(model="m", messages=MESSAGES, stream=True))
    return [whole, [chunk.model_dump(exclude_unset=True) for chunk in chunks]]


@pytest.mark.parametrize("ours_first", [True, False])
@pytest.mark.parametrize("name", sorted(VENDORS))
def test_both_make_their_spans_and_the_user_gets_the_same(name: str, ours_first: bool, peer: Peer) -> None:
    vendor = Vendor(name)
    if not ours_first:
        vendor.start()
    with recording(providers=["openai"]) as recorded:
        if ours_first:
            vendor.start()
        assert _calls(peer) == [COMPLETION, CHUNKS]
        if ours_first:
            vendor.stop()
        spans = recorded.spans()
        assert [span.name for span in spans] == ["chat m", "chat m"]
        assert [span.attributes["gen_ai.usage.output_tokens"] for span in spans] == [7, 7]
        theirs = [span for span in vendor.memory.get_finished_spans() if span.attributes]
        assert len(theirs) == 2
        # who patched last stands outside, but for OpenInference, which patches the client's request
        outside = ours_first and name != "openinference"
        scopes = {span.attributes.get("limelight.nested_in") for span in spans}
        assert scopes == ({theirs[0].instrumentation_scope.name} if outside else {None})
    if not ours_first:
        vendor.stop()  # it gives nothing back while we stand on top of it
    assert _calls(peer) == [COMPLETION, CHUNKS]


@pytest.mark.parametrize("name", sorted(VENDORS))
async def test_the_asynchronous_client(name: str, peer: Peer) -> None:
    vendor = Vendor(name)
    with recording(providers=["openai"]) as recorded:
        vendor.start()
        try:
            peer.says(json_reply(COMPLETION))
            async with _async_client(peer) as client:
                answer = await client.chat.completions.create(model="m", messages=MESSAGES)
        finally:
            vendor.stop()
        assert answer.model_dump(exclude_unset=True) == COMPLETION
        assert recorded.only().attributes["gen_ai.usage.input_tokens"] == 20


@pytest.mark.parametrize("name", sorted(VENDORS))
def test_joined_to_one_provider_one_hangs_below_the_other(name: str, peer: Peer) -> None:
    vendor = Vendor(name)
    with recording(providers=["openai"], tracer_provider=vendor.provider):
        vendor.start()
        try:
            _calls(peer)
        finally:
            vendor.stop()
    spans = vendor.memory.get_finished_spans()
    ours = {span.context.span_id: span for span in spans if span.instrumentation_scope.name == "limelight"}
    theirs = {span.context.span_id: span for span in spans if span.instrumentation_scope.name != "limelight"}
    assert len(ours) == len(theirs) == 2
    if name == "openinference":
        assert {span.parent.span_id for span in theirs.values()} == set(ours)
        return
    for span in ours.values():
        outer = theirs[span.parent.span_id]
        assert span.attributes["limelight.nested_in"] == outer.instrumentation_scope.name
