"""LiteLLM against the llmock peer: `python litellm_calls.py http://peer`, run by the Python of `.cache/litellm`.

Prints one line of JSON: for each use what LiteLLM reported (or the error it raised) and the spans it left.
"""

import asyncio
import json
import os
import sys
import urllib.request

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm

from limelight import guard
from limelight.testing import recording

BASE = sys.argv[1]
MESSAGES = [{"role": "user", "content": "Name a colour."}]
USAGE = {"stream_options": {"include_usage": True}}
MODELS = {
    "openai": ("openai/gpt-4o", f"{BASE}/v1"),
    "anthropic": ("anthropic/claude-sonnet-4-5", f"{BASE}/anthropic"),
    "gemini": ("gemini/gemini-2.5-flash", f"{BASE}/gemini/v1beta"),
    "mistral": ("mistral/mistral-large-latest", f"{BASE}/mistral/v1"),
}


def script(**behavior: object) -> None:
    body = json.dumps({"behaviors": [behavior]}).encode()
    with urllib.request.urlopen(urllib.request.Request(f"{BASE}/_llmock/scenario", body)) as answer:
        answer.read()


def counts(usage: object) -> list:
    return [usage.prompt_tokens, usage.completion_tokens]


def keys(name: str) -> dict:
    model, address = MODELS[name]
    return {"model": model, "messages": MESSAGES, "api_base": address, "api_key": "k", "max_retries": 0}


def plain(name: str) -> list:
    return counts(litellm.completion(**keys(name)).usage)


def streamed(name: str) -> list:
    chunks = list(litellm.completion(**keys(name), stream=True, **USAGE))
    return counts(next(chunk.usage for chunk in reversed(chunks) if getattr(chunk, "usage", None)))


def asynchronous(name: str) -> list:
    return counts(asyncio.run(litellm.acompletion(**keys(name))).usage)


def embedded(name: str) -> list:
    answer = litellm.embedding("openai/text-embedding-3-small", ["a colour"], api_base=MODELS[name][1], api_key="k")
    return [answer.usage.prompt_tokens, None]


def refused(name: str) -> list:
    script(type="fail", status=429)
    return plain(name)


def cut(name: str) -> list:
    script(type="stream_fault", kind="disconnect", after_chunks=2)
    return streamed(name)


def use(run: object, name: str) -> dict:
    with recording() as recorded:
        try:
            said = {"counts": run(name)}
        except Exception as error:
            said = {"error": type(error).__name__}
        left = [[span.name, span.status, span.attributes] for span in recorded.spans()]
    return {"use": f"{run.__name__} {name}", **said, "spans": left}


litellm.suppress_debug_info = True
uses = [use(run, name) for name in ("openai", "anthropic", "mistral") for run in (plain, streamed, asynchronous)]
uses += [use(run, "gemini") for run in (plain, asynchronous)]
uses += [use(run, "openai") for run in (embedded, refused, cut)]
print(json.dumps({"uses": uses, "swallowed": guard.SWALLOWED}))
