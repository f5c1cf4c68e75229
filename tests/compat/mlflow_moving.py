"""Runs under mlflow's interpreter: fills a stock server, changes what is there, and tells what it finds.

Arguments: what to do, the server's address, and a folder to work in, where `tell` writes told.json.
"""

import json
import logging
import math
import os
import sys
import warnings
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.data.dataset_source_registry import resolve_dataset_source
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import Metric, ViewType
from mlflow.exceptions import MlflowException
from sklearn.linear_model import LinearRegression

ODD_NAME = """a "quoted" wine's name"""
BIG_BYTES = 20_000_000
ODD_FILES = {
    "empty.txt": b"",
    "nested/deeper/und noch tiefer.txt": b"deep",
    "100% sure & more+plus.txt": b"percent",
    "ünïcode – 空.bin": bytes(range(256)),
}


def estimator():
    return LinearRegression().fit([[1.0], [2.0], [3.0]], [2.0, 4.0, 6.0])


def log_model(name="model"):
    return mlflow.sklearn.log_model(
        estimator(), name=name, serialization_format="cloudpickle", pip_requirements=["scikit-learn"]
    )


def finished_run(folder):
    """A run with everything that a run can have, and the model that it logged."""
    mlflow.set_experiment("training")
    mlflow.set_experiment_tag("team", "wine")
    with mlflow.start_run(run_name="first", tags={"kind": "finished"}) as run:
        mlflow.log_params({"alpha": "0.5", "long": "x" * 3000, "empty": ""})
        client, run_id = MlflowClient(), run.info.run_id
        client.log_batch(run_id, [Metric("loss", 1 / (1 + step), 1000 + step, step) for step in range(900)])
        client.log_batch(run_id, [Metric("odd", math.nan, 5, 0), Metric("odd", math.inf, 6, 1)])
        source = resolve_dataset_source("https://example.org/wine.csv")
        mlflow.log_input(MetaDataset(source, name="wine"), context="training")
        model = log_model()
        mlflow.log_metric("accuracy", 0.9, model_id=model.model_id)
        for name, content in ODD_FILES.items():
            path = folder / "files" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        mlflow.log_artifacts(str(folder / "files"), "odd")
        path = folder / "big.bin"
        path.write_bytes(os.urandom(BIG_BYTES))
        mlflow.log_artifact(str(path))
    return run_id, model


def other_runs(client):
    """A failed run, a deleted one, and one in an experiment that is deleted."""
    with mlflow.start_run(run_name="failed") as run:
        mlflow.log_metric("loss", 3.0)
    client.set_terminated(run.info.run_id, "FAILED")
    with mlflow.start_run(run_name="thrown away") as run:
        mlflow.log_param("kept", "yes")
        mlflow.log_metric("loss", 2.0)
    client.delete_run(run.info.run_id)
    experiment = client.create_experiment("deleted")
    with mlflow.start_run(experiment_id=experiment, run_name="of a deleted experiment"):
        mlflow.log_text("old", "note.txt")
        log_model("lost")
    client.delete_experiment(experiment)
    mlflow.set_experiment("training")


def fill(client, folder):
    run_id, model = finished_run(folder)
    other_runs(client)
    client.create_registered_model("wine", tags={"owner": "ana"}, description="red, mostly")
    for number in range(1, 5):
        source = model.model_uri if number != 2 else f"mlflow-artifacts:/1/models/{model.model_id}/artifacts"
        client.create_model_version(
            "wine", source, run_id, tags={"number": str(number)}, description=f"the {number}.", model_id=model.model_id
        )
    client.delete_model_version("wine", "2")
    client.delete_model_version("wine", "4")
    client.create_model_version("wine", model.model_uri, run_id, model_id=model.model_id)
    client.set_registered_model_alias("wine", "champion", "3")
    client.set_registered_model_alias("wine", "old", "1")
    client.transition_model_version_stage("wine", "1", "Archived")
    client.create_registered_model(ODD_NAME, description="quotes")
    client.create_model_version(ODD_NAME, f"mlflow-artifacts:/1/{run_id}/artifacts/odd", run_id)
    client.copy_model_version("models:/wine@champion", "copied")
    client.rename_registered_model("copied", "copied and renamed")
    client.create_registered_model("without versions")
    mlflow.genai.register_prompt("greeting", "Hello {{name}}", tags={"tone": "kind"})


def change(client, _folder):
    """What happens to a server while both are in use."""
    run = client.search_runs([client.get_experiment_by_name("training").experiment_id], "attributes.run_name = 'first'")
    run_id = run[0].info.run_id
    client.log_metric(run_id, "loss", 0.0, step=5000)
    client.log_metric(run_id, "late", 1.5)
    client.set_tag(run_id, "kind", "changed")
    client.log_text(run_id, "late", "nested/late.txt")
    client.set_registered_model_alias("wine", "champion", "5")
    client.delete_registered_model_alias("wine", "old")
    client.set_registered_model_alias("wine", "new", "1")
    client.update_model_version("wine", "3", "described again")
    client.set_registered_model_tag("wine", "owner", "bob")
    with mlflow.start_run(run_name="late"):
        model = log_model()
    client.create_model_version("wine", model.model_uri, model_id=model.model_id)
    client.rename_experiment(client.get_experiment_by_name("training").experiment_id, "training, renamed")


def fill_old(client, _folder):
    """What a server of MLflow 2 may have."""
    mlflow.set_experiment("training")
    with mlflow.start_run(run_name="old"):
        mlflow.log_metric("loss", 1.0)
        mlflow.sklearn.log_model(estimator(), "model", registered_model_name="wine", pip_requirements=["scikit-learn"])
    client.set_registered_model_alias("wine", "champion", "1")


def load(client, _folder):
    """Every version that an alias names gives the estimator's predictions."""
    for model in client.search_registered_models():
        for alias in model.aliases:
            loaded = mlflow.pyfunc.load_model(f"models:/{model.name}@{alias}")
            assert [round(each) for each in loaded.predict([[10.0]])] == [20]


def described_run(client, run):
    history = {
        key: sorted(
            [each.step, each.timestamp, str(each.value)] for each in client.get_metric_history(run.info.run_id, key)
        )
        for key in run.data.metrics
    }
    return {
        "name": run.info.run_name,
        "status": run.info.status,
        "stage": run.info.lifecycle_stage,
        "experiment": run.info.experiment_id,
        "times": [run.info.start_time, run.info.end_time],
        "user": run.info.user_id,
        "params": run.data.params,
        "tags": run.data.tags,
        "metrics": {key: str(value) for key, value in run.data.metrics.items()},
        "history": history,
        "datasets": [
            [each.dataset.name, each.dataset.digest, each.dataset.source, [[tag.key, tag.value] for tag in each.tags]]
            for each in run.inputs.dataset_inputs
        ],
        "outputs": [each.model_id for each in run.outputs.model_outputs] if run.outputs else [],
    }


def described_logged_model(model):
    return {
        "name": model.name,
        "status": str(model.status),
        "run": model.source_run_id,
        "times": [model.creation_timestamp, model.last_updated_timestamp],
        "tags": {key: value for key, value in model.tags.items() if key != "mlflow.modelVersions"},
        "params": model.params,
        "metrics": sorted([each.key, each.value, each.step, each.run_id] for each in model.metrics or []),
    }


def described_model(client, name):
    registry = client._get_registry_client()  # the public methods take a prompt for no model
    model, versions = registry.get_registered_model(name), []
    for number in range(1, 12):
        try:
            found = registry.get_model_version(name, str(number))
        except MlflowException:
            continue
        facts = ["version", "creation_timestamp", "last_updated_timestamp", "description", "user_id", "run_id"]
        told = {each: getattr(found, each) for each in [*facts, "current_stage", "status", "source"]}
        versions.append(told | {"tags": found.tags, "aliases": sorted(found.aliases)})
    return {
        "times": [model.creation_timestamp, model.last_updated_timestamp],
        "description": model.description,
        "tags": model.tags,
        "aliases": model.aliases,
        "versions": versions,
    }


def tell(client, folder):
    experiments = client.search_experiments(ViewType.ALL)
    ids = [each.experiment_id for each in experiments]
    runs = client.search_runs(ids, run_view_type=ViewType.ALL)
    prompts = client.search_registered_models("tag.`mlflow.prompt.is_prompt` = 'true'")
    found = {
        "experiments": {
            each.experiment_id: [each.name, each.lifecycle_stage, each.creation_time, each.tags] for each in experiments
        },
        "runs": {each.info.run_id: described_run(client, client.get_run(each.info.run_id)) for each in runs},
        "logged_models": {each.model_id: described_logged_model(each) for each in client.search_logged_models(ids)},
        "models": {
            each.name: described_model(client, each.name) for each in [*client.search_registered_models(), *prompts]
        },
    }
    Path(folder, "told.json").write_text(json.dumps(found))


def main():
    what, uri, folder = sys.argv[1:]
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    os.chdir(folder)
    mlflow.set_tracking_uri(uri)
    {"fill": fill, "fill-old": fill_old, "change": change, "load": load, "tell": tell}[what](
        MlflowClient(), Path(folder)
    )


if __name__ == "__main__":
    main()
