"""What the client raises for what is not there, is there already, or is not allowed."""

from .organizing import EXAMPLE
from .session import step


@step
def what_is_not_there(session):
    """Unknown models, versions, aliases, runs and experiments."""
    client, refused = session.client, session.refused
    source = f"runs:/{session.made['hand_run']}/sklearn-model"
    return {
        "model": refused(client.get_registered_model, "nobody"),
        "version": refused(client.get_model_version, EXAMPLE, "99"),
        "version of no model": refused(client.get_model_version, "nobody", "1"),
        "alias": refused(client.get_model_version_by_alias, EXAMPLE, "nobody"),
        "alias of no model": refused(client.get_model_version_by_alias, "nobody", "champion"),
        "alias to no version": refused(client.set_registered_model_alias, EXAMPLE, "champion", "99"),
        "alias to no model": refused(client.set_registered_model_alias, "nobody", "champion", "1"),
        "delete alias of no model": refused(client.delete_registered_model_alias, "nobody", "champion"),
        "tag": refused(client.set_registered_model_tag, "nobody", "a", "b"),
        "version tag": refused(client.set_model_version_tag, EXAMPLE, "99", "a", "b"),
        "delete tag": refused(client.delete_registered_model_tag, "nobody", "a"),
        "describe": refused(client.update_registered_model, "nobody", "x"),
        "describe version": refused(client.update_model_version, EXAMPLE, "99", "x"),
        "rename": refused(client.rename_registered_model, "nobody", "somebody"),
        "delete": refused(client.delete_registered_model, "nobody"),
        "delete version": refused(client.delete_model_version, EXAMPLE, "99"),
        "place": refused(client.get_model_version_download_uri, EXAMPLE, "99"),
        "latest": refused(client.get_latest_versions, "nobody"),
        "create version": refused(client.create_model_version, "nobody", source, session.made["hand_run"]),
        "run": refused(client.get_run, "0" * 32),
        "metric of no run": refused(client.log_metric, "0" * 32, "a", 1.0),
        "experiment": refused(client.get_experiment, "987654321"),
        "run of no experiment": refused(client.create_run, "987654321"),
        "artifacts of no run": refused(client.list_artifacts, "0" * 32),
    }


@step
def what_is_not_allowed(session):
    """Bad names, aliases, versions, tags and sources."""
    client, refused = session.client, session.refused
    names = {name: refused(client.create_registered_model, name) for name in ("", " ", "a/b", "a:b", ".", "..")}
    aliases = ("", "a b", "latest", "LATEST", "v1", "V22", "é/", "a" * 256)
    return {
        "names": names,
        "new names": {name: refused(client.rename_registered_model, EXAMPLE, name) for name in ("", "a/b", EXAMPLE)},
        "aliases": {name: refused(client.set_registered_model_alias, EXAMPLE, name, "1") for name in aliases},
        "versions": {text: refused(client.get_model_version, EXAMPLE, text) for text in ("one", "-1", "0", "1.0")},
        "tag keys": {
            key: refused(client.set_registered_model_tag, EXAMPLE, key, "x") for key in ("", "a$b", "../up", "k" * 251)
        },
        "tag value": refused(client.set_registered_model_tag, EXAMPLE, "long", "x" * 100_001),
        "source": refused(client.create_model_version, EXAMPLE, ""),
        "zeros": client.get_model_version(EXAMPLE, "01").version,
        "param": refused(client.log_param, session.made["run"], "a$b", "x"),
    }


@step(majors=(3,))
def webhooks(session):
    """Make, list, change and delete a webhook; addresses inside the network are refused."""
    from mlflow.entities.webhook import WebhookStatus

    client = session.client
    options = {"events": ["model_version.created", "registered_model.created"], "description": "tell"}
    made = client.create_webhook("tell", "https://1.1.1.1/hook", status=WebhookStatus.DISABLED, secret="s", **options)
    changed = client.update_webhook(made.webhook_id, name="told", events=["model_version_alias.created"])
    listed = [hook.name for hook in client.list_webhooks()]
    client.delete_webhook(made.webhook_id)
    return {
        "made": [made.name, made.url, str(made.status), sorted(map(str, made.events)), made.description],
        "changed": [changed.name, sorted(map(str, changed.events)), changed.description],
        "listed": listed,
        "gone": session.refused(client.get_webhook, made.webhook_id),
        "inside": session.refused(client.create_webhook, "in", "https://127.0.0.1/hook", ["registered_model.created"]),
        "plain": session.refused(client.create_webhook, "in", "http://1.1.1.1/hook", ["registered_model.created"]),
        "name": session.refused(client.create_webhook, "a b", "https://1.1.1.1/hook", ["registered_model.created"]),
    }
