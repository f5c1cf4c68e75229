"""Between a request's bytes and a handler: reading fields, the acting user, answers and errors as MLflow's JSON."""

from __future__ import annotations

import binascii
import logging
from base64 import b64decode
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote, unquote_plus

import msgspec

from registry.core import ServedRegistry
from registry.errors import InvalidParameter, RegistryError
from registry.notices import listening
from registry.server.fields import Fields

__all__ = [
    "ENDPOINT_NOT_FOUND",
    "Answer",
    "Fields",
    "Handler",
    "Request",
    "acting",
    "actor_of",
    "answer",
    "failure",
    "refusal",
]

log = logging.getLogger("turnout.http")

Handler = Callable[[ServedRegistry, Fields], Mapping[str, Any]]
Headers = list[tuple[bytes, bytes]]

ENDPOINT_NOT_FOUND = "ENDPOINT_NOT_FOUND"
MAX_ACTOR_CHARS = 256
RETRY_AFTER_S = 1

# Who makes the request that this thread works on. Nobody has proved it: there are no accounts yet.
acting: ContextVar[str | None] = ContextVar("acting", default=None)

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_WITH_BODY = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_PLAIN_HEADER = " !#$&'()*+,/:;=?@[]|{}<>^`~\"\\"
_FIXED: Headers = [(b"content-type", b"application/json"), (b"x-content-type-options", b"nosniff")]
# Old MLflow clients send the object as a JSON string that holds it.
_ENCODED_TWICE = 2


@dataclass(frozen=True, slots=True)
class Request:
    """What a handler's fields are read from. Header names are in lower case."""

    method: str
    query: bytes
    headers: Mapping[bytes, bytes]
    body: bytes
    path_fields: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back: always JSON."""

    status: int
    headers: Headers
    body: bytes


def answer(registry: ServedRegistry, handler: Handler, request: Request) -> Answer:
    """Run *handler* on the calling thread. Never raises: what goes wrong is an answer too."""
    token = acting.set(actor_of(request.headers))
    try:
        with listening() as heard:
            result = _encode(handler(registry, _read_fields(request)))
        return _success(result, heard)
    except RegistryError as error:
        return refusal(error)
    except Exception:  # the boundary of a request: the server goes on
        log.exception("a request failed: %s", request.method)
        return failure(500, "INTERNAL_ERROR", "the server failed; its log says why")
    finally:
        acting.reset(token)


def refusal(error: RegistryError) -> Answer:
    """The answer that MLflow's clients read an error from."""
    if error.http_status >= 500 and error.http_status != 503:
        log.error("a request failed: %s", error)
    return failure(error.http_status, error.error_code, str(error))


def failure(status: int, code: str, message: str, *headers: tuple[bytes, bytes]) -> Answer:
    body = _encode({"error_code": code, "message": message.encode(errors="replace").decode()})
    retry = [(b"retry-after", b"%d" % RETRY_AFTER_S)] if status in (429, 503) else []
    return Answer(status, [*_headers(body), *retry, *headers], body)


def _success(body: bytes, warnings: list[str]) -> Answer:
    headers = _headers(body)
    if warnings:
        text = "; ".join(warnings)
        log.warning("%s", text)
        headers.append((b"x-turnout-warning", quote(text, safe=_PLAIN_HEADER).encode()))
    return Answer(200, headers, body)


def _headers(body: bytes) -> Headers:
    return [*_FIXED, (b"content-length", b"%d" % len(body))]


# Reading


def _read_fields(request: Request) -> Fields:
    if request.method not in _WITH_BODY:
        return Fields(_read_query(request.query), is_query=True, path=request.path_fields)
    return Fields(_read_body(request), path=request.path_fields)


def _read_query(query: bytes) -> dict[str, list[str]]:
    """Every key's values; a key without `=` has an empty one."""
    fields: dict[str, list[str]] = {}
    for part in query.decode("latin-1").split("&"):
        if part:
            key, _, value = part.partition("=")
            fields.setdefault(_unquoted(key), []).append(_unquoted(value))
    return fields


def _unquoted(text: str) -> str:
    if "%" not in text and "+" not in text and text.isascii():
        return text
    try:
        return unquote_plus(text.encode("latin-1").decode(), errors="strict")
    except UnicodeDecodeError:
        raise InvalidParameter("the query is not UTF-8, percent-encoded") from None


def _read_body(request: Request) -> dict[str, Any]:
    body = request.body
    _check_content_type(request.headers.get(b"content-type"), request.method)
    found: Any = {}
    for _ in range(_ENCODED_TWICE):
        if not body:
            return {}
        found = _parse(body)
        if not isinstance(found, str):
            break
        body = found.encode()
    if not isinstance(found, dict):
        raise InvalidParameter(f"the body must be a JSON object, and it is a {type(found).__name__}")
    return found


def _parse(body: bytes) -> Any:
    try:
        return _decode(body)
    except RecursionError:
        raise InvalidParameter("the body is nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as problem:
        raise InvalidParameter(f"the body is not JSON: {problem}") from None


def _check_content_type(given: bytes | None, method: str) -> None:
    """A page of another origin can post text and forms without asking first, and JSON it cannot."""
    if given is None:
        if method in ("PATCH", "DELETE"):
            return
        raise InvalidParameter("Bad Request. Content-Type header is missing.")
    if given.partition(b";")[0].strip().lower() != b"application/json":
        raise InvalidParameter("Bad Request. Content-Type must be one of ['application/json'].")


# Who acts


def actor_of(headers: Mapping[bytes, bytes]) -> str | None:
    """The name that a client gives with its password, else the one that it calls itself by."""
    scheme, _, credentials = headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() == b"basic":
        return _bounded(_user_of(credentials))
    given = headers.get(b"x-turnout-actor")
    return None if given is None else _bounded(unquote(given.decode("latin-1"), errors="replace"))


def _user_of(credentials: bytes) -> str:
    try:
        return b64decode(credentials, validate=True).partition(b":")[0].decode(errors="replace")
    except (binascii.Error, ValueError):
        return ""


def _bounded(name: str) -> str | None:
    printable = "".join(each for each in name if each.isprintable())
    return printable.strip()[:MAX_ACTOR_CHARS] or None
