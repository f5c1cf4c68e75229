"""turnout tag: tags of models and of versions."""

from __future__ import annotations

import click

from registry.cli.command import ReportingGroup, examples, open_registry, settings, shared_options
from registry.cli.output import print_json


@click.group(cls=ReportingGroup, epilog=examples("turnout tag set wine team=cellar", "turnout tag delete wine 2 note"))
def tag() -> None:
    """Tags: keys and values on a model or on one of its versions."""


@tag.command(
    "set",
    epilog=examples("turnout tag set wine team=cellar", "turnout tag set wine 2 note='new barrels' vintage=2026"),
)
@click.argument("name")
@click.argument("version_and_tags", metavar="[VERSION] KEY=VALUE...", nargs=-1, required=True)
@shared_options
def set_tags(name: str, version_and_tags: tuple[str, ...]) -> None:
    """Set tags on the model NAME, or on its version VERSION."""
    version, pairs = _parse(version_and_tags)
    with open_registry() as client:
        for key, value in pairs.items():
            if version is None:
                client.set_registered_model_tag(name, key, value)
            else:
                client.set_model_version_tag(name, version, key, value)
    if settings().as_json:
        print_json({"name": name, "version": version, "tags": pairs})
    else:
        click.echo(f"Set {', '.join(pairs)} on {_target(name, version)}")


@tag.command("delete", epilog=examples("turnout tag delete wine team", "turnout tag delete wine 2 note"))
@click.argument("name")
@click.argument("version_and_key", metavar="[VERSION] KEY", nargs=-1, required=True)
@shared_options
def delete_tag(name: str, version_and_key: tuple[str, ...]) -> None:
    """Delete a tag of the model NAME, or of its version VERSION."""
    if len(version_and_key) > 2:
        raise click.UsageError(f"expected [VERSION] KEY after the name, got {' '.join(version_and_key)!r}")
    key = version_and_key[-1]
    version = version_and_key[0] if len(version_and_key) == 2 else None
    with open_registry() as client:
        if version is None:
            client.delete_registered_model_tag(name, key)
        else:
            client.delete_model_version_tag(name, version, key)
    if settings().as_json:
        print_json({"name": name, "version": version, "key": key, "deleted": True})
    else:
        click.echo(f"Deleted {key} from {_target(name, version)}")


def _parse(words: tuple[str, ...]) -> tuple[str | None, dict[str, str]]:
    version = None if "=" in words[0] else words[0]
    rest = words if version is None else words[1:]
    pairs: dict[str, str] = {}
    for word in rest:
        key, equals, value = word.partition("=")
        if not (key and equals):
            raise click.UsageError(f"{word!r} is not KEY=VALUE")
        pairs[key] = value
    if not pairs:
        raise click.UsageError(f"there is no KEY=VALUE after {words[0]!r}")
    return version, pairs


def _target(name: str, version: str | None) -> str:
    return f"model {name}" if version is None else f"{name} version {version}"
