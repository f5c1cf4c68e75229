"""How an error looks to clients, whoever answers: the application, or the connection beneath it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from http import HTTPStatus
from random import getrandbits

from gateway.errors import GatewayError

Headers = list[tuple[bytes, bytes]]
Describe = Callable[[str, str], bytes]  # an error's code and message as a body

JSON = (b"content-type", b"application/json")
REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")


def request_id(given: bytes | None) -> bytes:
    """The client's own where it can be one, else a new one."""
    if given is not None and REQUEST_ID.fullmatch(given):
        return given
    return b"%032x" % getrandbits(128)  # a name, and no secret


def error_body(code: str, message: str) -> bytes:
    """The shape of every error, which v2 adds to."""
    return json.dumps({"error_code": code, "message": message}).encode()


def error_headers(problem: GatewayError, identity: bytes) -> Headers:
    """Beside the body: what it is, whose it is, and when to try again."""
    headers: Headers = [JSON, (b"x-request-id", identity)]
    if problem.retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % problem.retry_after_s))
    if problem.closes_connection:
        headers.append((b"connection", b"close"))
    return headers


def raw_error(problem: GatewayError, identity: bytes, describe: Describe = error_body) -> bytes:
    """A whole answer, for where there is no application to give it."""
    body = describe(problem.error_code, str(problem))
    headers = [*error_headers(problem, identity), (b"content-length", b"%d" % len(body))]
    head = b"".join(b"%b: %b\r\n" % header for header in headers)
    phrase = HTTPStatus(problem.http_status).phrase.encode()
    return b"HTTP/1.1 %d %b\r\n%b\r\n%b" % (problem.http_status, phrase, head, body)
