"""`limelight demo` as a user runs it: a real model, stored tokens equal to the model server's own counts, an alert."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from e2e.processes import LIMELIGHT, free_port


@pytest.mark.backend
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_demo_counts_what_the_server_counted_and_its_alert_fires_and_resolves(tmp_path: Path) -> None:
    ports = {name: str(free_port()) for name in ("--http-port", "--grpc-port", "--dashboard-port")}
    flags = [word for pair in ports.items() for word in pair]
    done = subprocess.run(
        [*LIMELIGHT, "demo", "--once", "--conversations", "9", "--data-dir", str(tmp_path / "data"), *flags],
        capture_output=True,
        text=True,
        timeout=500,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stderr + (tmp_path / "data" / "demo-up.log").read_text()
    counts = re.findall(r"^(\w+_tokens) +(\d+) +(\d+)  (\w+)$", done.stdout, re.MULTILINE)
    assert [name for name, *_ in counts] == ["input_tokens", "cache_read_tokens", "output_tokens"]
    for name, ours, theirs, verdict in counts:
        assert (ours, verdict) == (theirs, "equal"), name
        assert int(ours) > 0, name
    assert "NotFoundError" in done.stdout
    assert "BadRequestError" in done.stdout
    assert "APITimeoutError" in done.stdout
    assert re.findall(r"Webhook received: demo-error-rate (\w+)", done.stdout) == ["firing", "resolved"]
    stored = dict(re.findall(r"(\w+) ([\d.]+)", re.search(r"^Stored: (.*)$", done.stdout, re.MULTILINE)[1]))  # type: ignore[index]
    assert int(stored["flag_count"]) > 0
    assert float(stored["cost_usd"]) > 0
