"""A decoupled model without text: `count` responses, then the final flag alone."""

from __future__ import annotations

import numpy as np
import triton_python_backend_utils as pb


class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            count = int(pb.get_input_tensor_by_name(request, "count").as_numpy()[0])
            for tick in range(count):
                sender.send(pb.InferenceResponse([pb.Tensor("tick", np.array([tick], dtype=np.int32))]))
            sender.send(flags=pb.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
