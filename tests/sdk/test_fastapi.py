"""Real FastAPI and Starlette applications behind a real uvicorn: server spans as roots, and what hangs below them."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import limelight
from limelight.testing import Recorded, RecordedSpan, recording
from sdk.server import Peer, json_reply, sse_reply
from sdk.test_openai import CHUNKS, COMPLETION

fastapi = pytest.importorskip("fastapi")
httpx = pytest.importorskip("httpx")
openai = pytest.importorskip("openai")
uvicorn = pytest.importorskip("uvicorn")
pytest.importorskip("opentelemetry.instrumentation.fastapi")

from fastapi.responses import StreamingResponse  # noqa: E402
from starlette.applications import Starlette  # noqa: E402
from starlette.responses import PlainTextResponse  # noqa: E402
from starlette.routing import Mount, Route, WebSocketRoute  # noqa: E402
from starlette.testclient import TestClient  # noqa: E402

MESSAGES: Any = [{"role": "user", "content": "hi"}]


@contextlib.contextmanager
def serving(app: Any) -> Iterator[str]:
    """The application behind uvicorn on a free port; yields its base address."""
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical", timeout_graceful_shutdown=5)
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started and thread.is_alive():
            threading.Event().wait(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(20)


def _application(peer: Peer) -> fastapi.FastAPI:
    app = fastapi.FastAPI()
    url = f"{peer.url}/v1"

    @app.get("/sync/{name}")
    def sync(name: str) -> str:
        with openai.OpenAI(api_key="k", base_url=url) as client:
            return (
                client.chat.completions.create(model="gpt-4o", messages=MESSAGES, user=name).choices[0].message.content
            )

    @app.get("/async")
    async def asynchronous() -> str:
        async with openai.AsyncOpenAI(api_key="k", base_url=url) as client:
            answer = await client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
        return answer.choices[0].message.content

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        async def pieces() -> Any:
            async with openai.AsyncOpenAI(api_key="k", base_url=url) as client:
                async for chunk in await client.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True):
                    yield chunk.choices[0].delta.content or "-"

        return StreamingResponse(pieces())

    @app.get("/sync-stream")
    def sync_stream() -> StreamingResponse:
        def pieces() -> Any:
            with openai.OpenAI(api_key="k", base_url=url) as client:
                for chunk in client.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True):
                    yield chunk.choices[0].delta.content or "-"

        return StreamingResponse(pieces())

    @app.get("/broken")
    def broken() -> None:
        raise KeyError("nothing here")

    @app.get("/healthz")
    @app.get("/plain")
    def plain() -> str:
        return "ok"

    return app


def _server_and_call(spans: Recorded) -> tuple[RecordedSpan, RecordedSpan]:
    """The two spans there are: the server's, a root, and the model call below it."""
    (server,) = [span for span in spans.spans() if span.kind == "server"]
    (call,) = [span for span in spans.spans() if span.kind != "server"]
    assert server.parent_id == ""
    assert (call.trace_id, call.parent_id) == (server.trace_id, server.span_id)
    return server, call


@pytest.mark.parametrize(
    ("path", "route", "text"),
    [
        ("/sync/ann?page=2", "/sync/{name}", '"Looking"'),
        ("/async", "/async", '"Looking"'),
        ("/stream", "/stream", "-Hello---"),
        ("/sync-stream", "/sync-stream", "-Hello---"),
    ],
)
def test_a_model_call_in_a_handler_is_a_child_of_the_request(
    path: str, route: str, text: str, peer: Peer, spans: Recorded
) -> None:
    peer.says(lambda asked: sse_reply(CHUNKS) if asked.json().get("stream") else json_reply(COMPLETION))
    with serving(_application(peer)) as base:
        answer = httpx.get(base + path)
    assert (answer.status_code, answer.text) == (200, text)
    server, call = _server_and_call(spans)
    assert (server.name, server.status) == (f"GET {route}", "unset")
    assert server.attributes["http.route"] == route
    assert server.attributes["http.status_code"] == 200
    assert call.name == "chat gpt-4o"


def test_an_incoming_trace_goes_on(peer: Peer, spans: Recorded) -> None:
    peer.says(json_reply(COMPLETION))
    trace_id, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    with serving(_application(peer)) as base:
        httpx.get(f"{base}/async", headers={"traceparent": f"00-{trace_id}-{parent}-01"})
    (server,) = [span for span in spans.spans() if span.kind == "server"]
    assert (server.trace_id, server.parent_id) == (trace_id, parent)
    assert {span.trace_id for span in spans.spans()} == {trace_id}


def test_a_handler_that_raises(peer: Peer, spans: Recorded) -> None:
    with serving(_application(peer)) as base:
        assert httpx.get(f"{base}/broken").status_code == 500
        assert httpx.get(f"{base}/nowhere").status_code == 404
    broken, nowhere = spans.spans()
    assert (broken.name, broken.status, broken.attributes["http.status_code"]) == ("GET /broken", "error", 500)
    (event,) = broken.events
    assert event[0] == "exception"
    assert (event[1]["exception.type"], event[1]["exception.message"]) == ("KeyError", "'nothing here'")
    assert (nowhere.name, nowhere.status, nowhere.attributes["http.status_code"]) == ("GET", "unset", 404)


def test_health_checks_leave_no_span(peer: Peer, spans: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(_application(peer)) as base:
        assert httpx.get(f"{base}/healthz").text == '"ok"'
    assert spans.spans() == []


def test_the_environment_says_what_has_no_span(peer: Peer, spans: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_PYTHON_FASTAPI_EXCLUDED_URLS", "plain")
    with serving(_application(peer)) as base:
        httpx.get(f"{base}/plain")
        httpx.get(f"{base}/healthz")
    assert [span.name for span in spans.spans()] == ["GET /healthz"]


def test_an_application_that_serves_already_is_taken_up_and_given_back(peer: Peer) -> None:
    with serving(_application(peer)) as base:
        assert httpx.get(f"{base}/plain").status_code == 200
        with recording() as first:
            httpx.get(f"{base}/plain")
            assert [span.name for span in first.spans()] == ["GET /plain"]
            limelight.uninstrument()
            httpx.get(f"{base}/plain")
            assert len(first.spans()) == 1
        with recording() as second:
            httpx.get(f"{base}/plain")
        httpx.get(f"{base}/plain")
        assert [span.name for span in second.spans()] == ["GET /plain"]


def test_uninstrument_restores_the_identical_objects(peer: Peer) -> None:
    owners = [
        (Starlette, "build_middleware_stack"),
        (Starlette, "__call__"),
        (fastapi.FastAPI, "build_middleware_stack"),
    ]
    before = [vars(owner)[name] for owner, name in owners]
    app = _application(peer)
    with recording():
        assert [vars(owner)[name] for owner, name in owners] != before
        assert inspect.iscoroutinefunction(Starlette.__call__)  # how uvicorn tells ASGI 3 from 2
        app.middleware_stack = app.build_middleware_stack()
        wrapped = app.middleware_stack
    assert [vars(owner)[name] for owner, name in owners] == before
    assert app.middleware_stack is wrapped.app
    assert type(wrapped.app.app).__name__ != "_Raising"


def test_starlette_mounts_and_websockets(spans: Recorded) -> None:
    async def hello(_request: Any) -> PlainTextResponse:
        return PlainTextResponse("hello")

    async def echo(socket: Any) -> None:
        await socket.accept()
        await socket.send_text(await socket.receive_text())
        await socket.close()

    inner = fastapi.FastAPI()
    inner.get("/deep")(lambda: "deep")
    app = Starlette(routes=[Route("/hello", hello), WebSocketRoute("/echo", echo), Mount("/inner", inner)])
    with serving(app) as base:
        assert httpx.get(f"{base}/hello").text == "hello"
        assert httpx.get(f"{base}/inner/deep").text == '"deep"'
    with TestClient(app).websocket_connect("/echo") as socket:
        socket.send_text("over")
        assert socket.receive_text() == "over"
    names = [(span.name, span.kind) for span in spans.spans()]
    assert names == [("GET /hello", "server"), ("GET /inner", "server"), ("HTTP /echo", "server")]


def test_an_application_instrumented_by_others_is_left_to_them(peer: Peer, spans: Recorded) -> None:
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
    from opentelemetry.sdk.trace import TracerProvider

    app = _application(peer)
    FastAPIInstrumentor.instrument_app(app, tracer_provider=TracerProvider())
    with serving(app) as base:
        assert httpx.get(f"{base}/plain").status_code == 200
    FastAPIInstrumentor.uninstrument_app(app)
    assert spans.spans() == []


def test_without_the_instrumentation_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "opentelemetry.instrumentation.asgi", None)
    with recording(providers=["fastapi"]):
        pass
    assert "pip install 'limelight[fastapi]'" in caplog.text


@pytest.mark.swallows
@pytest.mark.parametrize("name", ["_observed", "_taken", "_details", "_give_back"])
def test_a_fault_of_ours_never_reaches_a_request(name: str, peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    from limelight.providers import fastapi as ours

    def broken(*_: Any) -> Any:
        raise ZeroDivisionError(name)

    with monkeypatch.context() as patched, recording():
        patched.setattr(ours, name, broken)
        with serving(_application(peer)) as base:
            assert httpx.get(f"{base}/plain").text == '"ok"'
            assert httpx.get(f"{base}/broken").status_code == 500


def test_a_client_that_leaves_ends_the_span(peer: Peer, spans: Recorded) -> None:
    app = fastapi.FastAPI()
    left = threading.Event()

    @app.get("/endless")
    async def endless() -> StreamingResponse:
        async def pieces() -> Any:
            try:
                while True:
                    yield "x" * 1000
                    await asyncio.sleep(0.01)
            finally:
                left.set()

        return StreamingResponse(pieces())

    with serving(app) as base:
        with httpx.stream("GET", f"{base}/endless") as answer:
            next(answer.iter_bytes())
        assert left.wait(20)
    assert [span.name for span in spans.spans()] == ["GET /endless"]
