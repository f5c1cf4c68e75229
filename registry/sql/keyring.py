"""Texts that must not be readable in the database, such as webhook secrets: sealed with a key that lies elsewhere."""

from __future__ import annotations

import os
from base64 import urlsafe_b64encode
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from secrets import token_hex

from registry.errors import InvalidParameter, RegistryError

VARIABLE = "TURNOUT_SECRET_KEY"
KEY_FILE = "turnout.key"
MIN_KEY_CHARS = 32


class Keyring:
    """Seals with the first key of `TURNOUT_SECRET_KEY`, else with the one in a file beside the SQLite database.

    Opens with any of them, so that a key can be replaced: put the new one in front, separated by a comma.
    """

    def __init__(self, beside: Path | None) -> None:
        self._file = None if beside is None else beside / KEY_FILE

    def seal(self, secret: str) -> str:
        """Raises `InvalidParameter` when there is no key and no place for one."""
        from cryptography.fernet import Fernet

        keys = self._keys()
        if not keys:
            keys = [self._make_key()]
        return Fernet(_fernet_key(keys[0])).encrypt(secret.encode()).decode()

    def unseal(self, sealed: str) -> str:
        """Raises `RegistryError` when it was sealed with a key that is not here."""
        from cryptography.fernet import Fernet, InvalidToken

        for key in self._keys():
            with suppress(InvalidToken):
                return Fernet(_fernet_key(key)).decrypt(sealed.encode()).decode()
        raise RegistryError(f"a secret was sealed with a key that is not here: put that key into {VARIABLE}")

    def _keys(self) -> list[str]:
        given = [each.strip() for each in os.environ.get(VARIABLE, "").split(",") if each.strip()]
        if any(len(each) < MIN_KEY_CHARS for each in given):
            raise InvalidParameter(f"a key in {VARIABLE} is shorter than {MIN_KEY_CHARS} characters: {_ADVICE}")
        kept = self._file.read_text().strip() if self._file is not None and self._file.exists() else ""
        return [*given, kept] if kept else given

    def _make_key(self) -> str:
        if self._file is None:
            raise InvalidParameter(f"this registry has no key to keep secrets with: set {VARIABLE}; {_ADVICE}")
        whole = self._file.with_name(f".{KEY_FILE}.{token_hex(8)}")
        with os.fdopen(os.open(whole, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(token_hex(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            # A link, so that nobody ever reads half a key, and that of two processes the first one's key stays.
            with suppress(FileExistsError):
                os.link(whole, self._file)
        finally:
            whole.unlink()
        return self._file.read_text().strip()


_ADVICE = "make one with `openssl rand -hex 32`, and keep it apart from the database's backups"


def _fernet_key(key: str) -> bytes:
    return urlsafe_b64encode(sha256(f"turnout secrets {key}".encode()).digest())
