"""Experiments, runs and logged models over HTTP."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from registry.connection import connect
from registry.core import Registry
from tests.registry.serving import served

FILE = b"hello"
ABSENT = f"m-{0:032x}"


@dataclass(frozen=True, slots=True)
class Api:
    """Calls of the tracking routes; every refusal is an answer too."""

    host: str
    port: int
    registry: Registry

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, dict[str, Any]]:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=30)
        try:
            text = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
            headers = {} if body is None else {"Content-Type": "application/json"}
            connection.request(method, f"/api/2.0/mlflow/{path}", text, headers)
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def get(self, path: str) -> dict[str, Any]:
        return self.accepted("GET", path)

    def post(self, path: str, **fields: Any) -> dict[str, Any]:
        return self.accepted("POST", path, fields)

    def accepted(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        status, answer = self.call(method, path, body)
        assert status == 200, answer
        return answer

    def refused(self, method: str, path: str, body: Any = None) -> tuple[int, str, str]:
        status, answer = self.call(method, path, body)
        assert status >= 400, answer
        return status, answer["error_code"], answer["message"]

    def run(self, **fields: Any) -> str:
        made = self.post("runs/create", experiment_id="0", **fields)
        run_id: str = made["run"]["info"]["run_id"]
        return run_id

    def data(self, run_id: str) -> dict[str, Any]:
        data: dict[str, Any] = self.get(f"runs/get?run_id={run_id}")["run"]["data"]
        return data

    def model(self, **fields: Any) -> str:
        made = self.post("logged-models", experiment_id="0", **fields)
        model_id: str = made["model"]["info"]["model_id"]
        return model_id


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    path = tmp_path_factory.mktemp("served") / "registry.db"
    with connect(f"sqlite:///{path}") as registry, served(registry) as (host, port):
        yield Api(host, port, registry)


def pairs(found: list[dict[str, Any]]) -> dict[str, Any]:
    return {each["key"]: each["value"] for each in found}


# Runs


def test_a_new_run_is_running_and_knows_both_its_ids(api: Api) -> None:
    """What it makes is not shown yet, and what it reads is empty."""
    run = api.post("runs/create", experiment_id="0", user_id="ana", start_time=5, run_name="calm-owl-7")["run"]

    run_id = run["info"]["run_id"]
    assert run == {
        "info": {
            "run_uuid": run_id,
            "experiment_id": "0",
            "run_name": "calm-owl-7",
            "user_id": "ana",
            "status": "RUNNING",
            "start_time": 5,
            "artifact_uri": f"mlflow-artifacts:/0/{run_id}/artifacts",
            "lifecycle_stage": "active",
            "run_id": run_id,
        },
        "data": {"tags": [{"key": "mlflow.runName", "value": "calm-owl-7"}]},
        "inputs": {},
    }


def test_what_is_logged_one_by_one_is_shown_together(api: Api) -> None:
    """A metric, a param and a tag, logged also under the old name of the run's id."""
    run_id = api.run(run_name="r")

    api.post("runs/log-metric", run_uuid=run_id, key="acc", value=1, timestamp=7, step=2)
    api.post("runs/log-parameter", run_id=run_id, key="depth", value="2")
    api.post("runs/log-parameter", run_id=run_id, key="none")
    api.post("runs/set-tag", run_uuid=run_id, key="team", value="fraud")
    api.post("runs/set-tag", run_id=run_id, key="gone", value="x")
    api.post("runs/delete-tag", run_id=run_id, key="gone")

    data = api.data(run_id)
    assert data["metrics"] == [{"key": "acc", "value": 1.0, "timestamp": 7, "step": 2}]
    assert pairs(data["params"]) == {"depth": "2", "none": ""}
    assert pairs(data["tags"]) == {"mlflow.runName": "r", "team": "fraud"}


def test_a_batch_is_logged_at_once(api: Api) -> None:
    """Metrics, params and tags in one request; the latest metric of a key is shown."""
    run_id = api.run()

    metrics = [{"key": "acc", "value": value, "timestamp": value, "step": value} for value in (1, 3, 2)]
    params, tags = [{"key": "p", "value": "1"}], [{"key": "t", "value": "1"}, {"key": "t", "value": "2"}]
    api.post("runs/log-batch", run_id=run_id, metrics=metrics, params=params, tags=tags)

    data = api.data(run_id)
    assert pairs(data["metrics"]) == {"acc": 3.0}
    assert pairs(data["params"]) == {"p": "1"}
    assert pairs(data["tags"])["t"] == "2"


def test_a_refused_batch_leaves_nothing(api: Api) -> None:
    """A param with another value is refused, and what came with it is not logged."""
    run_id = api.run()
    api.post("runs/log-parameter", run_id=run_id, key="p", value="1")

    batch = {"run_id": run_id, "params": [{"key": "q", "value": "1"}, {"key": "p", "value": "2"}]}
    status, code, _ = api.refused("POST", "runs/log-batch", {**batch, "tags": [{"key": "t", "value": "1"}]})

    assert (status, code) == (400, "INVALID_PARAMETER_VALUE")
    assert pairs(api.data(run_id)["params"]) == {"p": "1"}
    assert "t" not in pairs(api.data(run_id)["tags"])


def test_one_param_twice_in_a_batch_is_refused(api: Api) -> None:
    """Even with equal values: one of them is a mistake."""
    params = [{"key": "p", "value": "1"}, {"key": "p", "value": "1"}]

    status, code, message = api.refused("POST", "runs/log-batch", {"run_id": api.run(), "params": params})

    assert (status, code) == (400, "INVALID_PARAMETER_VALUE")
    assert "'p'" in message


def test_nan_comes_back_as_its_name(api: Api) -> None:
    """Strict JSON has no NaN, so protobuf's spelling is read and written."""
    run_id = api.run()
    api.post("runs/log-metric", run_id=run_id, key="m", value="NaN", timestamp=1)

    assert pairs(api.data(run_id)["metrics"]) == {"m": "NaN"}
    assert api.get(f"metrics/get-history?run_id={run_id}&metric_key=m")["metrics"][0]["value"] == "NaN"


@pytest.mark.parametrize("value", ["x", True, [], {}, "1e999", "nan"])
def test_a_metric_that_is_no_number_is_refused(api: Api, value: Any) -> None:
    """The value must be a number or the name of one."""
    body = {"run_id": api.run(), "key": "m", "value": value, "timestamp": 1}

    status, code, message = api.refused("POST", "runs/log-metric", body)

    assert (status, code) == (400, "INVALID_PARAMETER_VALUE")
    assert "'value'" in message


@pytest.mark.parametrize(
    ("path", "given", "missing"),
    [
        ("runs/create", {}, "experiment_id"),
        ("runs/log-metric", {"run_id": "r", "value": 1, "timestamp": 1}, "key"),
        ("runs/log-metric", {"run_id": "r", "key": "m", "timestamp": 1}, "value"),
        ("runs/log-metric", {"run_id": "r", "key": "m", "value": 1}, "timestamp"),
        ("runs/log-metric", {"key": "m", "value": 1, "timestamp": 1}, "run_id"),
        ("runs/log-batch", {}, "run_id"),
        ("runs/log-batch", {"run_id": "r", "metrics": [{"key": "m"}]}, "value"),
        ("runs/log-batch", {"run_id": "r", "tags": [{"value": "1"}]}, "key"),
        ("runs/set-tag", {"run_id": "r"}, "key"),
        ("runs/log-model", {"run_id": "r"}, "model_json"),
        ("runs/update", {}, "run_id"),
        ("runs/log-inputs", {"run_id": "r", "datasets": [{}]}, "dataset"),
        ("experiments/create", {}, "name"),
        ("experiments/update", {"experiment_id": "0"}, "new_name"),
        ("logged-models", {"name": "m"}, "experiment_id"),
    ],
)
def test_what_is_missing_is_named(api: Api, path: str, given: dict[str, Any], missing: str) -> None:
    """The message says which field, also inside a list."""
    status, code, message = api.refused("POST", path, given)

    assert (status, code) == (400, "INVALID_PARAMETER_VALUE")
    assert f"'{missing}'" in message


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "runs/get?run_id=nope", None),
        ("GET", "artifacts/list?run_id=nope", None),
        ("GET", "experiments/get?experiment_id=77", None),
        ("GET", "experiments/get-by-name?experiment_name=nope", None),
        ("GET", f"logged-models/{ABSENT}", None),
        ("POST", "runs/create", {"experiment_id": "77"}),
        ("POST", "runs/set-tag", {"run_id": "nope", "key": "t", "value": "1"}),
        ("POST", "logged-models", {"experiment_id": "77"}),
        ("PATCH", f"logged-models/{ABSENT}", {"model_id": ABSENT, "status": "LOGGED_MODEL_READY"}),
    ],
)
def test_what_is_not_there_is_404(api: Api, method: str, path: str, body: Any) -> None:
    """Runs, experiments and logged models that nobody made."""
    status, code, _ = api.refused(method, path, body)

    assert (status, code) == (404, "RESOURCE_DOES_NOT_EXIST")


def test_an_ended_run_says_when_and_how(api: Api) -> None:
    """Update answers with the run's info alone."""
    run_id = api.run(start_time=5)

    info = api.post("runs/update", run_id=run_id, run_uuid=run_id, status="FINISHED", end_time=9, run_name="new")

    assert {key: info["run_info"][key] for key in ("status", "end_time", "run_name")} == {
        "status": "FINISHED",
        "end_time": 9,
        "run_name": "new",
    }
    assert info.keys() == {"run_info"}


def test_a_deleted_run_can_be_restored(api: Api) -> None:
    """Until then searches find it only among the deleted."""
    run_id = api.run()
    found: Callable[[str], list[str]] = lambda view: [  # noqa: E731
        each["info"]["run_id"]
        for each in api.post("runs/search", experiment_ids=["0"], run_view_type=view).get("runs", [])
    ]

    api.post("runs/delete", run_id=run_id)

    assert run_id not in found("ACTIVE_ONLY")
    assert run_id in found("DELETED_ONLY")
    api.post("runs/restore", run_id=run_id)
    assert run_id in found("ACTIVE_ONLY")


def test_a_search_is_paged_and_ordered(api: Api) -> None:
    """A page tells where the next begins; the last one does not."""
    experiment = api.post("experiments/create", name="paged")["experiment_id"]
    for number in range(3):
        run = api.post("runs/create", experiment_id=experiment, start_time=number)
        api.post("runs/log-metric", run_id=run["run"]["info"]["run_id"], key="m", value=number, timestamp=1)

    query = {"experiment_ids": [experiment], "order_by": ["metrics.m ASC"], "max_results": 2}
    first = api.post("runs/search", **query)
    second = api.post("runs/search", **query, page_token=first["next_page_token"])

    values = [each["data"]["metrics"][0]["value"] for page in (first, second) for each in page["runs"]]
    assert values == [0.0, 1.0, 2.0]
    assert "next_page_token" not in second


def test_an_empty_search_is_an_empty_object(api: Api) -> None:
    """Empty lists are left out."""
    assert api.post("runs/search", experiment_ids=["0"], filter="params.nobody = '1'") == {}


def test_a_metrics_history_is_whole_and_paged(api: Api) -> None:
    """Every value, in the order of its time, a page at a time."""
    run_id = api.run()
    metrics = [{"key": "m", "value": number, "timestamp": number, "step": number} for number in range(3)]
    api.post("runs/log-batch", run_id=run_id, metrics=metrics)

    path = f"metrics/get-history?run_id={run_id}&metric_key=m&max_results=2"
    first = api.get(path)
    second = api.get(f"{path}&page_token={first['next_page_token']}")

    assert [each["value"] for page in (first, second) for each in page["metrics"]] == [0.0, 1.0, 2.0]
    assert first["metrics"][0].keys() == {"key", "value", "timestamp", "step"}


def test_what_a_run_reads_and_makes_is_shown(api: Api) -> None:
    """Datasets with their tags, models read, and models made with their step."""
    run_id, model_id = api.run(), api.model()
    dataset = {"name": "d", "digest": "x", "source_type": "local", "source": "{}", "schema": "s"}
    inputs = {"tags": [{"key": "mlflow.data.context", "value": "training"}], "dataset": dataset}

    api.post("runs/log-inputs", run_id=run_id, datasets=[inputs], models=[{"model_id": model_id}])
    api.post("runs/outputs", run_id=run_id, models=[{"model_id": model_id, "step": 2}])

    run = api.get(f"runs/get?run_id={run_id}")["run"]
    assert run["inputs"] == {"dataset_inputs": [inputs], "model_inputs": [{"model_id": model_id}]}
    assert run["outputs"] == {"model_outputs": [{"model_id": model_id, "step": 2}]}


def test_models_that_an_old_client_logs_become_a_tag(api: Api) -> None:
    """The history is a JSON list, in the order of logging."""
    run_id = api.run()
    for name in ("a", "b"):
        text = json.dumps({"artifact_path": name, "run_id": run_id, "utc_time_created": "now", "flavors": {}})
        api.post("runs/log-model", run_id=run_id, model_json=text)

    history = json.loads(pairs(api.data(run_id)["tags"])["mlflow.log-model.history"])

    assert [each["artifact_path"] for each in history] == ["a", "b"]


@pytest.mark.parametrize("text", ["{", "[]", "{}", '"x"'])
def test_a_model_record_that_is_none_is_refused(api: Api, text: str) -> None:
    """It must be an object with what MLflow's clients write."""
    status, code, _ = api.refused("POST", "runs/log-model", {"run_id": api.run(), "model_json": text})

    assert (status, code) == (400, "INVALID_PARAMETER_VALUE")


@pytest.mark.parametrize(
    "body", [{"metrics": {"key": "a"}}, {"metrics": ["a"]}, {"tags": [1]}, {"params": [{"key": 5}]}]
)
def test_lists_of_the_wrong_kind_are_refused(api: Api, body: dict[str, Any]) -> None:
    """Never a failure of the server."""
    status, code, _ = api.refused("POST", "runs/log-batch", {"run_id": api.run(), **body})

    assert (status, code) == (400, "INVALID_PARAMETER_VALUE")


# Artifacts


@pytest.mark.parametrize(
    ("path", "files"),
    [
        ("", [{"path": "d", "is_dir": True}, {"path": "f.txt", "is_dir": False, "file_size": len(FILE)}]),
        ("&path=d", [{"path": "d/g.txt", "is_dir": False, "file_size": len(FILE)}]),
        ("&path=d/", [{"path": "d/g.txt", "is_dir": False, "file_size": len(FILE)}]),
        ("&path=f.txt", None),
        ("&path=absent", None),
    ],
)
def test_a_runs_artifacts_are_listed_from_its_own_root(api: Api, path: str, files: Any) -> None:
    """A file and an absent folder hold nothing."""
    run_id = api.run()
    for name in ("d/g.txt", "f.txt"):
        with api.registry.artifacts.create(f"0/{run_id}/artifacts/{name}") as upload:
            upload.write(FILE)

    found = api.get(f"artifacts/list?run_id={run_id}{path}")

    assert found.get("files") == files
    assert found["root_uri"] == f"mlflow-artifacts:/0/{run_id}/artifacts"


@pytest.mark.parametrize("path", ["../x", "/etc", "a/../..", "%2e%2e/x", "a\\b", "a//b"])
def test_a_listing_never_leaves_the_run(api: Api, path: str) -> None:
    """A path that climbs is refused, however it is spelled."""
    status, code, _ = api.refused("GET", f"artifacts/list?run_id={api.run()}&path={path}")

    assert (status, code) == (400, "INVALID_PARAMETER_VALUE")


# Experiments


def test_the_default_experiment_is_there(api: Api) -> None:
    """Clients use it without asking."""
    found = api.get("experiments/get?experiment_id=0")["experiment"]

    assert (found["name"], found["artifact_location"], found["lifecycle_stage"]) == (
        "Default",
        "mlflow-artifacts:/0",
        "active",
    )


def test_an_experiment_from_creation_to_restoration(api: Api) -> None:
    """Tags, a new name, deletion, and back."""
    experiment = api.post("experiments/create", name="wine", tags=[{"key": "a", "value": "b"}])["experiment_id"]
    api.post("experiments/update", experiment_id=experiment, new_name="red wine")
    api.post("experiments/set-experiment-tag", experiment_id=experiment, key="k", value="v")
    api.post("experiments/delete-experiment-tag", experiment_id=experiment, key="a")

    found = api.get("experiments/get-by-name?experiment_name=red%20wine")["experiment"]
    assert (found["experiment_id"], pairs(found["tags"])) == (experiment, {"k": "v"})

    api.post("experiments/delete", experiment_id=experiment)
    assert api.get(f"experiments/get?experiment_id={experiment}")["experiment"]["lifecycle_stage"] == "deleted"
    api.post("experiments/restore", experiment_id=experiment)
    assert api.get(f"experiments/get?experiment_id={experiment}")["experiment"]["lifecycle_stage"] == "active"


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_experiments_are_searched_either_way(api: Api, method: str) -> None:
    """By query or by body."""
    api.call("POST", "experiments/create", {"name": "searched"})
    query = "experiments/search?max_results=5&filter=name%20%3D%20'searched'"
    body = {"max_results": 5, "filter": "name = 'searched'"}

    found = api.get(query) if method == "GET" else api.post("experiments/search", **body)

    assert [each["name"] for each in found["experiments"]] == ["searched"]


# Logged models


def test_a_logged_model_from_creation_to_deletion(api: Api) -> None:
    """Pending, then ready; with tags and params; then gone."""
    run_id = api.run()
    made = api.post(
        "logged-models", experiment_id="0", name="lm", source_run_id=run_id, params=[{"key": "a", "value": "1"}]
    )["model"]
    model_id = made["info"]["model_id"]
    assert made["info"]["status"] == "LOGGED_MODEL_PENDING"
    assert made["info"]["artifact_uri"] == f"mlflow-artifacts:/0/models/{model_id}/artifacts"

    api.accepted("PATCH", f"logged-models/{model_id}", {"model_id": model_id, "status": "LOGGED_MODEL_READY"})
    tags = [{"key": "t", "value": "1"}, {"key": "u", "value": "2"}]
    api.accepted("PATCH", f"logged-models/{model_id}/tags", {"model_id": model_id, "tags": tags})
    api.accepted("DELETE", f"logged-models/{model_id}/tags/u")
    api.post(f"logged-models/{model_id}/params", params=[{"key": "b", "value": "2"}])

    found = api.get(f"logged-models/{model_id}")["model"]
    assert (found["info"]["status"], found["info"]["source_run_id"]) == ("LOGGED_MODEL_READY", run_id)
    assert pairs(found["info"]["tags"]) == {"t": "1"}
    assert pairs(found["data"]["params"]) == {"a": "1", "b": "2"}

    api.accepted("DELETE", f"logged-models/{model_id}")
    assert api.refused("GET", f"logged-models/{model_id}")[0] == 404


def test_a_logged_models_metric_knows_its_run_and_dataset(api: Api) -> None:
    """It is logged through a run."""
    run_id, model_id = api.run(), api.model()
    metric = {"key": "acc", "value": 0.5, "timestamp": 11, "step": 1, "model_id": model_id}
    about = {"dataset_name": "d", "dataset_digest": "x"}
    api.post("runs/log-batch", run_id=run_id, metrics=[{**metric, **about}])

    found = api.get(f"logged-models/{model_id}")["model"]["data"]["metrics"]

    assert found == [{**metric, **about, "run_id": run_id}]


def test_logged_models_are_searched_in_order(api: Api) -> None:
    """By a filter, in the order asked for, a page at a time."""
    experiment = api.post("experiments/create", name="of models")["experiment_id"]
    for name in ("b", "a", "c"):
        api.post("logged-models", experiment_id=experiment, name=name)

    query = {
        "experiment_ids": [experiment],
        "filter": "name != 'c'",
        "order_by": [{"field_name": "name", "ascending": True}],
        "max_results": 1,
    }
    first = api.post("logged-models/search", **query)
    second = api.post("logged-models/search", **query, page_token=first["next_page_token"])

    assert [each["info"]["name"] for page in (first, second) for each in page["models"]] == ["a", "b"]


def test_a_logged_models_folder_is_listed(api: Api) -> None:
    """Paths count from the model's own root."""
    model_id = api.model()
    with api.registry.artifacts.create(f"0/models/{model_id}/artifacts/d/f.txt") as upload:
        upload.write(FILE)

    found = api.get(f"logged-models/{model_id}/artifacts/directories?artifact_directory_path=d")

    assert found["files"] == [{"path": "d/f.txt", "is_dir": False, "file_size": len(FILE)}]
