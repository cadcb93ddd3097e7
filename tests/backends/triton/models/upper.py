"""Text in, the text in capitals out."""

from __future__ import annotations

import numpy as np
import triton_python_backend_utils as pb


class TritonPythonModel:
    def execute(self, requests):
        return [self._answer(pb.get_input_tensor_by_name(request, "text_input").as_numpy()) for request in requests]

    def _answer(self, rows):
        upper = np.array([[text.upper() for text in row] for row in rows], dtype=object)
        return pb.InferenceResponse([pb.Tensor("text_upper", upper)])
