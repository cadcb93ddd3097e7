"""Since 1.14 `anthropic` traces itself wherever there is a tracer provider: nothing may be counted twice."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from limelight.testing import Recorded, recording
from sdk.server import Peer, json_reply
from sdk.test_anthropic import ASKED, MESSAGE, _assert_usage, _async_client, _client
from sdk.test_anthropic_streams import _stream_reply

anthropic = pytest.importorskip("anthropic")

if not hasattr(anthropic._base_client.BaseClient, "_tracer"):
    pytest.skip("this version makes no spans", allow_module_level=True)


class Provider:
    """A provider of the user's own, and what it was given."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.real = TracerProvider(shutdown_on_exit=False)
        self.real.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.option: Any = {"tracer_provider": self.real}
        """The client's option to use it."""

    def names(self) -> list[str]:
        return [span.name for span in self._exporter.get_finished_spans()]


@pytest.fixture
def provider() -> Provider:
    return Provider()


def _calls(peer: Peer, client: Any) -> None:
    peer.says(json_reply(MESSAGE))
    client.messages.create(**ASKED)
    client.messages.with_raw_response.create(**ASKED)
    peer.says(_stream_reply())
    list(client.messages.create(**ASKED, stream=True))
    with client.messages.stream(**ASKED) as stream:
        stream.until_done()


def test_the_librarys_spans_are_silent_inside_ours_and_come_back(peer: Peer, provider: Provider) -> None:
    client = _client(peer, open_telemetry=provider.option)
    with recording() as recorded:
        _calls(peer, client)
        assert provider.names() == []
        assert len(recorded.spans()) == 4
        for span in recorded.spans():
            _assert_usage(span.attributes)
    _calls(peer, client)
    assert provider.names() == ["anthropic.messages.create"] * 4


async def test_the_asynchronous_client_is_silent_too(peer: Peer, provider: Provider, spans: Recorded) -> None:
    async with _async_client(peer, open_telemetry=provider.option) as client:
        peer.says(json_reply(MESSAGE))
        await client.messages.create(**ASKED)
        peer.says(_stream_reply())
        async with client.messages.stream(**ASKED) as stream:
            await stream.until_done()
    assert provider.names() == []
    assert len(spans.spans()) == 2


def test_requests_of_no_call_of_ours_keep_the_librarys_span(peer: Peer, provider: Provider, spans: Recorded) -> None:
    peer.says(json_reply({"input_tokens": 12}))
    _client(peer, open_telemetry=provider.option).messages.count_tokens(model="m", messages=[])
    assert provider.names() == ["anthropic.messages.count_tokens"]
    assert spans.spans() == []


def test_a_provider_that_was_joined_gets_our_span_alone(peer: Peer, provider: Provider) -> None:
    with recording(tracer_provider=provider.real):
        _calls(peer, _client(peer, open_telemetry=provider.option))
    assert provider.names() == ["chat claude-next"] * 4


def test_a_trace_is_passed_on_exactly_where_the_library_did(peer: Peer, provider: Provider) -> None:
    peer.says(json_reply(MESSAGE))
    with recording(propagate="none") as recorded:
        _client(peer).messages.create(**ASKED)
        _client(peer, open_telemetry=provider.option).messages.create(**ASKED)
        _client(peer, open_telemetry={**provider.option, "propagation": False}).messages.create(**ASKED)
        ours = recorded.spans()[1]
    without, with_provider, switched_off = (asked.headers.get("traceparent") for asked in peer.asked)
    assert without is None
    assert with_provider == f"00-{ours.trace_id}-{ours.span_id}-01"
    assert switched_off is None


def test_other_instrumentation_goes_on_inside_our_call(peer: Peer, provider: Provider, spans: Recorded) -> None:
    parents: list[Any] = []

    def traced(_request: Any) -> None:
        with provider.real.get_tracer("somebody").start_as_current_span("POST") as span:
            parents.append(span.parent.span_id)

    peer.says(json_reply(MESSAGE))
    http = anthropic.DefaultHttpxClient(event_hooks={"request": [traced]})
    with _client(peer, open_telemetry=provider.option, http_client=http) as client:
        client.messages.create(**ASKED)
    assert provider.names() == ["POST"]
    assert parents == [int(spans.only().span_id, 16)]


SCRIPT = """
import json, sys
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
import anthropic
from limelight.testing import recording

memory = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(memory))
trace.set_tracer_provider(provider)
client = anthropic.Anthropic(api_key="k", base_url=sys.argv[1], max_retries=0)

def ask():
    client.messages.create(model="m", max_tokens=1, messages=[])

ask()
settings = {"tracer_provider": provider} if sys.argv[2] == "joined" else {}
with recording(**settings) as recorded:
    ask()
    ours = [span.name for span in recorded.spans()]
ask()
print(json.dumps([ours, [span.name for span in memory.get_finished_spans()]]))
"""


@pytest.mark.parametrize("way", ["beside", "joined"])
def test_a_global_provider(peer: Peer, way: str) -> None:
    peer.says(json_reply(MESSAGE))
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, peer.url, way], capture_output=True, text=True, timeout=60, check=True
    )
    ours, theirs = json.loads(done.stdout)
    own = "anthropic.messages.create"
    assert ours == ["chat m"]
    assert theirs == ([own, "chat m", own] if way == "joined" else [own, own])
