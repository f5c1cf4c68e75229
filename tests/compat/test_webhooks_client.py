"""The real mlflow 3 client makes, lists, changes, tests and deletes webhooks of ours, and is told of changes."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import subprocess
from pathlib import Path

import pytest

from registry.webhooks import Deliverer
from tests.registry.receiver import Receiver, eventually
from tests.registry.serving import served

pytestmark = pytest.mark.compat


@pytest.fixture
def receiver(monkeypatch):
    receiver = Receiver()
    monkeypatch.setenv("TURNOUT_WEBHOOK_ALLOWED_HOSTS", receiver.host)
    yield receiver
    receiver.stop()


def test_the_real_client(sqlite_registry, receiver, mlflow3):
    """Every webhook method of MlflowClient does what it does with MLflow's own server."""
    script = Path(__file__).with_name("mlflow_webhooks.py")

    with served(sqlite_registry) as (host, port), Deliverer(sqlite_registry.webhooks):
        command = [mlflow3, script, f"http://{host}:{port}", f"http://{receiver.host}"]
        run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert run.returncode == 0, run.stderr
        eventually(lambda: len(receiver.of("200")) == 3)

    saw = json.loads(run.stdout.splitlines()[-1])
    assert saw["made"] == saw["read"]
    assert {**saw["made"], "id": ""} == {
        "id": "",
        "name": "deployments",
        "url": f"http://{receiver.host}/200",
        "events": ["model_version_alias.created", "registered_model.created"],
        "description": "tells the deployer",
        "status": "ACTIVE",
        "secret": None,
    }
    assert saw["pages"] == [["other-2", "other-1"], ["other-0", "deployments"], None]
    assert (saw["test"], saw["chosen"], saw["failed"]) == ([True, 200, None], [True, 200], [False, 404])
    assert (saw["changed"]["name"], saw["changed"]["status"]) == ("renamed", "DISABLED")
    assert saw["changed"]["description"] == "off"
    assert (saw["deleted"], saw["internal"]) == ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
    assert saw["name"] == "INVALID_PARAMETER_VALUE"
    headers, body = receiver.of("200")[-1]
    assert json.loads(body)["data"] == {"name": "wine", "tags": {"team": "cellar"}, "description": ""}
    signed = f"{headers['X-MLflow-Delivery-Id']}.{headers['X-MLflow-Timestamp']}.{body.decode()}".encode()
    expected = base64.b64encode(hmac.new(b"hush", signed, hashlib.sha256).digest()).decode()
    assert headers["X-MLflow-Signature"] == f"v1,{expected}"
