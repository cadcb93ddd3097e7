"""Requests made to break the receivers: each has an orderly answer, and the process stays small, alive and open.

The receivers run in a process of their own with the default limits; every answer on an ingest path is a status of the
table in docs/ingest.md with a google.rpc.Status in the request's encoding, never a 500.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from google.rpc.status_pb2 import Status
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.ingest.otlp import AUTH, NOW, TRACE, request, rows_of, span
from collector.ingest.servers import exchange, serving
from limelight_collector import deadletters
from limelight_collector.json_otlp import write_json

PROTO = {**AUTH, "content-type": "application/x-protobuf"}
JSON = {**AUTH, "content-type": "application/json"}
TRACES = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
SAID = {"gen_ai.system": "openai", "n": 1, "f": 0.5, "l": [1, "two"], "m": {"k": b"\0\1"}, "t": True}
VALID = request(span(1, SAID), span(2), resource={"service.name": "s"}, scope="x")
MIB = 2**20
GROWTH_MAX_BYTES = 500 * MIB
"""Peak growth allowed: a body of 64 MiB, its inflated form in chunks and joined, and the parser's copy."""


@dataclass(slots=True)
class Receiver:
    pid: int
    http_port: int
    grpc_port: int
    channel: grpc.Channel
    client: httpx.Client
    statuses: dict[Any, int] = field(default_factory=dict[Any, int])

    def peak_bytes(self) -> int:
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))

    def post(self, body: Any, headers: Any = None, path: str = "/v1/traces", method: str = "POST") -> int:
        """The status of an answer that is in order."""
        headers = PROTO if headers is None else headers
        answer = self.client.request(method, path, content=body, headers=headers)
        assert answer.status_code in (200, 400, 401, 403, 404, 405, 413, 415, 503), answer.status_code
        protobuf = dict(headers).get("content-type", "").startswith("application/x-protobuf")
        assert answer.headers["content-type"] == ("application/x-protobuf" if protobuf else "application/json")
        if answer.status_code != 200 and method != "HEAD":
            status = Status.FromString(answer.content) if protobuf else answer.json()
            assert status.message if protobuf else status["message"]
            assert (status.code if protobuf else status["code"]) > 0
        return answer.status_code

    def call(self, body: bytes) -> grpc.StatusCode:
        """The code of a call that ended in order."""
        try:
            self.channel.unary_unary(TRACES)(body, metadata=tuple(AUTH.items()), timeout=60)
        except grpc.RpcError as error:
            return error.code()  # type: ignore[attr-defined]
        return grpc.StatusCode.OK

    def still_serves(self) -> None:
        good = request(span(1, name=os.urandom(8).hex())).SerializeToString()
        assert self.post(good) == 200
        assert self.call(good) is grpc.StatusCode.OK


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    command = [sys.executable, "-m", "collector.ingest.receiver_process", str(tmp_path_factory.mktemp("hostile"))]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
    assert child.stdin is not None
    assert child.stdout is not None
    http_port, grpc_port = (int(port) for port in child.stdout.readline().split())
    options = [("grpc.max_send_message_length", -1)]
    with (
        grpc.insecure_channel(f"127.0.0.1:{grpc_port}", options, compression=grpc.Compression.Gzip) as channel,
        httpx.Client(base_url=f"http://127.0.0.1:{http_port}", timeout=60) as client,
    ):
        yield Receiver(child.pid, http_port, grpc_port, channel, client)
    assert child.poll() is None, "the receivers' process died"
    child.stdin.close()
    child.wait(30)
    child.stdout.close()


BOTH = (grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT)


def test_a_request_cut_anywhere_is_taken_or_refused(receiver: Receiver) -> None:
    whole, text = VALID.SerializeToString(), write_json(VALID).encode()
    packed = gzip.compress(whole)
    found = {receiver.post(whole[:offset]) for offset in range(len(whole))}
    assert found == {200, 400}
    assert {receiver.post(text[:offset], JSON) for offset in range(0, len(text) - 1, 3)} == {400}
    gzipped = {**PROTO, "content-encoding": "gzip"}
    assert {receiver.post(packed[:offset], gzipped) for offset in range(1, len(packed))} == {400}
    assert {receiver.call(whole[:offset]) for offset in range(len(whole))} <= set(BOTH)
    receiver.still_serves()


def test_flipped_and_random_bytes(receiver: Receiver) -> None:
    dice = random.Random(20261124)
    whole, text = VALID.SerializeToString(), write_json(VALID).encode()
    for _ in range(150):
        for good, headers in ((whole, PROTO), (text, JSON)):
            body = bytearray(good)
            for _ in range(dice.randrange(1, 6)):
                body[dice.randrange(len(body))] = dice.randrange(256)
            assert receiver.post(bytes(body), headers) in (200, 400)
            if headers is PROTO:
                assert receiver.call(bytes(body)) in BOTH
        noise = dice.randbytes(dice.randrange(1, 400))
        for encoding in ("identity", "gzip", "deflate", "zstd"):
            assert receiver.post(noise, {**PROTO, "content-encoding": encoding}) in (200, 400)
    receiver.still_serves()


def json_span(**fields: Any) -> bytes:
    whole = {"traceId": TRACE.hex(), "spanId": "00" * 7 + "01", "name": "n", **fields}
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [whole]}]}]}).encode()


def deep_value(depth: int) -> bytes:
    return b'{"arrayValue":{"values":[' * depth + b'{"intValue":1}' + b"]}}" * depth


WRONG = [None, True, 7, -1, 2**64, 2**63, 1e308, -1.5, "", "x", "9" * 400, "\0", "\ud800", [], {}, [[]], [{}], {"a": 1}]
FIELDS = ["traceId", "spanId", "parentSpanId", "name", "kind", "startTimeUnixNano", "attributes", "events", "status"]
JSON_BODIES = [
    *(json_span(**{name: value}) for name in FIELDS for value in WRONG),
    *(json_span(attributes=[{"key": "k", "value": {kind: value}}]) for kind in ("intValue", "doubleValue", "boolValue",
      "stringValue", "bytesValue", "arrayValue", "kvlistValue", "futureValue") for value in WRONG),
    b"", b"null", b"[]", b"1", b'"x"', b"{", b"}", b"\xff", b"\xef\xbb\xbf{}", b"{}\0", b"\0{}", b"NaN", b"[NaN]",
    b'{"resourceSpans":[{"resource":{"attributes":[{"key":"k","value":{"doubleValue":NaN}}]}}]}',
    b'{"resourceSpans":[],"resourceSpans":[{}],"resourceSpans":null}',
    b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"\\ud800"}]}]}]}',
    b'{"resourceSpans":' + b"9" * 5000 + b"}",
    b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"startTimeUnixNano":' + b"9" * 5000 + b"}]}]}]}",
    b"[" * 100_000, b"[" * 100_000 + b"]" * 100_000, b'{"a":' * 100_000, b'{"x":' + b"[" * 120 + b"]" * 120 + b"}",
    json_span()[:-4] + b',"attributes":[{"key":"k","value":' + deep_value(40) + b"}]}]}]}]}",
]  # fmt: skip


def test_wrong_types_duplicate_keys_and_odd_numbers_in_json(receiver: Receiver) -> None:
    assert len(JSON_BODIES) > 300
    for body in JSON_BODIES:
        assert receiver.post(body, JSON) in (200, 400), body[:200]
        assert receiver.post(gzip.compress(body), {**JSON, "content-encoding": "gzip"}) in (200, 400), body[:200]
    receiver.still_serves()


def varint(number: int) -> bytes:
    found = b""
    while number > 127:
        found, number = found + bytes([number & 127 | 128]), number >> 7
    return found + bytes([number])


def field_of(number: int, inner: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(inner)) + inner


def in_spans(spans: bytes) -> bytes:
    return field_of(1, field_of(2, spans))


def deep_protobuf(depth: int) -> bytes:
    """A span whose attribute holds `depth` arrays in each other."""
    heads: list[bytes] = []
    size = 0
    for _ in range(depth):
        for number in (1, 5):  # ArrayValue.values, AnyValue.array_value
            head = varint(number << 3 | 2) + varint(size)
            heads.append(head)
            size += len(head)
    value = b"".join(reversed(heads))
    return in_spans(field_of(2, field_of(9, field_of(1, b"k") + field_of(2, value))))


PROTOBUF_BODIES = [
    b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\x0a\xff\xff\xff\xff\x0f", b"\xff" * 1000, b"\x80" * 1000,
    b"\x0b" * 1000, b"\x0b" + b"\x0c", b"\x00" * 100, field_of(2**28, b"unknown"), varint(536_870_911 << 3) + b"\x01",
    in_spans(field_of(2, field_of(1, TRACE) * 3 + field_of(2, b"8" * 8) + field_of(5, b"\xff\xfe invalid UTF-8"))),
    in_spans(field_of(2, field_of(1, TRACE) + field_of(2, b"8" * 8) + field_of(5, b"NUL \0 inside"))),
    in_spans(field_of(2, field_of(1, b"x" * 100_000) + field_of(2, b"8" * 8))),
    in_spans(field_of(2, b"") * 1000), field_of(1, b"") * 1000,
    *(deep_protobuf(depth) for depth in (25, 40, 60, 1000, 100_000)),
    *(
        request(span(1, start_time_unix_nano=start, end_time_unix_nano=end)).SerializeToString()
        for start in (0, 1, NOW, 2**63 - 1, 2**63, 2**64 - 1) for end in (0, 1, NOW, 2**63 - 1, 2**64 - 1)
    ),
    request(span(1, {"f": 1e308, "g": float("nan"), "h": float("-inf"), "i": -(2**63), "": "", "\0": "\0"}),
            span(2, kind=99, trace_state="=" * 10_000, flags=2**32 - 1)).SerializeToString(),
    request(span(1, {f"key {number}": number for number in range(300_000)})).SerializeToString(),
    request(span(1, {"same": 1}, attributes=[*span(1, {"same": 1}).attributes] * 5000)).SerializeToString(),
]  # fmt: skip


def test_huge_counts_odd_varints_deep_values_and_absurd_times_in_protobuf(receiver: Receiver) -> None:
    before = receiver.peak_bytes()
    for body in PROTOBUF_BODIES:
        assert receiver.post(body) in (200, 400), body[:100]
        assert receiver.call(body) in BOTH, body[:100]
    assert receiver.peak_bytes() - before < GROWTH_MAX_BYTES
    receiver.still_serves()


HEADS: list[tuple[bytes, set[int]]] = [
    (b"POST /v1/traces HTTP/1.1\r\n", {400, 415}),
    (b"POST /v1/traces HTTP/1.0\r\n", {415}),
    (b"POST /v1/traces HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n", {400}),
    (b"POST /v1/traces HTTP/1.1\r\ncontent-length: -1\r\n", {400}),
    (b"POST /v1/traces HTTP/1.1\r\ncontent-length: 99999999999999999999999\r\n", {400}),
    (b"POST /v1/traces HTTP/1.1\r\ncontent-length: 9999999999\r\n", {413, 415}),
    (b"POST /v1/traces HTTP/1.1\r\ncontent-length: x\r\n", {400}),
    (b"POST /v1/traces HTTP/1.1\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n", {400, 415}),
    (b"POST /v1/traces HTTP/1.1\r\ntransfer-encoding: chunked, gzip\r\n", {400, 415}),
    (b"POST /v1/traces HTTP/1.1\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", {400}),
    (b"POST /v1/traces HTTP/1.1\r\nno colon here\r\n", {400}),
    (b"POST /v1/traces HTTP/1.1\r\ncontent-type: \xff\xfe\r\n", {415}),
    (b"POST /v1/traces HTTP/1.1\r\ncontent-type: application/json\r\ncontent-encoding: gzip, zstd\r\n", {415}),
    (
        b"POST /v1/traces HTTP/1.1\r\ncontent-type: application/json\r\nexpect: 200-maybe\r\ncontent-length: 0\r\n",
        {400},
    ),
    (b"POST /v1/traces HTTP/9.9\r\n", {400}),
    (b"POST  /v1/traces HTTP/1.1\r\n", {400, 415}),
    (b"BREW /v1/traces HTTP/1.1\r\n", {400}),
    (b"POST /v1/tr\xc3\xa4ces HTTP/1.1\r\n", {400, 404}),
    (b"POST /v1/%ff%00 HTTP/1.1\r\n", {404}),
    (b"POST http://elsewhere/v1/traces HTTP/1.1\r\n", {400, 415}),
    (b"CONNECT /v1/traces HTTP/1.1\r\n", {400, 405}),
    (b"GET /v1/traces HTTP/1.1\r\nupgrade: h2c\r\nconnection: upgrade\r\nhttp2-settings: x\r\n", {405}),
    (b"GET /v1/traces HTTP/1.1\r\nupgrade: websocket\r\nconnection: upgrade\r\n", {400, 405}),
]


@pytest.mark.parametrize(("head", "statuses"), HEADS)
def test_abused_heads(receiver: Receiver, head: bytes, statuses: set[int]) -> None:
    rest = (
        b"host: c\r\nauthorization: Bearer ingest-key\r\nconnection: close\r\n\r\n" if b"\r\n\r\n" not in head else b""
    )
    answer = exchange(receiver.http_port, head + rest, shut=False)
    assert answer.startswith(b"HTTP/1.1 "), answer[:100]
    assert int(answer.split()[1]) in statuses, answer[:100]
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["message"]
    receiver.still_serves()


def test_methods_paths_and_media_types(receiver: Receiver) -> None:
    body = VALID.SerializeToString()
    for method in ("GET", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "TRACE"):
        assert receiver.post(body, method=method) == 405
    for path in ("/v1/traces/", "/v1/trace", "/v1/traces/x", "/v1/Traces", "/v1/", "/v1/%2e%2e/v1/traces", "/v1/x?y"):
        assert receiver.post(body, path=path) == 404
    for path in (b"//v1/traces", b"/x/../v1/traces", b"/%2e/v1/traces", b"/v1", b"/"):
        sent = b"POST " + path + b" HTTP/1.1\r\nhost: c\r\nconnection: close\r\n\r\n"
        assert exchange(receiver.http_port, sent, shut=False).endswith(b"\r\n\r\nthe application")
    assert receiver.post(body, path="/v1/traces?x=1") == 200
    for kind in ("", "text/plain", "application/x-protobuf2", "application/grpc", "application/json, text/html"):
        assert (
            receiver.client.post("/v1/traces", content=body, headers={**AUTH, "content-type": kind}).status_code == 415
        )
    for key in ("", "Bearer", "Basic aW5nZXN0LWtleQ==", "Bearer nobody", "Bearer " + "x" * 30_000):
        assert receiver.post(body, {**PROTO, "authorization": key}) == 401


@contextmanager
def other_traffic(receiver: Receiver) -> Iterator[list[int]]:
    """Small requests of another client meanwhile; their statuses. Prints how long the slowest of them took."""
    stopped = threading.Event()
    statuses: list[int] = []
    slowest_s = 0.0

    def send() -> None:
        nonlocal slowest_s
        with httpx.Client(base_url=f"http://127.0.0.1:{receiver.http_port}", timeout=60) as client:
            while not stopped.is_set():
                body = request(span(1, name=os.urandom(8).hex())).SerializeToString()
                started = time.perf_counter()
                statuses.append(client.post("/v1/traces", content=body, headers=PROTO).status_code)
                slowest_s = max(slowest_s, time.perf_counter() - started)

    thread = threading.Thread(target=send)
    thread.start()
    yield statuses
    stopped.set()
    thread.join(60)
    assert not thread.is_alive()
    print(f"{len(statuses)} small requests meanwhile, the slowest {slowest_s:.3f} s")


def gzip_bomb() -> Iterator[bytes]:
    """10 GiB of zeros as one gzip member, 10 MB long: one flushed piece of it, again and again."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packer.compress(bytes(MIB)) + packer.flush(zlib.Z_FULL_FLUSH)
    piece = packer.compress(bytes(64 * MIB)) + packer.flush(zlib.Z_FULL_FLUSH)
    yield b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
    for _ in range(160):
        yield piece


def zstd_bomb() -> Iterator[bytes]:
    """10 GiB of zeros as one zstd frame, 328 kB long: blocks that say 'this byte, 128 Ki times'."""
    yield struct.pack("<I", 0xFD2FB528) + bytes([0, 13 << 3])
    block = struct.pack("<I", 1 << 1 | (128 * 1024) << 3)[:3] + b"\0"
    for _ in range(80):
        yield block * 1024


@pytest.mark.parametrize(("encoding", "bomb"), [("gzip", gzip_bomb), ("zstd", zstd_bomb)])
def test_bombs_of_10_gib_are_refused_at_their_cap(
    receiver: Receiver, encoding: str, bomb: Callable[[], Iterator[bytes]]
) -> None:
    before = receiver.peak_bytes()
    with other_traffic(receiver) as statuses:
        for headers in (PROTO, JSON):
            assert receiver.post(bomb(), {**headers, "content-encoding": encoding}) == 413
    assert set(statuses) == {200}
    assert receiver.peak_bytes() - before < GROWTH_MAX_BYTES
    receiver.still_serves()


def test_a_grpc_bomb_is_refused(receiver: Receiver) -> None:
    before = receiver.peak_bytes()
    with other_traffic(receiver) as statuses:
        assert receiver.call(bytes(256 * MIB)) is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert set(statuses) == {200}
    assert receiver.peak_bytes() - before < GROWTH_MAX_BYTES
    receiver.still_serves()


SWOLLEN: list[tuple[bytes, dict[str, str]]] = [
    (in_spans(b"\x12\x00" * (30 * MIB)), PROTO),
    (b"\x0a\x00" * (30 * MIB), PROTO),
    (in_spans(field_of(2, b"\x6a\x00" * (7 * MIB))), PROTO),
    (in_spans(field_of(2, field_of(9, field_of(2, field_of(5, b"\x0a\x00" * (9 * MIB)))))), PROTO),
    (b'{"resourceSpans":[' + b"{}," * (20 * MIB) + b"{}]}", JSON),
    (b'{"x":[' + b'"",' * (20 * MIB) + b'""]}', JSON),
]


@pytest.mark.parametrize("number", range(len(SWOLLEN)))
def test_small_bodies_with_millions_of_parts_are_refused_before_they_are_parsed(
    receiver: Receiver, number: int
) -> None:
    body, headers = SWOLLEN[number]
    before = receiver.peak_bytes()
    with other_traffic(receiver) as statuses:
        assert receiver.post(gzip.compress(body, 1), {**headers, "content-encoding": "gzip"}) == 413
    assert set(statuses) == {200}
    assert receiver.peak_bytes() - before < GROWTH_MAX_BYTES
    receiver.still_serves()


def test_the_largest_honest_request_does_not_hold_up_small_ones(receiver: Receiver) -> None:
    spans = [span(number, {f"gen_ai.key.{n}": "word " * 40 for n in range(20)}) for number in range(1, 9000)]
    body = request(*spans).SerializeToString()
    assert 30 * MIB < len(body) < 64 * MIB
    with other_traffic(receiver) as statuses:
        assert receiver.post(gzip.compress(body, 1), {**PROTO, "content-encoding": "gzip"}) in (200, 503)
        assert receiver.call(body) in (grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE)
    assert set(statuses) == {200}
    assert len(statuses) > 5


_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | _TEXT | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=6,
)
_KEYS = st.sampled_from(["gen_ai.operation.name", "gen_ai.request.model", "gen_ai.usage.input_tokens"]) | _TEXT
_ATTRIBUTES = st.dictionaries(_KEYS, _VALUES, max_size=5)
_IDS = st.binary(min_size=8, max_size=8)
_SPANS = st.builds(
    lambda said, **given: span(1, said, **given),
    _ATTRIBUTES,
    span_id=_IDS | st.binary(max_size=9),
    trace_id=st.binary(min_size=16, max_size=16),
    parent_span_id=st.just(b"") | _IDS,
    name=_TEXT,
    kind=st.integers(0, 5),
    start_time_unix_nano=st.integers(0, 2**64 - 1),
    end_time_unix_nano=st.integers(0, 2**64 - 1),
    trace_state=_TEXT,
)


@pytest.fixture(scope="module")
def same_rows(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Any], None]]:
    """A check that a request gives the same rows in each encoding over each transport."""
    directory = tmp_path_factory.mktemp("same")
    with serving(directory) as (services, http_port, grpc_port):
        client = httpx.Client(base_url=f"http://127.0.0.1:{http_port}", timeout=60)
        channel = grpc.insecure_channel(f"127.0.0.1:{grpc_port}")

        def rows() -> str:
            found = [repr(rows_of(record.payload)) for record in services.spool.read(10_000)]
            services.spool.delete(10**12)
            with deadletters.opened(directory / "spool.db") as connection:
                connection.execute("DELETE FROM seen")
            return "".join(found)

        def check(sent: Any) -> None:
            payload = sent.SerializeToString()
            assert client.post("/v1/traces", content=payload, headers=PROTO).status_code == 200
            expected = rows()
            text = write_json(sent).encode()
            packed = {**JSON, "content-encoding": "gzip"}
            assert client.post("/v1/traces", content=gzip.compress(text), headers=packed).status_code == 200
            assert rows() == expected
            channel.unary_unary(TRACES)(payload, metadata=tuple(AUTH.items()), timeout=60)
            assert rows() == expected

        yield check
        channel.close()
        client.close()


@settings(max_examples=60)
@given(st.lists(_SPANS, min_size=1, max_size=3), _ATTRIBUTES)
def test_encodings_and_transports_give_the_same_rows(
    same_rows: Callable[[Any], None], spans: list[Any], resource: dict[str, Any]
) -> None:
    same_rows(request(*spans, resource=resource))
