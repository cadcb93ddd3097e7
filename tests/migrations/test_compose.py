"""docker-compose.yml against what it names: settings, commands, ports, volumes, secrets. No Docker engine is needed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from limelight.cli import main
from limelight_collector.settings import Settings
from limelight_collector.store.server import OLDEST

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docker-compose.yml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, Any] = COMPOSE["services"]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_watched_restarted_and_waits_for_healthy_ones(name: str) -> None:
    service = SERVICES[name]
    assert service["healthcheck"]["test"]
    assert service["restart"] == "unless-stopped"
    for other, how in service.get("depends_on", {}).items():
        assert how == {"condition": "service_healthy"}
        assert "healthcheck" in SERVICES[other]


def test_what_is_mounted_is_declared() -> None:
    volumes = {volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])}
    secrets = {secret for service in SERVICES.values() for secret in service.get("secrets", [])}
    assert volumes == set(COMPOSE["volumes"])
    assert secrets == set(COMPOSE["secrets"])
    for service in SERVICES.values():
        for value in service["environment"].values():
            if str(value).startswith("/run/secrets/"):
                assert value.removeprefix("/run/secrets/") in service["secrets"]


def test_every_setting_exists_and_is_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    for service in (SERVICES["collector"], SERVICES["dashboard"]):
        for name, value in service["environment"].items():
            assert name.removeprefix("LIMELIGHT_").lower() in Settings.model_fields
            monkeypatch.setenv(name, value)
    settings = Settings()
    assert settings.clickhouse_url == "http://limelight@clickhouse:8123/limelight"
    assert settings.clickhouse_url.count("clickhouse:8123") == 1
    clickhouse = SERVICES["clickhouse"]["environment"]
    assert (clickhouse["CLICKHOUSE_USER"], clickhouse["CLICKHOUSE_DB"]) == ("limelight", "limelight")


@pytest.mark.parametrize("name", ["collector", "dashboard"])
def test_every_command_is_one(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    verb, *arguments = SERVICES[name]["command"][1:]
    with pytest.raises(SystemExit) as ended:
        main([verb, "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert [option for option in arguments if option.startswith("--") and option not in said] == []


def test_there_is_no_password_and_no_default_for_a_key() -> None:
    assert "PASSWORD:" not in TEXT.replace("_PASSWORD_FILE", "")
    assert set(re.findall(r"\$\{(\w+)(?=[}:])", TEXT)) == {"LIMELIGHT_BOOTSTRAP_KEY"}
    assert TEXT.count("${") == TEXT.count(":?")


def test_the_server_is_new_enough() -> None:
    version = SERVICES["clickhouse"]["image"].rsplit(":", 1)[1]
    assert tuple(int(part) for part in version.split(".")) >= OLDEST
