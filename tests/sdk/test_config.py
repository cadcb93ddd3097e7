"""Settings: which source wins, and that a bad one is a warning and the default."""

from __future__ import annotations

import inspect
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

import limelight
from limelight.config import Config, resolve


def test_argument_beats_limelight_beats_otel_beats_default() -> None:
    environ = {"LIMELIGHT_ENDPOINT": "http://b:1", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:1/"}
    assert resolve({"endpoint": "http://a:1"}, environ).endpoint == "http://a:1"
    assert resolve({"endpoint": None}, environ).endpoint == "http://b:1"
    del environ["LIMELIGHT_ENDPOINT"]
    assert resolve({}, environ).endpoint == "http://c:1"
    assert resolve({}, {}) == Config()


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("endpoint", "127.0.0.1:4318"),
        ("endpoint", "http://h:99999"),
        ("sample_rate", "lots"),
        ("sample_rate", 1.5),
        ("capture", "some"),
        ("metrics", "perhaps"),
        ("metrics_interval_s", 0),
        ("baggage", "some"),
        ("providers", 7),
        ("redact", "x"),
        ("flush_timeout_s", -1),
        ("queue_max_spans", 0),
        ("disabled", "maybe"),
        ("api_key", 12),
        ("triton_tensors", "text"),
        ("propagate", "maybe"),
        ("propagate", ["auto"]),
        ("http_hosts", 7),
        ("triton_tensors", {"output_text": 7}),
    ],
)
def test_a_bad_setting_is_one_warning_and_the_default(name: str, bad: Any, caplog: pytest.LogCaptureFixture) -> None:
    from limelight.guard import forget_warnings

    forget_warnings()
    assert resolve({name: bad}, {}) == Config()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert name in caplog.text


def test_a_bad_key_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    resolve({"api_key": 1234567}, {})
    assert "1234567" not in caplog.text


def test_lists_and_flags_from_the_environment() -> None:
    config = resolve({}, {"LIMELIGHT_PROVIDERS": "openai, ollama", "LIMELIGHT_DISABLED": "1"})
    assert config.providers == ("openai", "ollama")
    assert config.disabled


def test_tensor_names_as_a_mapping_or_as_json() -> None:
    given = {"output_text": "answer", "input_text": ["question", "ask"]}
    expected = (("output_text", ("answer",)), ("input_text", ("question", "ask")))
    assert resolve({"triton_tensors": given}, {}).triton_tensors == expected
    assert resolve({}, {"LIMELIGHT_TRITON_TENSORS": json.dumps(given)}).triton_tensors == expected


def test_the_documentation_lists_every_setting() -> None:
    text = (Path(__file__).parents[2] / "docs" / "sdk.md").read_text()
    for setting in fields(Config):
        assert f"`{setting.name}`" in text
        for variable in setting.metadata["env"]:
            assert variable in text


def test_every_mode_of_capture() -> None:
    assert [resolve({}, {"LIMELIGHT_CAPTURE": mode}).capture for mode in ("full", "redacted", "none")] == [
        "full",
        "redacted",
        "none",
    ]


def test_init_takes_every_setting() -> None:
    taken = set(inspect.signature(limelight.init).parameters)
    assert taken == {setting.name for setting in fields(Config)}
