"""POST scores: an evaluation result on a span or a whole trace."""

from __future__ import annotations

import uuid
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from limelight_collector.api.access import Ingester, Parts
from limelight_collector.api.asked import Answer
from limelight_collector.batch import Batch, Score

router = APIRouter(tags=["scores"])

Hex32 = Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{32}$")]
Hex16 = Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{16}$")]


class NewScore(BaseModel):
    """One result: a number, a label or both. The same `id` again replaces the score; none makes a new one."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    trace_id: Hex32
    span_id: Hex16 | None = None
    name: Annotated[str, Field(min_length=1, max_length=200)]
    value: float | None = None
    label: Annotated[str, Field(max_length=500)] = ""
    explanation: Annotated[str, Field(max_length=20_000)] = ""
    id: Annotated[str, Field(min_length=1, max_length=200)] | None = None

    @model_validator(mode="after")
    def says_something(self) -> NewScore:
        """A score without value and label says nothing."""
        if self.value is None and not self.label:
            raise ValueError("a score needs a value or a label")
        return self


@router.post("/scores", status_code=201)
def add_score(parts: Parts, caller: Ingester, new: NewScore) -> Answer:
    """Store a score; it is durable when the answer arrives."""
    score = Score(
        project_id=caller.project_id,
        trace_id=bytes.fromhex(new.trace_id),
        span_id=bytes.fromhex(new.span_id) if new.span_id else b"\0" * 8,
        name=new.name,
        value=new.value,
        label=new.label,
        explanation=new.explanation,
        source="api",
        created_ns=parts.now_ns(),
        score_id=new.id or uuid.uuid4().hex,
    )
    parts.store.insert(Batch(scores=[score]))
    return Answer({"id": score.score_id}, status_code=201)
