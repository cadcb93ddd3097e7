"""The canary goes round in a running collector, with keys and without, and nobody else sees its spans."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from e2e.processes import Collector

KEY = "bootstrap-" + "x" * 30


def waited(collector: Collector, headers: dict[str, str]) -> dict[str, Any]:
    """The status once the canary has come back."""
    for _ in range(300):
        status = httpx.get(f"{collector.url}/api/v1/status", headers=headers, timeout=30).json()
        if status["canary"]["state"] != "waiting":
            return status
        time.sleep(0.1)
    raise AssertionError("no round of the canary")


@pytest.mark.slow
@pytest.mark.parametrize("environment", [{}, {"LIMELIGHT_BOOTSTRAP_KEY": KEY}])
def test_the_canary_comes_back_and_stays_in_its_project(tmp_path: Path, environment: dict[str, str]) -> None:
    collector = Collector(tmp_path / "data", LIMELIGHT_CANARY_INTERVAL_S="1", **environment)
    collector.start()
    headers = {"Authorization": f"Bearer {KEY}"}
    try:
        status = waited(collector, headers)
        assert status["canary"]["state"] == "ok"
        assert 0 < status["canary"]["delay_s"] < 30
        assert status["newest_span_time"] is None
        assert status["accounting"] == {}
        window = {"from": time.time() - 600}
        traces = httpx.get(f"{collector.url}/api/v1/traces", params=window, headers=headers, timeout=30)
        assert traces.json()["traces"] == []
        shown = httpx.get(f"{collector.url}/metrics", timeout=30).text
        assert 'limelight_canary_probes_total{outcome="ok"}' in shown
        assert 'limelight_ledger_items{signal="traces",state="stored"}' in shown
        assert "limelight_process_uptime " in shown
    finally:
        assert collector.stop() == 0


@pytest.mark.slow
def test_the_canary_can_be_turned_off(collector: Collector) -> None:
    assert collector.get("status")["canary"] == {"state": "off", "delay_s": None, "time": None}
