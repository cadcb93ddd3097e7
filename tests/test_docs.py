"""Documentation is complete: every provider has a page, every setting a row, and the examples are Python."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from limelight.config import Config
from limelight.patch import PROVIDERS

DOCS = Path(__file__).parents[1] / "docs"
INDEX = (DOCS / "providers" / "README.md").read_text()
PAGES = sorted((DOCS / "providers").glob("*.md"))


@pytest.mark.parametrize("name", sorted(PROVIDERS))
def test_every_provider_has_a_page(name: str) -> None:
    (row,) = [line for line in INDEX.splitlines() if line.startswith("|") and f"`{name}`" in line.split("|")[1]]
    (page,) = re.findall(r"\]\(([^)]+)\)", row)
    assert (DOCS / "providers" / page).is_file()


@pytest.mark.parametrize("setting", [setting.name for setting in fields(Config)])
def test_every_setting_has_a_row(setting: str) -> None:
    rows = [line for line in (DOCS / "sdk.md").read_text().splitlines() if line.startswith(f"| `{setting}` |")]
    assert len(rows) == 1
    (declared,) = [field for field in fields(Config) if field.name == setting]
    assert all(f"`{variable}`" in rows[0] for variable in declared.metadata["env"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_examples_are_python_and_links_lead_somewhere(page: Path) -> None:
    text = page.read_text()
    for example in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        compile(example, page.name, "exec", flags=0x2000)  # top-level await, as in a notebook
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (page.parent / target).exists(), target
