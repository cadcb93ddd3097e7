"""`python -m limelight_dashboard`: the dashboard's own process, as `limelight dashboard` and `up` start it."""

from __future__ import annotations

import argparse
import os

from limelight_dashboard.server import API_KEY, COLLECTOR_URL, DEFAULT_COLLECTOR_URL, serve


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and serve; the API key comes from the environment, never from an argument."""
    parser = argparse.ArgumentParser(prog="limelight_dashboard", description="Serve Limelight's dashboard.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=8501, help="port to listen on")
    parser.add_argument(
        "--collector-url",
        default=os.environ.get(COLLECTOR_URL) or DEFAULT_COLLECTOR_URL,
        help="address of the collector's HTTP API",
    )
    parser.add_argument("--exit-with-parent", action="store_true", help="exit when standard input ends")
    options = parser.parse_args(arguments)
    serve(options.host, options.port, options.collector_url, os.environ.get(API_KEY), options.exit_with_parent)


if __name__ == "__main__":
    main()
