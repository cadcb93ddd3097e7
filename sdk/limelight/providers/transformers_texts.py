"""The text generation pipeline's prompts and records to semconv messages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from limelight.providers.openai_messages import of_chat
from limelight.values import field, items, word


@dataclass(frozen=True, slots=True)
class Prompt:
    """One text, or one chat: a list of `{role, content}`."""

    value: Any

    @property
    def operation(self) -> str:
        """What the conventions call it."""
        return "text_completion" if isinstance(self.value, str) else "chat"

    def messages(self) -> list[dict[str, Any]]:
        """As input messages."""
        return [_message("user", self.value)] if isinstance(self.value, str) else of_chat(items(self.value))


def prompts_of(inputs: Any) -> list[Prompt]:
    """The prompts of a call as the pipeline tells them apart; none for anything that is read only as it is needed."""
    if isinstance(inputs, str) or _is_chat(inputs):
        return [Prompt(inputs)]
    if not isinstance(inputs, list):
        return []
    prompts = [Prompt(item) for item in items(inputs) if isinstance(item, str) or _is_chat(item)]
    return prompts if len(prompts) == len(items(inputs)) else []


def _is_chat(value: Any) -> bool:
    return bool(items(value)) and isinstance(items(value)[0], dict)


def answers_of(prompt: Prompt, records: Any, reasons: list[str]) -> list[dict[str, Any]]:
    """The records of one prompt as output messages; a record of token ids has no text."""
    given = items(records)
    if given and isinstance(given[0], (list, tuple)):  # a list of prompts with one in it
        given = items(given[0])
    answers: list[dict[str, Any]] = []
    for index, record in enumerate(given):
        message = _answer(prompt, field(record, "generated_text"))
        if message is not None:
            answers.append({**message, "finish_reason": reasons[index] if index < len(reasons) else ""})
    return answers


def _answer(prompt: Prompt, generated: Any) -> dict[str, Any] | None:
    """The new text: what is returned may begin with the prompt, or be the whole chat."""
    if isinstance(generated, str):
        whole = generated if not isinstance(prompt.value, str) else generated.removeprefix(prompt.value)
        return _message("assistant", whole)
    last = items(generated)[-1:]
    return of_chat(last)[0] if last else None


def _message(role: str, text: Any) -> dict[str, Any]:
    return {"role": role, "parts": [{"type": "text", "content": word(text)}]}
