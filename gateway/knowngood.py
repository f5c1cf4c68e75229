"""The last set of versions that served, on disk: what a gateway starts from while its registry is away.

Only names and digests are kept here; the files lie in the cache under their digest and are verified again.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Mapping
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


class KnownGoodFile:
    """One file a registry; an endpoint is kept under the reference that it follows."""

    def __init__(self, cache: Path, registry_uri: str) -> None:
        self._path = cache / "known-good" / f"{sha256(registry_uri.encode()).hexdigest()[:32]}.json"

    def read(self) -> dict[str, KnownGood]:
        """By reference; empty when there is none, or none that can be read."""
        try:
            rows = json.loads(self._path.read_bytes())
            return {
                reference: KnownGood(ModelVersion(**row["version"]), row["digest"]) for reference, row in rows.items()
            }
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as problem:
            log.warning("%s cannot be read and is left out: %s", self._path, problem)
            return {}

    def write(self, served: Mapping[str, KnownGood]) -> None:
        """Replace what is kept for these references, and keep the others; durable when it returns."""
        rows = {reference: asdict(good) for reference, good in (self.read() | dict(served)).items()}
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=self._path.parent)
        with os.fdopen(descriptor, "w") as file:
            json.dump(rows, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self._path)
