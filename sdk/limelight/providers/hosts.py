"""Who serves a base address: the one table of managed model APIs, for provider names and for trace propagation."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from limelight import semconv
from limelight.values import word

_MANAGED = {
    "api.openai.com": "openai",
    "openai.azure.com": "azure.ai.openai",
    "cognitiveservices.azure.com": "azure.ai.openai",
    "services.ai.azure.com": "azure.ai.inference",
    "inference.ai.azure.com": "azure.ai.inference",
    "api.anthropic.com": "anthropic",
    "generativelanguage.googleapis.com": "gcp.gemini",
    "aiplatform.googleapis.com": "gcp.vertex_ai",
    "api.cohere.com": "cohere",
    "api.cohere.ai": "cohere",
    "api.groq.com": "groq",
    "api.deepseek.com": "deepseek",
    "api.x.ai": "x_ai",
    "api.mistral.ai": "mistral_ai",
    "api.perplexity.ai": "perplexity",
    "openrouter.ai": "openrouter",
    "api.together.xyz": "together",
    "api.together.ai": "together",
    "api.fireworks.ai": "fireworks",
    "api.moonshot.ai": "moonshot_ai",
    "api.moonshot.cn": "moonshot_ai",
    "api.cerebras.ai": "cerebras",
    "api.deepinfra.com": "deepinfra",
    "router.huggingface.co": "huggingface",
    "ollama.com": "ollama",
}
"""Host, or the end of it after a dot -> the provider's name in the conventions."""
_OLLAMA_PORT = 11434


class Server(NamedTuple):
    """Where a request goes. What starts a provider's call takes one in place of the library's client."""

    host: str
    port: int | None


@functools.lru_cache(maxsize=256)
def managed(host: str) -> str | None:
    """The provider that runs a well-known API under `host`; None for a host of one's own."""
    for known, provider in _MANAGED.items():
        if host == known or host.endswith("." + known):
            return provider
    if host.endswith("-aiplatform.googleapis.com"):  # a region stands before the dash
        return "gcp.vertex_ai"
    if host.startswith("bedrock") and host.endswith((".amazonaws.com", ".api.aws")):
        return "aws.bedrock"
    return None


def provider_of(host: str, port: int | None, otherwise: str = "openai") -> str:
    """Who serves an address: by host, Ollama by its port, else `otherwise` (the protocol is all that is known)."""
    return managed(host) or ("ollama" if port == _OLLAMA_PORT else otherwise)


def server_of(client: Any) -> Server:
    """The address of a client with an `httpx`-like `base_url`; port None where it is the scheme's own."""
    if isinstance(client, Server):
        return client
    url = client.base_url
    return Server(str(url.host), url.port)


def of_address(address: Any, provider: str | None = None, otherwise: str = "openai") -> dict[str, Any]:
    """The attributes a base address given as text tells: provider (`provider` where that is known), host and port."""
    try:
        url = urlsplit(word(address) or "")
        host = url.hostname
        port = url.port or {"http": 80, "https": 443}.get(url.scheme) if host else None
    except ValueError:  # it is no address, as the library is about to find out
        host = port = None
    return {
        semconv.PROVIDER_NAME: provider or provider_of(host or "", port, otherwise),
        semconv.SERVER_ADDRESS: host,
        semconv.SERVER_PORT: port,
    }
