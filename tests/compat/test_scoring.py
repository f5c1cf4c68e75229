"""Our scoring against mlflow's own scoring application: one table of requests, and every difference listed."""

import base64
import json
import math
import runpy
import subprocess
from pathlib import Path

import pytest

from gateway.errors import GatewayError
from gateway.protocols.mlflow import MlflowDialect
from gateway.worker import tables
from gateway.worker.frames import Payload
from registry.models import enforcement

pytestmark = pytest.mark.compat

PROGRAM = Path(__file__).parent / "mlflow_scoring.py"
TABLE = runpy.run_path(str(PROGRAM))
REQUESTS = list(TABLE["bodies"]())

# Where we answer otherwise, by signature and the start of the body or the content type: mlflow's status, ours, why.
DIFFERENCES = {
    ("long", '{"dataframe_split": {"columns": ["a"], "data": [[9223372036854775808]]}}'): (
        200,
        400,
        "an integer beyond the column's type wraps around to another number there, and is refused here",
    ),
    ("integer", '{"dataframe_split": {"columns": ["a"], "data": [[2147483648]]}}'): (200, 400, "the same"),
    ("none", '{"inputs": [[[[[['): (500, 400, "deep JSON crashes the application there"),
    ("none", '{"inputs": [999999'): (500, 400, "a long integer crashes the application there"),
    ("none", None): (500, 415, "a missing content type crashes the application there"),
    ("times", "x,t\n"): (400, 200, "times in CSV are not read there"),
}
# All answers: an error of 415 or 500 is plain text there and JSON here; no error here carries a stack trace.


@pytest.fixture(scope="module")
def theirs(mlflow3, tmp_path_factory):
    """What mlflow answered, to the requests in their order and to the outputs by their names."""
    folder = tmp_path_factory.mktemp("scoring")
    done = subprocess.run(
        [str(mlflow3), str(PROGRAM), str(folder / "answers.json")],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / "answers.json").read_text())


def ours(signature, body, content_type, predict):
    """Status and JSON of our answer, by the way that a request takes through ingress and replica."""
    dialect, scorer = MlflowDialect(signature), tables.Scorer(signature, enforcement)
    try:
        payload = dialect.decode(content_type, body)
        request = scorer.read(json.loads(json.dumps(payload.meta)), payload.buffers)
        try:
            output = predict(request.data, request.params)
        except Exception as problem:
            raise tables.model_failed(problem) from None
        meta, buffers = scorer.write(output, request)
        return 200, json.loads(dialect.encode(Payload(meta, tuple(buffers))))
    except tables.Refused as refused:
        return refused.status, {"error_code": refused.error_code, "message": refused.message}
    except GatewayError as refused:
        return refused.http_status, {"error_code": refused.error_code, "message": str(refused)}


def difference(signature, body, content_type):
    for (name, start), different in DIFFERENCES.items():
        if name == signature and (content_type is None if start is None else body.startswith(start.encode())):
            return different
    return None


def comparable(value):
    """JSON in which NaN equals NaN."""
    if isinstance(value, float) and math.isnan(value):
        return "NaN"
    if isinstance(value, list):
        return [comparable(each) for each in value]
    if isinstance(value, dict):
        return {name: comparable(each) for name, each in value.items()}
    return value


@pytest.mark.parametrize("at", range(len(REQUESTS)), ids=[f"{at}-{REQUESTS[at][0]}" for at in range(len(REQUESTS))])
def test_a_request_is_answered_as_mlflow_answers_it(theirs, at):
    """The same status and error code, and on success the model got the same input and params."""
    name, body, content_type = REQUESTS[at]
    their_status, their_text = theirs["requests"][at]

    status, answer = ours(TABLE["SIGNATURES"][name], body, content_type, TABLE["echo"])

    different = difference(name, body, content_type)
    assert (their_status, status) == (different[:2] if different else (their_status, their_status)), answer
    if different or status == 415:
        return
    their_answer = json.loads(base64.b64decode(their_text))
    if status == 200:
        assert comparable(answer) == comparable(their_answer)
    else:
        assert answer["error_code"] == their_answer["error_code"], answer
        assert "Traceback" not in answer["message"]


@pytest.mark.parametrize("name", TABLE["OUTPUTS"])
def test_a_model_s_output_is_written_as_mlflow_writes_it(theirs, name):
    """The same JSON for what can be written, and the same status for what cannot."""
    their_status, their_text = theirs["outputs"][name]

    status, answer = ours(None, b'{"inputs": [1]}', "application/json", lambda data, params: TABLE["OUTPUTS"][name]())

    assert status == their_status
    if status == 200:
        assert comparable(answer) == comparable(json.loads(base64.b64decode(their_text)))


def test_every_difference_is_one():
    """The list of differences names only requests of the table."""
    found = {different for request in REQUESTS if (different := difference(*request))}

    assert found == set(DIFFERENCES.values())
