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
    "provider": (
        s.PROVIDER_NAME,
        "llm.provider",
        "langsmith.metadata.ls_provider",  # of a failed call `gen_ai.system` says no more than langchain
        _G + "system",
        "llm.system",
        "ai.model.provider",
        "mlflow.llm.provider",
    ),
    "request_model": (
        s.REQUEST_MODEL,
        "ai.model.id",
        "llm.request.model_name",
        "embedding.model_name",
        "reranker.model_name",
        "langsmith.metadata.ls_model_name",
        "model",
        "model_name",
        "triton.model_name",
    ),
    "response_model": (
        s.RESPONSE_MODEL,
        "ai.response.model",
        "llm.response.model_name",
        "llm.model_name",
        "langfuse.observation.model.name",
        "mlflow.llm.model",
    ),
    "model_version": ("triton.model_version", "gen_ai.response.model_version"),
    "response_id": (s.RESPONSE_ID, "ai.response.id"),
    "service_tier": (
        s.OPENAI_RESPONSE_SERVICE_TIER,
        _G + "openai.response.service_tier",
        _G + "openai.request.service_tier",
        "anthropic.response.service_tier",
    ),
    "request_temperature": (s.REQUEST_TEMPERATURE, "ai.settings.temperature", "langsmith.metadata.ls_temperature"),
    "request_top_p": (s.REQUEST_TOP_P, "ai.settings.topP"),
    "request_max_tokens": (
        s.REQUEST_MAX_TOKENS,
        "ai.settings.maxOutputTokens",
        "ai.settings.maxTokens",
        "langsmith.metadata.ls_max_tokens",
    ),
    "request_seed": (s.REQUEST_SEED, _G + "openai.request.seed", "ai.settings.seed"),
    "is_stream": (s.REQUEST_STREAM, _G + "request.is_stream", _G + "is_streaming", "llm.is_streaming"),
    "finish_reasons": (
        s.RESPONSE_FINISH_REASONS,
        _G + "response.finish_reason",
        "llm.finish_reason",
        "ai.response.finishReason",
        "anthropic.message.stop_reason",
        "langfuse.observation.metadata.finish_reason",
    ),
    # tokens
    "input_tokens": (
        s.USAGE_INPUT_TOKENS,
        _U + "prompt_tokens",
        _T + "prompt",
        "ai.usage.inputTokens",
        "ai.usage.tokens",
        "ai.usage.promptTokens",
        "decision.token_count.input",
        _G + "response.prompt_tokens",
    ),
    "output_tokens": (
        s.USAGE_OUTPUT_TOKENS,
        _U + "completion_tokens",
        _T + "completion",
        "ai.usage.outputTokens",
        "ai.usage.completionTokens",
        _G + "response.completion_tokens",
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
    "tpot_s": (_G + "server.time_per_output_token", _G + "client.operation.time_per_output_chunk"),
    "queue_s": (s.LATENCY_TIME_IN_QUEUE,),
    "prefill_s": (s.LATENCY_TIME_IN_PREFILL,),
    "decode_s": (s.LATENCY_TIME_IN_DECODE,),
    "inference_s": (s.LATENCY_TIME_IN_INFERENCE,),
    "e2e_s": (s.LATENCY_E2E,),
    # tools, retrieval
    "tool_name": (s.TOOL_NAME, "tool.name", "tool_name", "ai.toolCall.name"),
    "tool_call_id": (s.TOOL_CALL_ID, "tool.id", "ai.toolCall.id"),
    "retrieval_query": (s.RETRIEVAL_QUERY_TEXT, "reranker.query"),
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
        "langsmith.metadata.conversation_id",
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
        "metadata.user_api_key_user_id",
    ),
    "end_user": (_G + "user", "llm.user", "metadata.user_api_key_end_user_id"),
    "agent_name": (s.AGENT_NAME, "agent.name", "agent_name"),
    "workflow_name": (s.WORKFLOW_NAME, "traceloop.workflow.name"),
    "function_id": ("ai.telemetry.functionId",),
    "tags": (s.TAGS, "tag.tags", "langfuse.trace.tags", "langsmith.span.tags", _V + "tags", "logfire.tags"),
    "prompt_name": (s.PROMPT_NAME, "langfuse.observation.prompt.name", "traceloop.prompt.key"),
    "prompt_version": (
        s.PROMPT_VERSION,
        "langfuse.observation.prompt.version",
        "traceloop.prompt.version",
        "llm.prompt_template.version",
    ),
    **{
        f"aggregate_{kind}_tokens": tuple(f"{_G}aggregated_usage.{name}" for name in names)
        for kind, names in {
            "input": ("input_tokens",),
            "output": ("output_tokens",),
            "cache_read": ("cache_read.input_tokens",),
            "cache_write": ("cache_write.input_tokens", "cache_creation.input_tokens"),
            "reasoning": ("reasoning.output_tokens", "details.reasoning_tokens"),
        }.items()
    },
    "engine_request_id": (s.REQUEST_ID, "triton.request_id"),
    "mcp_method": ("mcp.method.name",),
    "mcp_session_id": ("mcp.session.id",),
    "error_type": (s.ERROR_TYPE,),
    "error_message": ("error.message", "langfuse.observation.status_message"),
    "server_address": (s.SERVER_ADDRESS, "net.peer.name", _G + "openai.api_base"),
    "environment": (s.DEPLOYMENT_ENVIRONMENT_NAME, "deployment.environment", "langfuse.environment"),
}
"""Columns that are one value, converted by the column's type."""

CHUNK_EVENTS = frozenset({"gen_ai.content.completion.chunk", "llm.content.completion.chunk"})
"""One event a streamed chunk (Traceloop): not kept, the answer is whole elsewhere."""

CHUNK_EVENTS_PREFIX = "mlflow.chunk.item."
"""The same, numbered."""

FIRST_TOKEN_EVENTS = CHUNK_EVENTS | {"First Token Stream Event", "ai.stream.firstChunk", CHUNK_EVENTS_PREFIX + "0"}
"""Span events whose time is the arrival of the first token; of several the earliest counts."""

FIRST_TOKEN_TIMES = ("langfuse.observation.completion_start_time",)
"""Attributes that hold that time as RFC 3339, or as the JSON text of it."""

CONTENT: dict[str, tuple[str, ...]] = {
    "system_instructions": (s.SYSTEM_INSTRUCTIONS, "ai.settings.system"),
    "input_messages": (
        s.INPUT_MESSAGES,
        "llm.input_messages.*",
        _G + "prompt.*",
        "ai.prompt.messages",
        "ai.prompt",
        "langfuse.observation.input",
        _G + "prompt",
        "mlflow.spanInputs",
        "traceloop.entity.input",
        "input.value",
    ),
    "output_messages": (
        s.OUTPUT_MESSAGES,
        "llm.output_messages.*",
        _G + "completion.*",
        "ai.response.*",
        "langfuse.observation.output",
        _G + "completion",
        "mlflow.spanOutputs",
        "traceloop.entity.output",
        "output.value",
    ),
    "tool_definitions": (
        s.TOOL_DEFINITIONS,
        "llm.tools.*",
        "llm.request.functions.*",
        "ai.prompt.tools",
        "mlflow.chat.tools",
    ),
    "input_text": (
        s.LIMELIGHT_INPUT,
        "llm.prompts.*",
        "embedding.embeddings.*",
        "ai.value",
        "ai.values",
        "ai.prompt",
        "langfuse.observation.input",
        _G + "prompt",
        "mlflow.spanInputs",
        "traceloop.entity.input",
        "input.value",
    ),
    "output_text": (
        s.LIMELIGHT_OUTPUT,
        "llm.choices.*",
        "ai.response.object",
        "langfuse.observation.output",
        _G + "completion",
        "mlflow.spanOutputs",
        "traceloop.entity.output",
        "output.value",
        "final_result",
    ),
    "tool_args": (s.TOOL_CALL_ARGUMENTS, "ai.toolCall.args", "ai.toolCall.input", _G + "tool.args", "tool_arguments"),
    "tool_result": (s.TOOL_CALL_RESULT, "ai.toolCall.result", "ai.toolCall.output", "tool_response"),
    "retrieval_documents": (s.RETRIEVAL_DOCUMENTS, "retrieval.documents.*", "reranker.output_documents.*"),
    "metadata": (
        s.METADATA,
        "metadata",
        "langfuse.observation.metadata.*",
        "langfuse.trace.metadata.*",
        "langsmith.metadata.*",
        "traceloop.association.properties.*",
        "ai.telemetry.metadata.*",
    ),
}
"""Content that needs reading (messages.py) before it is a column. `….*` is a family of names (unfold.py)."""

VERCEL_PARTS = ("ai.response.text", "ai.response.reasoning", "ai.response.toolCalls", "ai.response.finishReason")
"""An answer in pieces: together they are `ai.response.*`."""

SURE_MESSAGES = frozenset(
    {s.INPUT_MESSAGES, s.OUTPUT_MESSAGES, "llm.input_messages.*", "llm.output_messages.*", "ai.prompt.messages"}
    | {_G + "prompt.*", _G + "completion.*", "ai.response.*"}
)
"""Sources that hold messages and nothing else."""

USAGE_OBJECTS = (
    _U + "raw",
    "langfuse.observation.usage_details",
    "mlflow.chat.tokenUsage",
    "langsmith.metadata.usage_metadata",
    "metadata.usage_object",
)
"""Sources of token counts that are objects (usage.py), asked for what no attribute of its own tells."""

USAGE_DETAILS = {
    _U + "input_token_details": "input_token_details",
    _U + "output_token_details": "output_token_details",
    "langsmith.usage_metadata": "",
}
"""Parts of a usage object that arrive alone, and the name they have in a whole one ("" = it is whole)."""

COST_OBJECTS = ("langfuse.observation.cost_details", "mlflow.llm.cost")
"""Sources of a reported cost that are objects."""

PROVIDER_OBJECTS = ("ai.response.providerMetadata",)
"""`{provider: {…}}`: what a provider told of one call besides the answer."""

PARAMETER_OBJECTS = ("llm.invocation_parameters", "langfuse.observation.model.parameters", "mlflow.spanInputs")
"""Request parameters of model calls as one object."""

PARAMETERS = {
    "request_temperature": ("temperature",),
    "request_top_p": ("top_p",),
    "request_max_tokens": ("max_tokens", "max_completion_tokens", "max_output_tokens"),
    "request_seed": ("seed",),
    "request_model": ("model", "model_name"),
    "is_stream": ("stream",),
}
"""What they are called in there."""

REQUEST_OBJECTS = ("langfuse.observation.input", _G + "prompt", "mlflow.spanInputs", "ai.prompt", "input.value")
"""Sources that may be a whole request to a provider."""

RESPONSE_OBJECTS = ("langfuse.observation.output", _G + "completion", "mlflow.spanOutputs", "output.value")
"""Sources that may be a whole response of a provider."""

JSON_TEXTS = frozenset(
    {
        "ai.value",
        "ai.values",
        "mlflow.spanInputs",
        "mlflow.spanOutputs",
        "traceloop.entity.input",
        "traceloop.entity.output",
    }
)
"""Content that is JSON whatever it is: a text comes in quotes."""

INVENTED: tuple[tuple[str, dict[str, float]], ...] = (
    (
        "openlit.",
        {"request_temperature": 1.0, "request_top_p": 1.0, "request_max_tokens": -1, "request_seed": 0},
    ),
    ("langfuse-sdk", {"request_temperature": 1.0, "request_top_p": 1.0}),
)
"""Beginning of a scope's name -> values it sends where the program set none."""

PHASE_EVENTS = {
    "compute_input_s": ("COMPUTE_START", "COMPUTE_INPUT_END"),
    "compute_infer_s": ("COMPUTE_INPUT_END", "COMPUTE_OUTPUT_START"),
    "compute_output_s": ("COMPUTE_OUTPUT_START", "COMPUTE_END"),
}
"""Seconds between two events of an engine's span (Triton)."""

DROPPED = frozenset({"ai.embedding", "ai.embeddings", "logfire.json_schema", "llm.headers", "hidden_params"})
"""Attributes that are not kept: vectors, copies, secrets. See also `unfold.is_dropped`."""

SCALES = {"ai.response.msToFirstChunk": 0.001}
"""Sources that are not in the column's unit."""

KIND_KEYS = (
    "openinference.span.kind",
    "langfuse.observation.type",
    "langsmith.span.kind",
    "mlflow.spanType",
    "traceloop.span.kind",
)
"""Where a dialect states the kind of a span; believed before `gen_ai.operation.name`."""
