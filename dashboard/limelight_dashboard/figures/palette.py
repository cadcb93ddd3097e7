"""Colours and the layout every figure starts from; one palette for light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Figure = dict[str, Any]

SERIES = ("#3D6ACF", "#9B7A15", "#159462", "#E451B1", "#8F37F5", "#60676D")
ERROR = "#B73A39"
CRITICAL = "#E0A100"
QUIET = "#7E8794"
GRID = "rgba(128,140,160,.18)"
MONOSPACE = "Source Code Pro, DejaVu Sans Mono, Menlo, monospace"

_KINDS = {
    "llm": "#3D6ACF",
    "engine": "#3D6ACF",
    "tool": "#9B7A15",
    "retrieval": "#159462",
    "rerank": "#159462",
    "memory": "#159462",
    "embedding": "#E451B1",
    "guardrail": "#8F37F5",
    "evaluator": "#8F37F5",
}


def kind_colour(kind: str) -> str:
    """The colour of an observation type; everything that only contains others is grey."""
    return _KINDS.get(kind, "#60676D")


def layout(height: int, **more: Any) -> Figure:
    """Transparent, no mode bar margins, legend below, `height` in pixels."""
    base: Figure = {
        "height": height,
        "margin": {"l": 8, "r": 12, "t": 8, "b": 8},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "showlegend": False,
        "hoverlabel": {"align": "left", "namelength": 40},
        "font": {"size": 12},
    }
    return base | more


def axis(**more: Any) -> Figure:
    """A quiet axis: faint grid, no zero line, labels kept inside the figure."""
    return {"gridcolor": GRID, "zeroline": False, "automargin": True, "fixedrange": True, "title": None} | more


def ranked(names: Sequence[str]) -> dict[str, str]:
    """A colour for each name, in order; beyond the palette they are grey."""
    return {name: SERIES[place] if place < len(SERIES) - 1 else SERIES[-1] for place, name in enumerate(names)}
