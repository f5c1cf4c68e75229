"""What webhooks are told of a change, written in the change's own transaction: neither is ever without the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from uuid import uuid4

import msgspec
from sqlalchemy import Connection, bindparam, insert, select

from registry.changes import message
from registry.sql.prepared import Prepared
from registry.sql.rows import read_model, read_version
from registry.sql.schema import deliveries, model_tags, models, version_tags, versions, webhooks

IS_PROMPT_TAG = "mlflow.prompt.is_prompt"
PROMPT_TEXT_TAG = "mlflow.prompt.text"
# How MLflow marks a prompt; its messages leave these out.
PROMPT_MARKS = {IS_PROMPT_TAG, PROMPT_TEXT_TAG, "_mlflow_prompt_type"}

# What a change is called when it is one of a model and one of a prompt; nobody is told of any other change.
_EVENTS = {
    ("model", "created"): ("REGISTERED_MODEL.CREATED", "PROMPT.CREATED"),
    ("version", "created"): ("MODEL_VERSION.CREATED", "PROMPT_VERSION.CREATED"),
    ("tag", "set"): (None, "PROMPT_TAG.SET"),
    ("tag", "deleted"): (None, "PROMPT_TAG.DELETED"),
    ("version tag", "set"): ("MODEL_VERSION_TAG.SET", "PROMPT_VERSION_TAG.SET"),
    ("version tag", "deleted"): ("MODEL_VERSION_TAG.DELETED", "PROMPT_VERSION_TAG.DELETED"),
    ("alias", "set"): ("MODEL_VERSION_ALIAS.CREATED", "PROMPT_ALIAS.CREATED"),
    ("alias", "deleted"): ("MODEL_VERSION_ALIAS.DELETED", "PROMPT_ALIAS.DELETED"),
}
_LISTENING = Prepared(select(webhooks.c.webhook_id, webhooks.c.events).where(webhooks.c.status == "ACTIVE"))
_INSERT = insert(deliveries)
_MODEL_TAG = (
    select(model_tags.c.value)
    .join_from(model_tags, models)
    .where(models.c.name == bindparam("name"), model_tags.c.key == bindparam("key"))
)
_VERSION_TAG = (
    select(version_tags.c.value)
    .select_from(version_tags.join(versions).join(models))
    .where(
        models.c.name == bindparam("name"),
        versions.c.number == bindparam("number"),
        version_tags.c.key == bindparam("key"),
    )
)
_decode_events = msgspec.json.Decoder(frozenset[str]).decode


def queue_messages(connection: Connection, now: int, recorded: Sequence[Mapping[str, Any]]) -> None:
    """Write a message for each webhook that asked for one of these changes; call it when all is written.

    Each change has `kind`, `name` and its details. While there are no webhooks this costs one look at an empty
    table, and nothing for a change of which nobody is ever told.
    """
    told = [each for each in recorded if _what(each) in _EVENTS]
    if not told:
        return
    listening = [(row[0], _decode_events(row[1])) for row in _LISTENING.run(connection)]
    if listening:
        rows = [row for change in told for row in _messages(connection, now, change, listening)]
        if rows:
            connection.execute(_INSERT, rows)


def _messages(
    connection: Connection, now: int, change: Mapping[str, Any], listening: Sequence[tuple[str, frozenset[str]]]
) -> Iterator[dict[str, Any]]:
    is_prompt = _is_prompt(connection, change["name"])
    event = _EVENTS[_what(change)][is_prompt]
    asked = [webhook_id for webhook_id, events in listening if event in events]
    if event is None or not asked:
        return
    body = message(event, now, _data(connection, change, is_prompt))
    for webhook_id in asked:
        # Every webhook has a delivery id of its own, and keeps it through all attempts.
        ids = {"webhook_id": webhook_id, "delivery_id": str(uuid4())}
        yield {**ids, "body": body, "attempts": 0, "due_at": now, "claimed_until": 0}


def _what(change: Mapping[str, Any]) -> tuple[str, str]:
    """What was done to what, as `_EVENTS` has it."""
    kind = change["kind"]
    if kind == "alias":
        return kind, "deleted" if change.get("to") is None else "set"
    if kind == "tag" and change.get("version") is not None:
        return "version tag", change["action"]
    return kind, change["action"]


def _data(connection: Connection, change: Mapping[str, Any], is_prompt: bool) -> dict[str, Any]:
    """What MLflow sends of such a change."""
    name = change["name"]
    match _what(change):
        case "model", _:
            model = read_model(connection, name)
            return {"name": name, "tags": _public(model.tags, is_prompt), "description": model.description or ""}
        case "version", _:
            return _version(connection, name, int(change["version"]), is_prompt)
        case "alias", "set":
            return {"name": name, "alias": change["alias"], "version": str(change["to"])}
        case "alias", _:
            return {"name": name, "alias": change["alias"]}
    tag = {"name": name, "key": change["key"]}
    if change.get("version") is not None:
        tag = {"name": name, "version": str(change["version"]), "key": change["key"]}
    return tag if change["action"] == "deleted" else {**tag, "value": _value(connection, change)}


def _version(connection: Connection, name: str, number: int, is_prompt: bool) -> dict[str, Any]:
    version = read_version(connection, name, number)
    content: dict[str, Any] = {"source": version.source, "run_id": version.run_id or None}
    if is_prompt:
        content = {"template": version.tags.get(PROMPT_TEXT_TAG)}
    tags = _public(version.tags, is_prompt)
    return {"name": name, "version": str(number), **content, "tags": tags, "description": version.description or None}


def _public(tags: Mapping[str, str], is_prompt: bool) -> dict[str, str]:
    return {key: value for key, value in tags.items() if not (is_prompt and key in PROMPT_MARKS)}


def _value(connection: Connection, change: Mapping[str, Any]) -> str | None:
    where = {"name": change["name"], "key": change["key"]}
    if change.get("version") is None:
        return connection.execute(_MODEL_TAG, where).scalar()
    return connection.execute(_VERSION_TAG, {**where, "number": int(change["version"])}).scalar()


def _is_prompt(connection: Connection, name: str) -> bool:
    mark = connection.execute(_MODEL_TAG, {"name": name, "key": IS_PROMPT_TAG}).scalar()
    return mark is not None and mark.lower() == "true"
