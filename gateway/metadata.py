"""What the Open Inference Protocol v2 tells without predicting: liveness, readiness and what models take and return."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version as installed_version
from typing import Any

from gateway.endpoints import Endpoint, EndpointTable
from gateway.errors import NoSuchEndpoint, NotReady
from gateway.inference import warm_version
from gateway.protocols.v2 import EXTENSIONS
from gateway.runtimes.base import Resolved
from gateway.servable import Servable

Json = dict[str, Any]
Describe = Callable[[Servable], Json]


async def look_up(path: str, endpoints: EndpointTable, is_ready: bool, describe: Describe) -> Json:
    """The answer to a GET below `/v2/`; `health/live` is true as long as the process answers at all.

    Raises `NotReady` where the answer is no, and `NoSuchEndpoint` for what is not there.
    """
    match path.split("/"):
        case [""]:
            return {"name": "turnout", "version": installed_version("turnout"), "extensions": list(EXTENSIONS)}
        case ["health", "live"]:
            return {"live": True}
        case ["health", "ready"]:
            if not is_ready:
                raise NotReady("the gateway is not ready: an endpoint has nothing to serve yet, or it is shutting down")
            return {"ready": True}
        case ["models", name, *rest]:
            return await _of_model(endpoints.get(name), rest, describe)
    raise NoSuchEndpoint(
        f"there is no /v2/{path[:200]}; there is: /v2, /v2/health/live, /v2/health/ready, "
        "/v2/models/NAME[/versions/VERSION], each also with /ready or, by POST, /infer behind it"
    )


async def _of_model(endpoint: Endpoint, rest: list[str], describe: Describe) -> Json:
    match rest:
        case []:
            return _metadata(endpoint, await warm_version(endpoint, None), describe)
        case ["ready"]:
            return _readiness(endpoint, None)
        case ["versions", version]:
            return _metadata(endpoint, await warm_version(endpoint, version), describe)
        case ["versions", version, "ready"]:
            return _readiness(endpoint, version)
    raise NoSuchEndpoint(f"a model has no {'/'.join(rest)[:200]!r}; it has: ready, infer, versions/VERSION")


def _readiness(endpoint: Endpoint, version: str | None) -> Json:
    """Ready is what answers, if only once it is loaded for that; a probe loads nothing."""
    shares = [] if endpoint.split is None else list(endpoint.split.shares())
    ready = [each.resolved.label for each, _, _ in shares if each.replicas]
    if not (endpoint.is_ready if version is None else version in ready):
        what = "" if version is None else f" version {version[:200]!r} of"
        raise NotReady(
            f"{what} endpoint {endpoint.name!r} is not ready; ready are: {', '.join(ready) or 'none'}".strip()
        )
    return {"name": endpoint.name, "ready": True}


def _metadata(endpoint: Endpoint, servable: Servable, describe: Describe) -> Json:
    split = endpoint.split
    versions = [] if split is None else [each.resolved.label for each, _, _ in split.shares()]
    return {"name": endpoint.name, "versions": versions, "platform": platform(servable.resolved), **describe(servable)}


def platform(resolved: Resolved) -> str:
    """What loads the model, as `mlflow_sklearn` or `mlflow_pyfunc`."""
    flavor = (resolved.mlmodel.get("flavors") or {}).get("python_function") or {}
    return "_".join(str(flavor.get("loader_module") or "mlflow.pyfunc").split(".")[:2])
