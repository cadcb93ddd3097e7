"""Runs the pages: one Streamlit process, settings fixed here so that no file on the machine can loosen them."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

COLLECTOR_URL = "LIMELIGHT_COLLECTOR_URL"
API_KEY = "LIMELIGHT_API_KEY"
DEFAULT_COLLECTOR_URL = "http://127.0.0.1:4318"

_SCRIPT = Path(__file__).with_name("app.py")


def serve(
    host: str = "127.0.0.1",
    port: int = 8501,
    collector_url: str = DEFAULT_COLLECTOR_URL,
    api_key: str | None = None,
    exit_with_parent: bool = False,
) -> None:
    """Serve the dashboard until it is told to stop; blocks, and owns the process's main thread.

    `collector_url` is the address of the HTTP API. `exit_with_parent`: stdin is a pipe held by the parent, and its end
    is ours too, so that a killed parent never leaves an orphan.
    """
    os.environ[COLLECTOR_URL] = collector_url
    if api_key:
        os.environ[API_KEY] = api_key
    if exit_with_parent:
        threading.Thread(target=_exit_at_end_of_stdin, name="parent-watch", daemon=True).start()
    _run_streamlit(host, port)


def _exit_at_end_of_stdin() -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os._exit(0)


def _run_streamlit(host: str, port: int) -> None:
    # Imported here: `limelight --help` must not pay for Streamlit.
    from streamlit import config
    from streamlit.web import bootstrap

    options: dict[str, object] = {
        "server_address": host,
        "server_port": port,
        "server_headless": True,
        "server_fileWatcherType": "none",
        "server_runOnSave": False,
        "server_enableXsrfProtection": True,
        "server_enableCORS": True,
        "browser_gatherUsageStats": False,
        "client_showErrorDetails": "none",
        "client_showErrorLinks": False,
        "client_toolbarMode": "minimal",
        "client_disableDataExport": True,
        "logger_level": "warning",
    }
    config._main_script_path = str(_SCRIPT)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] (what `streamlit run` does: finds .streamlit/config.toml beside app.py)
    bootstrap.load_config_options(options)
    bootstrap.run(str(_SCRIPT), is_hello=False, args=[], flag_options=options)
