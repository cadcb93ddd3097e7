"""`limelight doctor`: is the collector there, does the key work, do the versions fit, does a span make the round trip?

Uses the SDK's own configuration and exporter, so what it finds is what an instrumented program would meet. Standard
library only: it runs on the bare install.
"""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from typing import Any

import limelight
from limelight.version import __version__

ROUND_TRIP_S = 15


def run(flags: dict[str, Any]) -> int:
    """Print one line a check; 0 when all passed, 1 at the first that failed."""
    default = os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or "http://127.0.0.1:4318"
    endpoint = str(flags["endpoint"] or os.environ.get("LIMELIGHT_ENDPOINT") or default).rstrip("/")
    key = str(flags["api_key"] or os.environ.get("LIMELIGHT_API_KEY") or "")
    try:
        _check_alive(endpoint)
        _check_ready(endpoint)
        _check_key_and_version(endpoint, key)
        _check_round_trip(endpoint, key)
    except CheckFailed as failure:
        print(f"FAIL  {failure}")
        return 1
    return 0


class CheckFailed(Exception):
    """One check failed; the message says what to do."""


def _check_alive(endpoint: str) -> None:
    status, _ = _get(f"{endpoint}/healthz", "")
    if status != 200:
        raise CheckFailed(f"{endpoint}/healthz answered {status}: is this address a Limelight collector?")
    print(f"ok    {endpoint} answers")


def _check_ready(endpoint: str) -> None:
    status, body = _get(f"{endpoint}/readyz", "")
    if status != 200:
        raise CheckFailed(f"the collector is not ready: {body.decode(errors='replace')[:300]}")
    print("ok    the collector is ready to take data")


def _check_key_and_version(endpoint: str, key: str) -> None:
    status, body = _get(f"{endpoint}/api/v1/status", key)
    if status == 401:
        raise CheckFailed("the key is missing or unknown: set LIMELIGHT_API_KEY or pass --api-key")
    if status == 403:
        print("ok    the key works; it may only send, so the round trip is not read back")
        return
    if status != 200:
        raise CheckFailed(f"{endpoint}/api/v1/status answered {status}")
    answer = json.loads(body)
    print(f"ok    the key works: project {answer['project']}")
    server = str(answer["version"])
    if server.split(".")[:2] != __version__.split(".")[:2]:
        raise CheckFailed(f"this SDK is {__version__}, the collector {server}: use the same minor version")
    print(f"ok    version {server} on both sides")


def _check_round_trip(endpoint: str, key: str) -> None:
    limelight.init(endpoint=endpoint, api_key=key or None, service_name="limelight-doctor", providers=[])
    with limelight.span("doctor", kind="span") as span:
        trace_id = span.trace_id
    started = time.monotonic()
    if not limelight.flush(10):
        raise CheckFailed("the test span could not be sent; the warning above says why")
    while time.monotonic() - started < ROUND_TRIP_S:
        status, _ = _get(f"{endpoint}/api/v1/traces/{trace_id}", key)
        if status == 200:
            print(f"ok    a span made the round trip in {time.monotonic() - started:.1f} s")
            return
        if status == 403:
            print("ok    the test span was accepted")
            return
        time.sleep(0.1)
    raise CheckFailed(
        f"trace {trace_id} was accepted but cannot be read after {ROUND_TRIP_S} s: see the collector's log"
    )


def _get(url: str, key: str) -> tuple[int, bytes]:
    if not url.startswith(("http://", "https://")):
        raise CheckFailed(f"{url} is not an http address")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 (checked above)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 (checked above)
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise CheckFailed(f"nothing answers at {url} ({reason}): start it with `limelight up`") from None
