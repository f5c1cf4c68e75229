"""The end of the workflow: versions and models go, their numbers and names follow MLflow's rules."""

from .organizing import registered
from .session import step


@step
def delete_versions(session):
    """A deleted version is gone for every call, its aliases with it, and its number is not given again."""
    client = session.client
    registered(session, "doomed", 3)
    client.set_registered_model_alias("doomed", "champion", "3")
    client.set_registered_model_alias("doomed", "stays", "1")
    client.delete_model_version("doomed", "3")
    client.delete_model_version("doomed", 2)
    model = client.get_registered_model("doomed")
    source = f"runs:/{session.made['forest_run']}/sklearn-model"
    return {
        "model": model,
        "gone": session.refused(client.get_model_version, "doomed", "3"),
        "again": session.refused(client.delete_model_version, "doomed", "3"),
        "alias": session.refused(client.get_model_version_by_alias, "doomed", "champion"),
        "place": session.refused(client.get_model_version_download_uri, "doomed", "3"),
        "found": [found.version for found in client.search_model_versions("name='doomed'")],
        "next": session.mlflow.register_model(source, "doomed").version,
    }


@step
def delete_models(session):
    """A deleted model takes everything along; a new one of its name begins at 1, without tags and aliases."""
    client = session.client
    client.set_registered_model_tag("doomed", "task", "x")
    client.delete_registered_model("doomed")
    gone = session.refused(client.get_registered_model, "doomed")
    versions = [found.version for found in client.search_model_versions("name='doomed'")]
    registered(session, "doomed", 1)
    return {
        "gone": gone,
        "versions": versions,
        "new": client.get_registered_model("doomed"),
        "new version": client.get_model_version("doomed", "1"),
        "run stays": client.get_run(session.made["forest_run"]).info.lifecycle_stage,
    }
