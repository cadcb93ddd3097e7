"""Every setting of the SDK, declared once: argument of `init` > `LIMELIGHT_*` > `OTEL_*` > default.

A bad value is one warning and the default: a wrong setting never stops the program.
"""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, cast

from limelight.guard import warn_once
from limelight.redact import Redact


class BadSetting(ValueError):
    """A value that a setting cannot take; the message says what it takes."""


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise BadSetting("a string")
    return value


def _flag(value: Any) -> bool:
    word = str(value).strip().lower()
    if word not in {"true", "1", "yes", "on", "false", "0", "no", "off", ""}:
        raise BadSetting("true or false")
    return word in {"true", "1", "yes", "on"}


def _number(low: float, high: float, kind: Callable[[Any], float] = float) -> Callable[[Any], float]:
    def parse(value: Any) -> float:
        try:
            number = kind(value)
        except (TypeError, ValueError):
            raise BadSetting(f"a number from {low:g} to {high:g}") from None
        if not low <= number <= high:
            raise BadSetting(f"a number from {low:g} to {high:g}")
        return number

    return parse


def _endpoint(value: Any) -> str:
    text = _text(value).strip().rstrip("/").removesuffix("/v1/traces")
    try:
        parts = urllib.parse.urlsplit(text)
        port_ok = parts.port != 0
    except ValueError:
        raise BadSetting("a URL such as http://127.0.0.1:4318") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or not port_ok:
        raise BadSetting("a URL such as http://127.0.0.1:4318")
    return text


def _capture(value: Any) -> str:
    if value not in {"full", "redacted", "none"}:
        raise BadSetting("'full', 'redacted' or 'none'")
    return str(value)


def _names(value: Any) -> tuple[str, ...]:
    names: Sequence[Any] = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, (list, tuple, set, frozenset)):  # pyright: ignore[reportUnnecessaryIsInstance]  a user's value
        raise BadSetting("a list of names")
    return tuple(str(name).strip() for name in names if str(name).strip())


def _hosts(value: Any) -> tuple[str, ...]:
    names = _names(value)
    return () if names == ("none",) else tuple(name.lower() for name in names)


def _propagate(value: Any) -> str:
    if value not in ("auto", "all", "none"):
        raise BadSetting("'auto', 'all' or 'none'")
    return str(value)


def _callable(value: Any) -> Any:
    if not callable(value):
        raise BadSetting("a function from str to str")
    return value


def _tensors(value: Any) -> tuple[tuple[str, tuple[str, ...]], ...]:
    wanted = 'names by field, such as {"output_text": "answer"}, in the environment as JSON'
    try:
        given: Any = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        raise BadSetting(wanted) from None
    if not isinstance(given, Mapping):
        raise BadSetting(wanted)
    return tuple((str(field), _names(names)) for field, names in cast("Mapping[Any, Any]", given).items())


def _anything(value: Any) -> Any:
    return value


def _setting(default: Any, parse: Callable[[Any], Any], doc: str, *env: str) -> Any:
    return field(default=default, metadata={"parse": parse, "doc": doc, "env": env})


@dataclass(frozen=True, slots=True)
class Config:
    """The settings in force (docs/sdk.md). Each field's metadata holds its parser, sentence and variables."""

    endpoint: str = _setting(
        "http://127.0.0.1:4318",
        _endpoint,
        "Base address of the collector; /v1/traces, /v1/logs and /v1/metrics are appended.",
        "LIMELIGHT_ENDPOINT",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
    )
    api_key: str | None = _setting(
        None, _text, "Key of the project, sent as `Authorization: Bearer <key>`.", "LIMELIGHT_API_KEY"
    )
    service_name: str | None = _setting(
        None, _text, "Name of this program; default: the script's name.", "LIMELIGHT_SERVICE_NAME", "OTEL_SERVICE_NAME"
    )
    environment: str | None = _setting(
        None, _text, "Deployment environment, such as production.", "LIMELIGHT_ENVIRONMENT"
    )
    capture: str = _setting(
        "full", _capture, "Prompts, answers and tool values: `full`, `redacted` or `none`.", "LIMELIGHT_CAPTURE"
    )
    redact: Redact | None = _setting(  # noqa: RUF009  _setting is dataclasses.field
        None, _callable, "Function from str to str that every captured string passes before it is queued."
    )
    sample_rate: float = _setting(
        1.0,
        _number(0, 1),
        "Share of traces kept, 0 to 1, by trace id; errors are kept besides.",
        "LIMELIGHT_SAMPLE_RATE",
    )
    providers: tuple[str, ...] | None = _setting(
        None, _names, "Libraries to instrument; default: all that are known.", "LIMELIGHT_PROVIDERS"
    )
    tracer_provider: Any = _setting(  # noqa: RUF009  the same
        None, _anything, "An OpenTelemetry TracerProvider to join; default: a private one."
    )
    disabled: bool = _setting(False, _flag, "Switch everything off.", "LIMELIGHT_DISABLED", "OTEL_SDK_DISABLED")
    request_stream_usage: bool = _setting(
        True,
        _flag,
        "Ask OpenAI-compatible servers for token counts on streams; the extra chunk is hidden.",
        "LIMELIGHT_REQUEST_STREAM_USAGE",
    )
    http_hosts: tuple[str, ...] | None = _setting(
        None,
        _hosts,
        "Hosts whose plain HTTP calls are traced where they look like a model API; default: any; `none`: no host.",
        "LIMELIGHT_HTTP_HOSTS",
    )
    baggage: bool = _setting(
        False,
        _flag,
        "Send session, user, tags and prompt as W3C baggage with the trace, and take them from requests served.",
        "LIMELIGHT_BAGGAGE",
    )
    propagate: str = _setting(
        "auto",
        _propagate,
        "Trace context in outgoing requests: `auto` (model calls to hosts of your own), `all`, `none`.",
        "LIMELIGHT_PROPAGATE",
    )
    triton_tensors: tuple[tuple[str, tuple[str, ...]], ...] = _setting(
        (),
        _tensors,
        "Names of tensors of your Triton models, by field (docs/providers/triton.md).",
        "LIMELIGHT_TRITON_TENSORS",
    )
    flush_timeout_s: float = _setting(
        5.0, _number(0, 3600), "Longest wait at exit, in seconds; 0 = do not wait.", "LIMELIGHT_FLUSH_TIMEOUT_S"
    )
    queue_max_spans: int = _setting(
        10_000,
        _number(1, 10**7, int),
        "Most spans waiting to be sent; more are dropped and counted.",
        "LIMELIGHT_QUEUE_MAX_SPANS",
    )
    queue_max_bytes: int = _setting(
        64 * 2**20, _number(2**10, 2**40, int), "Most bytes waiting to be sent, about.", "LIMELIGHT_QUEUE_MAX_BYTES"
    )
    metrics: bool = _setting(True, _flag, "Count model calls, sampled or not, as OTLP metrics.", "LIMELIGHT_METRICS")
    metrics_interval_s: float = _setting(
        60.0, _number(0.1, 86_400), "Seconds between two reports of metrics.", "LIMELIGHT_METRICS_INTERVAL_S"
    )


def resolve(given: Mapping[str, Any], environ: Mapping[str, str]) -> Config:
    """The configuration from `init`'s arguments (None = unset) and the environment; never raises."""
    values: dict[str, Any] = {}
    for setting in fields(Config):
        for origin, value in _candidates(setting.name, setting.metadata["env"], given, environ):
            try:
                values[setting.name] = setting.metadata["parse"](value)
                break
            except BadSetting as error:
                shown = "this value" if setting.name == "api_key" else repr(value)[:80]
                warn_once(f"setting {origin}", "%s must be %s; %s is ignored", origin, error, shown)
    return Config(**values)


def _candidates(
    name: str, variables: Sequence[str], given: Mapping[str, Any], environ: Mapping[str, str]
) -> list[tuple[str, Any]]:
    found = [(f"init({name}=)", given[name])] if given.get(name) is not None else []
    return found + [(variable, environ[variable]) for variable in variables if environ.get(variable)]
