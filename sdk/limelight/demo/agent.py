"""The sample application: a support agent with retrieval, tools, streaming, sessions and users.

This is what a user's own program looks like with Limelight: ordinary `openai` calls, which `limelight.init()` traces,
and a few decorators and context managers that name the steps in between.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import openai

import limelight

ARTICLES = {
    "returns": "Items can be returned within 30 days of delivery. The refund goes to the original payment method.",
    "shipping": "Standard shipping takes 3 to 5 working days. Express shipping takes one working day.",
    "damaged": "If an item arrives damaged, send a photo within 7 days and we replace it free of charge.",
    "warranty": "All devices carry a two year warranty against defects in material and workmanship.",
    "invoice": "Invoices are sent by e-mail after dispatch and can be downloaded from the order page.",
    "account": "To change the e-mail address of an account, confirm the link that we send to the old address.",
}

ORDERS = {
    "88213": {"status": "shipped", "carrier": "Parcel One", "due": "tomorrow"},
    "41207": {"status": "delivered", "carrier": "Parcel One", "due": "last Monday"},
    "77350": {"status": "in preparation", "carrier": None, "due": "in four days"},
}

TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": "lookup_order",
            "description": "Look up the state of an order by its five digit number.",
            "parameters": {
                "type": "object",
                "properties": {"order_id": {"type": "string"}},
                "required": ["order_id"],
                "additionalProperties": False,
            },
        },
    },
    {
        "type": "function",
        "function": {
            "name": "refund_order",
            "description": "Refund an order.",
            "parameters": {
                "type": "object",
                "properties": {"order_id": {"type": "string"}, "amount_usd": {"type": "number"}},
                "required": ["order_id", "amount_usd"],
                "additionalProperties": False,
            },
        },
    },
]

SYSTEM = "You are a support agent of a web shop. Answer in one or two short sentences from the context only."


class BadArgumentsError(ValueError):
    """The model called a tool with arguments it cannot take."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One question of a user, and which models answer it."""

    question: str
    session_id: str
    user_id: str
    model: str
    wants_tool: bool = False
    attachment: str = ""
    max_tokens: int = 48
    timeout_s: float | None = None
    prompt_version: str = "3"
    tags: list[str] = field(default_factory=list[str])


@limelight.observe(kind="tool")
def lookup_order(order_id: str) -> dict[str, Any]:
    """The state of an order; `BadArgumentsError` for a number the shop does not know."""
    if order_id not in ORDERS:
        raise BadArgumentsError(f"no order has the number {order_id!r}")
    return ORDERS[order_id]


@limelight.observe(kind="tool")
def refund_order(order_id: str, amount_usd: float) -> dict[str, Any]:
    """Refund a delivered order; `BadArgumentsError` for one that cannot be refunded."""
    if ORDERS.get(order_id, {}).get("status") != "delivered" or amount_usd <= 0:
        raise BadArgumentsError(f"order {order_id!r} cannot be refunded with {amount_usd!r} USD")
    return {"refunded_usd": amount_usd}


RUN_TOOL: dict[str, Callable[..., dict[str, Any]]] = {"lookup_order": lookup_order, "refund_order": refund_order}


class SupportAgent:
    """Answers turns with `client`; retrieval by embeddings where `embed_model` is given, else by words."""

    def __init__(self, client: openai.OpenAI, embed_model: str | None) -> None:
        self.client = client
        self.embed_model = embed_model
        self._vectors: dict[str, list[float]] = {}

    def handle(self, turn: Turn) -> str:
        """Answer one turn under its session and user; errors of the model pass through to the caller."""
        with (
            limelight.context(
                session_id=turn.session_id,
                user_id=turn.user_id,
                tags=turn.tags,
                prompt_name="support-answer",
                prompt_version=turn.prompt_version,
            ),
            limelight.span("support-agent", kind="agent") as step,
        ):
            step.set(input=turn.question)
            answer = self.answer(turn)
            step.set(output=answer)
            return answer

    def answer(self, turn: Turn) -> str:
        """Retrieve, call a tool if one is wanted, answer as a stream."""
        context = [document["content"] for document in self.retrieve(turn.question)]
        if turn.wants_tool:
            context.append(self.use_tool(turn))
        if turn.attachment:
            context.append(turn.attachment)
        prompt = "Context:\n" + "\n".join(context) + f"\n\nQuestion: {turn.question}"
        messages: list[Any] = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": prompt}]
        return self.stream_answer(turn, messages)

    @limelight.observe(kind="retriever", name="help-centre")
    def retrieve(self, question: str) -> list[dict[str, Any]]:
        """The two articles nearest to the question: [{id, score, content}], best first."""
        if self.embed_model is None:
            words = set(question.lower().split())
            scores = {name: float(len(words & set(text.lower().split()))) for name, text in ARTICLES.items()}
        else:
            if not self._vectors:
                self._vectors = dict(zip(ARTICLES, self.embed(list(ARTICLES.values())), strict=True))
            (asked,) = self.embed([question])
            scores = {name: _cosine(asked, vector) for name, vector in self._vectors.items()}
        best = sorted(scores, key=lambda name: -scores[name])[:2]
        return [{"id": name, "score": round(scores[name], 4), "content": ARTICLES[name]} for name in best]

    def embed(self, texts: list[str]) -> list[list[float]]:
        """One vector a text."""
        answer = self.client.embeddings.create(model=self.embed_model or "", input=texts, encoding_format="float")
        return [item.embedding for item in answer.data]

    def use_tool(self, turn: Turn) -> str:
        """Let the model choose and call a tool; what it said, or what was wrong with the call, as context."""
        answer = self.client.chat.completions.create(
            model=turn.model,
            messages=[{"role": "user", "content": f"{turn.question} Call the tool that helps."}],
            tools=TOOLS,
            tool_choice="required",
            temperature=0.2,
            seed=7,
            max_tokens=80,
        )
        for call in answer.choices[0].message.tool_calls or []:
            function: Any = getattr(call, "function", None)
            try:
                return json.dumps(RUN_TOOL[function.name](**json.loads(function.arguments)))
            except (KeyError, TypeError, ValueError) as error:
                return f"The shop's system answered: {error}"
        return "The shop's system has nothing on this."

    def stream_answer(self, turn: Turn, messages: list[Any]) -> str:
        """The answer, read as it is written."""
        client = self.client if turn.timeout_s is None else self.client.with_options(timeout=turn.timeout_s)
        stream = client.chat.completions.create(
            model=turn.model, messages=messages, stream=True, temperature=0.4, max_tokens=turn.max_tokens
        )
        return "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)


def _cosine(a: list[float], b: list[float]) -> float:
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / ((math.hypot(*a) * math.hypot(*b)) or 1.0)
