"""What commands print: aligned tables for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import click

from registry.core import ModelVersion, RegisteredModel

GAP = "  "


def printable(text: object) -> str:
    """One line without control characters: a description must not steer anybody's terminal."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in str(text))


def print_table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print *rows* under *headings* in aligned columns; None is an empty cell."""
    table = [
        [each.upper() for each in headings],
        *(["" if cell is None else printable(cell) for cell in row] for row in rows),
    ]
    widths = [max(len(row[column]) for row in table) for column in range(len(headings))]
    for row in table:
        click.echo(GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def print_facts(facts: Mapping[str, object]) -> None:
    """Print names and values in two aligned columns, leaving out what has no value."""
    shown = {name: value for name, value in facts.items() if value not in (None, "")}
    width = max(map(len, shown), default=0)
    for name, value in shown.items():
        click.echo(f"{name.ljust(width)}{GAP}{printable(value)}")


def print_json(value: object) -> None:
    """Print *value* as indented JSON, in ASCII so that any terminal and any pipe can take it."""
    click.echo(json.dumps(value, indent=2))


def timestamp(moment: datetime | int) -> str:
    """A moment, or milliseconds since the epoch, as ISO 8601 in UTC."""
    if isinstance(moment, int):
        moment = datetime.fromtimestamp(moment / 1000, UTC)
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def clock(moment: datetime | int) -> str:
    """The same moment, to the second, for people."""
    return timestamp(moment)[:19].replace("T", " ") + "Z"


def short(digest: str | None) -> str | None:
    """Enough of a digest to tell two versions apart."""
    return digest and digest[: len("sha256:") + 12]


def joined(mapping: Mapping[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in mapping.items())


def version_json(version: ModelVersion) -> dict[str, Any]:
    """MLflow's keys, ISO times, and the digest."""
    facts = dict(version)
    return facts | {
        "creation_timestamp": timestamp(version.creation_timestamp),
        "last_updated_timestamp": timestamp(version.last_updated_timestamp),
        "tags": dict(version.tags),
        "aliases": list(version.aliases),
        "digest": version.digest,
    }


def model_json(model: RegisteredModel) -> dict[str, Any]:
    """MLflow's keys and ISO times."""
    facts = dict(model)
    return facts | {
        "creation_timestamp": timestamp(model.creation_timestamp),
        "last_updated_timestamp": timestamp(model.last_updated_timestamp),
        "latest_versions": [version_json(each) for each in model.latest_versions],
        "tags": dict(model.tags),
        "aliases": dict(model.aliases),
    }
