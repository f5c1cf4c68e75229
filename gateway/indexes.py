"""How uv reaches package indexes: by its own settings, and by pip's where it has none of its own.

uv reads neither pip's variables nor pip.conf. Credentials travel in the environment, never in arguments.
"""

from __future__ import annotations

import configparser
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from gateway.forkserver import scrubbed

# Of uv's own variables those that say where packages come from and how they are reached.
OF_UV = re.compile(
    r"UV_(INDEX\w*|DEFAULT_INDEX|EXTRA_INDEX_URL|FIND_LINKS|KEYRING_PROVIDER|INSECURE_HOST|NATIVE_TLS"
    r"|SYSTEM_CERTS|OFFLINE|HTTP_\w+|CONCURRENT_\w+|CACHE_DIR|LINK_MODE|CONSTRAINT|OVERRIDE|EXCLUDE_NEWER|PRERELEASE"
    r"|TORCH_BACKEND|CONFIG_FILE|PYTHON_INSTALL_DIR)"
)
OF_THE_NETWORK = re.compile(r"SSL_CERT_FILE|SSL_CERT_DIR|SSL_CLIENT_CERT|NETRC|(?i:https?|all|no)_(?i:proxy)")
OF_PIP = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "constraint": "UV_CONSTRAINT",
    "trusted-host": "UV_INSECURE_HOST",
    "timeout": "UV_HTTP_TIMEOUT",
    "default-timeout": "UV_HTTP_TIMEOUT",
    "cert": "SSL_CERT_FILE",
    "client-cert": "SSL_CLIENT_CERT",
    "proxy": "ALL_PROXY",
}
PLACES = ("UV_DEFAULT_INDEX", "UV_INDEX", "UV_FIND_LINKS", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL")


def uv_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment variables of a uv process: no secret of the gateway's but those that open an index."""
    kept = {name: value for name, value in scrubbed(dict(environment)).items() if not name.startswith(("UV_", "PIP_"))}
    own = {name: value for name, value in environment.items() if value and _is_uvs(name)}
    of_pip = {OF_PIP[name]: " ".join(value.split()) for name, value in _pip_settings(environment) if name in OF_PIP}
    if _has_places(environment):
        of_pip = {name: value for name, value in of_pip.items() if name not in PLACES}
    if "UV_INDEX" in of_pip:
        of_pip["UV_INDEX_STRATEGY"] = "unsafe-best-match"  # to pip its indexes are all the same
    if "UV_FIND_LINKS" in of_pip:
        of_pip["UV_FIND_LINKS"] = of_pip["UV_FIND_LINKS"].replace(" ", ",")
    return kept | of_pip | own | {"PATH": _without_shims(environment.get("PATH", os.defpath)), "NO_COLOR": "1"}


def uv_options(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The one setting of pip's that uv has no variable for."""
    if _has_places(environment):
        return ()
    is_without = dict(_pip_settings(environment)).get("no-index", "").lower() in ("1", "true", "yes", "on")
    return ("--no-index",) if is_without else ()


def _is_uvs(name: str) -> bool:
    return bool(OF_UV.fullmatch(name) or OF_THE_NETWORK.fullmatch(name))


def _has_places(environment: Mapping[str, str]) -> bool:
    """Whether uv itself has been told where packages come from."""
    return any(environment.get(name) for name in PLACES)


def _pip_settings(environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """pip's settings, the one that wins last: files from the most general on, then variables."""
    for path in _pip_files(environment):
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read(path, encoding="utf-8")
        except (configparser.Error, OSError, UnicodeDecodeError):
            continue  # pip itself would say so
        for section in ("global", "install"):
            if parser.has_section(section):
                yield from parser.items(section)
    for name, value in environment.items():
        if name.startswith("PIP_") and value:
            yield name.removeprefix("PIP_").lower().replace("_", "-"), value


def _pip_files(environment: Mapping[str, str]) -> Iterator[Path]:
    named = environment.get("PIP_CONFIG_FILE")
    if named == os.devnull:
        return
    for folder in reversed(environment.get("XDG_CONFIG_DIRS", "/etc/xdg").split(os.pathsep)):
        yield Path(folder, "pip", "pip.conf")
    yield Path("/etc/pip.conf")
    if home := environment.get("HOME"):
        yield Path(home, ".pip", "pip.conf")
        yield Path(environment.get("XDG_CONFIG_HOME") or Path(home, ".config"), "pip", "pip.conf")
    yield Path(sys.prefix, "pip.conf")
    if named:
        yield Path(named)


def _without_shims(path: str) -> str:
    """A version manager's stand-ins look like interpreters, and are none for whatever it has not switched on."""
    return os.pathsep.join(each for each in path.split(os.pathsep) if Path(each).name != "shims")
