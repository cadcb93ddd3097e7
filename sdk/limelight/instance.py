"""The SDK as one object: `import limelight` binds the methods of one instance of it."""

from __future__ import annotations

import atexit
import contextlib
import os
import pathlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry.trace import TracerProvider

from limelight import call as calls
from limelight import config as configuration
from limelight import lifecycle, patch, semconv
from limelight.call import Recorder
from limelight.config import Config
from limelight.content import MAX_BYTES, Content
from limelight.guard import forget_warnings, quiet, warn_once
from limelight.metrics import Metrics
from limelight.redact import Redact
from limelight.values import number, word
from limelight.version import __version__

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace.id_generator import IdGenerator

    from limelight.export import Exporter, Posts


class Limelight:
    """Settings, exporter and patches of one process. No method raises; before `init` all of them do nothing."""

    def __init__(self) -> None:
        self._config: Config | None = None
        self._exporter: Exporter | None = None

    def init(
        self,
        *,
        endpoint: str | None = None,
        api_key: str | None = None,
        service_name: str | None = None,
        environment: str | None = None,
        capture: str | None = None,
        redact: Redact | None = None,
        sample_rate: float | None = None,
        providers: Sequence[str] | None = None,
        tracer_provider: TracerProvider | None = None,
        disabled: bool | None = None,
        request_stream_usage: bool | None = None,
        triton_tensors: Mapping[str, str | Sequence[str]] | None = None,
        http_hosts: Sequence[str] | str | None = None,
        propagate: str | None = None,
        baggage: bool | None = None,
        flush_timeout_s: float | None = None,
        queue_max_spans: int | None = None,
        queue_max_bytes: int | None = None,
        metrics: bool | None = None,
        metrics_interval_s: float | None = None,
    ) -> None:
        """Start observing: every known library that is or will be imported. Settings: `docs/sdk.md`.

        Called again, it replaces the settings and sends what the former ones had queued.
        """
        given = {name: value for name, value in locals().items() if name != "self"}
        with quiet("starting"):
            self.start(configuration.resolve(given, os.environ))

    def start(
        self,
        config: Config,
        *,
        sender: Callable[[], Posts] | None = None,
        ids: IdGenerator | None = None,
        wall_ns: Callable[[], int] = time.time_ns,
        monotonic_ns: Callable[[], int] = time.perf_counter_ns,
        content_ns: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        """`init` with the edges given: where bodies go, ids, clocks (`content_ns` limits how long a value may take)."""
        forget_warnings()
        self.shutdown()
        if config.disabled:
            return
        from limelight import export, processor  # the OpenTelemetry SDK is loaded by those who start it

        resource = _resource(config)
        metrics = Metrics() if config.metrics else None
        exporter = export.Exporter(
            sender or _http_sender(config),
            resource,
            max_items=config.queue_max_spans,
            max_bytes=config.queue_max_bytes,
            metrics=metrics,
            metrics_interval_s=config.metrics_interval_s,
        )
        provider: Any = config.tracer_provider or _private_provider(config, resource, ids)
        if hasattr(provider, "add_span_processor"):
            keep_errors = config.tracer_provider is None and config.sample_rate < 1
            provider.add_span_processor(processor.Processor(exporter, keep_errors=keep_errors, baggage=config.baggage))
        else:
            warn_once(
                "tracer_provider", "tracer_provider= cannot take a span processor: its spans are not sent from here"
            )
        tracer = provider.get_tracer(semconv.SCOPE_NAME, __version__)
        # with no content at all, error messages are the one place that may quote it
        content = Content(config.redact, is_redacted=config.capture != "full", clock_ns=content_ns)
        self._config, self._exporter = config, exporter
        recorder = Recorder(
            tracer,
            None if config.capture == "none" else content,
            config.request_stream_usage,
            wall_ns,
            monotonic_ns,
            metrics=metrics,
            error_text=content,
            triton_tensors=config.triton_tensors,
            http_hosts=config.http_hosts,
            propagate=config.propagate,
            baggage=config.baggage,
        )
        calls.install(recorder)
        patch.instrument(config.providers)
        lifecycle.at_exit(self.shutdown, self)

    def score(
        self,
        name: str,
        value: float | bool | str | None = None,
        *,
        label: str | None = None,
        explanation: str | None = None,
        trace_id: str | None = None,
        span_id: str | None = None,
    ) -> None:
        """Judge a span: the current one, else by hex ids (`span.trace_id`); a whole trace where only that is given.

        `value` is a number (a bool counts as 0 or 1) or a word, which becomes the label.
        """
        with quiet("scoring"):
            exporter = self._exporter
            if exporter is None:
                return
            from limelight.otlp import Score
            from limelight.processor import score_size

            ids = _judged(trace_id, span_id)
            if ids is None:
                warn_once("score", "score(%r): no span is current here and no valid trace_id is given", word(name))
                return
            label = word(label) or word(value)
            score = Score(word(name) or "score", _judgement(value), label, word(explanation), *ids, time.time_ns())
            exporter.put(score, score_size(score))

    def flush(self, timeout: float | None = None) -> bool:
        """Send everything ended so far; True if all of it arrived within `timeout` seconds (default: the setting).

        Blocks the caller for at most that long; in asynchronous code use `await limelight.aflush()`.
        """
        with quiet("flushing"):
            exporter, config = self._exporter, self._config
            if exporter is not None and config is not None:
                calls.reap()
                return exporter.flush(config.flush_timeout_s if timeout is None else timeout)
        return True

    async def aflush(self, timeout: float | None = None) -> bool:
        """`flush` without holding up the event loop: it waits in a thread."""
        import asyncio  # it is there where this runs

        return await asyncio.to_thread(self.flush, timeout)

    def on_sigterm(self) -> bool:
        """Send what there is before SIGTERM ends the process, which no exit handler survives.

        To be called in the main thread, before a server is started that takes SIGTERM for itself. The handler that was
        there is called after it; the default action still ends the process by the signal. False where it cannot be.
        """
        with quiet("waiting for SIGTERM"):
            return lifecycle.chain_sigterm(self.flush, self._leave)
        return False

    def _leave(self) -> None:
        calls.stop_all()
        self.flush()

    def shutdown(self, timeout: float | None = None) -> bool:
        """End open spans, send what is queued within `timeout` seconds (default: the setting) and switch off."""
        with quiet("shutting down"):
            exporter, config = self._exporter, self._config
            if exporter is None or config is None:
                return True
            calls.stop_all()
            calls.install(None)
            self._exporter = None
            atexit.unregister(self.shutdown)
            return exporter.close(config.flush_timeout_s if timeout is None else timeout)
        return False

    def uninstrument(self) -> None:
        """Give every library its own functions back; `span` and `observe` go on until `shutdown`."""
        with quiet("uninstrumenting"):
            patch.uninstrument()

    def counts(self) -> Mapping[str, int]:
        """Spans and scores of this process so far: `sent`, and lost ones by reason."""
        exporter = self._exporter
        return {} if exporter is None else {"sent": exporter.counts.sent, **exporter.counts.lost}


def _judgement(value: Any) -> float | None:
    """The number a score is: also of a library's own kind, such as NumPy's."""
    judged: float | None = None
    if value is not None and word(value) is None:
        with contextlib.suppress(Exception):
            judged = float(value)
    return number(judged)


def _judged(trace_id: str | None, span_id: str | None) -> tuple[int, int] | None:
    if trace_id is None and span_id is None:
        current = trace.get_current_span().get_span_context()
        return (current.trace_id, current.span_id) if current.is_valid else None
    try:
        trace_number, span_number = int(trace_id or "", 16), int(span_id or "0", 16)
    except ValueError:
        return None
    return (trace_number, span_number) if 0 < trace_number < 1 << 128 and 0 <= span_number < 1 << 64 else None


def _http_sender(config: Config) -> Callable[[], Posts]:
    from limelight.otlp import Sender

    return lambda: Sender(config.endpoint, config.api_key)


def _resource(config: Config) -> Resource:
    from opentelemetry.sdk.resources import Resource

    named = config.service_name or (
        None if "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "") else _program()
    )
    attributes = {
        semconv.SERVICE_NAME: named,
        semconv.DEPLOYMENT_ENVIRONMENT_NAME: config.environment,
        "telemetry.distro.name": "limelight",
        "telemetry.distro.version": __version__,
    }
    return Resource.create({name: value for name, value in attributes.items() if value is not None})


def _program() -> str:
    """The script's name; `python -m package` counts as its package."""
    path = pathlib.Path(sys.argv[0] if sys.argv else "")
    return path.parent.name if path.stem == "__main__" else path.stem or "python"


def _private_provider(config: Config, resource: Resource, ids: IdGenerator | None) -> TracerProvider:
    """A provider of our own: the global one stays free, and its limits, of none of our JSON, cannot cut that in two.

    The sampler looks at the trace id alone, whatever a foreign parent decided: a trace is sampled as a whole.
    """
    from opentelemetry.sdk.trace import SpanLimits
    from opentelemetry.sdk.trace import TracerProvider as SdkTracerProvider
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON

    from limelight.sampling import ByTraceId

    return SdkTracerProvider(
        sampler=ALWAYS_ON if config.sample_rate == 1 else ByTraceId(config.sample_rate),
        resource=resource,
        shutdown_on_exit=False,
        id_generator=ids,
        span_limits=SpanLimits(max_attribute_length=MAX_BYTES, max_span_attribute_length=MAX_BYTES),
    )
