"""The history of an alias as Turnout's own JSON tells it; `AliasChange.as_json` writes it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from registry.core import AliasChange


def decode_move(alias: str, found: Mapping[str, Any]) -> AliasChange:
    return AliasChange(
        id=found["id"],
        alias=alias,
        at=datetime.fromisoformat(found["at"]),
        by=found["by"],
        from_version=found["from"],
        to_version=found["to"],
        reason=found.get("reason"),
        rollback_of=found.get("rollback_of"),
    )
