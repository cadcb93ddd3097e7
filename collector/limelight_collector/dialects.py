"""Dialects as data: which attribute of which convention feeds which column, best source first.

A table row is a column and its sources in order; the first that holds a usable value wins. Names under `limelight.` are
ours, the rest is documented in docs/dialects.md. A new dialect is new strings in these tables.
"""

from __future__ import annotations

from limelight import semconv as s

_G = "gen_ai."
_U = "gen_ai.usage."
_T = "llm.token_count."
_A = "traceloop.association.properties."
_V = "ai.telemetry.metadata."

ALIASES: dict[str, tuple[str, ...]] = {
    "operation": (s.OPERATION_NAME,),
    "provider": (s.PROVIDER_NAME, "llm.provider", _G + "system", "llm.system", "ai.model.provider"),
    "request_model": (s.REQUEST_MODEL, "ai.model.id", "llm.request.model_name", "embedding.model_name"),
    "response_model": (s.RESPONSE_MODEL, "ai.response.model", "llm.response.model_name", "llm.model_name"),
    "model_version": ("triton.model_version", "gen_ai.response.model_version"),
    "response_id": (s.RESPONSE_ID, "ai.response.id"),
    "service_tier": (
        s.OPENAI_RESPONSE_SERVICE_TIER,
        _G + "openai.response.service_tier",
        _G + "openai.request.service_tier",
        "anthropic.response.service_tier",
    ),
    "request_temperature": (s.REQUEST_TEMPERATURE,),
    "request_top_p": (s.REQUEST_TOP_P,),
    "request_max_tokens": (s.REQUEST_MAX_TOKENS,),
    "request_seed": (s.REQUEST_SEED, _G + "openai.request.seed"),
    "is_stream": (s.REQUEST_STREAM, _G + "is_streaming", "llm.is_streaming"),
    "finish_reasons": (
        s.RESPONSE_FINISH_REASONS,
        _G + "response.finish_reason",
        "llm.finish_reason",
        "ai.response.finishReason",
        "anthropic.message.stop_reason",
    ),
    # tokens
    "input_tokens": (
        s.USAGE_INPUT_TOKENS,
        _U + "prompt_tokens",
        _T + "prompt",
        "ai.usage.inputTokens",
        "ai.usage.tokens",
        "ai.usage.promptTokens",
    ),
    "output_tokens": (
        s.USAGE_OUTPUT_TOKENS,
        _U + "completion_tokens",
        _T + "completion",
        "ai.usage.outputTokens",
        "ai.usage.completionTokens",
    ),
    "cache_read_tokens": (
        s.USAGE_CACHE_READ_INPUT_TOKENS,
        _U + "cache_read_input_tokens",
        _T + "prompt_details.cache_read",
        "ai.usage.inputTokenDetails.cacheReadTokens",
        "ai.usage.cachedInputTokens",
        _U + "cached_tokens",
        _U + "input_cached_tokens",
        _U + "input_tokens.cached",
        _U + "details.cache_read_tokens",
    ),
    "cache_write_tokens": (
        s.USAGE_CACHE_WRITE_INPUT_TOKENS,
        _U + "cache_creation.input_tokens",
        _U + "cache_creation_input_tokens",
        _T + "prompt_details.cache_write",
        "ai.usage.inputTokenDetails.cacheWriteTokens",
        _U + "input_tokens.cache_write",
    ),
    "cache_write_5m_tokens": (
        "anthropic.usage.cache_creation.ephemeral_5m_input_tokens",
        _U + "details.ephemeral_5m_input_tokens",
    ),
    "cache_write_1h_tokens": (
        "anthropic.usage.cache_creation.ephemeral_1h_input_tokens",
        _U + "details.ephemeral_1h_input_tokens",
    ),
    "reasoning_tokens": (
        s.USAGE_REASONING_OUTPUT_TOKENS,
        _U + "reasoning_tokens",
        _T + "completion_details.reasoning",
        "ai.usage.outputTokenDetails.reasoningTokens",
        "ai.usage.reasoningTokens",
        _U + "details.reasoning_tokens",
        _U + "output_tokens.reasoning",
    ),
    # money
    "reported_cost_usd": (
        _G + "cost.total_cost",
        "operation.cost",
        "llm.cost.total",
        _U + "cost",
        _U + "total_cost",
    ),
    "reported_cost_input_usd": (_G + "cost.input_cost", "llm.cost.prompt"),
    "reported_cost_output_usd": (_G + "cost.output_cost", "llm.cost.completion"),
    # seconds
    "ttft_s": (
        s.RESPONSE_TIME_TO_FIRST_CHUNK,
        _G + "client.operation.time_to_first_chunk",
        s.LATENCY_TIME_TO_FIRST_TOKEN,
        "ai.response.msToFirstChunk",
        _G + "server.time_to_first_token",
    ),
    "tpot_s": (_G + "server.time_per_output_token",),
    "queue_s": (s.LATENCY_TIME_IN_QUEUE,),
    "prefill_s": (s.LATENCY_TIME_IN_PREFILL,),
    "decode_s": (s.LATENCY_TIME_IN_DECODE,),
    "inference_s": (s.LATENCY_TIME_IN_INFERENCE,),
    "e2e_s": (s.LATENCY_E2E,),
    # tools, retrieval
    "tool_name": (s.TOOL_NAME, "tool.name", "ai.toolCall.name"),
    "tool_call_id": (s.TOOL_CALL_ID, "tool.id", "ai.toolCall.id"),
    "retrieval_query": (s.RETRIEVAL_QUERY_TEXT,),
    # who, under which prompt
    "session_id": (
        s.CONVERSATION_ID,
        s.SESSION_ID,
        "langfuse.session.id",
        _A + "session_id",
        _A + "thread_id",
        _V + "sessionId",
        "langsmith.metadata.session_id",
        "langsmith.metadata.thread_id",
        "mlflow.trace.session",
        _G + "session.id",
    ),
    "user_id": (
        s.USER_ID,
        "enduser.id",
        "langfuse.user.id",
        _A + "user_id",
        _V + "userId",
        "langsmith.metadata.user_id",
        "mlflow.trace.user",
        _G + "user.id",
        _G + "request.user",
    ),
    "end_user": (_G + "user", "llm.user"),
    "agent_name": (s.AGENT_NAME, "agent.name", "agent_name"),
    "workflow_name": (s.WORKFLOW_NAME, "traceloop.workflow.name"),
    "function_id": ("ai.telemetry.functionId",),
    "tags": (s.TAGS, "tag.tags", "langfuse.trace.tags", "langsmith.span.tags", _V + "tags", "logfire.tags"),
    "prompt_name": (s.PROMPT_NAME, "langfuse.observation.prompt.name"),
    "prompt_version": (s.PROMPT_VERSION, "langfuse.observation.prompt.version"),
    "engine_request_id": (s.REQUEST_ID, "triton.request_id"),
    "mcp_method": ("mcp.method.name",),
    "mcp_session_id": ("mcp.session.id",),
    "error_type": (s.ERROR_TYPE,),
    "error_message": ("error.message",),
    "server_address": (s.SERVER_ADDRESS, "net.peer.name", _G + "openai.api_base"),
    "environment": (s.DEPLOYMENT_ENVIRONMENT_NAME, "deployment.environment", "langfuse.environment"),
}
"""Columns that are one value, converted by the column's type."""

CONTENT: dict[str, tuple[str, ...]] = {
    "system_instructions": (s.SYSTEM_INSTRUCTIONS,),
    "input_messages": (s.INPUT_MESSAGES,),
    "output_messages": (s.OUTPUT_MESSAGES,),
    "tool_definitions": (s.TOOL_DEFINITIONS,),
    "input_text": (s.LIMELIGHT_INPUT, "input.value", "traceloop.entity.input"),
    "output_text": (s.LIMELIGHT_OUTPUT, "output.value", "traceloop.entity.output"),
    "tool_args": (s.TOOL_CALL_ARGUMENTS, "tool.parameters", "ai.toolCall.args", _G + "tool.args"),
    "tool_result": (s.TOOL_CALL_RESULT, "ai.toolCall.result"),
    "retrieval_documents": (s.RETRIEVAL_DOCUMENTS,),
    "metadata": (s.METADATA, "metadata"),
}
"""Content that needs reading (messages.py) before it is a column."""

SCALES = {"ai.response.msToFirstChunk": 0.001}
"""Sources that are not in the column's unit."""

KIND_KEYS = ("openinference.span.kind", "langsmith.span.kind", "traceloop.span.kind")
"""Where a dialect states the kind of a span; believed before `gen_ai.operation.name`."""

KINDS = {
    "llm": "llm",
    "generation": "llm",
    "chat": "llm",
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
    "guardrail": "guardrail",
    "evaluator": "evaluator",
    "memory": "memory",
    "span": "span",
}
"""Kind names of the dialects and of `limelight.kind` -> observation_type."""

OPERATIONS = {
    "chat": "llm",
    "text_completion": "llm",
    "generate_content": "llm",
    "completion": "llm",
    "embeddings": "embedding",
    "retrieval": "retrieval",
    "rerank": "rerank",
    "execute_tool": "tool",
    "create_agent": "agent",
    "invoke_agent": "agent",
    "agent_step": "agent",
    "invoke_workflow": "workflow",
    "plan": "chain",
}
"""`gen_ai.operation.name` -> observation_type; `…_memory` and `…_memory_store` are memory."""

FINISH_REASONS = {
    "tool_calls": "tool_call",
    "tool_use": "tool_call",
    "function_call": "tool_call",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "completed": "stop",
    "eos": "stop",
    "max_tokens": "length",
    "max_output_tokens": "length",
    "incomplete": "length",
    "safety": "content_filter",
    "refusal": "content_filter",
}
"""Finish reasons, lower-case with underscores -> semconv's word; others stay."""

PROVIDERS = {
    "azure": "azure.ai.openai",
    "az.ai.openai": "azure.ai.openai",
    "azure_openai": "azure.ai.openai",
    "az.ai.inference": "azure.ai.inference",
    "gemini": "gcp.gemini",
    "google": "gcp.gen_ai",
    "google_genai": "gcp.gemini",
    "vertex_ai": "gcp.vertex_ai",
    "google-vertex": "gcp.vertex_ai",
    "vertexai": "gcp.vertex_ai",
    "xai": "x_ai",
    "x-ai": "x_ai",
    "mistralai": "mistral_ai",
    "mistral": "mistral_ai",
    "bedrock": "aws.bedrock",
    "aws": "aws.bedrock",
    "amazon-bedrock": "aws.bedrock",
    "aws_bedrock": "aws.bedrock",
    "moonshot": "moonshot_ai",
    "moonshotai": "moonshot_ai",
    "watsonx": "ibm.watsonx.ai",
    "together_ai": "together",
    "fireworks_ai": "fireworks",
}
"""Provider names seen in the wild, lower-case -> the convention's (or ours, for engines)."""

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
}
"""Servers that tell the provider where no attribute does."""

MODEL_PREFIXES = (
    ("gpt-3.5", "openai"),
    ("gpt-4", "openai"),
    ("gpt-5", "openai"),
    ("claude-", "anthropic"),
    ("gemini-", "gcp.gemini"),
)
"""Models only one provider sells; used where neither an attribute nor the server's address says who answered."""
