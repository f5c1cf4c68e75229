"""Models leave the registry: loaded by every kind of URI, downloaded, scored and served by mlflow's own commands."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

from .organizing import EXAMPLE
from .session import step
from .training import FOREST, forest

SERVING_STARTS_WITHIN_S = 120


def mlflow_command(session, *arguments, **options):
    """mlflow's command line, against the same server."""
    programs = os.path.dirname(sys.executable)  # mlflow looks up uvicorn and gunicorn
    environment = os.environ | {"MLFLOW_TRACKING_URI": session.uri, "PATH": f"{programs}:{os.environ['PATH']}"}
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "mlflow", "models", *arguments, "--env-manager", "local"],
        env=environment,
        cwd=session.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        **options,
    )


@step
def load_by_version_alias_latest_and_stage(session):
    """pyfunc and sklearn load a model by number, alias, latest and stage, and it predicts as before."""
    mlflow, client = session.mlflow, session.client
    client.set_registered_model_alias(FOREST, "champion", "1")
    client.transition_model_version_stage(FOREST, "1", "Staging")
    first, test = forest(5)
    second, _ = forest(6)
    expected = {False: first.predict(test).tolist(), True: second.predict(test).tolist()}
    uris = {"1": False, "2": True, "latest": True, "Staging": False}
    loaded = {name: mlflow.pyfunc.load_model(f"models:/{FOREST}/{name}") for name in uris}
    by_alias = mlflow.pyfunc.load_model(f"models:/{FOREST}@champion")
    return {
        "is_right": {name: loaded[name].predict(test).tolist() == expected[uris[name]] for name in uris},
        "by alias": by_alias.predict(test).tolist() == expected[False],
        "signature": str(by_alias.metadata.signature),
        "sklearn": mlflow.sklearn.load_model(f"models:/{FOREST}@champion").predict(test).tolist() == expected[False],
        "info": mlflow.models.get_model_info(f"models:/{FOREST}@champion").flavors["sklearn"]["serialization_format"],
        "trees": mlflow.sklearn.load_model(f"models:/{EXAMPLE}@champion").n_estimators,
    }


@step
def load_from_the_run(session):
    """`runs:/…` loads what the run logged, without the registry."""
    model, test = forest(6)
    loaded = session.mlflow.pyfunc.load_model(f"runs:/{session.made['forest_run']}/sklearn-model")
    return {"is_right": loaded.predict(test).tolist() == model.predict(test).tolist()}


@step(majors=(3,))
def load_logged_model(session):
    """`models:/m-…` loads a logged model."""
    model, test = forest(6)
    loaded = session.mlflow.pyfunc.load_model(f"models:/{session.made['forest'].model_id}")
    return {"is_right": loaded.predict(test).tolist() == model.predict(test).tolist()}


@step
def load_what_is_not_there(session):
    """Unknown models, versions, aliases and stages are refused in words."""
    load = session.mlflow.pyfunc.load_model
    uris = ["nobody/1", "nobody/latest", "nobody@champion", f"{FOREST}/99", f"{FOREST}@nobody", f"{FOREST}/Production"]
    return {uri: session.refused(load, f"models:/{uri}") for uri in uris}


@step
def download_the_files_of_a_version(session):
    """The files of a registered version are listed and downloaded, whole and one by one."""
    artifacts = session.mlflow.artifacts
    listed = artifacts.list_artifacts(f"models:/{FOREST}/1")
    whole = artifacts.download_artifacts(artifact_uri=f"models:/{FOREST}/1", dst_path=str(session.folder / "whole"))
    place = session.client.get_model_version_download_uri(FOREST, "1")
    one = artifacts.download_artifacts(artifact_uri=f"{place}/MLmodel", dst_path=str(session.folder / "one"))
    with open(one) as mlmodel:
        flavors = re.findall(r"^  (python_function|sklearn):$", mlmodel.read(), re.MULTILINE)
    return {
        "listed": sorted(found.path.rpartition("/")[2] for found in listed),
        "sizes": all(found.is_dir or found.file_size > 0 for found in listed),
        "downloaded": sorted(os.listdir(whole)),
        "flavors": flavors,
    }


@step(starts_processes=True)
def serve_and_predict_from_the_command_line(session):
    """`mlflow models serve -m models:/…@champion` answers, and `mlflow models predict` writes the same."""
    model, test = forest(5)
    rows = test[:3].tolist()
    (session.folder / "rows.json").write_text(json.dumps({"inputs": rows}))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    uri = f"models:/{FOREST}@champion"
    with mlflow_command(session, "serve", "-m", uri, "-p", str(port), start_new_session=True) as serving:
        try:
            predicting = mlflow_command(session, "predict", "-m", uri, "-i", "rows.json", "-o", "answer.json")
            predicted = predicting.communicate()[0]
            assert predicting.returncode == 0, predicted.decode()[-2000:]
            served = ask(serving, port, rows)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(serving.pid, signal.SIGTERM)
            serving_log = serving.stdout.read().decode()[-2000:]
    assert served, serving_log
    written = json.loads((session.folder / "answer.json").read_text())
    expected = model.predict(test)[:3].tolist()
    return {"served": served["predictions"] == expected, "predicted": written["predictions"] == expected}


def ask(serving, port, rows):
    """The serving process's answer, once it listens; none if it ends instead."""
    body = json.dumps({"inputs": rows}).encode()
    headers = {"Content-Type": "application/json"}
    give_up = time.monotonic() + SERVING_STARTS_WITHIN_S
    while True:
        try:
            request = urllib.request.Request(f"http://127.0.0.1:{port}/invocations", body, headers)
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.load(answer)
        except urllib.error.URLError as problem:
            if isinstance(problem, urllib.error.HTTPError) or time.monotonic() > give_up:
                raise
            if serving.poll() is not None:
                return None
            time.sleep(0.1)
