"""The spans of the query bench as one SQL statement, made inside the engine: what the pipeline would have stored.

The traces are those of `ingest_spans` (an agent, three model calls, two tool calls, a retrieval, an HTTP request), in
five projects of very different size; each row has the columns an ingested span of its kind has, in the same form
(tests/collector/store/test_bench_data.py compares them). Every value is a hash of the trace's number: the same
arguments make the same rows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path

from bench.ingest_spans import RESOURCE
from limelight_collector.preview import LENGTH
from limelight_collector.store.columns import BY_NAME

PROJECTS = {"default": 0.60, "assistants": 0.20, "search": 0.10, "batch": 0.07, "lab": 0.03}
"""Project -> its share of the traces."""
SPANS_A_TRACE = 8
RARE_WORD = "quokkabird"
"""In one prompt of 100,000."""
COMMON_WORD = "return"

MODELS = (
    # name, provider, price of a token in and out in nano-dollars (0 = no known price); used as Zipf's law says
    ("gpt-4o-mini", "openai", 150, 600),
    ("gpt-4o", "openai", 2500, 10_000),
    ("claude-sonnet-4-5", "anthropic", 3000, 15_000),
    ("gpt-4.1-mini", "openai", 400, 1600),
    ("gemini-2.5-flash", "gcp.gemini", 300, 2500),
    ("claude-haiku-4-5", "anthropic", 1000, 5000),
    ("qwen3-32b", "openai", 0, 0),
    ("gpt-4.1", "openai", 2000, 8000),
    ("mistral-large-latest", "mistral_ai", 2000, 6000),
    ("gemini-2.5-pro", "gcp.gemini", 1250, 10_000),
    ("llama-3.3-70b", "openai", 0, 0),
    ("o4-mini", "openai", 1100, 4400),
)
ERRORS = {
    "RateLimitError": "concat('Error code: 429 - Rate limit reached, try again in ', toString({n} % 900), 'ms')",
    "APITimeoutError": "concat('Request timed out after ', toString({n} % 60), '.0 seconds')",
    "InternalServerError": "concat('Error code: 500 - request req_', lower(hex({n})), ' failed')",
    "BadRequestError": "concat('maximum context length is 128000 tokens, got ', toString(128000 + {n} % 90000))",
    "ValueError": "concat('order ', toString({n} % 1000000), ' does not exist')",
    "ConnectError": "'[Errno 111] Connection refused'",
}
"""Error type -> SQL of its message, in which {n} differs from one failure to the next."""
_FAILED = 0.03
_SETTINGS = (
    # larger blocks than the default's make fewer parts to merge; still below 2 GB
    "SETTINGS output_format_json_escape_forward_slashes = 0, min_insert_block_size_bytes = 400000000, "
    "max_block_size = 8192"
)

Expressions = Mapping[str, str]
"""Column, attribute or name -> its SQL over `number` (the trace's number) and the names of `_trace` and of the kind."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One of a trace's spans: names for its SQL, its columns and attributes, and what a failed one lacks of both."""

    columns: Expressions
    attributes: Expressions
    names: Expressions = field(default_factory=dict[str, str])
    lost: frozenset[str] = frozenset()

    def whole(self) -> dict[str, str]:
        """The columns of one that went well."""
        return {**self.columns, "status": "'ok'", "attributes": _map(self.attributes)}

    def failed(self, place: int) -> dict[str, str]:
        """The columns of one that failed."""
        attributes = {name: sql for name, sql in self.attributes.items() if name not in self.lost}
        number = _drawn("message", place)
        which = f"[toUInt8(1 + {_drawn('error', place)} % {len(ERRORS)})]"
        error_type = f"[{', '.join(repr(name) for name in ERRORS)}]{which}"
        message = f"[{', '.join(sql.format(n=number) for sql in ERRORS.values())}]{which}"
        return {
            **{name: sql for name, sql in self.columns.items() if name not in self.lost},
            "status": "'error'",
            "status_message": message,
            "error_message": message,
            "error_type": error_type,
            "attributes": _map({**attributes, "error.type": _json(error_type)}),
        }


def insert_sql(first: int, traces: int, start_ns: int, length_ns: int, corpus: Path) -> str:
    """The INSERT of all spans of `traces` traces that begin in [start_ns, start_ns + length_ns)."""
    kinds = [kind(place) for place in range(SPANS_A_TRACE)]
    columns = sorted({name for one in kinds for name in (*one.whole(), *one.failed(0))})
    shared = _trace(start_ns, length_ns)
    text = {"corpus": f"(SELECT text FROM file('{corpus}', 'RawBLOB', 'text String'))"}

    def select(names: Expressions, values: Expressions, condition: str) -> str:
        cut = text if any("corpus" in sql for sql in names.values()) else {}
        given = ", ".join(f"{sql} AS {name}" for name, sql in {**cut, **shared, **names}.items())
        typed = ", ".join(_typed(name, values) for name in columns)
        return f"WITH {given} SELECT {typed} FROM numbers({first}, {traces}) WHERE {condition}"

    parts: list[str] = []
    for place, one in enumerate(kinds):
        chance = _share("failed", place)
        parts.append(select(one.names, one.whole(), f"{chance} >= {_FAILED}"))
        parts.append(select(one.names, one.failed(place), f"{chance} < {_FAILED}"))
    return f"INSERT INTO spans ({', '.join(columns)}) {_SETTINGS} {' UNION ALL '.join(parts)}"


def _typed(name: str, values: Expressions) -> str:
    quoted = BY_NAME[name].type.replace("'", "\\'")
    return f"CAST({values[name]}, '{quoted}')" if name in values else f"defaultValueOfTypeName('{quoted}')"


def _drawn(what: str, place: int = 0) -> str:
    """SQL of 64 random bits for one trace and place."""
    return f"sipHash64(number, {place}, '{what}')"


def _share(what: str, place: int = 0) -> str:
    """SQL of a random number in [0, 1)."""
    return f"({_drawn(what, place)} / 18446744073709551616)"


def _one_of(shares: Mapping[str, float], what: str) -> str:
    """SQL of one of the values, each with its share."""
    edges = zip(accumulate(shares.values()), shares, strict=True)
    branches = ", ".join(f"{_share(what)} < {below:.4f}, '{value}'" for below, value in edges)
    return f"multiIf({branches}, '{next(iter(shares))}')"


def _text(what: str, place: int, shortest: int, longest: int) -> str:
    """SQL of a piece of the corpus as a JSON string."""
    begin = f"1 + {_drawn(what, place)} % (length(corpus) - {longest})"
    length = f"{shortest} + {_drawn(what + ' length', place)} % {longest - shortest}"
    return _json(f"substring(corpus, {begin}, {length})")


def _line(quoted: str) -> str:
    """SQL of the preview (preview.py) of a text of the corpus in quotes of JSON."""
    line = f"trimBoth(replaceRegexpAll(substring(JSONExtractString({quoted}), 1, {4 * LENGTH}), '\\\\s+', ' '))"
    return f"if(length({line}) > {LENGTH}, concat(substring({line}, 1, {LENGTH - 1}), '…'), {line})"


def _json(sql: str) -> str:
    return f"toJSONString({sql})"


def _map(values: Expressions) -> str:
    pairs = [f"'{name}', {sql}" for name, sql in values.items()]
    return f"map({', '.join(pairs)})"


def _words(values: Mapping[str, str]) -> dict[str, str]:
    """Attributes with these fixed texts."""
    return {name: _quoted(json.dumps(value)) for name, value in values.items()}


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _trace(start_ns: int, length_ns: int) -> dict[str, str]:
    """What all spans of a trace share."""
    normal = f"sqrt(-2 * log({_share('normal')} + 1e-12)) * cos(6.2831853 * {_share('angle')})"
    own = {"service.name": _json("service"), "deployment.environment.name": _json("stage")}
    return {
        "project": _one_of(PROJECTS, "project"),
        "trace": "sipHash128(number, 'trace')",
        "began_ns": f"{start_ns} + toInt64({_share('start')} * {length_ns})",
        "total_ns": f"toInt64(least(120e9, greatest(2e8, exp(1.6 + 0.7 * {normal}) * 1e9)))",
        "chat": f"concat('chat-', toString(intDiv(number, 200) * 64 + {_drawn('session')} % 64))",
        "person": f"concat('user-', toString(toUInt32(5000 * pow({_share('user')}, 3))))",
        "service": _one_of({"support-api": 0.55, "checkout": 0.25, "search": 0.15, "summaries": 0.05}, "service"),
        "stage": _one_of({"production": 0.8, "staging": 0.15, "development": 0.05}, "environment"),
        "origin": _map({**_words(RESOURCE), **own}),
    }


def kind(place: int) -> Kind:
    """The span at this place of a trace."""
    one = _KINDS[place](place)
    start, length = _WHEN[place]
    length = f"{length} * (0.4 + 0.6 * {_share('length', place)})" if place else "1"
    columns = {
        "project_id": "project",
        "trace_id": "trace",
        "span_id": _span_id(place),
        "parent_span_id": _span_id(_PARENTS.get(place, 0)),
        "start_time": f"fromUnixTimestamp64Nano(began_ns + toInt64({start} * total_ns))",
        "duration_ns": "duration",
        "received_ns": f"began_ns + total_ns + {_drawn('received')} % 2000000000",
        "span_kind": "'client'",
        "service_name": "service",
        "environment": "stage",
        "scope_name": "'bench'",
        "usage_role": "'none'",
        "resource": "origin",
        **one.columns,
    }
    if not place:
        del columns["parent_span_id"]
    names = {"duration": f"toUInt64(total_ns * {length})", **one.names}
    return Kind(columns, one.attributes, names, one.lost)


def _span_id(place: int) -> str:
    return f"reinterpretAsFixedString({_drawn('span', place)})"


def _agent(_place: int) -> Kind:
    columns = {
        "name": "'invoke_agent support'",
        "observation_type": "'agent'",
        "operation": "'invoke_agent'",
        "agent_name": "'support'",
        "session_id": "chat",
        "user_id": "person",
    }
    words = _words({"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "support"})
    return Kind(columns, {**words, "gen_ai.conversation.id": _json("chat"), "user.id": _json("person")})


def _llm(place: int) -> Kind:
    of_model = f"[toUInt8(pow({len(MODELS) + 1}, {_share('model', place)}))]"  # Zipf's law: the k-th has ln(1 + 1/k)
    model, provider, price_in, price_out = (f"{list(column)}{of_model}" for column in zip(*MODELS, strict=True))
    prompt = f"if({_share('rare', place)} < 0.00001, '\"{RARE_WORD}\"', {_text('prompt', place, 500, 2500)})"
    names = {
        "model": model,
        "sold_by": provider,
        "response": f"concat('chatcmpl-', toString({_drawn('response', place)} % 1000000000000))",
        "reason": f"if({_share('cut', place)} < 0.006, 'length', 'stop')",
        "first_s": f"duration / 1e9 * (0.05 + 0.3 * {_share('first', place)})",
        "tokens_in": f"toUInt64(100 + 2900 * pow({_share('in', place)}, 2))",
        "tokens_out": f"toUInt64(10 + 590 * {_share('out', place)})",
        "tokens_cached": f"intDiv(tokens_in * ({_drawn('cached', place)} % 8), 10)",
        "nano_usd": f"tokens_in * {price_in} + tokens_out * {price_out}",
        "price": f"if({price_in} = 0, NULL, toDecimal128(nano_usd, 18) / 1000000000)",
        "prompt": prompt,
        "answer": _text("answer", place, 300, 1500),
        "version": f"toString(1 + {_drawn('version')} % 4)",
    }
    columns = {
        "name": "concat('chat ', model)",
        "observation_type": "'llm'",
        "operation": "'chat'",
        "provider": "sold_by",
        "request_model": "model",
        "response_model": "model",
        "response_id": "response",
        "request_temperature": "0.2",
        "request_max_tokens": "512",
        "is_stream": "true",
        "finish_reasons": "[reason]",
        "ttft_s": "first_s",
        "tpot_s": "(duration / 1e9 - first_s) / (tokens_out - 1)",
        "input_tokens": "tokens_in",
        "output_tokens": "tokens_out",
        "cache_read_tokens": "tokens_cached",
        "usage_role": "'own'",
        "billable": "true",
        "computed_cost_usd": "price",
        "cost_usd": "price",
        "cost_state": "if(isNull(price), 'unpriced', 'computed')",
        "input_messages": _asked(":", ","),
        "output_messages": _said(":", ","),
        "input_preview": _line("prompt"),
        "output_preview": _line("answer"),
        "server_address": "'api.openai.com'",
        "session_id": "chat",
        "user_id": "person",
        "prompt_name": "'support'",
        "prompt_version": "version",
    }
    attributes = {
        **_words({"gen_ai.operation.name": "chat"}),
        "gen_ai.provider.name": _json("sold_by"),
        "gen_ai.request.model": _json("model"),
        "gen_ai.response.model": _json("model"),
        "gen_ai.response.id": _json("response"),
        "gen_ai.request.temperature": "'0.2'",
        "gen_ai.request.max_tokens": "'512'",
        "gen_ai.request.stream": "'true'",
        "gen_ai.response.time_to_first_chunk": "toString(first_s)",
        "gen_ai.usage.input_tokens": "toString(tokens_in)",
        "gen_ai.usage.output_tokens": "toString(tokens_out)",
        "gen_ai.usage.cache_read.input_tokens": "toString(tokens_cached)",
        "gen_ai.input.messages": _json(_asked(": ", ", ")),
        "gen_ai.output.messages": _json(_said(": ", ", ")),
        **_words({"server.address": "api.openai.com"}),
        "session.id": _json("chat"),
        "user.id": _json("person"),
        **_words({"gen_ai.prompt.name": "support"}),
        "gen_ai.prompt.version": _json("version"),
        "gen_ai.response.finish_reasons": "concat('[\"', reason, '\"]')",
    }
    return Kind(columns, attributes, names, _OF_AN_ANSWER)


_OF_AN_ANSWER = frozenset(
    {
        *("response_model", "response_id", "finish_reasons", "ttft_s", "tpot_s", "output_messages", "output_preview"),
        *("input_tokens", "output_tokens", "cache_read_tokens", "computed_cost_usd", "cost_usd", "cost_state"),
        *("gen_ai.response.model", "gen_ai.response.id", "gen_ai.response.finish_reasons", "gen_ai.output.messages"),
        *("gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens", "gen_ai.usage.cache_read.input_tokens"),
        "gen_ai.response.time_to_first_chunk",
    }
)


def _asked(colon: str, comma: str) -> str:
    """SQL of the prompt as messages, compact as stored or spaced as sent."""
    part = f'"parts"{colon}[{{"type"{colon}"text"{comma}"content"{colon}'
    return f"""concat('[{{"role"{colon}"user"{comma}{part}', prompt, '}}]}}]')"""


def _said(colon: str, comma: str) -> str:
    """SQL of the answer as messages."""
    part = f'"parts"{colon}[{{"type"{colon}"text"{comma}"content"{colon}'
    end = f'}}]{comma}"finish_reason"{colon}"'
    return f"""concat('[{{"role"{colon}"assistant"{comma}{part}', answer, '{end}', reason, '"}}]')"""


def _retrieval(place: int) -> Kind:
    names = {f"found_{n}": _text(f"found {n}", place, 299, 300) for n in range(3)}
    names |= {f"score_{n}": f"toString({_share(f'score {n}', place)})" for n in range(3)}
    names["searched"] = f"substring(corpus, 1 + {_drawn('searched')} % (length(corpus) - 80), 80)"
    columns = {
        "name": "'retrieval handbook'",
        "observation_type": "'retrieval'",
        "operation": "'retrieval'",
        "retrieval_query": "searched",
        "retrieval_documents": _found(":", ","),
        "session_id": "chat",
    }
    attributes = {
        **_words({"gen_ai.operation.name": "retrieval", "gen_ai.data_source.id": "handbook"}),
        "gen_ai.retrieval.query.text": _json("searched"),
        "gen_ai.retrieval.documents": _json(_found(": ", ", ")),
        "session.id": _json("chat"),
        "top_k": "'3'",
    }
    return Kind(columns, attributes, names, frozenset({"retrieval_documents", "gen_ai.retrieval.documents"}))


def _found(colon: str, comma: str) -> str:
    """SQL of the three documents."""
    documents = [
        f"""'{{"id"{colon}"d{n}"{comma}"score"{colon}', score_{n}, '{comma}"content"{colon}', found_{n}, '}}'"""
        for n in range(3)
    ]
    separator = f", '{comma}', "
    return f"concat('[', {separator.join(documents)}, ']')"


def _tool(place: int) -> Kind:
    names = {
        "tool": f"['lookup_order', 'search_orders', 'refund', 'send_email'][1 + {_drawn('tool', place)} % 4]",
        "called": f"concat('call_', toString({_drawn('call', place)} % 1000000000))",
        "order_id": f"toString({_drawn('order', place)} % 100000)",
    }
    columns = {
        "name": "concat('execute_tool ', tool)",
        "observation_type": "'tool'",
        "operation": "'execute_tool'",
        "tool_name": "tool",
        "tool_call_id": "called",
        "tool_args": """concat('{"order_id":"', order_id, '"}')""",
        "tool_result": """'{"status":"shipped","due":"tomorrow"}'""",
        "session_id": "chat",
    }
    attributes = {
        **_words({"gen_ai.operation.name": "execute_tool"}),
        "gen_ai.tool.name": _json("tool"),
        "gen_ai.tool.call.id": _json("called"),
        "gen_ai.tool.call.arguments": _json("""concat('{"order_id": "', order_id, '"}')"""),
        **_words({"gen_ai.tool.call.result": '{"status": "shipped", "due": "tomorrow"}'}),
        "session.id": _json("chat"),
        "team": f"['\"a\"', '\"b\"', '\"c\"'][1 + {_drawn('team', place)} % 3]",
        "attempt": f"toString({_drawn('attempt', place)} % 3)",
    }
    return Kind(columns, attributes, names, frozenset({"tool_result", "gen_ai.tool.call.result"}))


def _http(place: int) -> Kind:
    columns = {"name": "'POST'", "observation_type": "'span'", "server_address": "'api.example.com'"}
    attributes = {
        **_words({"http.request.method": "POST"}),
        "url.full": f"concat('\"https://api.example.com/orders/', toString({_drawn('url', place)} % 1000000), '\"')",
        **_words({"server.address": "api.example.com"}),
        "server.port": "'443'",
        "http.response.status_code": "'200'",
        **_words({"network.protocol.version": "1.1", "user_agent.original": "python-httpx/0.28"}),
    }
    return Kind(columns, attributes)


_KINDS = (_agent, _llm, _retrieval, _llm, _tool, _http, _llm, _tool)
_WHEN = ((0, 1), (0.01, 0.29), (0.31, 0.05), (0.37, 0.25), (0.63, 0.04), (0.635, 0.03), (0.68, 0.28), (0.97, 0.02))
"""Start and longest duration of each span, as shares of its trace's."""
_PARENTS = {5: 4}
"""The HTTP request belongs to the tool call; all others to the agent."""
