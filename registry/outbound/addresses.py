"""Which addresses may be called when others gave them: none that lies inside, however it is written."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Collection
from urllib.parse import SplitResult, urlsplit

from registry.errors import InvalidParameter, Unavailable

ODD_NUMBER = re.compile(r"(?:.*\.)?(?:0x[0-9a-f]*|[0-9]+)\.?", re.IGNORECASE)
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
LOOPBACK_6 = ipaddress.IPv6Address("::1")
COMPATIBLE = ipaddress.IPv6Network("::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def check_url(url: object, inside: Collection[str] = ()) -> str:
    """An `https` URL whose host has public addresses only, or one of *inside* (`host` or `host:port`).

    Resolves the name now; delivery does so again and connects to what it checked. Raises `InvalidParameter`.
    """
    if not isinstance(url, str) or not url.isascii() or any(each <= " " or each in '\\"<>^`{|}' for each in url):
        raise InvalidParameter(f"invalid URL {str(url)[:80]!r}: write it in visible ASCII characters")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or (80 if parts.scheme == "http" else 443)
    except ValueError as problem:
        raise InvalidParameter(f"invalid URL {url[:80]!r}: {problem}") from None
    if not host or "%" in host or parts.username is not None or parts.password is not None:
        raise InvalidParameter(f"invalid URL {shown_url(parts)!r}: give a host, and no name or password")
    is_ours = is_inside(host, port, inside)
    if parts.scheme != "https" and not (parts.scheme == "http" and is_ours):
        raise InvalidParameter(f"invalid URL {shown_url(parts)!r}: it must begin with https://")
    if not is_ours:
        try:
            public_addresses(host, port)
        except Unavailable as problem:
            raise InvalidParameter(str(problem)) from problem
    return url


def public_addresses(host: str, port: int) -> list[str]:
    """Where *host* is: every address it resolves to, all of them public.

    Raises `InvalidParameter` when one is not, or the name is a number in disguise; `Unavailable` when nobody knows it.
    """
    addresses = _resolved(host, port)
    for each in addresses:
        if not is_public(each):
            raise InvalidParameter(f"host {host!r} is at {each}, which is not a public address")
    return addresses


def gateway_addresses(host: str, port: int) -> list[str]:
    """Where a gateway at *host* is: on this machine, in a private network or outside, as gateways are.

    Raises `InvalidParameter` for addresses that no gateway has: those of the link alone, at which clouds answer with
    credentials, of many machines, and of none. Raises `Unavailable` when nobody knows the name.
    """
    addresses = _resolved(host, port)
    for each in addresses:
        if not _may_be_a_gateway(each):
            raise InvalidParameter(f"host {host!r} is at {each}, where no gateway can be")
    return addresses


def is_public(address: str) -> bool:
    """Whether an address belongs to the whole internet, also if it carries another one inside."""
    parsed = _literal(address)
    if parsed is None:  # with a zone, or no address
        return False
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed in COMPATIBLE or parsed.teredo is not None:
            return False
        carried = parsed.ipv4_mapped or parsed.sixtofour
        if parsed in NAT64:
            carried = ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF)
        if carried is not None:
            return is_public(str(carried))
        if parsed.is_site_local:
            return False
    return parsed.is_global and not (parsed.is_multicast or parsed.is_reserved or parsed.is_unspecified)


def _resolved(host: str, port: int) -> list[str]:
    if _literal(host) is None and ODD_NUMBER.fullmatch(host):
        raise InvalidParameter(f"invalid host {host!r}: write an address as four decimal numbers, or a name")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as problem:
        raise Unavailable(f"host {host!r} cannot be resolved: {str(problem) or type(problem).__name__}") from None
    return list(dict.fromkeys(str(each[4][0]) for each in found))


def _may_be_a_gateway(address: str) -> bool:
    parsed = _literal(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed == LOOPBACK_6:
            return True
        # One that carries an old address is no gateway's: it would say it as it is.
        if parsed in COMPATIBLE or parsed in NAT64 or parsed.ipv4_mapped or parsed.sixtofour or parsed.teredo:
            return False
    return parsed is not None and not (
        parsed.is_link_local or parsed.is_multicast or parsed.is_unspecified or parsed.is_reserved
    )


def _literal(host: str) -> Address | None:
    try:
        return None if "%" in host else ipaddress.ip_address(host)
    except ValueError:
        return None


def is_inside(host: str, port: int, inside: Collection[str]) -> bool:
    """Whether the operator named this host, alone or with its port."""
    named = f"[{host}]" if ":" in host else host
    return bool({host, named, f"{named}:{port}"} & {each.lower() for each in inside})


def shown_url(parts: SplitResult) -> str:
    """As much of a URL as is never secret: of many webhooks the path is the password."""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"[:200]
