"""Unfold: indexed attribute names (`llm.input_messages.0.message.role`) back into the lists and objects they were."""

from __future__ import annotations

from typing import Any

Tree = dict[str, Any]

_MAX_LEVELS = 16
"""Parts of one name; what is deeper stays one name."""

_INDEXED = (
    "llm.input_messages.",
    "llm.output_messages.",
    "llm.prompts.",
    "llm.choices.",
    "llm.tools.",
    "llm.request.functions.",
    "gen_ai.prompt.",
    "gen_ai.completion.",
    "retrieval.documents.",
    "reranker.output_documents.",
    "embedding.embeddings.",
)
_NAMED = (
    "langfuse.trace.metadata.",
    "langfuse.observation.metadata.",
    "langsmith.metadata.",
    "traceloop.association.properties.",
    "ai.telemetry.metadata.",
    "gen_ai.prompt.variable.",
)
FAMILIES = _INDEXED + _NAMED
"""Beginnings of names that belong together. `gen_ai.prompt.name` and the like are columns of their own and no part."""


def family_of(key: str) -> str | None:
    """The family `key` belongs to: in the indexed ones a number must follow."""
    for prefix in FAMILIES:
        if key.startswith(prefix) and (prefix not in _INDEXED or key[len(prefix) : len(prefix) + 1].isdigit()):
            return prefix
    return None


def is_dropped(key: str) -> bool:
    """Whether an attribute of a family is a vector or part of somebody's environment."""
    return (key.startswith("embedding.embeddings.") and key.endswith(".vector")) or key.startswith(
        "langsmith.metadata.LANGSMITH_"
    )


def nest(members: dict[str, Any], prefix: str) -> Any:
    """The list or object whose leaves are `members`, named from `prefix` on; indexes sort as numbers."""
    root: Tree = {}
    for key, value in members.items():
        path = key[len(prefix) :].split(".", _MAX_LEVELS)
        place = root
        for part in path[:-1]:
            inner = place.get(part)
            if not isinstance(inner, dict):
                inner = place[part] = {}
            place = inner
        place[path[-1]] = value
    return _listed(root)


def _listed(tree: Any) -> Any:
    """`tree` with every object of numbered members as a list."""
    if not isinstance(tree, dict):
        return tree
    if tree and all(key.isascii() and key.isdigit() and len(key) < 10 for key in tree):
        return [_listed(tree[key]) for key in sorted(tree, key=int)]
    return {key: _listed(inner) for key, inner in tree.items()}
