"""The main job, whole: a real model, two lines, a durable store, a person who reads the answer in a browser."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import time
import urllib.parse
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect, sync_playwright

from e2e.processes import Collector, free_port

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(300)]

QUESTION = "Where is my order 88213? <b>bold</b> ![beacon](http://127.0.0.1:9/x.png)"
APPLICATION = textwrap.dedent(
    """
    import json, sys
    import openai
    import limelight
    limelight.init(endpoint=sys.argv[1], service_name="shop", environment="test")

    client = openai.OpenAI(base_url=sys.argv[2], api_key="local", max_retries=0)
    messages = [{"role": "system", "content": "Answer briefly."}, {"role": "user", "content": sys.argv[3]}]
    # ignore_eos: llama.cpp goes on to max_tokens, so that the finish reason is known beforehand
    asked = dict(model="smollm2-135m", messages=messages, max_tokens=12, temperature=0, extra_body={"ignore_eos": True})
    usage = []
    with limelight.context(session_id="chat-1", user_id="ada"), limelight.span("support", kind="agent") as step:
        answer = client.chat.completions.create(**asked)
        usage.append(answer.usage.model_dump())
        for chunk in client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}):
            if chunk.usage:
                usage.append(chunk.usage.model_dump())
        try:
            client.chat.completions.create(model="nobody", messages=messages)
        except openai.NotFoundError:
            pass
        limelight.score("helpful", 0.5)
    print(json.dumps({"trace_id": step.trace_id, "usage": usage, "answer": answer.choices[0].message.content}))
    """
)


@pytest.fixture(scope="module")
def model() -> Iterator[str]:
    """Base URL of a real model."""
    port = free_port()
    command = [sys.executable, "-m", "limelight.demo.model_server", "--port", str(port), "--exit-with-parent"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(300):
        assert process.poll() is None, "the model server ended"
        try:
            httpx.get(f"http://127.0.0.1:{port}/health", timeout=2)
            break
        except httpx.HTTPError:
            time.sleep(0.2)
    yield f"http://127.0.0.1:{port}/v1"
    assert process.stdin is not None
    process.stdin.close()
    process.wait(20)


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    running = Collector(tmp_path_factory.mktemp("main") / "data", "up")
    running.start()
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="module")
def told(product: Collector, model: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the application itself saw: its trace, the server's usage, the answer."""
    program = tmp_path_factory.mktemp("application") / "shop.py"
    program.write_text(APPLICATION)
    done = subprocess.run(
        [sys.executable, str(program), product.url, model, QUESTION], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def spans(product: Collector, told: dict[str, Any]) -> list[dict[str, Any]]:
    product.wait_for_traces(1, filter=f'trace_id = "{told["trace_id"]}"')
    found = product.get(f"traces/{told['trace_id']}")["spans"]
    return sorted(found, key=lambda span: span["start_time"])


def test_every_call_is_stored_with_the_servers_own_counts(
    spans: list[dict[str, Any]], told: dict[str, Any], product: Collector
) -> None:
    agent, plain, streamed, failed = spans
    assert (agent["observation_type"], agent["parent_span_id"], agent["agent_name"]) == ("agent", None, "support")
    assert [span["parent_span_id"] for span in (plain, streamed, failed)] == [agent["span_id"]] * 3
    for span, usage in zip((plain, streamed), told["usage"], strict=True):
        assert span["input_tokens"] == usage["prompt_tokens"]
        assert span["output_tokens"] == usage["completion_tokens"]
        assert span["cache_read_tokens"] == usage["prompt_tokens_details"]["cached_tokens"]
        assert (span["session_id"], span["user_id"], span["cost_state"]) == ("chat-1", "ada", "unpriced")
        assert span["cost_usd"] is None
    assert (plain["is_stream"] or False, streamed["is_stream"]) == (False, True)
    assert plain["ttft_s"] is None
    assert 0 < streamed["ttft_s"] < streamed["duration_ns"] / 1e9
    assert plain["prefill_s"] > 0
    assert plain["output_messages"][0]["parts"] == [{"type": "text", "content": told["answer"]}]
    assert plain["input_messages"][-1] == {"role": "user", "parts": [{"type": "text", "content": QUESTION}]}
    assert plain["finish_reasons"] == ["length"]
    assert [flag["code"] for flag in plain["flags"]] == ["truncated"]
    assert (failed["status"], failed["error_type"]) == ("error", "openai.NotFoundError")
    assert [(score["name"], score["value"]) for score in agent["scores"]] == [("helpful", 0.5)]
    row = product.get("series", measure="request_count,error_count,unpriced_count", filter='service_name = "shop"')
    assert row["rows"] == [{"request_count": 3, "error_count": 1, "unpriced_count": 2}]


def test_a_person_finds_the_message_in_the_browser(
    product: Collector, spans: list[dict[str, Any]], told: dict[str, Any]
) -> None:
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--disable-background-networking"]
        chromium = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=flags)
        page = chromium.new_page(viewport={"width": 1440, "height": 900}, color_scheme="light", timezone_id="UTC")
        wrong: list[str] = []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda asked: wrong.append(asked.url) if ":9/" in asked.url else None)
        page.set_default_timeout(60_000)
        expect.set_options(timeout=60_000)
        walk(page, f"http://127.0.0.1:{product.dashboard_port}", told)
        assert page.locator('[data-testid="stException"]').count() == 0
        chromium.close()
    assert wrong == []


def walk(page: Page, dashboard: str, told: dict[str, Any]) -> None:
    """Overview -> traces -> the trace -> its messages."""
    page.goto(dashboard)
    expect(page.get_by_text("Error rate", exact=True).first).to_be_visible()
    page.get_by_role("link", name="Traces").click()
    table = page.get_by_test_id("stDataFrame")
    expect(table).to_be_visible()
    box = table.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + 60, box["y"] + 36 + 17)  # the first row: tables are drawn on a canvas
    page.wait_for_url(f"**trace_id={told['trace_id']}**")
    page.get_by_role("radio", name="Messages").click()
    question = page.locator("code", has_text="Where is my order 88213?").first
    expect(question).to_contain_text("<b>bold</b>")
    expect(page.locator("code", has_text=told["answer"].strip()[:30]).first).to_be_visible()
    assert "view=" in urllib.parse.urlsplit(page.url).query
