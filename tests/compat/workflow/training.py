"""The workflow before the registry: an experiment, runs with params, metrics and files, and models logged in them."""

from .session import step

FOREST = "sk-learn-random-forest-reg-model"
REQUIREMENTS = ["scikit-learn", "pandas"]  # inferring them takes mlflow five seconds a model


def forest(n_estimators=5):
    """A fitted random forest, and the numbers to test it on."""
    from sklearn.datasets import make_regression
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.model_selection import train_test_split

    numbers, targets = make_regression(n_features=4, n_informative=2, random_state=0, shuffle=False)
    train, test, train_targets, _ = train_test_split(numbers, targets, test_size=0.2, random_state=42)
    model = RandomForestRegressor(n_estimators=n_estimators, max_depth=2, random_state=42).fit(train, train_targets)
    return model, test


def log_forest(session, registered_model_name=None, **forest_options):
    """What the document's script does with a model inside a run; gives what `log_model` answered."""
    mlflow = session.mlflow
    model, test = forest(**forest_options)
    return mlflow.sklearn.log_model(
        sk_model=model,
        artifact_path="sklearn-model",
        signature=mlflow.models.infer_signature(test, model.predict(test)),
        registered_model_name=registered_model_name,
        serialization_format="cloudpickle",
        pip_requirements=REQUIREMENTS,
    )


def run_facts(run):
    """A run as the client sees it, without what only says when and by whom."""
    tags = {
        key: value for key, value in run.data.tags.items() if key in ("team", "mlflow.runName", "mlflow.note.content")
    }
    facts = ("run_name", "status", "lifecycle_stage", "experiment_id", "artifact_uri", "start_time", "end_time")
    info = {name: getattr(run.info, name) for name in facts}
    return {**info, "params": run.data.params, "metrics": run.data.metrics, "tags": tags}


@step
def an_experiment(session):
    """Make, find, tag, rename, delete and restore an experiment."""
    client = session.client
    made = client.create_experiment("first name", tags={"team": "a"})
    client.set_experiment_tag(made, "team", "b")
    client.rename_experiment(made, "workflow")
    client.delete_experiment(made)
    deleted = client.get_experiment(made).lifecycle_stage
    client.restore_experiment(made)
    session.made["experiment"] = session.mlflow.set_experiment("workflow").experiment_id
    return {
        "is_same": session.made["experiment"] == made,
        "deleted": deleted,
        "found": dict(client.get_experiment_by_name("workflow")),
        "names": [found.name for found in client.search_experiments(order_by=["name ASC"])],
        "by_tag": [found.name for found in client.search_experiments(filter_string="tags.team = 'b'")],
        "unknown": client.get_experiment_by_name("nobody"),
        "taken": session.refused(client.create_experiment, "workflow"),
        "default": client.get_experiment("0").name,
    }


@step
def a_run(session):
    """Start a run, log params, metrics with their steps, tags and a note, and read all of it back."""
    mlflow, client = session.mlflow, session.client
    with mlflow.start_run(run_name="first", tags={"team": "a"}, description="a note") as run:
        mlflow.log_params({"max_depth": 2, "random_state": 42, "empty": ""})
        mlflow.log_param("alone", "é 漢")
        mlflow.log_metrics({"mse": 1.5, "rare": 1e-300})
        for number in range(3):
            mlflow.log_metric("loss", 1.0 / (number + 1), step=number)
        mlflow.log_metric("bad", float("nan"))
        mlflow.set_tag("team", "b")
        running = mlflow.get_run(run.info.run_id).info.status
        changed = session.refused(mlflow.log_param, "max_depth", 3)
    session.made["run"] = run.info.run_id
    found = mlflow.get_run(run.info.run_id)
    bad = found.data.metrics.pop("bad")
    history = client.get_metric_history(run.info.run_id, "loss")
    return {
        "running": running,
        "changed": changed,
        "run": run_facts(found),
        "is_nan": bad != bad,
        "history": sorted((measured.step, measured.value) for measured in history),
        "active": mlflow.active_run(),
    }


@step
def a_failed_run(session):
    """A run whose script raises is FAILED; a run can be found, deleted and restored."""
    mlflow, client = session.mlflow, session.client
    try:
        with mlflow.start_run(run_name="second") as run:
            mlflow.log_metric("mse", 9.0)
            raise ValueError("bad luck")
    except ValueError:
        pass
    where = {"experiment_ids": [session.made["experiment"]]}
    names = lambda runs: [found.info.run_name for found in runs]  # noqa: E731
    by_metric = names(client.search_runs(**where, filter_string="metrics.mse > 2"))
    both = client.search_runs(**where, order_by=["metrics.mse DESC"], max_results=1)
    rest = client.search_runs(**where, order_by=["metrics.mse DESC"], page_token=both.token)
    client.delete_run(run.info.run_id)
    left = names(client.search_runs(**where))
    deleted = client.get_run(run.info.run_id).info.lifecycle_stage
    client.restore_run(run.info.run_id)
    return {
        "status": client.get_run(run.info.run_id).info.status,
        "by_metric": by_metric,
        "by_param": names(client.search_runs(**where, filter_string="params.max_depth = '2' and tags.team = 'b'")),
        "by_name": names(client.search_runs(**where, filter_string="attributes.run_name LIKE 'sec%'")),
        "pages": [names(both), names(rest)],
        "left": left,
        "deleted": deleted,
        "table": sorted(mlflow.search_runs(**where)["tags.mlflow.runName"]),
    }


@step
def what_scripts_do_besides(session):
    """Data sets, nested runs, batches, logging in the background, autologging, and a run resumed by its id."""
    import pandas
    from sklearn.linear_model import LinearRegression

    mlflow, client = session.mlflow, session.client
    with mlflow.start_run(run_name="outer") as outer:
        table = pandas.DataFrame({"a": [1.0, 2.0], "b": [3.0, 5.0]})
        mlflow.log_input(mlflow.data.from_pandas(table, name="numbers", source="here"), context="training")
        with mlflow.start_run(run_name="inner", nested=True) as inner:
            mlflow.log_metric("late", 1.0, synchronous=False).wait()
        mlflow.sklearn.autolog(log_models=False, log_datasets=False, silent=True)
        LinearRegression().fit(table[["a"]], table["b"])
        mlflow.sklearn.autolog(disable=True)
    entities = mlflow.entities
    metrics = [entities.Metric("batched", number / 2, 1_700_000_000_000 + number, number) for number in range(300)]
    client.log_batch(outer.info.run_id, metrics=metrics, params=[entities.Param("p", "1")])
    with mlflow.start_run(run_id=outer.info.run_id):
        mlflow.set_tags({"gone": "x", "kept": "y"})
        mlflow.delete_tag("gone")
    found = mlflow.get_run(outer.info.run_id)
    return {
        "data": [[made.dataset.name, made.tags[0].key, made.tags[0].value] for made in found.inputs.dataset_inputs],
        "parent": client.get_run(inner.info.run_id).data.tags["mlflow.parentRunId"] == outer.info.run_id,
        "children": [
            made.info.run_name
            for made in client.search_runs(
                [session.made["experiment"]], f"tags.mlflow.parentRunId = '{outer.info.run_id}'"
            )
        ],
        "late": client.get_run(inner.info.run_id).data.metrics,
        "params": found.data.params,
        "metrics": sorted(found.data.metrics),
        "history": [measured.value for measured in client.get_metric_history(outer.info.run_id, "batched")][::50],
        "tags": sorted(set(found.data.tags) - {"mlflow.autologging", "mlflow.runColor"}),
        "status": found.info.status,
        "no tag": session.refused(client.delete_tag, outer.info.run_id, "never"),
    }


def same(path, content):
    return path.read_bytes() == content if path.exists() else "is not there"


@step
def files_of_a_run(session):
    """Log files, empty and oddly named ones too, list them, and download one, a folder and text."""
    mlflow, client, run_id = session.mlflow, session.client, session.made["run"]
    folder = session.folder / "files"
    (folder / "deep" / "er").mkdir(parents=True)
    contents = {"plain.txt": b"text", "empty": b"", "a b%25 é漢.bin": bytes(range(256)), "deep/er/x.json": b"{}"}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    client.log_artifacts(run_id, folder, "given")
    client.log_text(run_id, "hello", "notes/hello.txt")
    client.log_dict(run_id, {"a": 1}, "notes/a.json")
    got = session.folder / "got"
    mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path="given", dst_path=str(got))
    listing = {
        where: [(found.path, found.is_dir, found.file_size) for found in client.list_artifacts(run_id, where or None)]
        for where in ("", "given", "given/deep", "nowhere", "given/empty")
    }
    return {
        "listing": listing,
        "same": {name: same(got / "given" / name, content) for name, content in contents.items()},
        "text": mlflow.artifacts.load_text(f"runs:/{run_id}/notes/hello.txt"),
        "dict": mlflow.artifacts.load_dict(f"runs:/{run_id}/notes/a.json"),
        "missing": session.refused(mlflow.artifacts.load_text, f"runs:/{run_id}/notes/nothing.txt"),
    }


@step
def log_model_registers(session):
    """`log_model(registered_model_name=…)` makes the registered model and its version 1, the next time version 2."""
    mlflow, client = session.mlflow, session.client
    answers = []
    for trees in (5, 6):
        with mlflow.start_run(run_name=f"forest {trees}") as run:
            mlflow.log_params({"trees": trees})
            mlflow.log_metrics({"mse": 0.5 * trees})
            answers.append(log_forest(session, FOREST, n_estimators=trees))
    session.made |= {"forest_run": run.info.run_id, "forest": answers[-1]}
    return {
        "numbers": [answer.registered_model_version for answer in answers],
        "model": client.get_registered_model(FOREST),
        "version": client.get_model_version(FOREST, "1"),
        "is_of_the_run": client.get_model_version(FOREST, "2").run_id == run.info.run_id,
        "place": client.get_model_version_download_uri(FOREST, "1"),
        "history": "mlflow.log-model.history" in client.get_run(run.info.run_id).data.tags,
    }


@step(majors=(3,))
def logged_models(session):
    """A logged model is READY, tagged with its versions, and found by its run, params and metrics."""
    mlflow, client = session.mlflow, session.client
    found = mlflow.get_logged_model(session.made["forest"].model_id)
    client.set_logged_model_tags(found.model_id, {"team": "a", "gone": "x"})
    client.delete_logged_model_tag(found.model_id, "gone")
    mlflow.log_model_params({"late": "1"}, model_id=found.model_id)
    where = {"experiment_ids": [session.made["experiment"]], "output_format": "list"}
    by_metric = mlflow.search_logged_models(**where, filter_string="metrics.mse > 2.6")
    in_order = mlflow.search_logged_models(**where, order_by=[{"field_name": "metrics.mse", "ascending": False}])
    external = mlflow.create_external_model(name="elsewhere", experiment_id=session.made["experiment"])
    again = mlflow.get_logged_model(found.model_id)
    return {
        "name": found.name,
        "status": str(found.status),
        "is_of_the_run": found.source_run_id == session.made["forest_run"],
        "versions": found.tags["mlflow.modelVersions"],
        "tags": {key: value for key, value in again.tags.items() if key in ("team", "gone")},
        "params": again.params,
        "metrics": [(measured.key, measured.value) for measured in found.metrics],
        "by_metric": [model.name for model in by_metric],
        "in_order": [[measured.value for measured in model.metrics] for model in in_order],
        "outputs": len(mlflow.get_run(session.made["forest_run"]).outputs.model_outputs),
        "external": [external.name, str(external.status)],
        "deleted": session.refused(client.delete_logged_model, external.model_id),
        "gone": session.refused(client.get_logged_model, external.model_id),
    }
