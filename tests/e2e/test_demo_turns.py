"""How many turns the demo plays, whatever number of conversations it is asked for."""

from __future__ import annotations

from typing import Any

import pytest

from limelight.demo import run


class Agent:
    """Answers everything at once."""

    def handle(self, turn: Any) -> None:
        """One turn."""


@pytest.mark.parametrize(("conversations", "turns"), [(1, 20), (3, 20), (4, 20), (24, 40)])
def test_few_conversations_still_have_calm_and_failures(
    monkeypatch: pytest.MonkeyPatch, conversations: int, turns: int
) -> None:
    monkeypatch.setattr(run.time, "sleep", lambda _s: None)
    backend = run.Backend("http://127.0.0.1:9", ["m"], None, None, None)
    agent: Any = Agent()
    assert sum(run.play(agent, backend, conversations).values()) == turns
