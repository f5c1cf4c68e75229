"""MLflow's webhook routes: `webhooks`, `webhooks/{webhook_id}` and its test."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from registry.changes import Delivery, Webhook, message
from registry.core import ServedRegistry
from registry.errors import InvalidParameter, Unavailable
from registry.server.transport import Fields, Handler
from registry.webhooks import TIMEOUT_S, Answer, send

# Looking a host up, or calling it, keeps a thread of this server waiting for a stranger: never more than these.
MAX_AT_ONCE = 4
_STRANGERS = threading.BoundedSemaphore(MAX_AT_ONCE)

# What a test sends, per event; the values are made up.
_VERSION = {"name": "example", "version": "1"}
_TAG = {"key": "reviewed", "value": "yes"}
_NEW_VERSION: Mapping[str, Any] = {
    **_VERSION, "source": "models:/m-00000000000000000000000000000000", "run_id": None, "tags": {}, "description": None
}  # fmt: skip
_EXAMPLES: Mapping[str, Mapping[str, Any]] = {
    "REGISTERED_MODEL.CREATED": {"name": "example", "tags": {}, "description": ""},
    "MODEL_VERSION.CREATED": _NEW_VERSION,
    "MODEL_VERSION_TAG.SET": _VERSION | _TAG,
    "MODEL_VERSION_TAG.DELETED": _VERSION | {"key": "reviewed"},
    "MODEL_VERSION_ALIAS.CREATED": {"name": "example", "alias": "champion", "version": "1"},
    "MODEL_VERSION_ALIAS.DELETED": {"name": "example", "alias": "champion"},
    "PROMPT.CREATED": {"name": "example", "tags": {}, "description": ""},
    "PROMPT_VERSION.CREATED": _VERSION | {"template": "Hello {{name}}", "tags": {}, "description": None},
    "PROMPT_TAG.SET": {"name": "example"} | _TAG,
    "PROMPT_TAG.DELETED": {"name": "example", "key": "reviewed"},
    "PROMPT_VERSION_TAG.SET": _VERSION | _TAG,
    "PROMPT_VERSION_TAG.DELETED": _VERSION | {"key": "reviewed"},
    "PROMPT_ALIAS.CREATED": {"name": "example", "alias": "champion", "version": "1"},
    "PROMPT_ALIAS.DELETED": {"name": "example", "alias": "champion"},
    "BUDGET_POLICY.EXCEEDED": {},
}


def create(registry: ServedRegistry, fields: Fields) -> dict[str, Any]:
    given: dict[str, Any] = {
        "name": fields.text("name"),
        "url": fields.text("url"),
        "events": _events(fields) or [],
        "description": fields.optional_text("description") or None,
        "secret": fields.optional_text("secret") or None,
        "status": fields.optional_text("status") or "ACTIVE",
    }
    with _one_of_few():
        return {"webhook": _encode(registry.webhooks.create_webhook(**given))}


def find_all(registry: ServedRegistry, fields: Fields) -> dict[str, Any]:
    limit = fields.integer("max_results")
    page = registry.webhooks.list_webhooks(100 if limit is None else limit, fields.optional_text("page_token"))
    found: dict[str, Any] = {"webhooks": [_encode(each) for each in page]} if page else {}
    return found | ({"next_page_token": page.token} if page.token else {})


def get(registry: ServedRegistry, fields: Fields) -> dict[str, Any]:
    return {"webhook": _encode(registry.webhooks.get_webhook(fields.text("webhook_id")))}


def change(registry: ServedRegistry, fields: Fields) -> dict[str, Any]:
    """What is absent or empty stays, but an empty description or secret takes the old one away."""
    given: dict[str, Any] = {
        "name": fields.optional_text("name") or None,
        "description": fields.optional_text("description"),
        "url": fields.optional_text("url") or None,
        "events": _events(fields) or None,
        "secret": fields.optional_text("secret"),
        "status": fields.optional_text("status") or None,
    }
    with _one_of_few():
        return {"webhook": _encode(registry.webhooks.update_webhook(fields.text("webhook_id"), **given))}


def delete(registry: ServedRegistry, fields: Fields) -> dict[str, Any]:
    registry.webhooks.delete_webhook(fields.text("webhook_id"))
    return {}


def test(registry: ServedRegistry, fields: Fields) -> dict[str, Any]:
    """Send an example once, and say how it went; never what the receiver said."""
    webhook = registry.webhooks.get_webhook(fields.text("webhook_id"))
    event = _event(fields.object("event")) if fields.has("event") else webhook.events[0]
    secret = registry.webhooks.secret_of(webhook.webhook_id)
    body = message(event, time.time_ns() // 1_000_000, _EXAMPLES[event])
    delivery = Delivery(0, str(uuid4()), webhook.url, secret, body, 1)
    try:
        with _one_of_few():
            return _result(send(delivery, registry.webhooks.inside_hosts, TIMEOUT_S))
    except Unavailable as error:
        return _result(Answer(error=str(error)))


ROUTES: Mapping[tuple[str, str], Handler] = {
    ("POST", "webhooks"): create,
    ("GET", "webhooks"): find_all,
    ("GET", "webhooks/{webhook_id}"): get,
    ("PATCH", "webhooks/{webhook_id}"): change,
    ("DELETE", "webhooks/{webhook_id}"): delete,
    ("POST", "webhooks/{webhook_id}/test"): test,
}


@contextmanager
def _one_of_few() -> Iterator[None]:
    if not _STRANGERS.acquire(blocking=False):
        raise Unavailable(f"{MAX_AT_ONCE} webhooks are being made, changed or tested; try again in a moment")
    try:
        yield
    finally:
        _STRANGERS.release()


def _events(fields: Fields) -> Sequence[str] | None:
    return [_event(each) for each in fields.objects("events")] if fields.has("events") else None


def _event(fields: Fields) -> str:
    """Checked like `webhooks` checks its events, before anything is looked up by it."""
    event = f"{fields.text('entity')}.{fields.text('action')}"
    if event not in _EXAMPLES:
        raise InvalidParameter(f"{event[:80]!r} is no event; there are: {', '.join(_EXAMPLES)}")
    return event


def _encode(webhook: Webhook) -> dict[str, Any]:
    events = [dict(zip(("entity", "action"), each.split("."), strict=True)) for each in webhook.events]
    encoded = {
        "webhook_id": webhook.webhook_id,
        "name": webhook.name,
        "description": webhook.description,
        "url": webhook.url,
        "events": events,
        "status": webhook.status,
        "creation_timestamp": webhook.creation_timestamp,
        "last_updated_timestamp": webhook.last_updated_timestamp,
    }
    return {key: value for key, value in encoded.items() if value not in (None, "")}


def _result(answer: Answer) -> dict[str, Any]:
    result: dict[str, Any] = {"success": answer.is_success}
    if answer.status is not None:
        result["response_status"] = answer.status
    if answer.error is not None:
        result["error_message"] = answer.error
    return {"result": result}
