"""LiteLLM's names of providers, and how it takes a model's name apart."""

from __future__ import annotations

import sys
from typing import Any

from limelight.values import field, word

_PROVIDERS = {
    "azure": "azure.ai.openai",
    "azure_text": "azure.ai.openai",
    "azure_ai": "azure.ai.inference",
    "bedrock": "aws.bedrock",
    "bedrock_converse": "aws.bedrock",
    "bedrock_mantle": "aws.bedrock",
    "sagemaker": "aws.sagemaker",
    "sagemaker_chat": "aws.sagemaker",
    "vertex_ai_beta": "gcp.vertex_ai",
    "gemini": "gcp.gemini",
    "cohere_chat": "cohere",
    "mistral": "mistral_ai",
    "codestral": "mistral_ai",
    "text-completion-codestral": "mistral_ai",
    "xai": "x_ai",
    "moonshot": "moonshot_ai",
    "watsonx": "ibm.watsonx.ai",
    "watsonx_text": "ibm.watsonx.ai",
    "ollama_chat": "ollama",
    "hosted_vllm": "vllm",
    "together_ai": "together",
    "fireworks_ai": "fireworks",
    "anthropic_text": "anthropic",
    "text-completion-openai": "openai",
    "custom_openai": "openai",
    "openai_like": "openai",
    "aiohttp_openai": "openai",
}
"""LiteLLM's name -> the name in the conventions; others are the same in both."""
_FAMILIES = (("vertex_ai", "gcp.vertex_ai"), ("fireworks_ai", "fireworks"), ("cohere", "cohere"))
"""The beginning of the names LiteLLM's price list has for parts of a provider: `vertex_ai-anthropic_models`."""
_NOBODY = "cached_response"


def provider(name: Any) -> str | None:
    """A provider in the words of the conventions; None for no name and for LiteLLM's own cache."""
    known = word(getattr(name, "value", name))
    if not known or known == _NOBODY:
        return None
    family = next((ours for beginning, ours in _FAMILIES if known.startswith(beginning)), known)
    return _PROVIDERS.get(known, family)


def resolve(model: str | None, given: str | None) -> tuple[str | None, str | None]:
    """(provider, model without its prefix), by LiteLLM's tables alone: its own resolution may ask for secrets."""
    litellm = sys.modules.get("litellm")
    if model is None or litellm is None:
        return provider(given), model
    prefix, _, rest = model.partition("/")
    if rest and prefix in getattr(litellm, "provider_list", ()):
        return provider(given or prefix), rest
    priced = field(field(getattr(litellm, "model_cost", None), model), "litellm_provider")
    return provider(given or priced), model
