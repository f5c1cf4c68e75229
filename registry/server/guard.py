"""What a browser may be made to do here: nothing by a page of another origin, nothing under a name that is not ours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from urllib.parse import urlsplit

from registry.names import shown

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
ANY = "*"
MAX_REMEMBERED = 1_000

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class Guard:
    """Says why a request is refused by its `Host` and `Origin`.

    A page whose name was rebound to this address sends that name as `Host`; addresses in digits cannot be rebound.
    *allowed_hosts* are names, `*.name` for all below one, or `*` for any. An `Origin` that writes must be the
    request's own host, or be among them by name: `*` does not open writes to every page.
    """

    def __init__(self, allowed_hosts: Iterable[str] = ()) -> None:
        allowed = {each.strip().lower() for each in allowed_hosts if each.strip()}
        self._allows_any = ANY in allowed
        self._listed = frozenset(allowed - {ANY})
        self._good: set[bytes] = set()

    def refusal(self, method: str, headers: Mapping[bytes, bytes]) -> str | None:
        """A sentence, or None for a request that may go on."""
        host = headers.get(b"host")
        if host not in self._good:
            if host is None or not self._is_ours(host):
                return _STRANGE_HOST.format(shown((host or b"").decode("latin-1")))
            if len(self._good) >= MAX_REMEMBERED:
                self._good.clear()
            self._good.add(host)
        origin = headers.get(b"origin")
        if origin is not None and method not in _SAFE and not self._may_write(origin, host):
            return _STRANGE_ORIGIN.format(shown(origin.decode("latin-1")))
        return None

    def _is_ours(self, host: bytes) -> bool:
        name = _name_of(host.decode("latin-1").lower())
        return name is not None and (self._allows_any or name in LOOPBACK or _is_address(name) or self._lists(name))

    def _lists(self, name: str) -> bool:
        if name in self._listed:
            return True
        _, _, parent = name.partition(".")
        return bool(parent) and f"*.{parent}" in self._listed

    def _may_write(self, origin: bytes, host: bytes) -> bool:
        try:
            parts = urlsplit(origin.decode("latin-1").lower())
        except ValueError:
            return False
        if parts.scheme not in ("http", "https"):
            return False
        name = _name_of(parts.netloc)
        return parts.netloc == host.decode("latin-1").lower() or (name is not None and self._lists(name))


_STRANGE_HOST = (
    "the request is for the host {}, and this server does not go by that name; the operator allows it with "
    "--allowed-hosts"
)
_STRANGE_ORIGIN = (
    "a page of {} may not change anything here; the operator allows the pages of a host with --allowed-hosts"
)


def _name_of(netloc: str) -> str | None:
    """The host without its port, or None for what is none."""
    name, _, port = netloc.rpartition(":")
    if not name or not (port == "" or port.isdecimal()):
        name = netloc
    if not name or any(each in name for each in "/@ ,\\"):
        return None
    return name


def _is_address(name: str) -> bool:
    try:
        ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True
