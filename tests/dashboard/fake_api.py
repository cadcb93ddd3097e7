"""A stand-in for the collector's API, for tests of the pages alone: real HTTP, invented spans, the contract's JSON.

It answers from spans generated with a fixed seed and knows only the filters the pages themselves write. It proves
nothing about the collector: tests/e2e drives the pages on the real one.
"""

from __future__ import annotations

import json
import random
import re
import threading
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from typing_extensions import Self

HOSTILE = (
    "<script>window.hit=1</script>[x](http://evil.test/a)![i](http://evil.test/b.png)"
    "<a href='http://evil.test/c'>c</a> http://evil.test/d :red[r]"
)
MODELS = {"gpt-5-mini": (0.25e-6, 2e-6), "claude-sonnet-5": (3e-6, 15e-6), "qwen3-32b (vLLM)": (None, None)}
Row = dict[str, Any]


def iso(ns: int) -> str:
    """RFC 3339 in UTC with nanoseconds."""
    return f"{datetime.fromtimestamp(ns // 10**9, timezone.utc):%Y-%m-%dT%H:%M:%S}.{ns % 10**9:09d}Z"


def text(role: str, content: str) -> Row:
    """A message of the GenAI conventions."""
    return {"role": role, "parts": [{"type": "text", "content": content}]}


def make_span(rng: random.Random, trace_id: str, parent: str | None, kind: str, name: str, start: int, ns: int) -> Row:
    """One span's JSON; LLM spans get tokens, prices and messages."""
    row: Row = {
        "trace_id": trace_id,
        "span_id": f"{rng.getrandbits(64):016x}",
        "parent_span_id": parent,
        "name": name,
        "start_time": iso(start),
        "end_time": iso(start + ns),
        "duration_ns": ns,
        "status": "ok",
        "status_message": None,
        "error_type": None,
        "error_message": None,
        "project": "default",
        "service_name": "support",
        "environment": "production",
        "observation_type": kind,
        "attributes": {"app.step": name},
        "resource": {"service.name": "support"},
        "events": [],
        "links": [],
        "flags": [],
        "scores": [],
        "session_id": "s-1",
        "user_id": "u-7",
        "ns": start,
    }
    if kind == "llm":
        model = rng.choices(list(MODELS), [5, 3, 2])[0]
        tokens_in, tokens_out = rng.randint(200, 2400), rng.randint(20, 600)
        price_in, price_out = MODELS[model]
        money = None if price_in is None else f"{tokens_in * price_in + tokens_out * price_out:.8f}"
        row |= {
            "name": f"chat {model}",
            "request_model": model,
            "provider": "openai",
            "input_tokens": tokens_in,
            "ttft_s": ns / 5e9,
            "output_tokens": tokens_out,
            "cache_read_tokens": tokens_in // 3,
            "cost_usd": money,
            "finish_reasons": ["stop"],
            "cost_state": "computed" if money else "unpriced",
            "system_instructions": "Answer from the context only.",
            "input_messages": [text("user", "Where is my order 88213?")],
            "output_messages": [text("assistant", "It left the warehouse on Nov 18.") | {"finish_reason": "stop"}],
        }
        if rng.random() < 0.05:
            flag = {
                "code": "truncated",
                "severity": "warning",
                "source": "rule",
                "confidence": 1.0,
                "evidence": "finish_reason = length",
            }
            row["flags"] = [flag]
    if kind == "tool" and rng.random() < 0.12:
        row |= {
            "status": "error",
            "error_type": "TimeoutError",
            "error_message": "no answer within 2 s",
            "tool_args": {"q": 1},
        }
    return row


def make_trace(rng: random.Random, start: int, steps: int) -> list[Row]:
    """A support agent: each step plans, retrieves or calls a tool, and answers."""
    trace_id = f"{rng.getrandbits(128):032x}"
    root = make_span(rng, trace_id, None, "agent", "support-agent", start, 0)
    spans, at = [root], start + 2_000_000
    for number in range(steps):
        step = make_span(rng, trace_id, root["span_id"], "chain", f"step {number + 1}", at, 0)
        spans.append(step)
        for kind, name in (("llm", ""), ("retrieval", "retrieve tickets"), ("tool", "tool sql.execute"), ("llm", "")):
            ns = int(rng.lognormvariate(19.6, 0.7))
            child = make_span(rng, trace_id, step["span_id"], kind, name, at, ns)
            if child["status"] == "error":
                step["status"] = root["status"] = "error"
            spans.append(child)
            if kind == "retrieval":
                spans.append(
                    make_span(rng, trace_id, child["span_id"], "embedding", "embed bge-m3", at + ns // 9, ns // 2)
                )
            at += ns + 1_000_000
        _end(step, at)
    _end(root, at)
    return spans


def _end(row: Row, at: int) -> None:
    row["duration_ns"] = at - row["ns"]
    row["end_time"] = iso(at)


def summary(spans: list[Row]) -> Row:
    """A line of the trace list."""
    root = spans[0]
    llm = [s for s in spans if s["observation_type"] == "llm"]
    priced = [float(s["cost_usd"]) for s in llm if s["cost_usd"]]
    names = (
        "trace_id",
        "name",
        "service_name",
        "environment",
        "start_time",
        "end_time",
        "duration_ns",
        "status",
        "session_id",
        "user_id",
    )
    return {name: root[name] for name in names} | {
        "root_span_id": root["span_id"],
        "error_count": sum(s["status"] == "error" for s in spans),
        "span_count": len(spans),
        "llm_count": len(llm),
        "input_tokens": sum(s["input_tokens"] for s in llm),
        "tags": [],
        "providers": ["openai"],
        "output_tokens": sum(s["output_tokens"] for s in llm),
        "cache_read_tokens": 0,
        "cost_usd": f"{sum(priced):.8f}" if priced else None,
        "total_tokens": sum(s["input_tokens"] + s["output_tokens"] for s in llm),
        "unpriced_count": len(llm) - len(priced),
        "models": sorted({s["request_model"] for s in llm}),
        "flags": sorted({f["code"] for s in spans for f in s["flags"]}),
        "ttft_s": llm[0]["ttft_s"] if llm else None,
        "input_preview": llm[0]["input_messages"][0]["parts"][0]["content"] if llm else None,
        "output_preview": None,
    }


class FakeApi:
    """Serves `/api/v1` on a free port of 127.0.0.1 while entered; `broken` answers everything with 500."""

    def __init__(
        self, traces: list[list[Row]], *, broken: bool = False, alerts: list[Row] | None = None, port: int = 0
    ) -> None:
        self.traces = sorted(traces, key=lambda spans: -spans[0]["ns"])
        self.broken = broken
        self.alerts = alerts or []
        self.too_big = False
        """Whether a search of texts hits the limit of time."""
        self.asked: list[str] = []
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, body = api.answer(self.path)
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, path: str) -> tuple[int, Row]:
        """Status and JSON of one GET."""
        self.asked.append(path)
        parts = urlsplit(path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        noun = unquote(parts.path.removeprefix("/api/v1/"))
        if self.broken:
            return 500, {"title": "Internal error", "detail": "the store is on fire"}
        if self.too_big and query.get("q"):
            return 422, {"title": "Unprocessable", "detail": "this question is too big: it took longer than 10 s"}
        if noun.startswith("traces/"):
            found = [spans for spans in self.traces if spans[0]["trace_id"] == noun.removeprefix("traces/")]
            return (200, {"trace_id": noun[7:], "spans": found[0]}) if found else (404, {"detail": "no such trace"})
        if noun.startswith("fields/"):
            field = noun.split("/")[1]
            counts: dict[str, int] = {}
            for span in self.spans(query):
                if span.get(field):
                    counts[span[field]] = counts.get(span[field], 0) + 1
            return 200, {"values": [{"value": v, "count": c} for v, c in counts.items()]}
        answers: dict[str, Callable[[Row], Row]] = {
            "traces": self.trace_list,
            "series": self.series,
            "errors": self.errors,
            "flags": self.flags,
            "status": self.status,
            "alerts": lambda _: {"alerts": self.alerts},
            "alerts/history": self.history,
            "alert-rules": lambda _: {"rules": [RULE]},
        }
        return (200, answers[noun](query)) if noun in answers else (404, {"detail": f"no {noun}"})

    def spans(self, query: Row) -> list[Row]:
        """Spans of the window that pass the equality clauses of the filter."""
        low, high = (datetime.fromisoformat(query[name]).timestamp() * 1e9 for name in ("from", "to"))
        wanted = re.findall(
            r'(environment|service_name|request_model|session_id|user_id) = "([^"]*)"', query.get("filter", "")
        )
        every = (s for spans in self.traces for s in spans if low <= s["ns"] < high)
        return [s for s in every if all(s.get(name) == value for name, value in wanted)]

    def holding(self, wanted: str) -> set[str]:
        """Ids of the traces with this text in a message, in capitals or not."""
        said = ("input_messages", "output_messages")
        return {
            s["trace_id"]
            for spans in self.traces
            for s in spans
            if any(wanted.casefold() in json.dumps(s.get(name, ""), ensure_ascii=False).casefold() for name in said)
        }

    def trace_list(self, query: Row) -> Row:
        """`GET traces`: filters on status, flags and names found by `contains`, `q`; offset as cursor."""
        ids = {s["trace_id"] for s in self.spans(query)}
        rows = [summary(spans) for spans in self.traces if spans[0]["trace_id"] in ids]
        text_wanted = re.search(r'name contains "([^"]*)"', query.get("filter", ""))
        rows = [r for r in rows if not text_wanted or text_wanted[1] in r["name"]]
        rows = [r for r in rows if r["trace_id"] in self.holding(query.get("q", ""))]
        if "status = error" in query.get("filter", ""):
            rows = [r for r in rows if r["error_count"]]
        if "flag exists" in query.get("filter", ""):
            rows = [r for r in rows if r["flags"]]
        keys = {"slowest": lambda r: -r["duration_ns"], "costliest": lambda r: -float(r["cost_usd"] or 0)}
        if query.get("order", "newest") != "newest":
            rows.sort(key=keys[query["order"]])
        start, limit = int(query.get("cursor") or 0), int(query["limit"])
        return {
            "traces": rows[start : start + limit],
            "next_cursor": str(start + limit) if start + limit < len(rows) else None,
        }

    def series(self, query: Row) -> Row:
        """`GET series` over LLM spans."""
        groups: dict[tuple[Any, Any], list[Row]] = {}
        step, by = int(query.get("step") or 0), query.get("group_by")
        for span in self.spans(query):
            if span["observation_type"] == "llm":
                bucket = span["ns"] // 10**9 // step * step if step else None
                groups.setdefault((bucket, span.get(by) if by else None), []).append(span)
        rows = []
        for (bucket, value), spans in sorted(groups.items(), key=str):
            row: Row = ({"time": iso(bucket * 10**9)} if bucket is not None else {}) | ({by: value} if by else {})
            rows.append(row | {m: _measure(m, spans, self) for m in query["measure"].split(",")})
        return {"rows": rows}

    def errors(self, query: Row) -> Row:
        """`GET errors`: one group a type and span name."""
        groups: dict[str, list[Row]] = {}
        for span in self.spans(query):
            if span["error_type"]:
                groups.setdefault(f"{span['error_type']}-{span['name']}", []).append(span)
        return {
            "groups": [
                {
                    "fingerprint": f"{abs(hash(key)):x}",
                    "error_type": s[0]["error_type"],
                    "message": s[0]["error_message"],
                    "span_name": s[0]["name"],
                    "observation_type": "tool",
                    "count": len(s),
                    "first_seen": s[-1]["start_time"],
                    "last_seen": s[0]["start_time"],
                    "service_names": ["support"],
                    "models": [],
                    "users": 1,
                    "sessions": 1,
                    "sample_trace_ids": [x["trace_id"] for x in s[:5]],
                }
                for key, s in groups.items()
            ]
        }

    def flags(self, query: Row) -> Row:
        """`GET flags`."""
        rows = [
            flag
            | {
                "id": s["span_id"],
                "trace_id": s["trace_id"],
                "span_id": s["span_id"],
                "start_time": s["start_time"],
                "detector": "truncated",
                "detector_version": 1,
                "created_time": s["end_time"],
                "span_name": s["name"],
                "request_model": s["request_model"],
                "service_name": "support",
                "environment": "production",
                "input_preview": s["input_messages"][0]["parts"][0]["content"],
                "output_preview": s["output_messages"][0]["parts"][0]["content"],
            }
            for s in self.spans(query)
            for flag in s["flags"]
        ]
        return {"flags": rows[: int(query["limit"])], "next_cursor": None}

    def status(self, _: Row) -> Row:
        """`GET status`."""
        newest = self.traces[0][0]["start_time"] if self.traces else None
        return {
            "version": "0",
            "project": "default",
            "ingest_lag_s": 0.4,
            "spool_bytes": 0,
            "spool_records": 0,
            "newest_span_time": newest,
            "degraded": False,
            "durability": "power_loss",
        }

    def history(self, _: Row) -> Row:
        """`GET alerts/history`: the alerts' way to firing."""
        return {
            "events": [
                {
                    "time": a["fired_at"],
                    "rule_id": "r1",
                    "rule_name": a["rule_name"],
                    "labels": {},
                    "from_state": "pending",
                    "to_state": "firing",
                    "value": 0.09,
                    "reason": None,
                }
                for a in self.alerts
            ]
        }


RULE: Row = {
    "id": "r1",
    "name": "High error rate",
    "enabled": True,
    "severity": "critical",
    "signal": "error_rate",
    "filter": "",
    "group_by": [],
    "window_s": 300,
    "condition": {"kind": "static", "op": ">", "threshold": 0.05},
    "for_s": 60,
    "min_events": 20,
    "source": "file",
}


def firing(now: datetime) -> Row:
    """An alert that fires since a quarter of an hour."""
    return {
        "rule_id": "r1",
        "rule_name": "High error rate",
        "state": "firing",
        "severity": "critical",
        "labels": {"service_name": "support"},
        "value": 0.093,
        "threshold": 0.05,
        "events": 86,
        "since": (now - timedelta(minutes=16)).isoformat(),
        "fired_at": (now - timedelta(minutes=15)).isoformat(),
        "resolved_at": None,
        "last_evaluated": now.isoformat(),
        "summary": "9.3 % of calls failed in the last 5 minutes",
        "notifications": [{"channel": "ops", "status": "delivered"}],
    }


def _measure(name: str, spans: list[Row], api: FakeApi) -> float | int | str | None:
    failed = {spans_of[0]["trace_id"] for spans_of in api.traces if spans_of[0]["status"] == "error"}
    count, bad = len(spans), sum(s["trace_id"] in failed for s in spans) // 4
    times = {"latency": sorted(s["duration_ns"] / 1e9 for s in spans), "ttft": sorted(s["ttft_s"] for s in spans)}
    kind, _, what = name.partition("_p")
    if kind in times:
        return times[kind][int(count * int(what) / 100)]
    priced = [float(s["cost_usd"]) for s in spans if s["cost_usd"]]
    simple: dict[str, Any] = {
        "request_count": count,
        "error_count": bad,
        "error_rate": bad / count,
        "unpriced_count": count - len(priced),
        "cost_usd": f"{sum(priced):.8f}" if priced else None,
        "flag_rate": sum(bool(s["flags"]) for s in spans) / count,
    }
    return simple[name] if name in simple else sum(s[name] for s in spans)


def history(now: datetime, count: int, seed: int = 7) -> list[list[Row]]:
    """`count` traces over the last hour, more of them lately."""
    rng = random.Random(seed)
    start = int(now.timestamp()) * 10**9
    return [
        make_trace(rng, start - int(rng.betavariate(1, 1.3) * 3500e9) - 30 * 10**9, rng.randint(1, 6))
        for _ in range(count)
    ]


def hostile(now: datetime) -> list[Row]:
    """A trace whose every text tries to become markup."""
    spans = make_trace(random.Random(3), int(now.timestamp()) * 10**9 - 60 * 10**9, 1)
    for span in spans:
        span |= {
            "name": HOSTILE,
            "status": "error",
            "error_type": HOSTILE,
            "error_message": HOSTILE,
            "session_id": HOSTILE,
            "user_id": HOSTILE,
        }
        span["attributes"] = {HOSTILE: HOSTILE}
        if span["observation_type"] == "llm":
            flag = {"code": HOSTILE, "severity": "warning", "source": "rule", "confidence": 1.0, "evidence": HOSTILE}
            span |= {"request_model": HOSTILE, "flags": [flag], "system_instructions": HOSTILE}
            span |= {"input_messages": [text(HOSTILE, HOSTILE)], "output_messages": [text("assistant", HOSTILE)]}
    return spans
