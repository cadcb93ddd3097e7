"""How many tokens a `generate` of Transformers read and made, sequence by sequence, from its own tensors.

Nothing here is estimated: where padding and an end of sequence cannot be told apart, the count is unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from limelight.values import field

Setting = Callable[[str], Any]
"""Name -> what `generate` goes by: the keyword, else the configuration given, else the model's own."""


@dataclass(frozen=True, slots=True)
class Counted:
    """Counts of one `generate`; None where unknown."""

    inputs: list[int] | None
    """Tokens of each prompt, padding left out."""
    outputs: list[int | None]
    """Tokens of each returned sequence, its end of sequence included, padding left out."""
    reasons: list[str]
    """`stop` or `length` of each returned sequence."""


def shape(tensor: Any) -> tuple[int, ...]:
    """The shape of a tensor; empty for anything else."""
    found = field(tensor, "shape")
    return tuple(found) if isinstance(found, tuple) else ()  # pyright: ignore[reportUnknownArgumentType]


def ids(value: Any) -> list[int]:
    """Token ids given as one number, a list or a tensor."""
    if isinstance(value, int):
        return [value]
    if shape(value) or hasattr(value, "tolist"):
        value = value.tolist()
        return [value] if isinstance(value, int) else value
    return [item for item in cast("list[Any]", value) if isinstance(item, int)] if isinstance(value, list) else []


def count(model: Any, given: dict[str, Any], setting: Setting, result: Any) -> Counted | None:
    """Read the tensors that went in and came out; None where the result is no sequence of ids."""
    sequences = field(result, "sequences") if field(result, "sequences") is not None else result
    if len(shape(sequences)) != 2:
        return None
    is_encoder_decoder = bool(field(field(model, "config"), "is_encoder_decoder"))
    rows: list[list[int]] = sequences.tolist()
    prompt = _decoder_prompt(given, setting, rows) if is_encoder_decoder else _prompt(given)
    ends = _Ends(given, setting, len(rows))
    counted = [ends.read(row[prompt:], prompt) for row in rows]
    return Counted(_inputs(given, setting), [number for number, _ in counted], [reason for _, reason in counted])


def _prompt(given: dict[str, Any]) -> int:
    """How much of each returned row is the prompt; nothing where embeddings went in."""
    size = shape(given.get("input_ids"))
    return size[1] if len(size) == 2 else 0


def _decoder_prompt(given: dict[str, Any], setting: Setting, rows: list[list[int]]) -> int:
    """An encoder-decoder model returns the decoder's ids: a start token, or what the user gave, with or without it."""
    size = shape(given.get("decoder_input_ids"))
    if len(size) != 2:
        return 1
    first = given["decoder_input_ids"][0].tolist()
    start = ids(setting("decoder_start_token_id")) or ids(setting("bos_token_id"))
    was_prepended = bool(rows) and rows[0][:1] == start[:1] != first[:1]
    return size[1] + was_prepended


def _inputs(given: dict[str, Any], setting: Setting) -> list[int] | None:
    tokens: Any = given.get("input_ids")
    mask: Any = given.get("attention_mask")
    size = shape(tokens) or shape(given.get("inputs_embeds"))[:2]
    if len(size) != 2:
        return None  # sound or pictures: they have no tokens that anyone counts alike
    if shape(mask) == size:
        return [int(total) for total in mask.sum(dim=-1).tolist()]
    pad, end = ids(setting("pad_token_id")), ids(setting("eos_token_id"))
    if pad and shape(tokens) and pad[0] not in end:  # as `generate` itself infers the mask that was left out
        return [int(total) for total in tokens.ne(pad[0]).sum(dim=-1).tolist()]
    return [size[1]] * size[0]


class _Ends:
    """Where sequences end: at the first end-of-sequence token; what follows is padding."""

    def __init__(self, given: dict[str, Any], setting: Setting, rows: int) -> None:
        self._ends = frozenset(ids(setting("eos_token_id")))
        pad = ids(setting("pad_token_id")) or ids(setting("eos_token_id"))[:1]
        self._pad = pad[0] if pad and rows > 1 else None
        """A single sequence is never padded."""
        self._has_criteria = any(setting(name) is not None for name in ("stop_strings", "max_time")) or _is_filled(
            given.get("stopping_criteria")
        )
        self._setting = setting

    def read(self, made: Sequence[int], prompt: int) -> tuple[int | None, str]:
        """(tokens made or None, why it ended) of one row behind its prompt."""
        end = next((index for index, token in enumerate(made) if token in self._ends), None)
        if end is not None:
            padded = made[end + 1 :]
            is_ambiguous = self._has_criteria and self._pad in self._ends and made[end] == self._pad and bool(padded)
            return (None if is_ambiguous else end + 1), "stop"
        number = len(made)
        while number and made[number - 1] == self._pad:
            number -= 1
        return number, "stop" if number < len(made) or not self._is_full(number, prompt) else "length"

    def _is_full(self, number: int, prompt: int) -> bool:
        """Whether the limit was reached; without another criterion nothing else can have ended it."""
        if not self._has_criteria:
            return True
        new, whole = self._setting("max_new_tokens"), self._setting("max_length")
        limit = new if isinstance(new, int) else whole - prompt if isinstance(whole, int) else None
        return limit is not None and number >= limit


def _is_filled(criteria: Any) -> bool:
    return isinstance(criteria, list) and bool(cast("list[Any]", criteria))
