"""A ClickHouse server instead of the embedded engine: what is refused at the start, in which words; what is made."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError, ProgrammingError

from collector.store.rows import batch, span
from collector.store.servers import PASSWORD, Tls, authority, double
from limelight_collector.errors import StartupRefused, Unavailable
from limelight_collector.settings import Settings, load
from limelight_collector.store import migrate_store, open_store, preview_store
from limelight_collector.store.connect import connect
from limelight_collector.store.server import explained


@dataclass
class Server:
    """A double with TLS and a password, and settings that reach it."""

    url: str
    tls: Tls

    def settings(self, data_dir: Path, database: str = "limelight", **given: Any) -> Settings:
        wanted = {"clickhouse_password": PASSWORD, "clickhouse_ca_file": self.tls.authority} | given
        return Settings(data_dir=data_dir, clickhouse_url=f"{self.url}/{database}", **wanted)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("server")
    tls = authority(directory)
    with double(directory / "engine", tls=tls, password=PASSWORD) as url:
        yield Server(url, tls)


def refusal(settings: Settings) -> str:
    with pytest.raises(StartupRefused) as caught:
        open_store(settings)
    said = str(caught.value)
    assert "\n" not in said
    assert PASSWORD not in said
    return said


def test_a_wrong_password_is_said(server: Server, tmp_path: Path) -> None:
    assert "wrong user or password: check the user" in refusal(server.settings(tmp_path, clickhouse_password="wrong"))


def test_no_password_is_said(server: Server, tmp_path: Path) -> None:
    assert "wrong user or password" in refusal(server.settings(tmp_path, clickhouse_password=None))


def test_an_unknown_authority_is_said(server: Server, tmp_path: Path) -> None:
    said = refusal(server.settings(tmp_path, clickhouse_ca_file=None))
    assert "TLS:" in said
    assert "LIMELIGHT_CLICKHOUSE_CA_FILE" in said


def test_http_to_a_port_of_tls_is_said(server: Server, tmp_path: Path) -> None:
    said = refusal(Settings(data_dir=tmp_path, clickhouse_url=server.url.replace("https", "http")))
    assert "a port of TLS needs https://" in said


def test_an_authority_that_is_not_there_is_said(server: Server, tmp_path: Path) -> None:
    said = refusal(server.settings(tmp_path, clickhouse_ca_file=tmp_path / "absent.pem"))
    assert "LIMELIGHT_CLICKHOUSE_CA_FILE cannot be read" in said


@contextmanager
def listener(answer: bytes) -> Iterator[int]:
    """A port where every client is told `answer`; what the client said first is not kept anywhere."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    client, _ = listening.accept()
                except OSError:
                    return
                with client:
                    client.recv(65536)
                    client.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_https_is_never_sent_in_the_clear_whatever_the_port(tmp_path: Path) -> None:
    with listener(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") as port:
        said = refusal(Settings(data_dir=tmp_path, clickhouse_url=f"https://u:{port}@127.0.0.1:{port}/x"))
    assert "does not speak TLS there: use http://" in said


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://user@no-such-host.invalid:8123/x", "host name cannot be resolved"),
        ("http://user@127.0.0.1:9/x", "nothing listens there"),
        ("http://user@127.0.0.1:9000/x", "native port"),
        ("clickhouse://user@127.0.0.1/x", "must be http"),
        ("127.0.0.1:8123", "must be http"),
        ("http://user@127.0.0.1:99999/x", "must be http"),
    ],
)
def test_an_address_that_cannot_work_is_said(tmp_path: Path, url: str, message: str) -> None:
    assert message in refusal(Settings(data_dir=tmp_path, clickhouse_url=url))
    assert list(tmp_path.iterdir()) == []


def test_an_old_server_is_refused_untouched(tmp_path: Path) -> None:
    with double(tmp_path / "engine", version="24.3.18.7") as url:
        said = refusal(Settings(data_dir=tmp_path / "data", clickhouse_url=f"{url}/limelight"))
        assert "has version 24.3.18.7; Limelight needs 26.3 or newer" in said
        client = connect(Settings(data_dir=tmp_path, clickhouse_url=url), {})
        assert "limelight" not in [row[0] for row in client.query("SHOW DATABASES").result_rows]
        client.close()


def test_a_dry_run_makes_no_database_and_a_start_does(server: Server, tmp_path: Path) -> None:
    settings = server.settings(tmp_path, "odd`name\\")
    would_run = preview_store(settings)
    assert preview_store(settings) == would_run != []
    assert migrate_store(settings) != []
    assert migrate_store(settings) == []
    assert preview_store(settings) == []


def test_the_password_may_be_in_a_file_and_in_no_message(server: Server, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(PASSWORD + "\n")
    given = {"clickhouse_password": "", "clickhouse_password_file": secret}
    open_store(server.settings(tmp_path, **given)).close()
    secret.write_text("another")
    assert "another" not in refusal(server.settings(tmp_path, **given))
    secret.write_text(PASSWORD)
    store = open_store(server.settings(tmp_path, **given))
    secret.unlink()
    with pytest.raises(Unavailable, match="PASSWORD_FILE cannot be read"):
        store.ping()
    secret.write_text(PASSWORD)
    store.ping()
    store.close()
    secret.unlink()
    assert "LIMELIGHT_CLICKHOUSE_PASSWORD_FILE cannot be read" in refusal(server.settings(tmp_path, **given))


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LIMELIGHT_CLICKHOUSE_PASSWORD_FILE", str(tmp_path / "s"))
    monkeypatch.setenv("LIMELIGHT_CLICKHOUSE_VERIFY", "false")
    assert load().clickhouse_password_file == tmp_path / "s"
    assert load().clickhouse_verify is False
    monkeypatch.setenv("LIMELIGHT_CLICKHOUSE_CLUSTER", "x'; DROP")
    with pytest.raises(StartupRefused, match="CLICKHOUSE_CLUSTER"):
        load()


@pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")  # an operator sees it, once
def test_a_certificate_that_nobody_checks_is_taken(server: Server, tmp_path: Path) -> None:
    settings = server.settings(tmp_path, clickhouse_ca_file=None, clickhouse_verify=False)
    store = open_store(settings)
    store.ping()
    store.close()


def test_a_server_that_goes_away_is_waited_for(tmp_path: Path) -> None:
    with double(tmp_path / "engine") as url:
        store = open_store(Settings(data_dir=tmp_path, clickhouse_url=url, retention_days=36_500))
        store.insert(batch(span(project_id="p")))
    with pytest.raises(Unavailable, match="nothing listens there"):
        store.insert(batch(span(2, project_id="p")))
    with pytest.raises(Unavailable, match="nothing listens there"):
        store.ping()
    store.close()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (DatabaseError("Cannot modify 'x' setting in readonly mode", code=164), "may only read"),
        (ProgrammingError("Setting max_rows is unknown or readonly"), "may only read"),
        (DatabaseError("Not enough space", code=243), "disk is full"),
        (DatabaseError("limelight: Not enough privileges", code=497), "not allowed to"),
        (DatabaseError("Setting x should not be changed", code=452), "forbids a setting"),
        (DatabaseError("new in this release", code=9999), "new in this release"),
    ],
)
def test_what_only_a_real_server_says_is_explained(error: Exception, said: str) -> None:
    assert said in explained(error)
