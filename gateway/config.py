"""What a gateway is told at its start, as values: endpoints, limits, where to listen. Parsed once, here."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from gateway.errors import InvalidSettings
from registry import InvalidUri, ModelUri, public_uri

ENDPOINT_NAME = re.compile(r"[A-Za-z0-9._-]+")
DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)(B|KB|MB|GB|KiB|MiB|GiB)")
SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
BYTES = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


@dataclass(frozen=True, slots=True)
class EndpointConfig:
    """One public endpoint: which model it serves, and how."""

    name: str
    model: ModelUri | Path  # a reference into the registry, or a model directory that is served as it is
    replicas: int = 1
    load_timeout_s: float = 120.0
    predict_timeout_s: float = 60.0
    max_queue: int = 256
    memory_limit_bytes: int = 0  # 0: no limit of its own
    batch: str = "auto"  # or on, off: whether requests that wait may be joined into one call
    batch_max_rows: int = 1024
    batch_max_wait_s: float = 0.0
    accelerates: bool = True
    keep_warm: bool = True  # or loaded when a request asks for it, and put to sleep when memory is short
    is_default: bool = False  # the one that `/invocations` serves
    env_manager: str = "local"  # or uv: an environment of its own for each version, of what the model requires


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything `turnout serve` needs."""

    endpoints: tuple[EndpointConfig, ...]
    registry_uri: str | None = None
    host: str = "127.0.0.1"
    port: int = 8080
    http_workers: int = 1  # processes that take requests
    max_body_bytes: int = 64 << 20
    max_concurrency: int = 1024
    models_memory_bytes: int = 0  # what the loaded models may take together; 0: no limit
    poll_interval_s: float | None = None  # how often a registry is asked that can tell nobody; None: its own
    cache: Path = Path("~/.cache/turnout")
    shutdown_notice_s: float = 0.0
    shutdown_timeout_s: float = 30.0

    @property
    def public_registry_uri(self) -> str:
        """The registry's whole address without its password; raises `InvalidUri` for what can be none."""
        return public_uri(self.registry_uri)


def default_cache() -> Path:
    """`$TURNOUT_CACHE`, else `turnout` in the user's cache folder."""
    named = os.environ.get("TURNOUT_CACHE")
    if named:
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "turnout"
    except RuntimeError:
        raise InvalidSettings("this user has no home folder to keep model files in; pass --cache DIR") from None


def default_memory_limit() -> int:
    """Four fifths of what this machine, or this container, has: past that the kernel would choose who dies."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            text = Path(limit).read_text().strip()
        except OSError:
            continue
        if text.isdecimal():
            total = min(total, int(text))
    return total * 4 // 5


def parse_duration(text: str) -> float:
    """Seconds from `250ms`, `30s`, `2m` or `1h`."""
    return _quantity(text, DURATION, SECONDS, "a duration such as 250ms, 30s or 2m")


def parse_size(text: str) -> int:
    """Bytes from `512KiB`, `64MiB` or `2GB`."""
    return int(_quantity(text, SIZE, BYTES, "a size such as 512KiB, 64MiB or 2GB"))


def parse_model(text: str) -> tuple[str | None, ModelUri | Path]:
    """Split `-m`'s `[NAME=]URI`, where the URI is a `models:/` reference or a model directory."""
    name, separator, rest = text.partition("=")
    named = bool(separator) and ENDPOINT_NAME.fullmatch(name) is not None
    target = rest if named else text
    if target.startswith("models:"):
        return (name if named else None), ModelUri.parse(target)
    path = Path(target)
    if not path.is_dir():
        raise InvalidSettings(
            f"cannot serve {target!r}: it is neither a models:/ reference nor a directory here; "
            "try models:/NAME@ALIAS, models:/NAME/VERSION or the path of a model directory"
        )
    return (name if named else None), path.resolve()


def plan_endpoints(models: Iterable[str], template: EndpointConfig) -> tuple[EndpointConfig, ...]:
    """One endpoint per `-m`, named as asked, else as the model or the folder is."""
    planned: dict[str, EndpointConfig] = {}
    for text in models:
        try:
            asked, model = parse_model(text)
        except InvalidUri as problem:
            raise InvalidSettings(str(problem)) from None
        name = asked or _default_name(model)
        if not ENDPOINT_NAME.fullmatch(name):
            raise InvalidSettings(
                f"{name!r} cannot be an endpoint's name (letters, digits, '.', '_' and '-'); "
                f"name it yourself: -m NAME={text}"
            )
        if name in planned:
            raise InvalidSettings(f"two endpoints would be called {name!r}; name one yourself: -m NAME={text}")
        planned[name] = replace(template, name=name, model=model)
    if not planned:
        raise InvalidSettings("nothing to serve: pass -m models:/NAME@ALIAS at least once")
    return tuple(planned.values())


def _default_name(model: ModelUri | Path) -> str:
    return model.name if isinstance(model, Path) else model.name or str(model)


def _quantity(text: str, pattern: re.Pattern[str], units: dict[str, float] | dict[str, int], kind: str) -> float:
    match = pattern.fullmatch(text.strip())
    if match is None:
        raise InvalidSettings(f"{text!r} is not {kind}")
    return float(match[1]) * units[match[2]]
