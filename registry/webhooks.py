"""Sends webhooks what they are to be told: signed, a few at a time, again after a failure."""

from __future__ import annotations

import hashlib
import hmac
import logging
import random
import threading
import time
from base64 import b64encode
from collections.abc import Collection
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import urlsplit

from registry.changes import Delivery, Webhooks
from registry.errors import InvalidParameter, Unavailable
from registry.outbound.delivery import post

TIMEOUT_S = 10.0
# How long a claim lasts, in time-outs: whoever has it has sent the message long before, or has died.
CLAIM_TIMEOUTS = 3
POLL_S = 0.5
AFTER_ERROR_S = 5.0
# Eight attempts, each four times as far from the last as the one before: the last is some seven hours later.
MAX_ATTEMPTS = 8
FIRST_RETRY_S = 5.0
BACK_OFF = 4
MAX_AT_ONCE = 16

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """How a receiver took a message: its status, or why there is none. What it said is never kept."""

    status: int | None = None
    error: str | None = None
    may_retry: bool = False

    @property
    def is_success(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


class Deliverer:
    """One thread that claims what is due, and a few that send; any number of processes may have one.

    A message is sent at least once: a process that dies while it sends leaves its claim, which ends.
    Messages of one webhook are sent one after another, so a slow receiver holds up itself only.
    """

    def __init__(
        self, webhooks: Webhooks, *, timeout_s: float = TIMEOUT_S, first_retry_s: float = FIRST_RETRY_S
    ) -> None:
        self._webhooks = webhooks
        self._timeout_s = timeout_s
        self._claim_ms = int(timeout_s * CLAIM_TIMEOUTS * 1000)
        self._first_retry_s = first_retry_s
        self._stopping = threading.Event()
        self._awake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="webhooks", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Claim no more, and wait until what is being sent has ended, which the time-out bounds."""
        self._stopping.set()
        self._awake.set()
        self._thread.join()

    def __enter__(self) -> Deliverer:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def _run(self) -> None:
        sending: set[Future[None]] = set()
        with ThreadPoolExecutor(MAX_AT_ONCE, thread_name_prefix="webhook") as pool:
            while not self._stopping.is_set():
                self._awake.clear()
                sending = {each for each in sending if not each.done()}
                pause_s = POLL_S
                try:
                    claimed = self._webhooks.claim_deliveries(MAX_AT_ONCE - len(sending), self._claim_ms)
                except Exception as error:  # the loop goes on: the database may come back
                    _log.warning("webhooks wait: %s", error)
                    claimed, pause_s = [], AFTER_ERROR_S
                for delivery in claimed:
                    future = pool.submit(self._deliver, delivery)
                    future.add_done_callback(lambda _: self._awake.set())
                    sending.add(future)
                if not claimed and not self._stopping.is_set():
                    self._awake.wait(pause_s)

    def _deliver(self, delivery: Delivery) -> None:
        try:
            answer = send(delivery, self._webhooks.inside_hosts, self._timeout_s)
            self._webhooks.finish_delivery(delivery.id, self._retry_in_ms(delivery, answer))
        except Exception:  # the loop goes on; the claim ends, and then it is tried again
            _log.exception("webhook delivery %s failed", delivery.delivery_id)

    def _retry_in_ms(self, delivery: Delivery, answer: Answer) -> int | None:
        if answer.is_success:
            return None
        host, why = urlsplit(delivery.url).hostname, answer.error or f"status {answer.status}"
        if not answer.may_retry or delivery.attempts >= MAX_ATTEMPTS:
            _log.warning(
                "webhook delivery %s to %s was given up after attempt %d: %s",
                delivery.delivery_id, host, delivery.attempts, why,
            )  # fmt: skip
            return None
        retry_s = back_off(delivery.attempts, self._first_retry_s, random.random())
        _log.info("webhook delivery %s to %s failed: %s; again in %.0f s", delivery.delivery_id, host, why, retry_s)
        return int(retry_s * 1000)


def send(delivery: Delivery, inside_hosts: Collection[str], timeout_s: float = TIMEOUT_S) -> Answer:
    """Post one message, and never more than that: no redirect is followed, and only the answer's status is kept."""
    timestamp = str(int(time.time()))
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "turnout",
        "X-MLflow-Delivery-Id": delivery.delivery_id,
        "X-MLflow-Timestamp": timestamp,
    }
    if delivery.secret is not None:
        headers["X-MLflow-Signature"] = sign(delivery.secret, delivery.delivery_id, timestamp, delivery.body)
    host = urlsplit(delivery.url).hostname
    try:
        status = post(delivery.url, delivery.body.encode(), headers=headers, timeout_s=timeout_s, inside=inside_hosts)
    except Unavailable as error:
        return Answer(error=f"no answer from {host}: {error.__cause__ or 'its name is unknown'}", may_retry=True)
    except InvalidParameter as error:
        if isinstance(error.__cause__, Unavailable):  # nobody knew the name just now
            return Answer(error=f"no answer from {host}: its name is unknown", may_retry=True)
        return Answer(error=f"{host} may not be called: it must have public addresses only, and be called by https")
    return Answer(status, may_retry=status in {408, 429} or status >= 500)


def sign(secret: str, delivery_id: str, timestamp: str, body: str) -> str:
    """What receivers check a message by; with the time in it, an old message cannot be sent again as a new one."""
    signed = hmac.new(secret.encode(), f"{delivery_id}.{timestamp}.{body}".encode(), hashlib.sha256)
    return f"v1,{b64encode(signed.digest()).decode()}"


def back_off(attempts: int, first_retry_s: float, point: float) -> float:
    """Seconds until the next attempt, spread by a point in [0, 1) so that many do not come back at once."""
    return first_retry_s * float(BACK_OFF ** (attempts - 1)) * (0.5 + point)
