"""Vocabulary: the words dialects use for kinds, operations, providers and finish reasons, and the ones we keep.

Data only. Sources: the GenAI conventions for our words, docs/dialects.md for who says what.
"""

from __future__ import annotations

KINDS = {
    "llm": "llm",
    "generation": "llm",
    "chat": "llm",
    "chat_model": "llm",
    "completion": "llm",
    "embedding": "embedding",
    "retriever": "retrieval",
    "retrieval": "retrieval",
    "reranker": "rerank",
    "rerank": "rerank",
    "tool": "tool",
    "agent": "agent",
    "workflow": "workflow",
    "chain": "chain",
    "task": "chain",
    "prompt": "chain",
    "parser": "chain",
    "guardrail": "guardrail",
    "evaluator": "evaluator",
    "memory": "memory",
    "span": "span",
    "event": "span",
}
"""Kind names of the dialects and of `limelight.kind` -> observation_type; others say nothing."""

OPERATIONS = {
    "chat": "llm",
    "text_completion": "llm",
    "chat.completions": "llm",
    "text.completions": "llm",
    "generate_content": "llm",
    "completion": "llm",
    "responses": "llm",
    "message": "llm",
    "messages": "llm",
    "embeddings": "embedding",
    "embedding": "embedding",
    "retrieval": "retrieval",
    "rerank": "rerank",
    "execute_tool": "tool",
    "create_agent": "agent",
    "invoke_agent": "agent",
    "agent_step": "agent",
    "invoke_workflow": "workflow",
    "plan": "chain",
    "fetch_response": "chain",
    "retriever": "retrieval",
}
"""`gen_ai.operation.name` -> observation_type; `…_memory` and `…_memory_store` are memory."""

TYPE_OPERATIONS = {
    "llm": "chat",
    "embedding": "embeddings",
    "retrieval": "retrieval",
    "rerank": "rerank",
    "tool": "execute_tool",
    "agent": "invoke_agent",
    "workflow": "invoke_workflow",
}
"""observation_type -> the operation of a span whose dialect names none."""

OPERATION_NAMES = {
    "embedding": "embeddings",
    "completion": "text_completion",
    "chat.completions": "chat",
    "text.completions": "text_completion",
    "RETRIEVER": "retrieval",  # MLflow: types of spans
    "UNKNOWN": "",
}
"""Operations in others' words -> the conventions'."""

VERCEL_OPERATIONS = {
    "doGenerate": "llm",
    "doStream": "llm",
    "doEmbed": "embedding",
    "doRerank": "rerank",
    "toolCall": "tool",
}
"""Last part of `ai.operationId` -> observation_type; the outer spans around them are chains that carry sums."""

FINISH_REASONS = {
    "tool_calls": "tool_call",
    "tool_use": "tool_call",
    "function_call": "tool_call",
    "tool": "tool_call",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "completed": "stop",
    "complete": "stop",
    "finish": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "max_tokens": "length",
    "max_output_tokens": "length",
    "max_length": "length",
    "model_length": "length",
    "model_context_window_exceeded": "length",
    "incomplete": "length",
    "content_filtered": "content_filter",
    "guardrail_intervened": "content_filter",
    "safety": "content_filter",
    "image_safety": "content_filter",
    "prohibited_content": "content_filter",
    "blocklist": "content_filter",
    "spii": "content_filter",
    "recitation": "content_filter",
    "refusal": "content_filter",
    "error_toxic": "content_filter",
    "malformed_function_call": "error",
    "failed": "error",
}
"""Finish reasons, lower-case with underscores -> the conventions' word; others stay."""

PROVIDERS = {
    "azure": "azure.ai.openai",
    "az.ai.openai": "azure.ai.openai",
    "azure_openai": "azure.ai.openai",
    "az.ai.inference": "azure.ai.inference",
    "azure_ai_inference": "azure.ai.inference",
    "gemini": "gcp.gemini",
    "google": "gcp.gen_ai",
    "google_genai": "gcp.gemini",
    "google_generativeai": "gcp.gemini",
    "google.generative-ai": "gcp.gemini",
    "vertex_ai": "gcp.vertex_ai",
    "google-vertex": "gcp.vertex_ai",
    "google.vertex": "gcp.vertex_ai",
    "google_vertexai": "gcp.vertex_ai",
    "vertexai": "gcp.vertex_ai",
    "xai": "x_ai",
    "x-ai": "x_ai",
    "mistralai": "mistral_ai",
    "mistral": "mistral_ai",
    "bedrock": "aws.bedrock",
    "aws": "aws.bedrock",
    "amazon-bedrock": "aws.bedrock",
    "amazon_bedrock": "aws.bedrock",
    "aws_bedrock": "aws.bedrock",
    "bedrock_converse": "aws.bedrock",
    "moonshot": "moonshot_ai",
    "moonshotai": "moonshot_ai",
    "watsonx": "ibm.watsonx.ai",
    "together_ai": "together",
    "togetherai": "together",
    "fireworks_ai": "fireworks",
    "hosted_vllm": "vllm",
}
"""Provider names seen in the wild, lower-case -> the convention's (or ours, for engines)."""

FRAMEWORKS = frozenset({"microsoft.agent_framework", "langchain", "langgraph", "llamaindex", "pydantic_ai", "crewai"})
"""Programs that name themselves as provider: kept, but nobody sells tokens under these names."""

SCOPE_PROVIDERS = (
    ("com.anthropic.sdk.", "anthropic"),
    ("triton-server", "triton"),
    ("sglang server", "sglang"),
)
"""Instrumentation scopes whose spans come from one provider alone."""

HOSTS = {
    "api.openai.com": "openai",
    "api.anthropic.com": "anthropic",
    "generativelanguage.googleapis.com": "gcp.gemini",
    "api.mistral.ai": "mistral_ai",
    "api.groq.com": "groq",
    "api.deepseek.com": "deepseek",
    "api.x.ai": "x_ai",
    "api.cohere.com": "cohere",
    "openrouter.ai": "openrouter",
    "api.perplexity.ai": "perplexity",
    "api.together.xyz": "together",
    "api.fireworks.ai": "fireworks",
    "api.moonshot.ai": "moonshot_ai",
}
"""Servers that tell the provider where no attribute does."""

MODEL_PREFIXES = (
    ("gpt-3.5", "openai"),
    ("gpt-4", "openai"),
    ("gpt-5", "openai"),
    ("text-embedding-3", "openai"),
    ("text-embedding-ada", "openai"),
    ("claude-", "anthropic"),
    ("gemini-", "gcp.gemini"),
)
"""Models only one provider sells; used where neither an attribute nor the server's address says who answered."""

ENGINE_SCOPES = frozenset({"triton-server", "sglang server"})
"""Scopes of model servers; vLLM's has a name of its own in each module, but its span is `llm_request`."""

TOLD_AT_THE_END = frozenset({"logfire.openai", "logfire.anthropic"})
"""Scopes that tell of a streamed call in two spans: one when it is asked, one when the stream has ended."""

UNCACHED_INPUT_SCOPES = ("openlit.instrumentation.", "openlit.otel.", "agent_framework")
"""Scopes that count Anthropic's input without its cache tokens (measured: OpenLIT 1.45, MS Agent Framework 1.23)."""
