"""Shaped like the vLLM backend: a real byte-pair tokeniser, text and counts as tensors, counts new since the response
before. The text is no model's: the answer walks through the prompt's own tokens.

`fail` in the prompt fails before the first token, `break` after the second, `slow` waits between tokens.
"""

from __future__ import annotations

import time
from collections import Counter
from itertools import pairwise

import numpy as np
import triton_python_backend_utils as pb

CORPUS = (
    "the quick brown fox jumps over the lazy dog and then the other fox jumps over the other dog because the "
    "weather in oslo is fine and the colour of the sky is blue while the answer to the question is not known to "
    "anybody who asks what the capital of the country is and why the reason for this is what it is"
)
MERGES = 60


def _merged(tokens, pair):
    merged = []
    for token in tokens:
        if merged and (merged[-1], token) == pair:
            merged[-1] = merged[-1] + token
        else:
            merged.append(token)
    return merged


class Tokeniser:
    """Byte-pair encoding, trained when the model is loaded."""

    def __init__(self):
        self.merges = []
        tokens = [bytes([byte]) for byte in CORPUS.encode()]
        for _ in range(MERGES):
            pair, count = Counter(pairwise(tokens)).most_common(1)[0]
            if count < 2:
                break
            self.merges.append(pair)
            tokens = _merged(tokens, pair)

    def encode(self, text):
        tokens = [bytes([byte]) for byte in text]
        for pair in self.merges:
            tokens = _merged(tokens, pair)
        return tokens


class TritonPythonModel:
    def initialize(self, args):
        self.tokeniser = Tokeniser()
        self.decoupled = '"decoupled":true' in args["model_config"].replace(" ", "")

    def execute(self, requests):
        if not self.decoupled:
            return [self._whole(request) for request in requests]
        for request in requests:
            sender = request.get_response_sender()
            try:
                if _given(request, "stream", False):
                    for response in self._responses(request):
                        sender.send(response)
                else:
                    sender.send(self._whole(request))
            except ValueError as error:
                sender.send(pb.InferenceResponse(error=pb.TritonError(str(error))))
            sender.send(flags=pb.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        return None

    def _whole(self, request):
        arrival = time.time_ns()
        try:
            prompt, answer, reason = self._generated(request)
        except ValueError as error:
            return pb.InferenceResponse(error=pb.TritonError(str(error)))
        now = time.time_ns()
        stamps = (arrival, arrival + 1_000_000, now + 2_000_000, now + 3_500_000)  # apart, so that none is another's
        return _response(request, b"".join(answer), len(prompt), len(answer), reason, stamps)

    def _responses(self, request):
        prompt, answer, reason = self._generated(request)
        text = _text(request)
        for index, token in enumerate(answer):
            if request.is_cancelled():
                return
            if b"slow" in text:
                time.sleep(0.05)
            if b"break" in text and index == 2:
                raise ValueError("broken inside")
            is_last = index == len(answer) - 1
            yield _response(request, token, len(prompt), 1, reason if is_last else "None", None)

    def _generated(self, request):
        """The prompt's tokens, the answer's, and why it ends: `length`, or `stop` at the end of the prompt."""
        text = _text(request)
        if b"fail" in text:
            raise ValueError("model said no")
        prompt = self.tokeniser.encode(text)
        limit = int(_given(request, "max_tokens", 16))
        return prompt, prompt[:limit], "length" if len(prompt) > limit else "stop"


def _text(request):
    return pb.get_input_tensor_by_name(request, "text_input").as_numpy().ravel()[0]


def _given(request, name, default):
    tensor = pb.get_input_tensor_by_name(request, name)
    return default if tensor is None else tensor.as_numpy().ravel()[0]


def _response(request, text, inputs, outputs, reason, stamps):
    tensors = [pb.Tensor("text_output", np.array([text], dtype=object))]
    if _given(request, "return_finish_reason", False):
        tensors.append(pb.Tensor("finish_reason", np.array([reason.encode()], dtype=object)))
    if _given(request, "return_num_input_tokens", False):
        tensors.append(pb.Tensor("num_input_tokens", np.array([inputs], dtype=np.uint32)))
    if _given(request, "return_num_output_tokens", False):
        tensors.append(pb.Tensor("num_output_tokens", np.array([outputs], dtype=np.uint32)))
    if stamps is not None and _given(request, "return_perf_metrics", False):
        names = ("arrival_time_ns", "first_scheduled_time_ns", "first_token_time_ns", "last_token_time_ns")
        for name, stamp in zip(names, stamps, strict=True):
            tensors.append(pb.Tensor(name, np.array([stamp], dtype=np.int64)))
    return pb.InferenceResponse(tensors)
