"""TritonPeer: a real gRPC server on a free port that answers as a test scripts it; and tensors for both clients."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2 as messages
from tritonclient.grpc import service_pb2_grpc as services

_FORMATS = {"BOOL": "?", "INT32": "i", "INT64": "q", "UINT32": "I", "FP32": "f", "FP64": "d"}
_DTYPES = {"BOOL": bool, "INT32": np.int32, "INT64": np.int64, "FP32": np.float32, "BYTES": object}
Script = Callable[[Any, Any], Iterable[Any]]
"""(request, gRPC context) -> its responses."""


def tensor(library: Any, name: str, datatype: str, *values: Any, shape: list[int] | None = None, **how: Any) -> Any:
    """An `InferInput` of `tritonclient.http` or `tritonclient.grpc`."""
    array = np.array(values, dtype=_DTYPES[datatype]).reshape(shape or [len(values)])
    made = library.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array, **how)
    return made


def answer(outputs: dict[str, tuple[str, list[Any]]], *, request: Any = None, **fields: Any) -> Any:
    """A `ModelInferResponse` with `outputs` {name: (datatype, values)}, in the name of the request."""
    message = messages.ModelInferResponse(model_version="1", **fields)
    if request is not None:
        message.model_name, message.id = request.model_name, request.id
    for name, (datatype, values) in outputs.items():
        message.outputs.add(name=name, datatype=datatype, shape=[len(values)])
        if datatype == "BYTES":
            raw = b"".join(struct.pack("<I", len(value)) + value for value in values)
        else:
            raw = struct.pack(f"<{len(values)}{_FORMATS[datatype]}", *values)
        message.raw_output_contents.append(raw)
    return message


def streamed(message: Any, *, final: bool | None = None, error: str = "") -> Any:
    """A response on a stream; `final` is the server's mark."""
    if final is not None:
        message.parameters["triton_final_response"].bool_param = final
    return messages.ModelStreamInferResponse(infer_response=message, error_message=error)


class TritonPeer(services.GRPCInferenceServiceServicer):
    """Answers each request by `script`; the unary method takes the first response."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.asked: list[Any] = []
        self.metadata: list[dict[str, Any]] = []
        self._server = grpc.server(ThreadPoolExecutor(4))
        services.add_GRPCInferenceServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self.address = f"127.0.0.1:{self.port}"

    def __enter__(self) -> TritonPeer:  # noqa: PYI034  typing.Self is 3.11
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(0).wait()

    def ModelInfer(self, request: Any, context: Any) -> Any:
        self._note(request, context)
        return next(iter(self.script(request, context)))

    def ModelStreamInfer(self, request_iterator: Iterator[Any], context: Any) -> Iterator[Any]:
        for request in request_iterator:
            self._note(request, context)
            yield from self.script(request, context)

    def _note(self, request: Any, context: Any) -> None:
        self.asked.append(request)
        self.metadata.append({pair.key: pair.value for pair in context.invocation_metadata()})
