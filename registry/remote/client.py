"""JSON to and from a registry server: routes, retries, and errors that are the same classes as everywhere."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, unquote

import msgspec

from registry.errors import (
    AliasNotFound,
    AlreadyExists,
    Conflict,
    InvalidParameter,
    NotFound,
    RegistryError,
    Unavailable,
)
from registry.outbound.client import READ_TIMEOUT_S, Answer, Outbound
from registry.remote.address import ServerAddress

MLFLOW = "/api/2.0/mlflow/"
TURNOUT = "/api/turnout/v1/"
Json = dict[str, Any]

ERRORS: Mapping[str, type[RegistryError]] = {
    each.error_code: each for each in (InvalidParameter, AlreadyExists, NotFound, Conflict)
}
# MLflow has no code of its own for this, and ours answers as MLflow does.
_NO_ALIAS = re.compile(r"\balias \S+ not found|\bha[sd] no alias\b", re.IGNORECASE)
_MAX_SHOWN = 300


class NoSuchRoute(Unavailable):
    """The server has no such route: it is an older one, another program, or a proxy that answers for it."""


class RestClient:
    """Calls one server's routes; the answer is a JSON object, or an error of ours.

    What is no JSON of a registry (a proxy's page, another program) is `Unavailable`: never "not found".
    """

    def __init__(self, address: ServerAddress, actor: Callable[[], str | None]) -> None:
        self.uri = address.uri
        self.outbound = Outbound(address.uri, address.credentials, {"user-agent": "turnout"})
        self._actor = actor
        self._is_ours: bool | None = None

    @property
    def is_ours(self) -> bool:
        """Whether the server is Turnout's. Asked once, and again after the server was away."""
        if self._is_ours is None:
            self._is_ours = self._ask_whether_ours()
        return self._is_ours

    def call(
        self,
        method: str,
        route: str,
        fields: Mapping[str, Any] | None = None,
        *,
        timeout_s: float = READ_TIMEOUT_S,
        is_safe: bool | None = None,
    ) -> Json:
        """One of MLflow's routes. Fields that are None are left out.

        With *is_safe* a call is repeated after a failure; by default every GET is.
        """
        return self._call(method, MLFLOW + route, fields or {}, is_safe, timeout_s)

    def call_ours(
        self,
        method: str,
        route: str,
        fields: Mapping[str, Any] | None = None,
        *,
        timeout_s: float = READ_TIMEOUT_S,
        is_safe: bool | None = None,
    ) -> Json:
        """One of Turnout's own routes."""
        return self._call(method, TURNOUT + route, fields or {}, is_safe, timeout_s)

    def headers(self) -> dict[str, str]:
        """What every request has beside its content."""
        actor = self._actor()
        return {} if actor is None else {"x-turnout-actor": quote(actor, safe=" !#$&'()*+,/:;=?@[]|{}<>^`\"\\")}

    def refuse(self, answer: Answer, told: str) -> None:
        """Raise what an answer that is no success means."""
        if 200 <= answer.status < 300:
            return
        if answer.status >= 500 or answer.status == 429:
            self._is_ours = None
        raise error_of(answer, told)

    def _call(self, method: str, path: str, fields: Mapping[str, Any], is_safe: bool | None, timeout_s: float) -> Json:
        given = {name: value for name, value in fields.items() if value is not None}
        in_query = method == "GET"
        told = f"{method} {self.uri}{path}"
        try:
            answer = self.outbound.send(
                method,
                path,
                params=_query(given) if in_query else (),
                content=None if in_query else _encode(given),
                headers={**self.headers(), **({} if in_query else {"content-type": "application/json"})},
                is_safe=in_query if is_safe is None else is_safe,
                timeout_s=timeout_s,
            )
        except Unavailable:
            self._is_ours = None
            raise
        self.refuse(answer, told)
        if warning := answer.headers.get("x-turnout-warning"):
            warnings.warn(unquote(warning), UserWarning, stacklevel=5)
        return read_object(answer, told)

    def _ask_whether_ours(self) -> bool:
        answer = self.outbound.send("GET", TURNOUT, headers=self.headers(), is_safe=True)
        if answer.status == 200:
            return read_object(answer, f"GET {self.uri}{TURNOUT}").get("name") == "turnout"
        if answer.status not in {404, 405}:
            raise error_of(answer, f"GET {self.uri}{TURNOUT}")
        # A proxy whose server is being restarted answers the same; MLflow's own routes tell the difference.
        self.call("GET", "registered-models/search", {"max_results": 1})
        return False


def read_object(answer: Answer, told: str) -> Json:
    """The JSON object of an answer; an empty answer is an empty object, as MLflow's clients take it."""
    if not answer.body.strip():
        return {}
    found = _decode(answer)
    if found is None:
        raise Unavailable(f"{told}: answered {_shown(answer)}, not a registry's JSON; is there a proxy between?")
    return found


def error_of(answer: Answer, told: str) -> RegistryError:
    """What an unsuccessful answer means, by its error code, and by its status where it has none."""
    found = _decode(answer) or {}
    code, message = found.get("error_code"), found.get("message")
    if answer.status in {401, 403}:
        said = f": {message}" if isinstance(message, str) else ""
        return RegistryError(
            f"{told}: the server refuses this user (status {answer.status}){said}; "
            "set TURNOUT_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        )
    if not isinstance(code, str) or not isinstance(message, str) or answer.status >= 500 or answer.status == 429:
        said = message if isinstance(message, str) else _shown(answer)
        missing = answer.status in {404, 405}
        return (NoSuchRoute if missing else Unavailable)(f"{told}: status {answer.status}: {said}")
    if code == "ENDPOINT_NOT_FOUND":
        return NoSuchRoute(f"{told}: {message}; is this the address of a registry server?")
    kind = ERRORS.get(code, Conflict if answer.status == 409 else InvalidParameter)
    if kind is InvalidParameter and _NO_ALIAS.search(message):
        kind = AliasNotFound
    return kind(message)


@contextmanager
def decoding(what: str) -> Iterator[None]:
    """An answer that lacks what it must have is no answer: never an empty one."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as problem:
        raise Unavailable(f"the server's answer about {what} cannot be read ({problem!r}); is it a registry?") from None


def _decode(answer: Answer) -> Json | None:
    try:
        found = msgspec.json.decode(answer.body)
    except (ValueError, RecursionError):  # no JSON, no UTF-8, or nested without end
        return None
    return found if isinstance(found, dict) else None


def _encode(fields: Mapping[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(fields)
    except (TypeError, ValueError, UnicodeError, RecursionError) as problem:
        raise InvalidParameter(f"cannot be sent as JSON: {problem}") from None


def _query(fields: Mapping[str, Any]) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for name, value in fields.items():
        many: Sequence[Any] = value if isinstance(value, list | tuple) else [value]
        pairs += [(name, str(each)) for each in many]
    return pairs


def _shown(answer: Answer) -> str:
    """The beginning of an answer's text, on one line."""
    where = f" to {answer.headers['location']}" if 300 <= answer.status < 400 and "location" in answer.headers else ""
    text = " ".join(answer.body[:_MAX_SHOWN].decode(errors="replace").split())
    return f"a redirect{where}" if where else repr(text) if text else "nothing"
