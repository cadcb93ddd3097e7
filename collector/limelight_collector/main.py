"""The collector's process: refuse early, open in order, run, close in reverse order.

Nothing on disk is touched before every refusal that can be decided without it has been decided (address without keys,
port in use). Nothing forks after the store is open (chDB would hang in the child).
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ipaddress
import logging
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import ExitStack, asynccontextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

import uvicorn

from limelight_collector import metrics
from limelight_collector.auth import DEFAULT_PROJECT, SCOPES, Principal, authenticate, with_process_keys
from limelight_collector.canary import PROJECT as CANARY_PROJECT
from limelight_collector.canary import Canary, Finding
from limelight_collector.errors import StartupRefused
from limelight_collector.lock import DataDirLock
from limelight_collector.owner import Owner, announced
from limelight_collector.restore import PARTIAL as RESTORE_PARTIAL

if TYPE_CHECKING:
    from limelight_collector.control import Control
    from limelight_collector.rollups import Rollups
    from limelight_collector.services import Services
    from limelight_collector.settings import Settings

log = logging.getLogger("limelight")

GRACE_S = 10
"""Seconds that requests in flight get at a stop."""


class Collector:
    """One collector: `run()` serves until SIGTERM or Ctrl-C and returns the exit code."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.dashboard_key = secrets.token_urlsafe(32)
        """Lets the dashboard that `limelight up` starts read project `default`; lives as long as this process."""
        self._canary_key = secrets.token_urlsafe(32)
        self._owner_key = secrets.token_urlsafe(32)
        self._canary: Canary | None = None
        self._on_ready: list[Callable[[], None]] = []
        self._closing = False

    def on_ready(self, action: Callable[[], None]) -> None:
        """Call `action` once the ports answer."""
        self._on_ready.append(action)

    def require_free_port(self, flag: str, port: int, host: str | None = None) -> None:
        """Raise `StartupRefused` where `port` is taken."""
        _bind(host or self.settings.host, port, flag).close()

    def run(self) -> int:
        """Open everything, serve, close everything."""
        settings = self.settings
        from limelight_collector.alerts.file import load_rules_file

        configure_logging(settings.log_level)
        _require_keys_off_loopback(settings)
        http_socket = _bind(settings.host, settings.http_port, "--http-port")
        settings.http_port = http_socket.getsockname()[1]
        self.require_free_port("--grpc-port", settings.grpc_port)
        if settings.rules_file is not None:
            load_rules_file(settings.rules_file, settings.webhook_allowed_hosts)
        with ExitStack() as stack:
            stack.enter_context(http_socket)
            services = self._open(stack)
            self._serve(services, http_socket)
        return 0

    def _open(self, stack: ExitStack) -> Services:
        """Lock, databases, spool and threads, each registered for closing."""
        from limelight_collector import snapshot
        from limelight_collector.alerts.evaluate import AlertLoop
        from limelight_collector.enrich.cost import Prices
        from limelight_collector.rollups import Rollups
        from limelight_collector.services import Services
        from limelight_collector.spool import Spool
        from limelight_collector.store import open_store
        from limelight_collector.writer import Writer

        settings = self.settings
        _make_data_dir(settings)
        stack.enter_context(DataDirLock(settings.data_dir))
        snapshot.tidy(settings.data_dir)
        stack.enter_context(announced(settings.data_dir, Owner(own_url(settings), self._owner_key)))
        control = stack.enter_context(open_control(settings))
        store = open_store(settings)
        stack.callback(store.close)
        spool = Spool(
            settings.data_dir / "spool.db", max_bytes=settings.spool_max_bytes, min_free_bytes=settings.min_free_bytes
        )
        spool.start()
        stack.callback(spool.stop)
        metrics.REGISTRY.register(metrics.LedgerCollector(spool.ledger))
        metrics.watch_process(time.time_ns(), time.time_ns)
        writer = Writer(spool, store, Prices(control.price_overrides), settings, now_ns=time.time_ns)
        writer.start()
        stack.callback(writer.stop, GRACE_S)
        rollups = Rollups(store, time.time_ns)
        services = Services(
            settings=settings,
            store=store,
            control=control,
            spool=spool,
            now_ns=time.time_ns,
            authenticate=_authenticator(settings, control, self.dashboard_key, self._canary_key, self._owner_key),
            checks=lambda: {
                "spool": spool.healthy,
                "disk": spool.has_disk,
                "writer": writer.alive,
                "open": not self._closing,
            },
            degraded=lambda: writer.storage_failing,
            rollups_pending=lambda: rollups.pending,
        )
        if settings.canary_interval_s:
            self._canary = Canary(own_url(settings), self._canary_key, settings.canary_interval_s, time.time_ns)
            services.canary = lambda: self._canary.last if self._canary else Finding("off")
        is_leader = _leadership(settings, control, stack)
        _start_upkeep(services, rollups, writer.forget, is_leader, stack)
        alerts = AlertLoop(services, now_s=time.time, is_leader=is_leader)
        alerts.start()
        stack.callback(alerts.stop)
        return services

    def _serve(self, services: Services, http_socket: socket.socket) -> None:
        from limelight_collector.api.app import create_app
        from limelight_collector.receive.connection import IDLE_TIMEOUT_S, GuardedProtocol
        from limelight_collector.receive.grpc import serve_grpc
        from limelight_collector.receive.http import OtlpApp
        from limelight_collector.receive.small_bodies import SmallBodies
        from limelight_collector.request_ids import RequestIds

        settings = self.settings
        grpc_server = serve_grpc(services, settings.host, settings.grpc_port)
        app = create_app(services)
        app.router.lifespan_context = self._lifespan
        config = uvicorn.Config(
            RequestIds(OtlpApp(SmallBodies(app), services)),
            http=GuardedProtocol,
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=IDLE_TIMEOUT_S,
            timeout_graceful_shutdown=GRACE_S,
        )
        _Server(config, self._close).run(sockets=[http_socket])
        grpc_server.stop(GRACE_S).wait()

    def _close(self) -> None:
        self._closing = True

    @asynccontextmanager
    async def _lifespan(self, _app: Any) -> AsyncGenerator[None]:
        address = f"http://{self.settings.host}:{self.settings.http_port}"
        _spare_the_heap()
        _share_the_interpreter()
        print(f"limelight: OTLP and API on {address}, OTLP/gRPC on port {self.settings.grpc_port}", flush=True)
        for action in self._on_ready:
            action()
        if self._canary is not None:
            self._canary.start()
        yield
        if self._canary is not None:
            await asyncio.to_thread(self._canary.stop)


def _spare_the_heap() -> None:
    """Keep the garbage collector off what lives as long as the process, and let it look at whole batches.

    A batch of spans is 75,000 objects without cycles; with Python's own thresholds the collector walked the modules,
    the schema and the prices again and again while one was built, 9 % of the writer's CPU (docs/performance.md).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 10, 10)


def _share_the_interpreter() -> None:
    """Let a thread that answers a client interrupt the writer after 0.5 ms, and not after Python's 5 ms.

    Every step of an acknowledgement that leaves the interpreter (inflate, digest, each SQLite statement, the sync) has
    to get it back from the writer's thread: a dozen waits of 5 ms were an acknowledgement's p99 (docs/performance.md).
    """
    sys.setswitchinterval(0.0005)


class _Server(uvicorn.Server):
    """uvicorn with signals of our own: the first SIGTERM or Ctrl-C stops in order, the second at once.

    uvicorn's own handling sends the signal again after its shutdown, which would end this process before the spool and
    the store are closed.
    """

    def __init__(self, config: uvicorn.Config, on_signal: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_signal = on_signal

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Handle both signals while serving, and put back what was there."""

        def stop(number: int, frame: FrameType | None) -> None:
            self._on_signal()
            self.handle_exit(number, frame)

        before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _start_upkeep(
    services: Services,
    rollups: Rollups,
    forget: Callable[[str], None],
    is_leader: Callable[[], bool],
    stack: ExitStack,
) -> None:
    """Start the maintenance thread with its tasks; `forget` makes the writer forget a project's traces."""
    from limelight_collector.deletion import DELETIONS_EVERY_S, Deletions
    from limelight_collector.maintenance import Maintenance, Task
    from limelight_collector.retention_upkeep import RETENTION_EVERY_S, Retention
    from limelight_collector.rollups import ROLL_EVERY_S

    settings, control, store = services.settings, services.control, services.store
    cluster = settings.clickhouse_cluster
    retention = Retention(store, control.retention.all, now_ns=services.now_ns, cluster=cluster)
    deletions = Deletions(control.deletions, store, settings.data_dir, forget=forget, cluster=cluster)
    tasks = [
        Task("rollups", ROLL_EVERY_S, rollups.roll),
        Task("retention", RETENTION_EVERY_S, retention.apply),
        Task("deletions", DELETIONS_EVERY_S, deletions.run),
    ]
    maintenance = Maintenance(tasks, is_leader)
    maintenance.start()
    stack.callback(maintenance.stop, GRACE_S)
    stack.callback(rollups.stop)


def _leadership(settings: Settings, control: Control, stack: ExitStack) -> Callable[[], bool]:
    """Whether this collector does what is done once for all: always where it is alone with its data directory."""
    if not settings.control_url:
        return lambda: True
    from limelight_collector.leader import Leader

    leader = Leader(control.leases, f"{socket.gethostname()[:40]}-{secrets.token_hex(8)}", now_s=time.time)
    leader.start()
    stack.callback(leader.stop)
    return leader.is_leader


def migrate_all(settings: Settings, *, allow_destructive: bool = False) -> list[str]:
    """Migrate control database and store; returns the steps applied."""
    from limelight_collector.control.database import migrate
    from limelight_collector.store import migrate_store

    _make_data_dir(settings)
    with DataDirLock(settings.data_dir):
        return [
            *migrate(control_url(settings), allow_destructive=allow_destructive),
            *migrate_store(settings, allow_destructive=allow_destructive),
        ]


def preview_migration(settings: Settings) -> str:
    """The SQL that `migrate_all` would run on both databases, exactly; "" where nothing is due. Makes nothing."""
    from limelight_collector.control.database import preview
    from limelight_collector.store import preview_store

    lock = DataDirLock(settings.data_dir) if settings.data_dir.exists() else contextlib.nullcontext()
    with lock:
        control, store = preview(control_url(settings)), preview_store(settings)
    parts = [f"-- the control database\n{control}"] if control else []
    parts += ["-- the store\n" + "\n".join(f"{statement};" for statement in store)] if store else []
    return "\n\n".join(parts)


@contextlib.contextmanager
def open_control(settings: Settings) -> Generator[Control]:
    """The control database, migrated; safe beside a running collector."""
    from limelight_collector.control import Control

    _make_data_dir(settings)
    control = Control(control_url(settings))
    try:
        yield control
    finally:
        control.close()


def control_url(settings: Settings) -> str:
    """SQLAlchemy URL of the control database."""
    return settings.control_url or f"sqlite:///{settings.data_dir.resolve() / 'control.db'}"


def configure_logging(level: str) -> None:
    """JSON lines on stderr, the same line at most once a minute; fields come as `extra={"fields": {…}}`."""
    from limelight_collector.metrics import JsonFormatter, OncePerMinute

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    handler.addFilter(OncePerMinute())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in ("httpx", "alembic", "clickhouse_connect", "uvicorn.error"):
        logging.getLogger(name).setLevel(logging.WARNING)


def own_url(settings: Settings) -> str:
    """Where this process reaches its own HTTP port."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104 (compared)
    return f"http://[{host}]:{settings.http_port}" if ":" in host else f"http://{host}:{settings.http_port}"


def _authenticator(
    settings: Settings, control: Control, dashboard_key: str, canary_key: str, owner_key: str
) -> Callable[[str | None], Principal]:
    canary = {canary_key: Principal(CANARY_PROJECT, frozenset({"ingest", "read"}), key_id="canary")}
    find_canary = with_process_keys(canary, lambda _: None)
    known = {dashboard_key: Principal(DEFAULT_PROJECT, frozenset({"read"}), key_id="dashboard")}
    known[owner_key] = Principal(DEFAULT_PROJECT, SCOPES, key_id="owner")
    if settings.bootstrap_key is not None:
        known[settings.bootstrap_key.get_secret_value()] = Principal(DEFAULT_PROJECT, SCOPES, key_id="bootstrap")
    find_key = with_process_keys(known, control.find_key)

    def authenticate_header(authorization: str | None) -> Principal:
        probing = find_canary((authorization or "").removeprefix("Bearer "))
        if probing is not None:  # its project is its own also where keys are not asked for
            return probing
        required = settings.bootstrap_key is not None or control.has_keys()
        return authenticate(authorization, keys_required=required, find_key=find_key)

    return authenticate_header


def _require_keys_off_loopback(settings: Settings) -> None:
    if is_loopback(settings.host) or settings.bootstrap_key:
        return
    if settings.control_url or (settings.data_dir / "control.db").exists():
        with open_control(settings) as control:
            if control.has_keys():
                return
    raise StartupRefused(
        f"refusing to listen on {settings.host} without keys: anyone who reaches it could read every prompt. Make one "
        "with `limelight keys create --project default --scope ingest`, or set LIMELIGHT_BOOTSTRAP_KEY"
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _bind(host: str, port: int, flag: str) -> socket.socket:
    """A listening socket on `host:port`; `StartupRefused` names the flag where the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(512)
    except OSError as error:
        listener.close()
        raise StartupRefused(f"cannot listen on {host}:{port} ({error.strerror}); pass another {flag}") from None
    return listener


def _make_data_dir(settings: Settings) -> None:
    """Create the data directory (mode 0700: it holds prompts) or refuse with the reason."""
    path = settings.data_dir
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StartupRefused(f"cannot create {path} ({error.strerror}); pass another --data-dir") from None
    if not path.is_dir() or not os.access(path, os.W_OK | os.X_OK):
        raise StartupRefused(f"cannot write to {path}; fix its permissions or pass another --data-dir")
    if (path / RESTORE_PARTIAL).exists():
        raise StartupRefused(f"{path} holds an unfinished restore: delete it and run `limelight restore` again")
