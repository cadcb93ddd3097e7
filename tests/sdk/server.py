"""Peer: a real HTTP server on a free port that answers as a test scripts it, and remembers what it was asked."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Reply:
    """One answer. `pieces` are written one by one; `cut` drops the connection after them.

    `hold` is waited for before the answer, `hang` between the last piece and the end.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    pieces: list[bytes] = field(default_factory=list)
    cut: bool = False
    hold: threading.Event | None = None
    hang: threading.Event | None = None


def json_reply(body: Any, status: int = 200, **headers: str) -> Reply:
    return Reply(status, {"Content-Type": "application/json", **headers}, [json.dumps(body).encode()])


def sse_reply(events: list[Any], *, done: bool = True, cut: bool = False, named: bool = False) -> Reply:
    """Server-sent events as OpenAI writes them; `named` ones carry their type as the event name."""
    pieces = [
        (f"event: {event['type']}\n".encode() if named else b"") + b"data: " + json.dumps(event).encode() + b"\n\n"
        for event in events
    ]
    return Reply(200, {"Content-Type": "text/event-stream"}, pieces + [b"data: [DONE]\n\n"] * done, cut=cut)


def ndjson_reply(lines: list[Any], *, cut: bool = False) -> Reply:
    pieces = [json.dumps(line).encode() + b"\n" for line in lines]
    return Reply(200, {"Content-Type": "application/x-ndjson"}, pieces, cut=cut)


def otlp_reply(body: bytes = b"", status: int = 200, **headers: str) -> Reply:
    return Reply(status, {"Content-Type": "application/x-protobuf", **headers}, [body])


@dataclass
class Asked:
    path: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


Script = Reply | Callable[[Asked], Reply]


class Peer:
    """`replies` are used up in order; the last one stays."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.replies: list[Script] = []
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.port = self._server.server_port

    def says(self, *replies: Script) -> None:
        self.replies = list(replies)

    def __enter__(self) -> Peer:  # noqa: PYI034  typing.Self is 3.11
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, asked: Asked) -> Reply:
        with self._lock:
            self.asked.append(asked)
            script = self.replies[0] if len(self.replies) == 1 else self.replies.pop(0)
        return script if isinstance(script, Reply) else script(asked)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        peer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # pieces go out as they are written, without waiting 40 ms for an answer

            def do_POST(self) -> None:
                try:
                    body = b"".join(self._pieces())
                except ValueError:  # half a request is none
                    self.close_connection = True
                    return
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                reply = peer._answer(Asked(self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                try:
                    self._write(reply)
                except OSError:  # the client went away, as some tests want
                    self.close_connection = True

            do_GET = do_POST

            def _pieces(self) -> Iterator[bytes]:
                if self.headers.get("Transfer-Encoding") != "chunked":
                    yield self._read(int(self.headers.get("Content-Length", 0)))
                    return
                while size := int(self.rfile.readline().strip() or b"gone", 16):
                    yield self._read(size)
                    self.rfile.readline()
                self.rfile.readline()

            def _read(self, size: int) -> bytes:
                data = self.rfile.read(size)
                if len(data) < size:
                    raise ValueError("the client went away")
                return data

            def _write(self, reply: Reply) -> None:
                if reply.hold is not None:
                    reply.hold.wait(20)
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                chunked = "Content-Length" not in reply.headers
                if chunked:
                    self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                for piece in filter(None, reply.pieces):
                    self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n" if chunked else piece)
                if reply.hang is not None:
                    reply.hang.wait(20)
                if reply.cut:
                    self.close_connection = True
                elif chunked:
                    self.wfile.write(b"0\r\n\r\n")

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base class names it
                return None

        return Handler


def sent_spans(peer: Peer) -> Iterator[Any]:
    """The OTLP spans a peer was sent."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    for asked in peer.asked:
        if asked.path == "/v1/traces":
            for resource in ExportTraceServiceRequest.FromString(asked.body).resource_spans:
                for scope in resource.scope_spans:
                    yield from scope.spans


def span_attributes(peer: Peer) -> dict[str, dict[str, Any]]:
    """Name of each span a peer was sent -> its attributes, and its parent's id as `parent`."""
    from limelight.testing import attributes_of

    return {
        span.name: {**attributes_of(span.attributes), "parent": span.parent_span_id.hex()} for span in sent_spans(peer)
    }
