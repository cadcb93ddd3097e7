"""What happens in the demo: calm, a bad deploy with honest failures, recovery. Pure data, the same at each run."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

from limelight.demo.agent import Turn

QUESTIONS = [
    ("Where is my order 88213?", True),
    ("Can I return the headphones I bought three weeks ago?", False),
    ("My kettle arrived broken. What now?", False),
    ("How long does express shipping take?", False),
    ("Please refund order 41207, it cost 59 dollars.", True),
    ("Is the screen of my tablet covered by the warranty?", False),
    ("I need the invoice of my last order.", False),
    ("What is the state of order 77350 and when does it arrive?", True),
]
USERS = ["ada@example.com", "grace@example.com", "alan@example.com", "edsger@example.com", "barbara@example.com"]

UNDEPLOYED_MODEL = "smollm2-360m"
"""A name the gateway does not know: what a bad deploy asks for."""


def turns(models: list[str]) -> Iterator[Turn]:
    """Endless calm traffic over `models`: sessions of two turns, five users, every fifth answer cut short."""
    for number in itertools.count():
        question, wants_tool = QUESTIONS[number % len(QUESTIONS)]
        yield Turn(
            question=question,
            session_id=f"chat-{number // 2:04d}",
            user_id=USERS[(number // 2) % len(USERS)],
            model=models[number % len(models)],
            wants_tool=wants_tool,
            max_tokens=16 if number % 5 == 4 else 64,
            tags=["web" if number % 3 else "mobile"],
        )


def failures(calm: Iterator[Turn], stuck_model: str | None) -> Iterator[Turn]:
    """The bad deploy: an unknown model; with the built-in server also a prompt longer than the context and a replica
    that never answers (`stuck_model`), which on a user's own endpoint would cost money and patience.
    """
    for number, turn in enumerate(calm):
        canary = replace(turn, prompt_version="4-canary", tags=[*turn.tags, "canary"], wants_tool=False)
        if stuck_model is not None and number % 4 == 1:
            yield replace(canary, attachment="error at line 17; " * 3000)
        elif stuck_model is not None and number % 4 == 3:
            yield replace(canary, model=stuck_model, timeout_s=1.0)
        else:
            yield replace(canary, model=UNDEPLOYED_MODEL)
