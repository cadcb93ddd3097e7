"""Every attribute name Limelight writes or reads, as constants; nothing else, and no imports.

Source of the names: OpenTelemetry GenAI semantic conventions (`open-telemetry/semantic-conventions-genai`, state of
November 2026). Names marked *ours* have no convention yet and live under `limelight.`.
"""

# -- what the call is --------------------------------------------------------------------------------------------------
OPERATION_NAME = "gen_ai.operation.name"
PROVIDER_NAME = "gen_ai.provider.name"
OUTPUT_TYPE = "gen_ai.output.type"
REQUEST_MODEL = "gen_ai.request.model"
REQUEST_MAX_TOKENS = "gen_ai.request.max_tokens"
REQUEST_TEMPERATURE = "gen_ai.request.temperature"
REQUEST_TOP_P = "gen_ai.request.top_p"
REQUEST_TOP_K = "gen_ai.request.top_k"
REQUEST_SEED = "gen_ai.request.seed"
REQUEST_STREAM = "gen_ai.request.stream"
REQUEST_STOP_SEQUENCES = "gen_ai.request.stop_sequences"
REQUEST_FREQUENCY_PENALTY = "gen_ai.request.frequency_penalty"
REQUEST_PRESENCE_PENALTY = "gen_ai.request.presence_penalty"
REQUEST_CHOICE_COUNT = "gen_ai.request.choice.count"
REQUEST_ENCODING_FORMATS = "gen_ai.request.encoding_formats"
REQUEST_REASONING_LEVEL = "gen_ai.request.reasoning.level"
REQUEST_PREVIOUS_RESPONSE_ID = "gen_ai.request.previous_response.id"
REQUEST_ID = "gen_ai.request.id"
RESPONSE_ID = "gen_ai.response.id"
RESPONSE_MODEL = "gen_ai.response.model"
RESPONSE_FINISH_REASONS = "gen_ai.response.finish_reasons"
RESPONSE_TIME_TO_FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"  # seconds
CONVERSATION_ID = "gen_ai.conversation.id"
EMBEDDINGS_DIMENSION_COUNT = "gen_ai.embeddings.dimension.count"
LIMELIGHT_BATCH_SIZE = "limelight.batch.size"  # ours: requests that one call hands to an engine in the process
LIMELIGHT_LORA_NAME = "limelight.lora.name"  # ours: the adapter on top of the model (vLLM)
LIMELIGHT_NUM_BEAMS = "limelight.request.num_beams"  # ours: beams searched, where more than one (Transformers)
LIMELIGHT_DEVICE = "limelight.model.device"  # ours: where the model's weights are, "cuda:0" (Transformers)
LIMELIGHT_DTYPE = "limelight.model.dtype"  # ours: the weights' type, "bfloat16" (Transformers)
OPENAI_REQUEST_SERVICE_TIER = "openai.request.service_tier"
OPENAI_RESPONSE_SERVICE_TIER = "openai.response.service_tier"
OPENAI_RESPONSE_SYSTEM_FINGERPRINT = "openai.response.system_fingerprint"
OPENAI_API_TYPE = "openai.api.type"
ANTHROPIC_REQUEST_SERVICE_TIER = "anthropic.request.service_tier"
ANTHROPIC_RESPONSE_SERVICE_TIER = "anthropic.response.service_tier"
LIMELIGHT_RESPONSE_SPEED = "limelight.response.speed"  # ours: "standard" or "fast"; it changes the price (Anthropic)
LIMELIGHT_INFERENCE_GEO = "limelight.response.inference_geo"  # ours: where it ran; it changes the price (Anthropic)

# -- tokens (input includes cache reads and writes, output includes reasoning) -----------------------------------------
USAGE_INPUT_TOKENS = "gen_ai.usage.input_tokens"
USAGE_OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
USAGE_CACHE_READ_INPUT_TOKENS = "gen_ai.usage.cache_read.input_tokens"
USAGE_CACHE_WRITE_INPUT_TOKENS = "gen_ai.usage.cache_write.input_tokens"
USAGE_REASONING_OUTPUT_TOKENS = "gen_ai.usage.reasoning.output_tokens"
USAGE_TEXT_INPUT_TOKENS = "gen_ai.usage.text.input_tokens"
USAGE_TEXT_OUTPUT_TOKENS = "gen_ai.usage.text.output_tokens"
USAGE_IMAGE_INPUT_TOKENS = "gen_ai.usage.image.input_tokens"
USAGE_IMAGE_OUTPUT_TOKENS = "gen_ai.usage.image.output_tokens"
USAGE_AUDIO_INPUT_TOKENS = "gen_ai.usage.audio.input_tokens"
USAGE_AUDIO_OUTPUT_TOKENS = "gen_ai.usage.audio.output_tokens"
USAGE_COST = "gen_ai.usage.cost"  # USD, as a gateway library reports it; no convention yet, the name others use
ANTHROPIC_CACHE_WRITE_5M_INPUT_TOKENS = "anthropic.usage.cache_creation.ephemeral_5m_input_tokens"
ANTHROPIC_CACHE_WRITE_1H_INPUT_TOKENS = "anthropic.usage.cache_creation.ephemeral_1h_input_tokens"
ANTHROPIC_COMPACTION_INPUT_TOKENS = "anthropic.usage.compaction.input_tokens"  # not part of the input tokens
ANTHROPIC_COMPACTION_OUTPUT_TOKENS = "anthropic.usage.compaction.output_tokens"  # not part of the output tokens
LIMELIGHT_CACHE_WRITE_30M_INPUT_TOKENS = "limelight.usage.cache_write.ttl_30m_input_tokens"  # ours (OpenAI responses)
LIMELIGHT_CACHE_WRITE_12H_INPUT_TOKENS = "limelight.usage.cache_write.ttl_12h_input_tokens"  # ours (OpenAI responses)
LIMELIGHT_ACCEPTED_PREDICTION_TOKENS = "limelight.usage.accepted_prediction_tokens"  # ours: part of the output (OpenAI)
LIMELIGHT_REJECTED_PREDICTION_TOKENS = "limelight.usage.rejected_prediction_tokens"  # ours: part of the output (OpenAI)
LIMELIGHT_WEB_SEARCH_REQUESTS = "limelight.usage.web_search_requests"  # ours: billed apart (Anthropic)
LIMELIGHT_WEB_FETCH_REQUESTS = "limelight.usage.web_fetch_requests"  # ours (Anthropic)
LIMELIGHT_SEARCH_UNITS = "limelight.usage.search_units"  # ours: what a rerank is billed in (Cohere)
LIMELIGHT_CACHE_HIT = "limelight.cache_hit"  # ours: the library answered from its own cache, nothing was asked

# -- engine times in seconds (names vLLM and SGLang emit) --------------------------------------------------------------
LATENCY_TIME_IN_QUEUE = "gen_ai.latency.time_in_queue"
LATENCY_TIME_IN_PREFILL = "gen_ai.latency.time_in_model_prefill"
LATENCY_TIME_IN_DECODE = "gen_ai.latency.time_in_model_decode"
LATENCY_TIME_IN_INFERENCE = "gen_ai.latency.time_in_model_inference"
LATENCY_TIME_TO_FIRST_TOKEN = "gen_ai.latency.time_to_first_token"  # noqa: S105 (a token of text)
LATENCY_E2E = "gen_ai.latency.e2e"
TRITON_MODEL_VERSION = "triton.model_version"  # Triton's own spans carry it too
LIMELIGHT_LOAD_DURATION = "limelight.model.load_duration"  # ours: seconds spent loading the model (Ollama)

# -- content: JSON strings on spans ------------------------------------------------------------------------------------
SYSTEM_INSTRUCTIONS = "gen_ai.system_instructions"
INPUT_MESSAGES = "gen_ai.input.messages"
OUTPUT_MESSAGES = "gen_ai.output.messages"
TOOL_DEFINITIONS = "gen_ai.tool.definitions"
LIMELIGHT_INPUT = "limelight.input"  # ours: JSON or text input of a span that is no model call (observe, span)
LIMELIGHT_OUTPUT = "limelight.output"  # ours: its output
LIMELIGHT_CONTENT_DROPPED = "limelight.content.dropped"  # ours: why content is absent ("redact_failed", "too_large")

# -- tools, retrieval, agents ------------------------------------------------------------------------------------------
TOOL_NAME = "gen_ai.tool.name"
TOOL_TYPE = "gen_ai.tool.type"
TOOL_DESCRIPTION = "gen_ai.tool.description"
TOOL_CALL_ID = "gen_ai.tool.call.id"
TOOL_CALL_ARGUMENTS = "gen_ai.tool.call.arguments"
TOOL_CALL_RESULT = "gen_ai.tool.call.result"
RETRIEVAL_QUERY_TEXT = "gen_ai.retrieval.query.text"
RETRIEVAL_DOCUMENTS = "gen_ai.retrieval.documents"
RETRIEVAL_TOP_K = "gen_ai.retrieval.top_k"
DATA_SOURCE_ID = "gen_ai.data_source.id"
AGENT_NAME = "gen_ai.agent.name"
AGENT_ID = "gen_ai.agent.id"
AGENT_DESCRIPTION = "gen_ai.agent.description"
WORKFLOW_NAME = "gen_ai.workflow.name"
LIMELIGHT_KIND = "limelight.kind"  # ours: the `kind=` of observe/span where no operation name says it

# -- who, and under which prompt ---------------------------------------------------------------------------------------
SESSION_ID = "session.id"
USER_ID = "user.id"
TAGS = "limelight.tags"  # ours: array of strings
METADATA = "limelight.metadata"  # ours: JSON object
PROMPT_NAME = "gen_ai.prompt.name"
PROMPT_VERSION = "gen_ai.prompt.version"

# -- sampling and duplicates -------------------------------------------------------------------------------------------
LIMELIGHT_SAMPLE_RATE = "limelight.sample_rate"  # ours: share of traces kept by id, so counts scale by 1/rate
LIMELIGHT_SAMPLED_FOR = "limelight.sampled_for"  # ours: "error" on spans kept although their trace id was not
LIMELIGHT_NESTED_IN = "limelight.nested_in"  # ours: scope name of another vendor's span of this same call, our parent

# -- metrics -----------------------------------------------------------------------------------------------------------
METRIC_OPERATION_DURATION = "gen_ai.client.operation.duration"  # seconds
METRIC_TOKEN_USAGE = "gen_ai.client.token.usage"  # noqa: S105 (tokens of text)
METRIC_TIME_TO_FIRST_CHUNK = "gen_ai.client.operation.time_to_first_chunk"  # seconds
METRIC_TIME_PER_OUTPUT_CHUNK = "gen_ai.client.operation.time_per_output_chunk"  # seconds
METRIC_OVERFLOW = "otel.metric.overflow"  # true on the series that takes what is over the bound of series
METRIC_QUEUE_SIZE = "otel.sdk.processor.span.queue.size"
METRIC_QUEUE_CAPACITY = "otel.sdk.processor.span.queue.capacity"
METRIC_SPANS_PROCESSED = "otel.sdk.processor.span.processed"
METRIC_LOGS_PROCESSED = "otel.sdk.processor.log.processed"
METRIC_SPANS_EXPORTED = "otel.sdk.exporter.span.exported"
METRIC_LOGS_EXPORTED = "otel.sdk.exporter.log.exported"
METRIC_INTERNAL_ERRORS = "limelight.sdk.internal_errors"  # ours: what the guard swallowed, by `error.type`
TOKEN_TYPE = "gen_ai.token.type"  # noqa: S105 (input or output)
COMPONENT_NAME = "otel.component.name"
COMPONENT_TYPE = "otel.component.type"

# -- evaluations (span event or log event) -----------------------------------------------------------------------------
EVENT_EVALUATION_RESULT = "gen_ai.evaluation.result"
EVALUATION_NAME = "gen_ai.evaluation.name"
EVALUATION_SCORE_VALUE = "gen_ai.evaluation.score.value"
EVALUATION_SCORE_LABEL = "gen_ai.evaluation.score.label"
EVALUATION_EXPLANATION = "gen_ai.evaluation.explanation"

# -- general -----------------------------------------------------------------------------------------------------------
ERROR_TYPE = "error.type"
SERVER_ADDRESS = "server.address"
SERVER_PORT = "server.port"
SERVICE_NAME = "service.name"
SERVICE_VERSION = "service.version"
SERVICE_INSTANCE_ID = "service.instance.id"
PROCESS_PID = "process.pid"
DEPLOYMENT_ENVIRONMENT_NAME = "deployment.environment.name"
EXCEPTION_TYPE = "exception.type"
EXCEPTION_MESSAGE = "exception.message"
EXCEPTION_STACKTRACE = "exception.stacktrace"
SCOPE_NAME = "limelight"  # instrumentation scope of every span the SDK makes
