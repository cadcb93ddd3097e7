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
OPENAI_REQUEST_SERVICE_TIER = "openai.request.service_tier"
OPENAI_RESPONSE_SERVICE_TIER = "openai.response.service_tier"
OPENAI_RESPONSE_SYSTEM_FINGERPRINT = "openai.response.system_fingerprint"
OPENAI_API_TYPE = "openai.api.type"

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
DEPLOYMENT_ENVIRONMENT_NAME = "deployment.environment.name"
EXCEPTION_TYPE = "exception.type"
EXCEPTION_MESSAGE = "exception.message"
EXCEPTION_STACKTRACE = "exception.stacktrace"
SCOPE_NAME = "limelight"  # instrumentation scope of every span the SDK makes
