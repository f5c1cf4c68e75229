"""The ways into the registry: a run's model, a logged model, a place in the artifact store, a file from outside."""

import pickle

from .session import step
from .training import REQUIREMENTS, forest

SIMPLE = "sk-learn-random-forest-reg"
OUTSIDE = "SklearnLinearRegression"
VADER = "PyFuncVaderSentiments"
TEXTS = ["This is a bad movie. You don't want to see it! :-)", "Yay!! Another good phone interview. I nailed it!!"]


@step
def register_model_of_a_run(session):
    """`register_model("runs:/…")` makes the model and version 1, the next time version 2."""
    mlflow, uri = session.mlflow, f"runs:/{session.made['forest_run']}/sklearn-model"
    first = mlflow.register_model(uri, SIMPLE)
    second = mlflow.register_model(uri, SIMPLE, tags={"team": "a"})
    missing = session.verdict(mlflow.register_model, f"runs:/{session.made['forest_run']}/nothing", SIMPLE)
    return {
        "first": first,
        "second": second,
        "is_of_the_run": second.run_id == session.made["forest_run"],
        "place": session.client.get_model_version_download_uri(SIMPLE, "2"),
        "missing": missing,
    }


@step(majors=(3,))
def register_logged_model(session):
    """`register_model("models:/m-…")` registers a logged model, with or without a run."""
    mlflow, client = session.mlflow, session.client
    of_run = mlflow.register_model(f"models:/{session.made['forest'].model_id}", "logged")
    model, _ = forest()
    alone = mlflow.sklearn.log_model(
        model, name="alone", serialization_format="cloudpickle", pip_requirements=REQUIREMENTS
    )
    return {
        "of_run": of_run,
        "alone": mlflow.register_model(alone.model_uri, "logged"),
        "by_client": client.create_model_version("logged", alone.model_uri, model_id=alone.model_id),
        "places": [client.get_model_version_download_uri("logged", number) for number in ("1", "2", "3")],
        "tag": mlflow.get_logged_model(alone.model_id).tags["mlflow.modelVersions"],
        "unknown": session.refused(mlflow.register_model, f"models:/m-{'0' * 32}", "logged"),
    }


@step
def create_registered_model(session):
    """An empty registered model with tags and a description; a second one of that name is refused."""
    client = session.client
    made = client.create_registered_model("empty", tags={"task": "regression", "n": 1}, description="for all")
    return {
        "made": made,
        "found": client.get_registered_model("empty"),
        "again": session.refused(client.create_registered_model, "empty"),
        "latest": client.get_latest_versions("empty"),
        "versions": client.search_model_versions("name='empty'"),
        "bare": client.create_registered_model("bare"),
    }


@step
def create_model_version(session):
    """`create_model_version(source=…, run_id=…)` from a directory among the artifacts of a run."""
    mlflow, client = session.mlflow, session.client
    saved = session.folder / "saved"
    mlflow.sklearn.save_model(forest()[0], saved, serialization_format="cloudpickle", pip_requirements=REQUIREMENTS)
    with mlflow.start_run(run_name="by hand") as run:
        mlflow.log_artifacts(str(saved), "sklearn-model")
    session.made["hand_run"] = run.info.run_id
    source = f"{run.info.artifact_uri}/sklearn-model"
    first = client.create_model_version("empty", source, run.info.run_id, tags={"a": "b"}, description="by hand")
    second = client.create_model_version(
        "empty", f"runs:/{run.info.run_id}/sklearn-model", run.info.run_id, run_link="http://ci.example/7"
    )
    return {
        "first": first,
        "is_of_the_run": first.run_id == run.info.run_id,
        "has_source": first.source == source,
        "second": second,
        "found": client.get_model_version("empty", "2"),
        "place": client.get_model_version_download_uri("empty", "1"),
        "latest": client.get_latest_versions("empty"),
    }


@step
def sources_that_are_refused(session):
    """The document's `mlruns/0/…`, other local paths, and the artifacts of another run."""
    client, run_id = session.client, session.made["forest_run"]
    other = f"{session.mlflow.get_run(session.made['hand_run']).info.artifact_uri}/sklearn-model"
    sources = {
        "document": f"mlruns/0/{run_id}/artifacts/sklearn-model",
        "absolute": str(session.folder / "saved"),
        "file": f"file://{session.folder}/saved",
        "other run": other,
        "upwards": f"mlflow-artifacts:/0/{run_id}/artifacts/../../secret",
        "http": "http://127.0.0.1/model",
        "bucket": "s3://bucket/model",
        "nothing": "",
    }
    create = client.create_model_version
    answers = {label: session.verdict(create, "bare", source, run_id) for label, source in sources.items()}
    return answers | {"without run": session.verdict(create, "bare", other)}


@step
def a_model_saved_outside_mlflow(session):
    """The document's regression, pickled by hand, is loaded, logged, registered, loaded again, and scores as before."""
    from sklearn import datasets, linear_model
    from sklearn.metrics import mean_squared_error, r2_score

    mlflow = session.mlflow
    numbers, targets = datasets.load_diabetes(return_X_y=True)
    numbers = numbers[:, None, 2]
    fitted = linear_model.LinearRegression().fit(numbers[:-20], targets[:-20])
    (session.folder / "lr_model.pkl").write_bytes(pickle.dumps(fitted))
    loaded = pickle.loads((session.folder / "lr_model.pkl").read_bytes())
    mlflow.sklearn.log_model(
        loaded,
        "sk_learn",
        serialization_format="cloudpickle",
        signature=mlflow.models.infer_signature(numbers, targets),
        registered_model_name=OUTSIDE,
        pip_requirements=REQUIREMENTS,
    )
    mlflow.end_run()
    again = mlflow.sklearn.load_model(f"models:/{OUTSIDE}/1")
    scored = again.predict(numbers[-20:])
    return {
        "coefficients": again.coef_,
        "error": round(mean_squared_error(targets[-20:], scored), 2),
        "determination": round(r2_score(targets[-20:], scored), 2),
        "model": session.client.get_registered_model(OUTSIDE),
    }


@step
def a_framework_that_mlflow_does_not_know(session):
    """The document's PythonModel around vaderSentiment: saved, logged, registered, loaded and scored."""
    import pandas
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    mlflow = session.mlflow

    class SocialMediaAnalyserModel(mlflow.pyfunc.PythonModel):
        def __init__(self):
            super().__init__()
            self._analyser = SentimentIntensityAnalyzer()

        def predict(self, context, model_input, params=None):
            return model_input.apply(lambda column: self._analyser.polarity_scores(column))

    conda_env = {"name": "mlflow-env", "dependencies": ["python", "pip", {"pip": ["mlflow", "vaderSentiment==3.3.2"]}]}
    model = SocialMediaAnalyserModel()
    with mlflow.start_run(run_name="Vader Sentiment Analysis") as run:
        mlflow.log_param("algorithm", "VADER")
        path = f"vader-{run.info.run_id}"
        mlflow.pyfunc.save_model(path=str(session.folder / path), python_model=model, conda_env=conda_env)
    mlflow.pyfunc.log_model(artifact_path=path, python_model=model, registered_model_name=VADER, conda_env=conda_env)
    mlflow.end_run()
    loaded = mlflow.pyfunc.load_model(f"models:/{VADER}/1")
    return {text: loaded.predict(pandas.DataFrame([text]))[0] for text in TEXTS}


@step
def register_model_of_an_unknown_run(session):
    """The client makes the registered model first, so an empty one stays behind, without a version."""
    return {
        "refused": session.refused(session.mlflow.register_model, f"runs:/{'0' * 32}/sklearn-model", "never"),
        "model": session.client.get_registered_model("never"),
        "versions": list(session.client.search_model_versions("name = 'never'")),
    }
