"""Rule and Channel: one model each for the YAML file, the API and the evaluation.

A rule of the file and a rule of the API are the same object; what this version cannot evaluate is refused by name when
the rule is written, never skipped when it runs.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AliasChoices, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from limelight_collector.alerts.durations import DurationS

EVERY_CHANNEL = "*"
"""In `Rule.channels`: each channel the project has when the alert fires."""

SIGNALS = ("error_rate",)
CONDITION_KINDS = ("static",)

Operator = Literal[">", ">=", "<", "<="]
Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
Text = Annotated[str, StringConstraints(max_length=2000)]
LabelName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]

_DAY_S = 86400.0
_RECOVERY_SHARE = 0.8


def _one_of(known: tuple[str, ...], noun: str) -> AfterValidator:
    def check(value: str) -> str:
        if value not in known:
            raise ValueError(f"{noun} {value!r} is not supported by this version; it evaluates: {', '.join(known)}")
        return value

    return AfterValidator(check)


class _Strict(BaseModel):
    """A misspelt field is an error, not a rule that silently does something else."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, allow_inf_nan=False)


class Condition(_Strict):
    """When a value is bad: `value <op> threshold`. Ratios run from 0 to 1."""

    kind: Annotated[str, _one_of(CONDITION_KINDS, "condition kind")] = "static"
    op: Operator = ">"
    threshold: float

    def holds(self, value: float) -> bool:
        """Whether `value` is bad."""
        return _compare(self.op, value, self.threshold)


class Annotations(_Strict):
    """What a person reads: `{name}` is replaced from the list in docs/alerts.md, nothing else is."""

    summary: Text = ""
    runbook: Text = ""


class Rule(_Strict):
    """An alert rule. Durations (`…_s`) also take texts like "5m", and the names `window`, `for`, `keep_firing_for`."""

    id: Slug
    name: Annotated[str, StringConstraints(max_length=200)] = ""
    enabled: bool = True
    severity: Literal["warning", "critical"] = "warning"
    signal: Annotated[str, _one_of(SIGNALS, "signal")]
    filter: Text = ""
    group_by: tuple[Annotated[str, StringConstraints(min_length=1, max_length=200)], ...] = Field((), max_length=4)
    window_s: Annotated[DurationS, Field(ge=1, le=7 * _DAY_S, validation_alias=AliasChoices("window_s", "window"))]
    condition: Condition
    for_s: Annotated[DurationS, Field(ge=0, le=_DAY_S, validation_alias=AliasChoices("for_s", "for"))] = 0.0
    keep_firing_for_s: Annotated[
        DurationS, Field(ge=0, le=_DAY_S, validation_alias=AliasChoices("keep_firing_for_s", "keep_firing_for"))
    ] = 0.0
    recovery: float | None = None
    min_events: int = Field(1, ge=1)
    no_data: Literal["treat_as_0", "keep_last", "set_no_data"] = "treat_as_0"
    labels: dict[LabelName, Text] = Field(default_factory=dict[str, str], max_length=20)
    annotations: Annotations = Annotations()
    channels: tuple[Slug | Literal["*"], ...] = (EVERY_CHANNEL,)

    @model_validator(mode="after")
    def _check(self) -> Rule:
        limit = self.condition.threshold
        if not 0 <= limit <= 1:
            raise ValueError(f"condition.threshold: {self.signal} runs from 0 to 1, so 10 % is 0.1 (got {limit:g})")
        if self.recovery is not None and self.condition.holds(self.recovery):
            raise ValueError(
                f"recovery: {self.recovery:g} is itself bad ({self.condition.op} {limit:g}); it must be a good value"
            )
        if len(set(self.group_by)) < len(self.group_by):
            raise ValueError("group_by: names a field twice")
        return self

    @property
    def title(self) -> str:
        """The name, or the id where it has none."""
        return self.name or self.id

    @property
    def recovery_threshold(self) -> float:
        """A firing alert recovers here or beyond: by default 80 % of the threshold (125 % where less is bad)."""
        if self.recovery is not None:
            return self.recovery
        if self.condition.op in (">", ">="):
            return self.condition.threshold * _RECOVERY_SHARE
        return min(1.0, self.condition.threshold / _RECOVERY_SHARE)  # every signal so far is a ratio

    def has_recovered(self, value: float) -> bool:
        """Whether `value` is good enough to end an alert: at or beyond the recovery threshold, and not bad."""
        op = "<=" if self.condition.op in (">", ">=") else ">="
        return _compare(op, value, self.recovery_threshold) and not self.condition.holds(value)


class Channel(_Strict):
    """Where notifications go. `secret` signs them (docs/alerts.md); it is written, never read back."""

    id: Slug
    name: Annotated[str, StringConstraints(max_length=200)] = ""
    kind: Annotated[str, _one_of(("webhook",), "channel kind")] = "webhook"
    url: Annotated[str, StringConstraints(min_length=1, max_length=2000)]
    secret: Annotated[str, StringConstraints(min_length=8, max_length=200)] | None = Field(None, repr=False)
    enabled: bool = True


def json_of(model: BaseModel) -> dict[str, Any]:
    """The JSON object of a rule or channel, secret left out."""
    return model.model_dump(mode="json", exclude={"secret"})


def _compare(op: Operator, value: float, limit: float) -> bool:
    if op == ">":
        return value > limit
    if op == ">=":
        return value >= limit
    return value < limit if op == "<" else value <= limit
