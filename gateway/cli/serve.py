"""turnout serve: the gateway."""

from __future__ import annotations

import contextlib
import operator
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import click
from click.core import ParameterSource

from gateway.cli.command import (
    OF_REPLICAS,
    STDERR,
    Command,
    Fields,
    cache_option,
    log_format_option,
    replica_options,
)
from gateway.config import Settings, default_cache, parse_duration, parse_size
from gateway.configfile import ConfigFile, Given, settle
from gateway.errors import InvalidSettings
from gateway.forkserver import LOCAL, ForkServer
from registry import cli as registry_cli


@click.command(
    cls=Command,
    epilog=registry_cli.examples(
        "turnout serve -m models:/wine@champion",
        "turnout serve -m wine=models:/wine@champion -m price=models:/price/3 --replicas 2",
        "turnout serve -m ./my-model --port 9000",
        "turnout serve --config turnout.toml",
    ),
)
@click.option(
    "-m",
    "--model",
    "models",
    multiple=True,
    metavar="[NAME=]URI",
    help="What to serve: models:/NAME@ALIAS is followed; models:/NAME/VERSION, models:/NAME/latest and a model "
    "directory are served as they are. Repeat it for more endpoints.",
)
@click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="A configuration file in TOML, which is followed: what changes in it takes effect at once.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", default=8080, show_default=True, type=click.IntRange(0, 65535), help="0: any free port.")
@click.option(
    "--http-workers",
    default=1,
    show_default=True,
    type=click.IntRange(1, 64),
    help="Processes that take requests; all use the same replicas.",
)
@replica_options(predict_timeout="60s", of="a prediction")
@click.option(
    "--max-queue",
    default=256,
    show_default=True,
    type=click.IntRange(0),
    help="Requests that may wait on one endpoint; more are answered 429.",
)
@click.option(
    "--batch",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", "on", "off"]),
    help="Join requests that wait into one call. auto: where a model is known to predict row by row, or its version's "
    "tag turnout.batch is on. Never without a proof that the answers are the same.",
)
@click.option(
    "--batch-max-rows",
    default=1024,
    show_default=True,
    type=click.IntRange(1),
    help="Rows that go as one call at most.",
)
@click.option(
    "--batch-max-wait",
    default="0ms",
    show_default=True,
    help="How long a request waits for others to join it, beyond the time in which the model is busy.",
)
@click.option(
    "--accelerate",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", "off"]),
    help="Use a faster way to the same answers once it is proven.",
)
@click.option("--max-body", default="64MiB", show_default=True, help="The largest request body.")
@click.option(
    "--max-concurrency",
    default=1024,
    show_default=True,
    type=click.IntRange(1),
    help="Predictions that may be under way in one process; more are answered 429 before their body is read.",
)
@click.option(
    "--models-memory",
    help="What the loaded models may take together, such as 4GiB. Each is then loaded when a request asks for it, and "
    "the least recently used makes room.  [default: no limit]",
)
@click.option("--lazy", is_flag=True, help="Load each model when the first request asks for it.")
@cache_option
@click.option(
    "--shutdown-notice",
    default="0s",
    show_default=True,
    help="On SIGTERM: answer `not ready` for so long before no more is taken.",
)
@click.option(
    "--shutdown-timeout",
    default="30s",
    show_default=True,
    help="On SIGTERM: how long running requests may take.",
)
@log_format_option
@registry_cli.registry_option
@registry_cli.debug_option
def serve(models: tuple[str, ...], config: Path | None, log_format: str, **_: Any) -> NoReturn:
    """Serve models over HTTP, and follow their aliases."""
    _open_standard_descriptors()
    try:
        given = _given(click.get_current_context(), models)
        file = ConfigFile(config, given) if config else None
        settings = file.read() if file else settle(given, {}, Path())
        with _fork_server_for(settings) as fork_server:
            from gateway import server, telemetry  # the fork server is at its own imports meanwhile

            with telemetry.logging_to(STDERR, log_format):
                status = server.run(settings, file, log_format, fork_server)
    except InvalidSettings as problem:
        raise click.UsageError(str(problem)) from None
    raise SystemExit(status)


OF_THE_GATEWAY: Fields = {
    "host": ("host", str),
    "port": ("port", int),
    "http_workers": ("http_workers", int),
    "cache": ("cache", Path.expanduser),
    "max_body": ("max_body_bytes", parse_size),
    "max_concurrency": ("max_concurrency", int),
    "models_memory": ("models_memory_bytes", parse_size),
    "shutdown_notice": ("shutdown_notice_s", parse_duration),
    "shutdown_timeout": ("shutdown_timeout_s", parse_duration),
}
OF_AN_ENDPOINT: Fields = {
    **OF_REPLICAS,
    "max_queue": ("max_queue", int),
    "batch": ("batch", str),
    "batch_max_rows": ("batch_max_rows", int),
    "batch_max_wait": ("batch_max_wait_s", parse_duration),
    "accelerate": ("accelerates", "auto".__eq__),
    "lazy": ("keep_warm", operator.not_),
}


@contextlib.contextmanager
def _fork_server_for(settings: Settings) -> Iterator[ForkServer | None]:
    """The one that a first model will ask for at once, launched; None where it may never be asked for."""
    if not any(endpoint.keep_warm and endpoint.env_manager == "local" for endpoint in settings.endpoints):
        yield None
        return
    fork_server = ForkServer.launch(*LOCAL)
    try:
        yield fork_server
    finally:
        fork_server.end()


def _open_standard_descriptors() -> None:
    """Where standard input, output or error are closed, no socket may take their numbers."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)


def _given(context: click.Context, models: tuple[str, ...]) -> Given:
    """What was said, without the defaults: those give way to a configuration file."""

    def said(fields: Fields) -> dict[str, Any]:
        return {
            name: read(context.params[option])
            for option, (name, read) in fields.items()
            if context.get_parameter_source(option) is ParameterSource.COMMANDLINE
        }

    settings = said(OF_THE_GATEWAY)
    settings.setdefault("cache", default_cache().expanduser())
    uri = registry_cli.settings().registry_uri
    if uri is not None:
        settings["registry_uri"] = uri
    return Given(models, settings, said(OF_AN_ENDPOINT))
