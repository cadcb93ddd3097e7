"""Text in, `echo: ` and the text out; `fail` fails."""

from __future__ import annotations

import numpy as np
import triton_python_backend_utils as pb


class TritonPythonModel:
    def execute(self, requests):
        return [self._answer(pb.get_input_tensor_by_name(request, "text_input").as_numpy()) for request in requests]

    def _answer(self, rows):
        if any(text == b"fail" for text in rows.ravel()):
            return pb.InferenceResponse(error=pb.TritonError("model said no"))
        echoed = np.array([[b"echo: " + text for text in row] for row in rows], dtype=object)
        return pb.InferenceResponse([pb.Tensor("text_output", echoed)])
