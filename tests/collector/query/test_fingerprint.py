"""Which failures are one group: the same fault, whatever its ids, numbers and quoted parts."""

from __future__ import annotations

from itertools import count

import pytest

from collector.store.rows import batch, span
from limelight_collector.query.errors import error_groups
from limelight_collector.query.window import Window
from limelight_collector.store import Store

_projects = (f"fingerprints-{number}" for number in count())

SAME = [
    ("request req_a1b2c3d4e5f6a7b8 failed", "request req_0918273645abcdef failed"),
    ("request req_011CQx8dTzLPn4mJ failed", "request req_011CbWq7ZrT5cKs9 failed"),
    ("organization org-AbCdEfGhIjKl1234 over quota", "organization org-ZyXwVuTsRq98Po76 over quota"),
    ("chatcmpl-9x8y7z6w5v4u not found", "chatcmpl-1a2b3c4d5e6f not found"),
    ("no tool output for call_kD93jsAbCdEfGh1", "no tool output for call_Zb81mqWeRtYuIo2"),
    ("trace 4bf92f3577b34da6a3ce929d0e0e4736 lost", "trace 00000000000000000000000000000042 lost"),
    ("id 3fa85f64-5717-4562-b3fc-2c963f66afa6", "id 9b2d1c00-0000-4000-8000-000000000001"),
    ("connect to 10.0.0.1:443 refused", "connect to 10.0.12.7:8443 refused"),
    ("at 2026-11-24T12:00:00Z", "at 2026-01-02T03:04:05Z"),
    ("timed out after 1.234s", "timed out after 60s"),
    ("object at 0x7f3a10", "object at 0xdeadbeef"),
    ('key "sk-1" is wrong', 'key "sk-2" is wrong'),
]
DIFFERENT = [
    ("unknown parameter max_tokens", "unknown parameter max_completion_tokens"),
    ("model gpt-large is away", "model gpt-small is away"),
    ("text_embedding_ada failed", "text_embedding_large failed"),
    ("rate limit reached", "server error"),
    ("req_short failed", "org_short failed"),
]


def groups(store: Store, *messages: str) -> int:
    project = next(_projects)
    rows = [
        span(number, 1, project_id=project, status="error", error_type="E", name="call", status_message=message)
        for number, message in enumerate(messages, 1)
    ]
    store.insert(batch(*rows))
    found, _ = error_groups(store, Window(project, 0, 2**62), filter_text="", limit=10)
    assert sum(group["count"] for group in found) == len(messages)
    return len(found)


@pytest.mark.parametrize(("one", "other"), SAME)
def test_the_same_fault_is_one_group(store: Store, one: str, other: str) -> None:
    assert groups(store, one, other) == 1


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_different_faults_are_two(store: Store, one: str, other: str) -> None:
    assert groups(store, one, other) == 2
