"""turnout predict: a file in, predictions out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from gateway.batch import FORMATS
from gateway.cli.command import (
    OF_REPLICAS,
    STDERR,
    Command,
    cache_option,
    log_format_option,
    replica_options,
)
from gateway.cli.progress import Bar
from gateway.config import EndpointConfig, default_cache, default_memory_limit, parse_model
from gateway.errors import BatchInterrupted, InvalidSettings
from registry import InvalidUri
from registry import cli as registry_cli

if TYPE_CHECKING:
    from gateway.batch.job import Job
    from gateway.batch.run import Summary

INTERRUPTED = 130  # what a shell expects of a program that Ctrl-C ended


@click.command(
    cls=Command,
    epilog=registry_cli.examples(
        "turnout predict -m models:/wine@champion -i wines.csv -o predictions.csv",
        "turnout predict -m models:/wine/3 -i wines.parquet -o predictions.parquet --with-input --replicas 4",
        "turnout predict -m ./my-model -i - --format jsonl -o - --output-format csv < wines.jsonl",
    ),
)
@click.option(
    "-m",
    "--model",
    required=True,
    metavar="URI",
    help="The model: models:/NAME@ALIAS, models:/NAME/VERSION, models:/NAME/latest or a model directory. "
    "An alias is looked up once, at the start.",
)
@click.option("-i", "--input", "source", required=True, metavar="FILE", help="The rows; '-' reads standard input.")
@click.option(
    "-o", "--output", "target", required=True, metavar="FILE", help="The predictions; '-' writes standard output."
)
@click.option(
    "--format",
    "source_format",
    type=click.Choice(FORMATS),
    help="What the input is.  [default: as its name ends: .csv, .jsonl, .ndjson, .parquet]",
)
@click.option(
    "--output-format",
    "target_format",
    type=click.Choice(FORMATS),
    help="What the output becomes.  [default: as its name ends, else as the input]",
)
@click.option("--with-input", is_flag=True, help="Put the input's columns in front of the predictions.")
@click.option("--params", metavar="JSON", help="Parameters for the model: an object, such as '{\"top_k\": 3}'.")
@click.option(
    "--chunk-rows",
    default=10_000,
    show_default=True,
    type=click.IntRange(1),
    help="Rows that are read and predicted at a time; fewer where they are long.",
)
@click.option(
    "--max-bad-rows",
    default=0,
    show_default=True,
    type=click.IntRange(0),
    help="Rows that may have no prediction because the model refuses them; one more stops the run.",
)
@click.option("--overwrite", is_flag=True, help="Replace the output file if it is there.")
@click.option("--restart", is_flag=True, help="Begin anew, whatever an earlier run has finished.")
@replica_options(predict_timeout="10m", of="one chunk")
@cache_option
@log_format_option
@registry_cli.shared_options
def predict(log_format: str, **options: Any) -> None:
    """Predict every row of a file: CSV, JSON lines or Parquet.

    What is finished is kept beside the output until it is whole: after an interruption the same command goes on.
    """
    from gateway import telemetry
    from gateway.batch.run import run

    try:
        job = _job(options)
    except (InvalidSettings, InvalidUri) as problem:
        raise click.UsageError(str(problem)) from None
    try:
        with telemetry.logging_to(STDERR, log_format, is_quiet=True), Bar() as progress:
            summary = run(job, progress)
    except BatchInterrupted as problem:
        click.echo(str(problem), err=True)
        raise SystemExit(INTERRUPTED) from None
    _report(summary)


def _job(options: dict[str, Any]) -> Job:
    from gateway.batch.formats import locate
    from gateway.batch.job import Job
    from gateway.batch.rows import Limit

    _, model = parse_model(options["model"])
    source = locate(options["source"], options["source_format"])
    target = locate(options["target"], options["target_format"], otherwise=source.format)
    if target.path is None and registry_cli.settings().as_json:
        raise InvalidSettings("--json and -o - would both write to standard output; name a file for one of them")
    return Job(
        config=EndpointConfig(
            model.name or str(model), model, batch="off", accelerates=False, **_replica_settings(options)
        ),
        source=source,
        target=target,
        cache=(options["cache"] or default_cache()).expanduser(),
        registry_uri=registry_cli.settings().registry_uri,
        params=_params(options["params"]),
        limit=Limit(options["chunk_rows"]),
        with_input=options["with_input"],
        max_bad_rows=options["max_bad_rows"],
        overwrites=options["overwrite"],
        restarts=options["restart"],
    )


def _replica_settings(options: dict[str, Any]) -> dict[str, Any]:
    settings = {name: read(options[option]) for option, (name, read) in OF_REPLICAS.items() if options[option]}
    return {"memory_limit_bytes": default_memory_limit(), **settings}


def _params(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        params = json.loads(text)
    except ValueError as problem:
        raise InvalidSettings(f"--params is no JSON: {problem}") from None
    if not isinstance(params, dict):
        raise InvalidSettings(f"--params must be a JSON object, such as '{{\"top_k\": 3}}'; got {text!r}")
    return params


def _report(summary: Summary) -> None:
    from gateway.batch.rows import counted

    if registry_cli.settings().as_json:
        registry_cli.print_json(summary.as_json())
        return
    version = f" version {summary.version}" if summary.version else ""
    reused = f", {summary.parts_reused} of {summary.parts} parts from an earlier run" if summary.parts_reused else ""
    bad = f", {counted(summary.bad_rows, 'bad row')} without a prediction" if summary.bad_rows else ""
    click.echo(
        f"predicted {counted(summary.rows, 'row')} with {summary.model}{version} in {summary.seconds:.1f} s"
        f"{reused}{bad}: {summary.output}",
        err=True,
    )
