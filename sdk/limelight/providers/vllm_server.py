"""vLLM's OpenAI-compatible server, as its answers show it: who serves, and how long the engine took.

An address does not tell. Answers do: the fingerprint (`vllm-0.32.0-1a2b3c4d`), `kv_transfer_params` in every whole
chat answer, the id of an embedding. Nothing is asked for this. What was recognised once is known for later requests for
the same model at the same address, so that failed and cut ones are counted under the same provider.
"""

from __future__ import annotations

from typing import Any

from limelight import semconv
from limelight.call import Call
from limelight.values import field, model_extra, number, reader, word

_MAX_KNOWN = 256
_known: dict[tuple[Any, Any, Any], None] = {}
"""(host, port, model) that answered as vLLM does, the oldest first."""
_MILLISECONDS = (
    # from scheduling to the first token, despite its name: the queue is not in it
    ("time_to_first_token_ms", semconv.LATENCY_TIME_IN_PREFILL),
    ("generation_time_ms", semconv.LATENCY_TIME_IN_DECODE),
    ("queue_time_ms", semconv.LATENCY_TIME_IN_QUEUE),
)


def is_known(host: Any, port: Any, model: Any) -> bool:
    """Whether this model at this address was recognised before."""
    return (host, port, model) in _known


def recognise(call: Call, answer: Any) -> None:
    """Name vLLM as the provider where the answer shows it and the address says nothing else."""
    request = call.request
    if request is None or request.get(semconv.PROVIDER_NAME) != "openai":
        return
    host = request.get(semconv.SERVER_ADDRESS)
    if (word(host) or "").endswith("openai.com") or not _is_its(answer):
        return
    call.set(semconv.PROVIDER_NAME, "vllm")
    call.request = {**request, semconv.PROVIDER_NAME: "vllm"}
    if len(_known) >= _MAX_KNOWN:
        _known.pop(next(iter(_known)), None)
    _known[host, request.get(semconv.SERVER_PORT), request.get(semconv.REQUEST_MODEL)] = None


def _is_its(answer: Any) -> bool:
    told = reader(answer)
    fingerprint = word(told("system_fingerprint")) or ""
    is_embedding = (word(told("id")) or "").startswith("embd-")
    return fingerprint.startswith("vllm-") or is_embedding or _has(answer, "kv_transfer_params")


def _has(answer: Any, name: str) -> bool:
    """Whether an answer has a field, be it null."""
    extra = answer if type(answer) is dict else model_extra(answer)
    return extra is not None and name in extra


def read_metrics(call: Call, metrics: Any) -> None:
    """The engine's times of a request, in seconds (`--enable-per-request-metrics`)."""
    if metrics is None:
        return
    for name, attribute in _MILLISECONDS:
        value = number(field(metrics, name))
        call.set(attribute, None if value is None else value / 1000)
