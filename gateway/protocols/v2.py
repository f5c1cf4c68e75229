"""Open Inference Protocol v2 over REST with the binary tensor data extension: bodies to payloads, answers to bodies."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from gateway.protocols import tensors
from gateway.protocols.inputs import Inputs, described
from gateway.protocols.outputs import UNNAMED, Outputs
from gateway.protocols.tensors import Asked
from gateway.worker.frames import Payload

JSON, OCTETS = b"application/json", b"application/octet-stream"
EXTENSIONS = ("binary_tensor_data",)

Headers = list[tuple[bytes, bytes]]


class V2Dialect:
    """Reads and writes bodies for one loaded version, of which *mlmodel* says what it takes and returns."""

    def __init__(self, signature: dict[str, Any] | None) -> None:
        self._signature = signature or {}
        self._inputs = Inputs(self._signature)
        self._outputs = Outputs(self._signature)

    def decode(self, headers: Mapping[bytes, bytes], body: bytes) -> tuple[Payload, Asked]:
        """The payload to send to a replica, and what its client wants to have back. Raises `BadRequest`."""
        if tensors.is_raw(headers):
            return self._inputs.payload(self._inputs.raw(body), {}), Asked(is_binary=True)
        inference = tensors.read(headers, body)
        return self._inputs.payload(inference.tensors, inference.parameters), inference.asked

    def encode(self, answer: Payload, asked: Asked, name: str, version: str) -> tuple[bytes, Headers]:
        """The reply's body with the headers that it needs. Raises `BadRequest` for an output that there is not."""
        head = {"model_name": name, "model_version": version}
        if asked.id is not None:
            head["id"] = asked.id
        body, json_length = self._outputs.body(answer, asked, head)
        if json_length is None:
            return body, [(b"content-type", JSON)]
        return body, [(b"content-type", OCTETS), (tensors.HEADER_LENGTH, b"%d" % json_length)]

    def metadata(self) -> dict[str, Any]:
        """Inputs and outputs with their datatypes and shapes, as far as the signature knows them."""
        return {
            "inputs": described(self._signature.get("inputs") or [], "input"),
            "outputs": described(self._signature.get("outputs") or [], UNNAMED),
        }


def error(code: str, message: str) -> bytes:
    """An error's body: with `error` for clients of the protocol, and beside it what every error of ours says."""
    return json.dumps({"error": message, "error_code": code, "message": message}).encode()
