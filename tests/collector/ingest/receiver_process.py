"""The receivers as a process of their own, whose memory can be measured: prints its ports, ends with its input."""

from __future__ import annotations

import sys
from pathlib import Path

from collector.ingest.servers import serving

if __name__ == "__main__":
    with serving(Path(sys.argv[1])) as (_, http_port, grpc_port):
        print(http_port, grpc_port, flush=True)
        sys.stdin.read()
