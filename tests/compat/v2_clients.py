"""The real clients of the Open Inference Protocol v2 against a gateway; prints what they saw as one JSON object.

Runs in the environment `.envs/v2`, with the gateway's host and port as its argument.
"""

import asyncio
import json
import sys

import kserve
import numpy
import tritonclient.http as triton

DATATYPES = {
    "BOOL": numpy.array([True, False]),
    "INT8": numpy.array([-128, 127], "int8"),
    "INT16": numpy.array([-(2**15), 2**15 - 1], "int16"),
    "INT32": numpy.array([-(2**31), 2**31 - 1], "int32"),
    "INT64": numpy.array([-(2**63), 2**63 - 1], "int64"),
    "UINT8": numpy.array([0, 255], "uint8"),
    "UINT16": numpy.array([0, 2**16 - 1], "uint16"),
    "UINT32": numpy.array([0, 2**32 - 1], "uint32"),
    "UINT64": numpy.array([0, 2**64 - 1], "uint64"),
    "FP16": numpy.array([0.5, -65504], "float16"),
    "FP32": numpy.array([0.1, 3e38], "float32"),
    "FP64": numpy.array([0.1, 1e308], "float64"),
    "BYTES": numpy.array([b"", "wörter".encode()], dtype=object),
}
ROWS = numpy.array([[1.0, 2.0], [3.0, 4.5]])


def main(address: str) -> None:
    seen = {"triton": with_triton(address), "kserve": asyncio.run(with_kserve(f"http://{address}"))}
    print(json.dumps(seen, default=str))


def with_triton(address: str) -> dict:
    client = triton.InferenceServerClient(address)
    seen = {
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "model ready": client.is_model_ready("sums"),
        "version ready": client.is_model_ready("sums", "1"),
        "other ready": [client.is_model_ready("sums", "9"), client.is_model_ready("nothing")],
        "server": client.get_server_metadata(),
        "metadata": client.get_model_metadata("sums", "1"),
        "echoes": {name: triton_echo(client, name, binary) for name in DATATYPES for binary in (True, False)},
    }
    for binary in (True, False):
        columns = [triton_input(name, ROWS[:, at], "FP64", binary) for at, name in enumerate("ab")]
        outputs = [triton.InferRequestedOutput("total", binary_data=binary)]
        result = client.infer("sums", columns, request_id="r 1", outputs=outputs, model_version="1")
        seen[f"columns {binary}"] = [result.as_numpy("total").tolist(), result.get_response()]
    matrix = client.infer("sums", [triton_input("anything", ROWS.astype("float32"), "FP32", True)])
    seen["matrix"] = matrix.as_numpy("total").tolist()
    images = client.infer("images", [triton_input("x", numpy.ones((3, 2, 2), "float32"), "FP32", True)])
    seen["tensor"] = images.as_numpy("predict").tolist()
    try:
        client.infer("sums", [triton_input("a", ROWS[:, 0], "FP64", True)])
    except triton.InferenceServerException as problem:
        seen["refused"] = [problem.status(), problem.message()]
    return seen


def triton_input(name, values, datatype, binary):
    given = triton.InferInput(name, list(values.shape), datatype)
    given.set_data_from_numpy(values, binary_data=binary)
    return given


def triton_echo(client, datatype, binary):
    """What came back for values at the datatype's ends: its datatype, and whether they are the same."""
    values = DATATYPES[datatype]
    binary = binary or datatype == "FP16"  # which this client sends only in binary
    outputs = [triton.InferRequestedOutput("predict", binary_data=binary)]
    result = client.infer("echo", [triton_input("x", values, datatype, binary)], outputs=outputs)
    back = result.as_numpy("predict")
    if datatype == "BYTES":
        back = numpy.array([each.encode() if isinstance(each, str) else each for each in back], dtype=object)
    return [result.get_output("predict")["datatype"], back.tolist() == values.tolist()]


async def with_kserve(base: str) -> dict:
    client = kserve.InferenceRESTClient(kserve.inference_client.RESTConfig(protocol="v2"))
    seen = {
        "live": await client.is_server_live(base),
        "ready": await client.is_server_ready(base),
        "model ready": await client.is_model_ready(base, "sums"),
        "other ready": await client.is_model_ready(base, "nothing"),
    }
    for binary in (True, False):
        columns = [kserve_input(name, ROWS[:, at], "FP64", binary) for at, name in enumerate("ab")]
        outputs = [kserve.protocol.infer_type.RequestedOutput("total", parameters={"binary_data": binary})]
        request = kserve.InferRequest("sums", columns, request_id="r 2", request_outputs=outputs)
        headers: dict = {}
        answer = await client.infer(base, request, model_name="sums", response_headers=headers)
        seen[f"columns {binary}"] = {
            "total": answer.outputs[0].as_numpy().tolist(),
            "id": answer.id,
            "model": [answer.model_name, answer.outputs[0].datatype],
            "served": headers["x-model-version"],
        }
    words = kserve.InferRequest("echo", [kserve_input("x", DATATYPES["BYTES"], "BYTES", True)])
    answer = await client.infer(base, words, model_name="echo")
    seen["words"] = answer.outputs[0].data
    try:
        await client.infer(base, kserve.InferRequest("sums", columns[:1]), model_name="sums")
    except Exception as problem:  # whatever it is, the test looks at it
        seen["refused"] = str(problem)
    await client.close()
    return seen


def kserve_input(name, values, datatype, binary):
    given = kserve.InferInput(name, list(values.shape), datatype)
    given.set_data_from_numpy(values, binary_data=binary)
    return given


if __name__ == "__main__":
    main(sys.argv[1])
