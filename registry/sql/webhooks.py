"""Webhooks in the database, and the messages that wait for them: who claims one sends it."""

from __future__ import annotations

import json
import logging
import os
import re
import time
from base64 import b64decode, b64encode
from collections.abc import Collection, Sequence
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, Row, bindparam, delete, exists, func, insert, select, tuple_, update

from registry.changes import EVENTS, Delivery, Webhook
from registry.errors import InvalidParameter, NotFound, RegistryError
from registry.names import check_text, shown
from registry.outbound.addresses import check_url
from registry.page import Page
from registry.sql.database import Database, Transaction
from registry.sql.keyring import Keyring
from registry.sql.paging import check_max_results
from registry.sql.schema import deliveries, webhooks

ALLOWED_HOSTS = "TURNOUT_WEBHOOK_ALLOWED_HOSTS"
ACTIVE, DISABLED = "ACTIVE", "DISABLED"
MAX_PAGE = 1_000
MAX_WEBHOOKS = 1_000
MAX_WAITING = 10_000
MAX_ID_CHARS = 256
MAX_URL_CHARS = 2_000
MAX_DESCRIPTION_CHARS = 1_000
MAX_SECRET_CHARS = 1_000

_log = logging.getLogger("registry.webhooks")
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_BY_ID = select(webhooks).where(webhooks.c.webhook_id == bindparam("webhook_id"))
_ITS_MESSAGES = deliveries.c.webhook_id == webhooks.c.webhook_id
_OLDEST_DUE = (
    select(deliveries.c.id)
    .where(_ITS_MESSAGES, deliveries.c.due_at <= bindparam("now"))
    .order_by(deliveries.c.due_at, deliveries.c.id)
    .limit(1)
    .correlate(webhooks)
    .scalar_subquery()
)
_IS_BEING_SENT = exists().where(_ITS_MESSAGES, deliveries.c.claimed_until > bindparam("now")).correlate(webhooks)
_DUE_IDS = select(_OLDEST_DUE).where(webhooks.c.status == ACTIVE, ~_IS_BEING_SENT)
_DUE = (
    select(deliveries, webhooks.c.url, webhooks.c.secret)
    .join_from(deliveries, webhooks)
    .where(deliveries.c.id.in_(bindparam("ids", expanding=True)))
    .order_by(deliveries.c.due_at, deliveries.c.id)
    .limit(bindparam("limit"))
)
_CLAIM = (
    update(deliveries)
    .where(deliveries.c.id == bindparam("this"), deliveries.c.claimed_until <= bindparam("now"))
    .values(claimed_until=bindparam("until"), attempts=deliveries.c.attempts + 1)
)


def inside_hosts() -> list[str]:
    """The `host` or `host:port` that `TURNOUT_WEBHOOK_ALLOWED_HOSTS` lists: they may be called though inside."""
    return [each.strip() for each in os.environ.get(ALLOWED_HOSTS, "").split(",") if each.strip()]


class SqlWebhooks:
    """`Webhooks` in the registry's own database; secrets lie there sealed."""

    def __init__(self, database: Database, keyring: Keyring, inside_hosts: Collection[str]) -> None:
        self._database = database
        self._keyring = keyring
        self._inside_hosts = tuple(inside_hosts)

    @property
    def inside_hosts(self) -> Collection[str]:
        return self._inside_hosts

    def create_webhook(
        self,
        name: str,
        url: str,
        events: Sequence[str],
        description: str | None = None,
        secret: str | None = None,
        status: str = ACTIVE,
    ) -> Webhook:
        given = {"name": name, "url": url, "events": events, "secret": secret, "status": status}
        return self._database.write(_create, self._checked(given | {"description": description}))

    def get_webhook(self, webhook_id: str) -> Webhook:
        return _as_webhook(self._database.read(_find, webhook_id))

    def list_webhooks(self, max_results: int = 100, page_token: str | None = None) -> Page[Webhook]:
        return self._database.read(_list, check_max_results(max_results, MAX_PAGE), _read_token(page_token))

    def update_webhook(
        self,
        webhook_id: str,
        name: str | None = None,
        description: str | None = None,
        url: str | None = None,
        events: Sequence[str] | None = None,
        secret: str | None = None,
        status: str | None = None,
    ) -> Webhook:
        """Change what is given. An empty *secret* takes the secret away; disabling drops the waiting messages."""
        given = {"name": name, "url": url, "events": events, "description": description, "status": status}
        self._database.read(_find, webhook_id)
        changed = {key: value for key, value in {**given, "secret": secret}.items() if value is not None}
        return self._database.write(_update, webhook_id, self._checked(changed))

    def delete_webhook(self, webhook_id: str) -> None:
        self._database.write(_delete, webhook_id)

    def secret_of(self, webhook_id: str) -> str | None:
        sealed = self._database.read(_find, webhook_id).secret
        return None if sealed is None else self._keyring.unseal(sealed)

    def claim_deliveries(self, limit: int, claim_ms: int) -> Sequence[Delivery]:
        # Mostly nothing is due: a look takes no lock.
        if limit < 1 or not self._database.read(_due_ids, time.time_ns() // 1_000_000):
            return []
        claimed = self._database.write(_claim, limit, claim_ms)
        return [each for each in map(self._as_delivery, claimed) if each is not None]

    def finish_delivery(self, id: int, retry_in_ms: int | None) -> None:
        dropped = self._database.write(_finish, id, retry_in_ms)
        if dropped:
            _log.warning("a webhook had more than %d messages waiting: dropped its oldest %d", MAX_WAITING, dropped)

    def _as_delivery(self, row: Row[Any]) -> Delivery | None:
        """None when it cannot be signed; it is looked at again when its claim ends."""
        try:
            secret = None if row.secret is None else self._keyring.unseal(row.secret)
        except RegistryError as error:
            _log.error("webhook %s cannot be told anything: %s; or give it a new secret", row.webhook_id, error)
            return None
        return Delivery(row.id, row.delivery_id, row.url, secret, row.body, row.attempts + 1)

    def _checked(self, given: dict[str, Any]) -> dict[str, Any]:
        """The columns of what was given, each checked, the secret sealed."""
        return {key: self._check(key, value) for key, value in given.items()}

    def _check(self, key: str, value: Any) -> str | None:
        match key:
            case "description" | "secret" if value is None:
                return None
            case "name":
                return _check_name(value)
            case "url":
                return check_url(check_text(value, "webhook url", MAX_URL_CHARS), self._inside_hosts)
            case "events":
                return json.dumps(_check_events(value))
            case "description":
                return check_text(value, "description", MAX_DESCRIPTION_CHARS)
            case "status" if value not in (ACTIVE, DISABLED):
                raise InvalidParameter(f"a webhook's status is {ACTIVE} or {DISABLED}, not {shown(value)}")
            case "secret":
                return self._keyring.seal(check_text(value, "secret", MAX_SECRET_CHARS)) if value else None
        return str(value)


def _check_name(name: object) -> str:
    text = check_text(name, "webhook name", 1_000)
    if not _NAME.fullmatch(text):
        raise InvalidParameter(
            f"invalid webhook name {shown(text)}: 1 to 63 letters, digits, '.', '_' and '-', "
            "with a letter or a digit at both ends"
        )
    return text


def _check_events(events: object) -> list[str]:
    if not isinstance(events, list | tuple) or not events:
        raise InvalidParameter(f"a webhook needs a list of one event or more, got {shown(events)}")
    for each in events:
        if each not in EVENTS:
            raise InvalidParameter(f"{shown(each)} is no event; there are: {', '.join(EVENTS)}")
    return sorted(set(events))


def _create(transaction: Transaction, columns: dict[str, Any]) -> Webhook:
    count = transaction.connection.execute(select(func.count()).select_from(webhooks)).scalar_one()
    if count >= MAX_WEBHOOKS:
        raise InvalidParameter(f"there are {MAX_WEBHOOKS} webhooks, which is the most: delete one first")
    webhook_id = str(uuid4())
    times = {"created_at": transaction.now, "updated_at": transaction.now}
    transaction.connection.execute(insert(webhooks), {"webhook_id": webhook_id, **columns, **times})
    return _as_webhook(_find(transaction.connection, webhook_id))


def _update(transaction: Transaction, webhook_id: str, columns: dict[str, Any]) -> Webhook:
    connection = transaction.connection
    this = webhooks.c.webhook_id == webhook_id
    connection.execute(update(webhooks).where(this).values(**columns, updated_at=transaction.now))
    if columns.get("status") == DISABLED:
        connection.execute(delete(deliveries).where(deliveries.c.webhook_id == webhook_id))
    return _as_webhook(_find(connection, webhook_id))


def _delete(transaction: Transaction, webhook_id: str) -> None:
    _find(transaction.connection, webhook_id)
    transaction.connection.execute(delete(webhooks).where(webhooks.c.webhook_id == webhook_id))


def _find(connection: Connection, webhook_id: str) -> Row[Any]:
    check_text(webhook_id, "webhook id", MAX_ID_CHARS)
    row = connection.execute(_BY_ID, {"webhook_id": webhook_id}).one_or_none()
    if row is None:
        raise NotFound(f"Webhook with ID {shown(webhook_id)} not found")
    return row


def _list(connection: Connection, max_results: int, before: tuple[int, str] | None) -> Page[Webhook]:
    """Newest first; a page begins below the last one of the page before it."""
    order = tuple_(webhooks.c.created_at, webhooks.c.webhook_id)
    newest_first = (webhooks.c.created_at.desc(), webhooks.c.webhook_id.desc())
    query = select(webhooks).order_by(*newest_first).limit(max_results + 1)
    if before is not None:
        query = query.where(order < tuple_(*before))
    rows = connection.execute(query).all()
    page = rows[:max_results]
    return Page([_as_webhook(row) for row in page], _write_token(page[-1]) if len(rows) > max_results else None)


def _due_ids(connection: Connection, now: int) -> list[int]:
    return [each for each in connection.execute(_DUE_IDS, {"now": now}).scalars() if each is not None]


def _claim(transaction: Transaction, limit: int, claim_ms: int) -> list[Row[Any]]:
    connection, now = transaction.connection, transaction.now
    rows = connection.execute(_DUE, {"ids": _due_ids(connection, now), "limit": limit}).all()
    claim = {"now": now, "until": now + claim_ms}
    return [row for row in rows if connection.execute(_CLAIM, {"this": row.id, **claim}).rowcount]


def _finish(transaction: Transaction, id: int, retry_in_ms: int | None) -> int:
    """Returns how many messages had to be dropped because too many wait for the same webhook."""
    connection = transaction.connection
    if retry_in_ms is None:
        connection.execute(delete(deliveries).where(deliveries.c.id == id))
        return 0
    again = {"due_at": transaction.now + retry_in_ms, "claimed_until": 0}
    connection.execute(update(deliveries).where(deliveries.c.id == id).values(again))
    mine = select(deliveries.c.webhook_id).where(deliveries.c.id == id).scalar_subquery()
    waiting = select(deliveries.c.id).where(deliveries.c.webhook_id == mine).order_by(deliveries.c.id.desc())
    newest_too_many = connection.execute(waiting.offset(MAX_WAITING).limit(1)).scalar()
    if newest_too_many is None:
        return 0
    webhook_id = connection.execute(select(mine)).scalar()
    too_many = (deliveries.c.webhook_id == webhook_id) & (deliveries.c.id <= newest_too_many)
    return connection.execute(delete(deliveries).where(too_many)).rowcount


def _as_webhook(row: Row[Any]) -> Webhook:
    return Webhook(
        webhook_id=row.webhook_id,
        name=row.name,
        url=row.url,
        events=tuple(json.loads(row.events)),
        creation_timestamp=row.created_at,
        last_updated_timestamp=row.updated_at,
        description=row.description,
        status=row.status,
    )


def _write_token(row: Row[Any]) -> str:
    return b64encode(json.dumps([row.created_at, row.webhook_id]).encode()).decode()


def _read_token(token: str | None) -> tuple[int, str] | None:
    if not token:
        return None
    try:
        created_at, webhook_id = json.loads(b64decode(check_text(token, "page token", 200), validate=True))
        if type(created_at) is int and 0 < created_at < 2**62:
            return created_at, check_text(webhook_id, "webhook id", MAX_ID_CHARS)
    except (ValueError, TypeError, RecursionError, InvalidParameter):
        pass
    raise InvalidParameter("invalid page token: pass the token of the page before, unchanged")
