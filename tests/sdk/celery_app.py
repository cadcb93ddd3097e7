"""A Celery worker with traced tasks, over files: `python celery_app.py DIRECTORY ENDPOINT`; runs until it is ended."""

from __future__ import annotations

import sys

from celery import Celery

import limelight


def make(directory: str) -> Celery:
    """An application whose broker and results are files below a directory."""
    app = Celery("tasks", broker="filesystem://", backend=f"file://{directory}/results")
    app.conf.broker_transport_options = {
        "data_folder_in": f"{directory}/queue",
        "data_folder_out": f"{directory}/queue",
        "control_folder": f"{directory}/control",
    }

    @app.task(name="greet")
    def greet(name: str) -> str:
        with limelight.span(f"greet {name}"):
            return f"hello {name}"

    return app


if __name__ == "__main__":
    limelight.init(endpoint=sys.argv[2], service_name="worker")
    options = ["--pool=prefork", "--concurrency=2", "--max-tasks-per-child=1", "--loglevel=ERROR"]
    make(sys.argv[1]).worker_main(["worker", "--without-gossip", "--without-mingle", "--without-heartbeat", *options])
