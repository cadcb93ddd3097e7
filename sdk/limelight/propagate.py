"""The trace on its way out: W3C headers on requests of model calls, so that a server's own spans hang below ours.

They are put on the request object that is about to be sent and taken off again when it has been: a request of the
user's own, or a log of it, shows nothing of them.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from typing import Any

from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from limelight import call as calls
from limelight import identity
from limelight.call import HTTP
from limelight.guard import quiet
from limelight.providers.hosts import managed

Headers = MutableMapping[str, str]
Find = Callable[[tuple[Any, ...], dict[str, Any]], "tuple[Headers, str] | None"]
"""(args, kwargs of a sending function) -> the headers of the request and its host; None where it has none."""
Made = Callable[[Any], Iterable[Headers]]

_TRACE = TraceContextTextMapPropagator()
_ADDING, _REMOVING = quiet("adding trace headers"), quiet("removing trace headers")


def outgoing_headers(host: str) -> dict[str, str]:
    """Headers that carry the current trace to `host`; empty where there is none, or none is to be carried.

    By default the requests of model calls carry it, except to the well-known managed APIs, which have no use for it.
    """
    recorder = calls.audible()
    if recorder is None or recorder.propagate == "none":
        return {}
    if recorder.propagate != "all" and (HTTP.isdisjoint(calls.muted()) or managed(host) is not None):
        return {}
    headers: dict[str, str] = {}
    _TRACE.inject(headers)
    if recorder.baggage:
        headers.update(identity.baggage_headers())
    return headers


def carrying(original: Callable[..., Any], find: Find, made_by: Made = lambda _: ()) -> Callable[..., Any]:
    """`original`, a function that sends a request, with the trace on the request where that carries none.

    `made_by` gives the headers of further requests that a response was got by, or leads to: copies of the first's.
    """

    def take_back(lent: tuple[Headers, dict[str, str]], response: Any) -> None:  # stands on nothing else here
        headers, added = lent
        for sent in (headers, *made_by(response)):
            for name, value in added.items():
                if sent.get(name) == value:
                    del sent[name]

    if inspect.iscoroutinefunction(original):

        @functools.wraps(original)
        async def send_async(*args: Any, **kwargs: Any) -> Any:
            lent = None
            with _ADDING:
                lent = _lend(find(args, kwargs))
            response = None
            try:
                response = await original(*args, **kwargs)
                return response
            finally:
                with _REMOVING:
                    if lent is not None:
                        take_back(lent, response)

        return send_async

    @functools.wraps(original)
    def send(*args: Any, **kwargs: Any) -> Any:
        lent = None
        with _ADDING:
            lent = _lend(find(args, kwargs))
        response = None
        try:
            response = original(*args, **kwargs)
            return response
        finally:
            with _REMOVING:
                if lent is not None:
                    take_back(lent, response)

    return send


def _lend(found: tuple[Headers, str] | None) -> tuple[Headers, dict[str, str]] | None:
    """Add what is missing; what was added, and to which headers."""
    if found is None:
        return None
    headers, host = found
    wanted = outgoing_headers(host)
    if not wanted or "traceparent" in headers:
        return None
    added = {name: value for name, value in wanted.items() if name not in headers}
    headers.update(added)
    return headers, added


def redirected(response: Any) -> Iterator[Headers]:
    """The headers of all requests that a response of httpx or requests knows, followed or yet to be sent."""
    for past in (response, *getattr(response, "history", ())):
        for name in ("request", "next_request", "_next"):
            request = getattr(past, name, None)
            if request is not None:
                yield request.headers
