"""What names, aliases, tags and texts may be: one set of rules and limits for every database and dialect.

Pure. Each check returns the value that it was given, so that callers can write `name = check_model_name(name)`.
"""

from __future__ import annotations

import posixpath
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from registry.errors import InvalidParameter

MAX_NAME_CHARS = 256
MAX_ALIAS_CHARS = 255
MAX_TAG_KEY_CHARS = 250
MAX_TAG_VALUE_CHARS = 100_000
MAX_DESCRIPTION_CHARS = 100_000
MAX_SOURCE_CHARS = 2_000
MAX_RUN_ID_CHARS = 250
MAX_RUN_LINK_CHARS = 2_000
MAX_REASON_CHARS = 1_000
MAX_TAGS = 1_000
MAX_ALIASES = 1_000
MAX_VERSION = 2**31 - 1

DIGEST_TAG = "turnout.digest"

_ALIAS = re.compile(r"[\w-]+")
_TAG_KEY = re.compile(r"[\w/. :-]+")
_RESERVED_ALIAS = re.compile(r"[vV]\d+")
_LOGGED_MODEL_ID = re.compile(r"m-[0-9a-f]{32}")
_INVISIBLE = {"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"}
# Letters, marks and symbols that show as nothing: fillers, joiners, variation selectors, the blank braille.
_BLANK = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")
_SHOWN_CHARS = 80


def shown(value: object) -> str:
    """*value* as it may stand in a message: quoted, on one line, shortened."""
    text = repr(value) if isinstance(value, str) else f"{value!r} ({type(value).__name__})"
    return text if len(text) <= _SHOWN_CHARS else text[: _SHOWN_CHARS - 1] + "…"


def check_model_name(name: object) -> str:
    """A registered model's name: visible characters, no `/` or `:`, no space at its ends."""
    text = check_text(name, "model name", MAX_NAME_CHARS)
    if not text.strip():
        raise InvalidParameter("a model name is missing: it must not be blank")
    if "/" in text or ":" in text:
        raise InvalidParameter(f"invalid model name {shown(text)}: names cannot contain '/' or ':'")
    if text in {".", ".."}:
        raise InvalidParameter(f"invalid model name {shown(text)}: it would name a folder")
    if text != text.strip():
        raise InvalidParameter(f"invalid model name {shown(text)}: no space at its ends")
    return _check_visible(text, "model name")


def check_alias(alias: object) -> str:
    """An alias as it may be asked for."""
    text = check_text(alias, "alias", MAX_ALIAS_CHARS)
    if not _ALIAS.fullmatch(text):
        raise InvalidParameter(f"invalid alias name {shown(text)}: only letters, digits, underscores and dashes")
    return _check_visible(text, "alias")


def check_new_alias(alias: object) -> str:
    """An alias as it may be set: `latest` and `v1` have a meaning of their own."""
    text = check_alias(alias)
    if text.lower() == "latest" or _RESERVED_ALIAS.fullmatch(text):
        raise InvalidParameter(f"alias {shown(text)} is reserved: 'latest' and 'v<number>' cannot be set")
    return text


def _check_visible(text: str, what: str) -> str:
    """Two names that look alike must be equal: nothing that cannot be seen, and one spelling of each letter."""
    if any(unicodedata.category(each) in _INVISIBLE for each in text) or _BLANK.search(text):
        raise InvalidParameter(f"invalid {what} {shown(text)}: no control, invisible or unassigned characters")
    if not unicodedata.is_normalized("NFC", text):
        composed = unicodedata.normalize("NFC", text)
        raise InvalidParameter(f"invalid {what} {shown(text)}: write its letters composed (NFC), as {composed!r}")
    return text


def check_version(version: object) -> int:
    """A version's number, given as an int or as ASCII digits; leading zeros are allowed, as in MLflow."""
    if isinstance(version, int) and not isinstance(version, bool):
        number = version
    elif isinstance(version, str) and 0 < len(version) <= 20 and version.isascii() and version.isdecimal():
        number = int(version)
    else:
        number = -1
    if not 0 <= number <= MAX_VERSION:
        raise InvalidParameter(f"a version must be a whole number between 1 and {MAX_VERSION}, got {shown(version)}")
    return number


def check_model_id(model_id: object) -> str:
    """A logged model's id: `m-` and 32 hex digits."""
    if not isinstance(model_id, str) or not _LOGGED_MODEL_ID.fullmatch(model_id):
        raise InvalidParameter(f"{shown(model_id)} is no logged model's id, which is 'm-' and 32 hex digits")
    return model_id


def is_model_id(text: str) -> bool:
    return _LOGGED_MODEL_ID.fullmatch(text) is not None


def check_tag_key(key: object) -> str:
    """A tag's key: letters, digits, spaces and `_ / . - :`, and not a path that leads elsewhere."""
    text = check_text(key, "tag key", MAX_TAG_KEY_CHARS)
    if not _TAG_KEY.fullmatch(text):
        raise InvalidParameter(
            f"invalid tag key {shown(text)}: only letters, digits, spaces and '_', '/', '.', '-', ':'"
        )
    if posixpath.normpath(text) != text or text.startswith(("/", "..")) or text == ".":
        raise InvalidParameter(f"invalid tag key {shown(text)}: it must not be a path that leads elsewhere")
    return text


def check_own_tag_key(key: object) -> str:
    """A tag's key that a user may set or delete."""
    text = check_tag_key(key)
    if text == DIGEST_TAG:
        raise InvalidParameter(f"tag {DIGEST_TAG!r} is computed by the registry; it cannot be set or deleted")
    return text


def check_tag_value(value: object) -> str:
    return check_text(str(value), "tag value", MAX_TAG_VALUE_CHARS)


def check_tags(tags: Mapping[str, Any] | None) -> dict[str, str]:
    """The tags to store; a copied `turnout.digest` is left out, for the registry computes it."""
    tags = {} if tags is None else tags
    if not isinstance(tags, Mapping):
        raise InvalidParameter(f"tags must be a mapping from keys to values, got {shown(tags)}")
    if len(tags) > MAX_TAGS:
        raise InvalidParameter(f"{len(tags)} tags were given; at most {MAX_TAGS} are kept")
    checked = {check_tag_key(key): check_tag_value(value) for key, value in tags.items()}
    checked.pop(DIGEST_TAG, None)
    return checked


def check_optional_text(value: object, what: str, max_chars: int) -> str | None:
    return None if value is None else check_text(value, what, max_chars)


def check_text(value: object, what: str, max_chars: int) -> str:
    """A string that both databases keep unchanged: no NUL, no half of a surrogate pair, not too long."""
    if not isinstance(value, str):
        raise InvalidParameter(f"{_a(what)} must be a string, got {shown(value)}")
    if len(value) > max_chars:
        raise InvalidParameter(f"{_a(what)} has at most {max_chars} characters, got {len(value)}")
    if "\0" in value or any("\ud800" <= each <= "\udfff" for each in value):
        raise InvalidParameter(f"{_a(what)} must be valid Unicode without NUL, got {shown(value)}")
    return value


def _a(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"
