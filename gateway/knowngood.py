"""The last set of versions that served, on disk: what a gateway starts from while its registry is away.

Only names and digests are kept here; the files lie in the cache under their digest and are verified again.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

from registry import ModelVersion

log = logging.getLogger("turnout.knowngood")


@dataclass(frozen=True, slots=True)
class KnownGood:
    """A version that served, and the digest of its files."""

    version: ModelVersion
    digest: str


class KnownGoodSet:
    """One folder a registry, one file a reference: gateways that share a cache never overwrite each other's."""

    def __init__(self, cache: Path, registry_uri: str) -> None:
        self._folder = cache / "known-good" / _digest(registry_uri)

    def read(self, reference: str) -> KnownGood | None:
        """What served last under that reference; None when there is nothing, or nothing that can be read."""
        path = self._path(reference)
        try:
            row = json.loads(path.read_bytes())
            return KnownGood(ModelVersion(**row["version"]), row["digest"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as problem:
            log.warning("%s cannot be read and is left out: %s", path, problem)
            return None

    def write(self, reference: str, good: KnownGood) -> None:
        """Replace what is kept for the reference; durable when it returns."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=self._folder)
        try:
            with os.fdopen(descriptor, "w") as file:
                json.dump(asdict(good), file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self._path(reference))
        except BaseException:
            os.unlink(temporary)
            raise

    def _path(self, reference: str) -> Path:
        return self._folder / f"{_digest(reference)}.json"


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:32]
