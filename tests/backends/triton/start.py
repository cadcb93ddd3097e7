"""Start a real Triton server with the models of this folder: run by the Python of the environment it is installed in.

    .cache/triton/bin/python start.py WORK HTTP_PORT GRPC_PORT METRICS_PORT TRACES_URL

WORK is an empty folder for what is put together; the server takes this process' place and stops on SIGINT.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from pathlib import Path

HERE = Path(__file__).parent / "models"
MODELS = {  # name -> the code it runs; its configuration is NAME.pbtxt
    "echo": "echo.py",
    "upper": "upper.py",
    "ensemble": None,
    "ticks": "ticks.py",
    "llm": "llm.py",
    "llm_stream": "llm.py",
    "add": "add.py",
}


def repository(work: Path) -> Path:
    """The model repository: NAME/config.pbtxt and NAME/1/model.py."""
    for name, code in MODELS.items():
        version = work / "models" / name / "1"
        version.mkdir(parents=True)
        shutil.copy(HERE / f"{name}.pbtxt", version.parent / "config.pbtxt")
        if code is not None:
            shutil.copy(HERE / code, version / "model.py")
    return work / "models"


def backends(work: Path, packages: Path) -> Path:
    """The backends folder, with the stub of this very Python: another one cannot load our models."""
    stub = f"{sys.version_info.major}.{sys.version_info.minor}"
    python = work / "backends" / "python"
    shutil.copytree(packages / "pytriton/tritonserver/backends/python", python)
    shutil.copy(packages / f"pytriton/tritonserver/python_backend_stubs/{stub}/triton_python_backend_stub", python)
    return work / "backends"


def main(work: Path, http: str, grpc: str, metrics: str, traces_url: str) -> None:
    """Put everything together and become the server."""
    packages = Path(sysconfig.get_path("purelib"))
    # the stub ignores PYTHONPATH: it takes the first `python3` in PATH for its home, and this Python's libpython
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.prefix) / 'bin'}:{os.environ.get('PATH', '')}",
        "LD_LIBRARY_PATH": f"{packages / 'nvidia_pytriton.libs'}:{sysconfig.get_config_var('LIBDIR')}",
    }
    server = packages / "pytriton/tritonserver/bin/tritonserver"
    flags = [
        f"--model-repository={repository(work)}",
        f"--backend-directory={backends(work, packages)}",
        *(f"--{kind}-address=127.0.0.1" for kind in ("http", "grpc", "metrics")),
        f"--http-port={http}",
        f"--grpc-port={grpc}",
        f"--metrics-port={metrics}",
        "--allow-gpu-metrics=false",
        "--trace-config=mode=opentelemetry",
        "--trace-config=rate=0",  # only what carries a trace context is traced
        "--trace-config=level=TIMESTAMPS",
        f"--trace-config=opentelemetry,url={traces_url}",
        "--trace-config=opentelemetry,bsp_schedule_delay=100",
    ]
    os.execve(server, [str(server), *flags], environment)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:6])
