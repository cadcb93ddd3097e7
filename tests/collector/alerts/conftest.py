"""A real control database, a real store, a real webhook receiver on loopback; only the clock is ours."""

import http.server
import json
import threading
from dataclasses import dataclass, field

import pytest

from collector.store.rows import SECOND, T0
from limelight_collector.auth import ANYONE
from limelight_collector.control import Control
from limelight_collector.services import Services
from limelight_collector.settings import Settings
from limelight_collector.spool import Spool
from limelight_collector.store import open_store

T0_S = T0 / SECOND


class Clock:
    """Unix seconds; call it to read it."""

    def __init__(self) -> None:
        self.now_s = T0_S

    def __call__(self) -> float:
        return self.now_s


@dataclass
class Receiver:
    """What arrived: bodies as JSON, raw bodies and headers; `statuses` are answered in order, then 204."""

    url: str
    bodies: list = field(default_factory=list)
    raw: list = field(default_factory=list)
    headers: list = field(default_factory=list)
    statuses: list = field(default_factory=list)
    location: str = ""


@pytest.fixture
def receiver():
    found = Receiver("")

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            found.raw.append(raw)
            found.bodies.append(json.loads(raw))
            found.headers.append(self.headers)
            status = found.statuses.pop(0) if found.statuses else 204
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("Location", found.location)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args):
            """Keep the terminal for the tests."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.url = f"http://127.0.0.1:{server.server_port}/hook?x=1"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def control_url(tmp_path):
    return f"sqlite:///{tmp_path / 'control.db'}"


@pytest.fixture
def control(control_url, clock):
    opened = Control(control_url, now_s=clock)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    opened = open_store(Settings(data_dir=tmp_path_factory.mktemp("alerts"), retention_days=36_500))
    yield opened
    opened.close()


@pytest.fixture
def services(control, store, clock, tmp_path):
    spool = Spool(tmp_path / "spool.db", max_bytes=2**20, min_free_bytes=0)
    spool.start()
    yield Services(
        settings=Settings(
            data_dir=tmp_path, alert_delay_s=0, alert_interval_s=0.05, webhook_allowed_hosts=["127.0.0.1"]
        ),
        store=store,
        control=control,
        spool=spool,
        now_ns=lambda: int(clock() * 1e9),
        authenticate=lambda _header: ANYONE,
        checks=dict,
        degraded=lambda: False,
    )
    spool.stop()
