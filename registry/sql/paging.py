"""Page tokens: base64 of a small JSON object, as MLflow's are."""

from __future__ import annotations

import binascii
import json
from base64 import b64decode, b64encode

from registry.errors import InvalidParameter

MAX_POSITION = 2**62
MAX_TOKEN_CHARS = 200


def check_max_results(max_results: object, limit: int) -> int:
    """How many rows a page may have, from 1 to *limit*."""
    if not isinstance(max_results, int) or isinstance(max_results, bool) or not 1 <= max_results <= limit:
        raise InvalidParameter(f"max_results must be a whole number from 1 to {limit}, got {max_results!r}"[:200])
    return max_results


def write_page_token(field: str, position: int) -> str:
    return b64encode(json.dumps({field: position}).encode()).decode()


def read_page_token(token: str | None, field: str) -> int | None:
    """The position in a token of ours. Raises `InvalidParameter` for any other string."""
    if token is None or token == "":
        return None
    if not isinstance(token, str) or len(token) > MAX_TOKEN_CHARS:
        raise InvalidParameter("invalid page token: pass the token of the page before, unchanged")
    try:
        content = json.loads(b64decode(token, validate=True))
        position = content[field]
    except (binascii.Error, ValueError, KeyError, TypeError, RecursionError):
        raise InvalidParameter("invalid page token: pass the token of the page before, unchanged") from None
    if not isinstance(position, int) or isinstance(position, bool) or not 0 < position < MAX_POSITION:
        raise InvalidParameter("invalid page token: its position is impossible")
    return position
