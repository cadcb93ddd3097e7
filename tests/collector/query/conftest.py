"""An empty store for the questions; each test writes to a project of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from limelight_collector.settings import Settings
from limelight_collector.store import Store, open_store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    opened = open_store(Settings(data_dir=tmp_path_factory.mktemp("query"), retention_days=36_500))
    yield opened
    opened.close()
