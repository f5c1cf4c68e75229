"""What every command shares: its options, how it opens the registry, and how it fails.

A failure is one sentence on stderr and exit code 1; wrong usage is click's exit code 2.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import click

from registry.cli.output import printable
from registry.core import Registry
from registry.errors import RegistryError

INTERRUPTED = 130  # what a shell expects of a program that Ctrl-C ended
Decorated = TypeVar("Decorated", bound=Callable[..., Any])


@dataclass(slots=True)
class Settings:
    """The shared options of one invocation; each may be given before or after the command's name."""

    registry_uri: str | None = None
    as_json: bool = False
    debug: bool = False


def settings() -> Settings:
    """Those of the command that runs."""
    return click.get_current_context().ensure_object(Settings)


def _remember(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    if value:
        setattr(context.ensure_object(Settings), str(parameter.name), value)


def _shared(*names: str, **attributes: Any) -> Callable[[Decorated], Decorated]:
    return click.option(*names, expose_value=False, callback=_remember, **attributes)


json_option = _shared("--json", "as_json", is_flag=True, help="Print JSON.")
debug_option = _shared("--debug", is_flag=True, help="Show the traceback of a failure.")
registry_option = _shared(
    "--registry-uri",
    metavar="URI",
    help="The registry: sqlite:///FILE or postgresql://…  "
    "[default: $TURNOUT_REGISTRY_URI, $MLFLOW_REGISTRY_URI, $MLFLOW_TRACKING_URI, sqlite:///turnout.db]",
)


def shared_options(command: Decorated) -> Decorated:
    """Give a command --json, --registry-uri and --debug; read them with `settings()`."""
    return json_option(registry_option(debug_option(command)))


def root_options(group: Decorated) -> Decorated:
    """Give a group --registry-uri, --debug and --version."""
    version = click.version_option(package_name="turnout", prog_name="turnout", message="%(prog)s %(version)s")
    return registry_option(debug_option(version(group)))


def examples(*lines: str) -> str:
    """An epilog that click does not wrap."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


class ReportingCommand(click.Command):
    """A command whose failures are told in a sentence."""

    expected: ClassVar[tuple[type[Exception], ...]] = (RegistryError, OSError)

    def __init__(self, *arguments: Any, **attributes: Any) -> None:
        super().__init__(*arguments, **attributes)
        self.context_settings.setdefault("help_option_names", ["-h", "--help"])

    def invoke(self, ctx: click.Context) -> Any:
        with _reported(ctx, self.expected):
            return super().invoke(ctx)


class ReportingGroup(click.Group):
    """A group whose commands report; `commands` decides which class they are."""

    command_class = ReportingCommand
    group_class = type

    def __init__(self, *arguments: Any, **attributes: Any) -> None:
        super().__init__(*arguments, **attributes)
        self.context_settings.setdefault("help_option_names", ["-h", "--help"])


@contextmanager
def _reported(context: click.Context, expected: tuple[type[Exception], ...]) -> Iterator[None]:
    try:
        yield
    except (click.ClickException, click.Abort, click.exceptions.Exit, BrokenPipeError):
        raise
    except KeyboardInterrupt:
        context.exit(INTERRUPTED)
    except Exception as error:  # the outermost boundary: people get a sentence
        if settings().debug:
            raise
        raise click.ClickException(_sentence(error, expected)) from None


def _sentence(error: Exception, expected: tuple[type[Exception], ...]) -> str:
    text = printable(" ".join(str(error).split()))
    if isinstance(error, OSError) and error.filename is not None:
        return printable(f"{error.filename}: {error.strerror}")
    if isinstance(error, expected) and text:
        return text
    return f"{type(error).__name__}: {text}; that is a fault in Turnout, --debug shows where"


@contextmanager
def open_registry(*, create: bool = False, artifacts_destination: str | None = None) -> Iterator[Registry]:
    """The registry that the options and the environment name, closed at the end.

    Without *create* a SQLite file that is not there is an error: most likely this is the wrong folder.
    What the registry warns of is printed on stderr.
    """
    from registry.connection import connect

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = _print_warning
        client = connect(settings().registry_uri, create=create, artifacts_destination=artifacts_destination)
        try:
            yield client
        finally:
            client.close()


def _print_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    click.echo(f"Warning: {printable(message)}", err=True)


def pair(text: str) -> tuple[str, str]:
    """Read KEY=VALUE; the value may hold further equals signs, and may be empty."""
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise click.BadParameter(f"{text!r} is not KEY=VALUE")
    return key, value


def expectation(text: str) -> str:
    """The version that an alias must point at, for the registry to check; `none`, that is 0: it must not be set."""
    return "0" if text == "none" else text
