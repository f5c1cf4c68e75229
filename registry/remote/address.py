"""A registry server's address, and who we are to it."""

from __future__ import annotations

import ipaddress
import warnings
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from registry.errors import InvalidUri

TOKENS = ("TURNOUT_TOKEN", "MLFLOW_TRACKING_TOKEN")
USERNAME, PASSWORD = "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """Where a server is, without secrets; *credentials* is the `Authorization` header's value."""

    uri: str
    credentials: str | None = field(default=None, repr=False)


def read_address(address: str, environment: Mapping[str, str]) -> ServerAddress:
    """Read `http(s)://[user:password@]host[:port][/prefix]`.

    A name in the address wins over the environment. Raises `InvalidUri`, whose message has no password.
    """
    if not address.isascii() or any(each <= " " or each == "\\" for each in address):
        raise InvalidUri("a registry server's address has visible ASCII characters only, and no backslash")
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError as problem:
        raise InvalidUri(f"the registry server's address cannot be read: {problem}") from None
    if not host or parts.query or parts.fragment or ".." in parts.path.split("/"):
        raise InvalidUri(f"write a registry server's address as {parts.scheme}://HOST[:PORT][/PREFIX], and no more")
    named = f"[{host}]" if ":" in host else host
    uri = f"{parts.scheme.lower()}://{named}{'' if port is None else f':{port}'}{parts.path.rstrip('/')}"
    if parts.username is not None:
        found: str | None = basic(unquote(parts.username), unquote(parts.password or ""))
    else:
        found = _of_environment(environment)
    return ServerAddress(uri, found)


def basic(username: str, password: str) -> str:
    return f"Basic {b64encode(f'{username}:{password}'.encode()).decode()}"


def _of_environment(environment: Mapping[str, str]) -> str | None:
    token = next((environment[each].strip() for each in TOKENS if environment.get(each, "").strip()), None)
    if token is not None:
        if not token.isascii() or not token.isprintable():
            raise InvalidUri(f"the token in {' or '.join(TOKENS)} is no token: it has characters that none has")
        return f"Bearer {token}"
    if environment.get(USERNAME) and PASSWORD in environment:
        return basic(environment[USERNAME], environment[PASSWORD])
    return None


def warn_of_plain_credentials(address: ServerAddress) -> None:
    """Credentials over plain http can be read on the way, except to this machine itself."""
    parts = urlsplit(address.uri)
    if address.credentials is None or parts.scheme != "http" or _is_loopback(parts.hostname or ""):
        return
    warnings.warn(f"credentials are sent unencrypted to {address.uri}: use https", UserWarning, stacklevel=4)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
