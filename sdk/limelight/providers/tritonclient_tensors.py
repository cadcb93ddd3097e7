"""Tensors of Triton's clients to plain values, beside the caller: nothing is consumed, changed or copied twice.

Only tensors with a wanted name are looked into, and of these no more than `MAX_ELEMENTS`. What lies in shared memory is
the caller's and the server's alone, and stays unknown.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any

from limelight.providers.tritonclient_fields import Names, Values
from limelight.values import is_a, items, number, word

MAX_ELEMENTS = 4096
"""Larger tensors are images and embeddings, not prompts and counts."""
_FORMATS = {
    "BOOL": "?",
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
    "FP16": "e",
    "FP32": "f",
    "FP64": "d",
}
_SHARED = "shared_memory_region"


def decode(datatype: str, raw: bytes) -> list[Any]:
    """The elements of a tensor as it is on the wire: little-endian, strings after their length of four bytes."""
    if datatype == "BYTES":
        return _strings(raw)
    code = _FORMATS.get(datatype)
    if code is None:  # BF16
        return []
    count, rest = divmod(len(raw), struct.calcsize(code))
    if rest or count > MAX_ELEMENTS:
        return []
    return [neat(datatype, value) for value in struct.unpack(f"<{count}{code}", raw)]


def _strings(raw: bytes) -> list[Any]:
    found: list[Any] = []
    offset = 0
    while offset + 4 <= len(raw) and len(found) < MAX_ELEMENTS:
        (length,) = struct.unpack_from("<I", raw, offset)
        found.append(raw[offset + 4 : offset + 4 + length])
        offset += 4 + length
    return found


def neat(datatype: str, value: Any) -> Any:
    """A float of 32 bits as it was written: 0.7, not 0.699999988079071."""
    if datatype != "FP32" or not isinstance(value, float):
        return value
    short = float(f"{value:.7g}")
    try:
        return short if struct.pack("<f", short) == struct.pack("<f", value) else value
    except OverflowError:  # rounded past the largest
        return value


def of_inputs(inputs: Any, names: Names) -> Values:
    """The wanted `InferInput`s of either client; a value of no known kind is passed over."""
    found: Values = {}
    for tensor in _own(inputs):
        name = _called(tensor, "name")
        if name not in names.wanted:
            continue
        datatype = str(_called(tensor, "datatype"))
        raw = _called(tensor, "_get_binary_data") or _called(tensor, "_get_content")
        data = getattr(tensor, "_data", None)  # what an HTTP request sends as JSON
        if type(raw) is bytes:
            found[name] = decode(datatype, raw)
        elif type(data) is list and len(data) <= MAX_ELEMENTS:
            found[name] = [neat(datatype, value) for value in data]
    return found


def _own(inputs: Any) -> list[Any]:
    """Those of the client's own classes: their methods may be called, a mock's not."""
    return [tensor for tensor in items(inputs) if type(tensor).__module__.partition(".")[0] == "tritonclient"]


def _called(tensor: Any, method: str) -> Any:
    function = getattr(tensor, method, None)
    return function() if callable(function) else None


def shapes_of_inputs(inputs: Any) -> list[dict[str, Any]]:
    """Name, type and shape of each input: what there is to say of a request without text."""
    return [
        {
            "name": word(_called(tensor, "name")),
            "datatype": word(_called(tensor, "datatype")),
            "shape": list(_called(tensor, "shape") or ()),
        }
        for tensor in _own(inputs)
    ]


def of_parameters(parameters: Any, names: Names) -> Values:
    """The wanted request parameters (the vLLM backend takes sampling parameters there)."""
    if not is_a(parameters, dict):
        return {}
    return {
        name: [known]
        for key, value in dict.items(parameters)
        if (name := word(key)) in names.wanted and (known := _plain(value)) is not None
    }


def _plain(value: Any) -> Any:
    if type(value) is bool:
        return value
    text = word(value)
    return number(value) if text is None else text


def of_message(tensors: Iterable[Any], raws: Iterable[bytes], names: Names) -> Values:
    """The wanted tensors of a gRPC message: a request's inputs or a response's outputs with their raw contents."""
    return {
        tensor.name: decode(tensor.datatype, raw)
        for tensor, raw in zip(tensors, raws, strict=False)
        if names.wants(tensor.name, tensor.datatype) and _SHARED not in tensor.parameters
    }


def of_request(message: Any, names: Names) -> Values:
    """The wanted inputs of a `ModelInferRequest`, which holds raw contents only of those not in shared memory."""
    own = [tensor for tensor in message.inputs if _SHARED not in tensor.parameters]
    given = {key: _parameter(value) for key, value in message.parameters.items() if key in names.wanted}
    return {
        **{key: [value] for key, value in given.items() if value is not None},
        **of_message(own, message.raw_input_contents, names),
    }


def shapes_of_request(message: Any) -> list[dict[str, Any]]:
    """Name, type and shape of each input of a `ModelInferRequest`."""
    return [
        {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)} for tensor in message.inputs
    ]


def _parameter(value: Any) -> Any:
    kind = value.WhichOneof("parameter_choice")
    return None if kind is None else getattr(value, kind)


def of_response(message: Any, names: Names) -> Values:
    """The wanted outputs of a `ModelInferResponse`."""
    return of_message(message.outputs, message.raw_output_contents, names)


def of_result(result: Any, names: Names) -> Values:
    """The wanted outputs of an HTTP `InferResult`."""
    found: Values = {}
    for output in result.get_response().get("outputs") or ():
        name, parameters = output["name"], output.get("parameters") or {}
        if names.wants(name, output["datatype"]) and _SHARED not in parameters:
            array = result.as_numpy(name)
            if array is not None and array.size <= MAX_ELEMENTS:
                found[name] = [neat(output["datatype"], value) for value in array.reshape(-1).tolist()]
    return found
