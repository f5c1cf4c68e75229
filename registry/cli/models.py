"""turnout models: registered models."""

from __future__ import annotations

from collections.abc import Sequence

import click

from registry.cli.command import ReportingGroup, examples, open_registry, pair, settings, shared_options
from registry.cli.output import clock, joined, model_json, print_facts, print_json, print_table
from registry.cli.paging import every
from registry.core import RegisteredModel, Registry


@click.group(cls=ReportingGroup, epilog=examples("turnout models list", "turnout models show wine"))
def models() -> None:
    """Registered models: the names under which versions are kept."""


@models.command("list", epilog=examples("turnout models list", "turnout models list --json"))
@shared_options
def list_models() -> None:
    """List every registered model."""
    with open_registry() as client:
        _print(search(client))


@models.command(
    "search",
    epilog=examples(
        """turnout models search "name LIKE 'wine%'" """.rstrip(),
        """turnout models search "tags.team = 'cellar'" --order-by "name DESC" """.rstrip(),
    ),
)
@click.argument("filter_string", metavar="FILTER")
@click.option("--order-by", multiple=True, metavar="FIELD", help="Sort by FIELD, or 'FIELD DESC'; repeatable.")
@click.option("--max-results", type=click.IntRange(1), help="Stop after this many.  [default: all]")
@shared_options
def search_models(filter_string: str, order_by: tuple[str, ...], max_results: int | None) -> None:
    """List the models that match FILTER, in MLflow's search language."""
    with open_registry() as client:
        _print(search(client, filter_string, order_by, max_results))


@models.command("show", epilog=examples("turnout models show wine", "turnout models show wine --json"))
@click.argument("name")
@shared_options
def show_model(name: str) -> None:
    """Show one model: description, tags and where its aliases point."""
    with open_registry() as client:
        model = client.get_registered_model(name)
    if settings().as_json:
        print_json(model_json(model))
        return
    print_facts(
        {
            "name": model.name,
            "description": model.description,
            "latest version": latest(model),
            "aliases": joined(model.aliases),
            "tags": joined(model.tags),
            "created": clock(model.creation_timestamp),
            "updated": clock(model.last_updated_timestamp),
        }
    )


@models.command("create", epilog=examples("turnout models create wine --description 'Cultivars' --tag team=cellar"))
@click.argument("name")
@click.option("--description", metavar="TEXT", help="What the model is for.")
@click.option("--tag", "tags", type=pair, metavar="KEY=VALUE", multiple=True, help="A tag; repeatable.")
@shared_options
def create_model(name: str, description: str | None, tags: Sequence[tuple[str, str]]) -> None:
    """Create a registered model that has no versions yet."""
    with open_registry(create=True) as client:
        model = client.create_registered_model(name, tags=dict(tags), description=description)
    _report(f"Created model {model.name}", model)


@models.command("rename", epilog=examples("turnout models rename wine cultivars"))
@click.argument("name")
@click.argument("new_name", metavar="NEW")
@shared_options
def rename_model(name: str, new_name: str) -> None:
    """Rename a model; its versions, aliases and history go with it.

    A gateway that follows the old name keeps serving what it has, and says so in its status.
    """
    with open_registry() as client:
        model = client.rename_registered_model(name, new_name)
    _report(f"Renamed model {name} to {model.name}", model)


@models.command("delete", epilog=examples("turnout models delete wine"))
@click.argument("name")
@shared_options
def delete_model(name: str) -> None:
    """Delete a model with its versions and aliases."""
    with open_registry() as client:
        client.delete_registered_model(name)
    if settings().as_json:
        print_json({"name": name, "deleted": True})
    else:
        click.echo(f"Deleted model {name}")


def search(
    client: Registry,
    filter_string: str | None = None,
    order_by: Sequence[str] = (),
    max_results: int | None = None,
) -> list[RegisteredModel]:
    """Every matching model, or the first *max_results* of them."""
    order = list(order_by) or None
    return every(
        lambda token: client.search_registered_models(filter_string, order_by=order, page_token=token), max_results
    )


def latest(model: RegisteredModel) -> str | None:
    """The highest version number; None when there is no version."""
    return max((each.version for each in model.latest_versions), key=int, default=None)


def _print(found: Sequence[RegisteredModel]) -> None:
    if settings().as_json:
        print_json({"registered_models": [model_json(each) for each in found]})
        return
    print_table(
        ("name", "latest", "aliases", "updated", "description"),
        (
            (
                each.name,
                latest(each),
                joined(each.aliases),
                clock(each.last_updated_timestamp),
                each.description,
            )
            for each in found
        ),
    )


def _report(sentence: str, model: RegisteredModel) -> None:
    if settings().as_json:
        print_json(model_json(model))
    else:
        click.echo(sentence)
