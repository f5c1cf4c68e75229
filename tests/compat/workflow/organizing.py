"""Aliases, tags, descriptions, stages, names and copies of what is registered."""

import json
import urllib.request

from .session import step
from .training import FOREST

EXAMPLE = "example-model"


def registered(session, name, versions):
    """Make a registered model with that many versions of the same model."""
    session.client.create_registered_model(name)
    for _ in range(versions):
        session.mlflow.register_model(f"runs:/{session.made['forest_run']}/sklearn-model", name)


@step
def aliases(session):
    """Set an alias, move it, read it, set another on the same version, delete it twice."""
    client = session.client
    registered(session, EXAMPLE, 2)
    client.set_registered_model_alias(EXAMPLE, "champion", 1)
    first = client.get_model_version_by_alias(EXAMPLE, "champion")
    client.set_registered_model_alias(EXAMPLE, "champion", "2")
    client.set_registered_model_alias(EXAMPLE, "Älteste-1", "2")
    client.set_registered_model_alias(EXAMPLE, "challenger", "1")
    model = client.get_registered_model(EXAMPLE)
    client.delete_registered_model_alias(EXAMPLE, "challenger")
    return {
        "first": first,
        "moved": client.get_model_version_by_alias(EXAMPLE, "champion"),
        "model": model,
        "latest": client.get_model_version_by_alias(EXAMPLE, "latest").version,
        "deleted": session.refused(client.get_model_version_by_alias, EXAMPLE, "challenger"),
        "deleted again": session.refused(client.delete_registered_model_alias, EXAMPLE, "challenger"),
        "left": client.get_registered_model(EXAMPLE).aliases,
        "searched": client.search_model_versions(f"name='{EXAMPLE}'"),
    }


@step
def aliases_that_differ_by_case(session):
    """The document's `Champion` is another alias than `champion`; Turnout warns in a header."""
    client = session.client
    client.set_registered_model_alias(EXAMPLE, "champion", 1)
    body = json.dumps({"name": EXAMPLE, "alias": "Champion", "version": "2"}).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{session.uri}/api/2.0/mlflow/registered-models/alias", body, headers)
    with urllib.request.urlopen(request) as answer:
        warning = answer.headers.get("X-Turnout-Warning")
    both = [client.get_model_version_by_alias(EXAMPLE, alias).version for alias in ("champion", "Champion")]
    client.delete_registered_model_alias(EXAMPLE, "Champion")
    return {"both": both, "left": client.get_registered_model(EXAMPLE).aliases, "warning": warning}


@step
def tags(session):
    """Set, overwrite and delete tags of a model and of a version."""
    client = session.client
    client.set_registered_model_tag(EXAMPLE, "task", "classification")
    client.set_registered_model_tag(EXAMPLE, "task", "regression")
    client.set_registered_model_tag(EXAMPLE, "a/b.c:d e", "é")
    client.set_registered_model_tag(EXAMPLE, "gone", 1)
    client.delete_registered_model_tag(EXAMPLE, "gone")
    client.delete_registered_model_tag(EXAMPLE, "never")
    client.set_model_version_tag(EXAMPLE, "1", "validation_status", "approved")
    client.set_model_version_tag(EXAMPLE, "1", "gone", True)
    client.delete_model_version_tag(EXAMPLE, "1", "gone")
    client.delete_model_version_tag(EXAMPLE, "1", "never")
    return {
        "model": client.get_registered_model(EXAMPLE).tags,
        "version": client.get_model_version(EXAMPLE, "1").tags,
        "in search": [dict(found.tags) for found in client.search_model_versions(f"name='{EXAMPLE}'")],
        "other": client.get_model_version(EXAMPLE, "2").tags,
    }


@step
def descriptions(session):
    """Describe a version and a model, then clear the description."""
    client = session.client
    words = "This model version is a scikit-learn random forest containing 100 decision trees"
    return {
        "version": client.update_model_version(EXAMPLE, 1, words),
        "model": client.update_registered_model(EXAMPLE, "é\n漢"),
        "found": client.get_registered_model(EXAMPLE).description,
        "cleared": client.update_model_version(EXAMPLE, "1", "").description,
        "cleared model": client.update_registered_model(EXAMPLE, "").description,
    }


@step
def stages(session):
    """Move versions through MLflow's deprecated stages, archiving what was there."""
    client = session.client
    registered(session, "staged", 3)
    move = client.transition_model_version_stage
    moved = [move("staged", "1", "Production"), move("staged", 2, "production"), move("staged", "3", "Staging")]
    archived = move("staged", "3", "Production", archive_existing_versions=True)
    return {
        "moved": moved,
        "archived": archived,
        "stages": [client.get_model_version("staged", number).current_stage for number in ("1", "2", "3")],
        "latest": client.get_latest_versions("staged"),
        "in production": client.get_latest_versions("staged", stages=["Production"]),
        "model": client.get_registered_model("staged"),
        "unknown": session.refused(move, "staged", "1", "bogus"),
        "unknown version": session.refused(move, "staged", "9", "Staging"),
    }


@step
def rename(session):
    """A renamed model keeps versions, aliases and tags; the old name is free, a taken one refused."""
    client = session.client
    registered(session, "before", 2)
    client.set_registered_model_alias("before", "champion", "1")
    client.set_registered_model_tag("before", "task", "x")
    answer = client.rename_registered_model("before", "after")
    model = client.get_registered_model("after")
    return {
        "answer": answer,
        "model": model,
        "by alias": client.get_model_version_by_alias("after", "champion"),
        "place": client.get_model_version_download_uri("after", "2"),
        "old": session.refused(client.get_registered_model, "before"),
        "taken": session.refused(client.rename_registered_model, "after", FOREST),
        "free": client.create_registered_model("before").name,
    }


@step
def copy_model_version(session):
    """Promote by alias, number and latest into another model; a copy of a copy, and one whose origin is gone, load."""
    client = session.client
    registered(session, "regression-model-staging", 2)
    client.set_registered_model_alias("regression-model-staging", "candidate", "1")
    client.set_model_version_tag("regression-model-staging", "1", "checked", "yes")
    copy, production = client.copy_model_version, "regression-model-production"
    copied = [
        copy("models:/regression-model-staging@candidate", production),
        copy("models:/regression-model-staging/2", production),
        copy(f"models:/{production}/1", "again"),
    ]
    client.delete_registered_model("regression-model-staging")
    return {
        "copied": copied,
        "latest by name": session.refused(copy, f"models:/{production}/latest", "again"),
        "places": [client.get_model_version_download_uri("again", "1")],
        "loads": type(session.mlflow.sklearn.load_model("models:/again/1")).__name__,
        "aliases": client.get_registered_model(production).aliases,
        "unknown": session.refused(copy, f"models:/{production}@nobody", "again"),
        "no model uri": session.refused(copy, f"runs:/{session.made['forest_run']}/sklearn-model", "again"),
    }
