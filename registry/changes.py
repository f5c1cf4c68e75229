"""What happened in a registry, for whoever follows it: the list of changes, and webhooks that are told of them."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from registry.page import Page


@dataclass(frozen=True, slots=True)
class Change:
    """One change. `kind` is one of `KINDS`; `details` holds what that kind has, as it is sent to clients.

    alias: {alias, from, to}; model: {action: created|updated|renamed|deleted, new_name?};
    version: {action: created|updated|deleted|moved, version}; tag: {action: set|deleted, key, version?}.
    """

    seq: int
    kind: str
    name: str
    at: int
    details: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The shape of the change feed."""
        return {"kind": self.kind, "name": self.name, **self.details}


KINDS = ("alias", "model", "version", "tag")


@dataclass(frozen=True, slots=True)
class Changes:
    """The changes after a cursor. `is_complete` false: the cursor was too old or unknown, so look at everything."""

    cursor: str
    changes: Sequence[Change] = ()
    is_complete: bool = True


# What a webhook can ask for. The last is accepted and never happens: it is of an AI gateway that is not part of this.
EVENTS = (
    "REGISTERED_MODEL.CREATED",
    "MODEL_VERSION.CREATED",
    "MODEL_VERSION_TAG.SET",
    "MODEL_VERSION_TAG.DELETED",
    "MODEL_VERSION_ALIAS.CREATED",
    "MODEL_VERSION_ALIAS.DELETED",
    "PROMPT.CREATED",
    "PROMPT_VERSION.CREATED",
    "PROMPT_TAG.SET",
    "PROMPT_TAG.DELETED",
    "PROMPT_VERSION_TAG.SET",
    "PROMPT_VERSION_TAG.DELETED",
    "PROMPT_ALIAS.CREATED",
    "PROMPT_ALIAS.DELETED",
    "BUDGET_POLICY.EXCEEDED",
)


@dataclass(frozen=True, slots=True)
class Webhook:
    """Who is told of which events, and where. The secret never leaves the registry."""

    webhook_id: str
    name: str
    url: str
    events: Sequence[str]  # ENTITY.ACTION, such as MODEL_VERSION_ALIAS.CREATED
    creation_timestamp: int
    last_updated_timestamp: int
    description: str | None = None
    status: str = "ACTIVE"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message that is due, claimed by whoever got it: send *body*, then say how it went.

    *attempts* counts this one too.
    """

    id: int
    delivery_id: str
    url: str
    secret: str | None
    body: str
    attempts: int


def message(event: str, at_ms: int, data: Mapping[str, Any]) -> str:
    """What a webhook is sent of an event (`ENTITY.ACTION`): the JSON that MLflow sends."""
    entity, _, action = event.lower().partition(".")
    timestamp = datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="microseconds")
    return json.dumps({"entity": entity, "action": action, "timestamp": timestamp, "data": data})


class Webhooks(Protocol):
    """Webhooks, and the messages they are still to be sent."""

    @property
    def inside_hosts(self) -> Collection[str]:
        """The `host` or `host:port` that may be called though they are inside, and by http too."""

    def create_webhook(
        self,
        name: str,
        url: str,
        events: Sequence[str],
        description: str | None = None,
        secret: str | None = None,
        status: str = "ACTIVE",
    ) -> Webhook: ...

    def get_webhook(self, webhook_id: str) -> Webhook: ...

    def list_webhooks(self, max_results: int = 100, page_token: str | None = None) -> Page[Webhook]: ...

    def update_webhook(
        self,
        webhook_id: str,
        name: str | None = None,
        description: str | None = None,
        url: str | None = None,
        events: Sequence[str] | None = None,
        secret: str | None = None,
        status: str | None = None,
    ) -> Webhook: ...

    def delete_webhook(self, webhook_id: str) -> None: ...

    def secret_of(self, webhook_id: str) -> str | None:
        """For signing a test message; nothing else may ask."""

    def claim_deliveries(self, limit: int, claim_ms: int) -> Sequence[Delivery]:
        """Messages that are due, oldest first; nobody else is given them for so long.

        At most one of each webhook, and none of one that is being sent another: nobody waits for a slow receiver.
        """

    def finish_delivery(self, id: int, retry_in_ms: int | None) -> None:
        """It was delivered or is given up (None), or is due again after so long."""
