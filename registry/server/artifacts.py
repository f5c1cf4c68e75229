"""The artifact proxy: files of any size go through to the store and back, a megabyte at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from registry.artifacts import Entry, StoredFile, Upload, check_path
from registry.core import ServedRegistry
from registry.errors import InvalidParameter, NotFound, RegistryError
from registry.models.cache import STORE
from registry.names import shown
from registry.server.bodies import ClientGone, read_body
from registry.server.files import FileThreads, receive_file, send_file

PREFIXES = ("/api/2.0/mlflow-artifacts", "/ajax-api/2.0/mlflow-artifacts")
MAX_MULTIPART_BYTES = 1 << 20

# What the client looks for, to upload the whole file in one request instead.
NO_MULTIPART = "Multipart upload is not supported for the current artifact repository: upload the file as a whole"
NO_PRESIGNED = "Presigned URLs are not supported for the current artifact repository: download the file from here"


class Protected(RegistryError):
    """The files of a registered version never change."""

    error_code = "PERMISSION_DENIED"
    http_status = 403


class Encoded(RegistryError):
    error_code = "BAD_REQUEST"
    http_status = 415


def routes(registry: ServedRegistry, threads: FileThreads) -> list[Route]:
    """Upload, download, list and delete below MLflow's two prefixes, and a version's or run's files by name.

    Closing *threads* stays with the caller.
    """
    proxy = ArtifactProxy(registry, threads)
    found = [
        Route("/get-artifact", proxy.get_of_run, methods=["GET"]),
        Route("/model-versions/get-artifact", proxy.get_of_version, methods=["GET"]),
    ]
    for prefix in PREFIXES:
        found += [
            Route(f"{prefix}/artifacts", proxy.list, methods=["GET"]),
            Route(f"{prefix}/artifacts/{{path:path}}", proxy.get, methods=["GET"]),
            Route(f"{prefix}/artifacts/{{path:path}}", proxy.put, methods=["PUT"]),
            Route(f"{prefix}/artifacts/{{path:path}}", proxy.delete, methods=["DELETE"]),
            Route(f"{prefix}/presigned/{{path:path}}", proxy.presign, methods=["GET"]),
        ]
        for action in ("create", "complete", "abort"):
            endpoint = partial(proxy.refuse_multipart, action)
            found.append(Route(f"{prefix}/mpu/{action}", endpoint, methods=["POST"]))
            found.append(Route(f"{prefix}/mpu/{action}/{{path:path}}", endpoint, methods=["POST"]))
    return found


class ArtifactProxy:
    """Answers for one registry's artifact store."""

    def __init__(self, registry: ServedRegistry, threads: FileThreads) -> None:
        self._registry = registry
        self._threads = threads

    async def list(self, request: Request) -> Response:
        path = _parameter(request, "path") if "path" in request.query_params else ""
        folder = check_path(path.rstrip("/")) if path else ""
        return _json(await self._threads.run(partial(_list, self._registry, folder)))

    async def get(self, request: Request) -> Response:
        return await self._download(request, _path_of(request, "artifacts"))

    async def put(self, request: Request) -> Response:
        path = _path_of(request, "artifacts")
        _check_upload(request)
        try:
            await receive_file(self._threads, partial(_create, self._registry, path), request.receive)
        except ClientGone:
            return Response(status_code=400)  # which nobody reads
        return _json({})

    async def delete(self, request: Request) -> Response:
        path = _path_of(request, "artifacts")
        await self._threads.run(partial(_delete, self._registry, path))
        return _json({})

    async def presign(self, request: Request) -> Response:
        _path_of(request, "presigned")
        return _unsupported(NO_PRESIGNED)

    async def refuse_multipart(self, action: str, request: Request) -> Response:
        if "path" in request.path_params:
            _path_of(request, f"mpu/{action}")
        _check_multipart(await read_body(request.receive, None, MAX_MULTIPART_BYTES))
        return _unsupported(NO_MULTIPART)

    async def get_of_run(self, request: Request) -> Response:
        run_id = _parameter(request, "run_id", "run_uuid")
        path = check_path(_parameter(request, "path"))
        run = await self._threads.run(partial(self._registry.tracking.get_run, run_id))
        return await self._download(request, _below(run.artifact_uri, path))

    async def get_of_version(self, request: Request) -> Response:
        name, version = _parameter(request, "name"), _parameter(request, "version")
        path = check_path(_parameter(request, "path"))
        uri = await self._threads.run(partial(self._registry.get_model_version_download_uri, name, version))
        return await self._download(request, _below(uri, path))

    async def _download(self, request: Request, path: str) -> Response:
        opened = partial(_opened, self._registry, path)
        return await send_file(self._threads, opened, path, request.method, request.headers)


# In threads


def _list(registry: ServedRegistry, folder: str) -> dict[str, Any]:
    files = [
        {"path": each.name, "is_dir": True} if each.is_folder else _file(each)
        for each in registry.artifacts.list_folder(folder)
    ]
    return {"files": files} if files else {}


def _file(entry: Entry) -> dict[str, Any]:
    return {"path": entry.name, "is_dir": False, "file_size": entry.size}


@contextmanager
def _create(registry: ServedRegistry, path: str) -> Iterator[Upload]:
    _refuse_protected(registry, path)
    with registry.artifacts.create(path) as upload:
        yield upload
        # Again: a version may have been made of the folder while the file was on its way.
        _refuse_protected(registry, path)


def _delete(registry: ServedRegistry, path: str) -> None:
    _refuse_protected(registry, path)
    registry.artifacts.delete(path)


def _refuse_protected(registry: ServedRegistry, path: str) -> None:
    if registry.protects(path):
        raise Protected(
            f"{shown(path)} belongs to a registered model version, whose files never change: delete the version "
            "first, or upload to another place"
        )


@contextmanager
def _opened(registry: ServedRegistry, path: str) -> Iterator[StoredFile]:
    store = registry.artifacts
    with ExitStack() as stack:
        try:
            file = stack.enter_context(store.opened(path))
        except NotFound:
            if store.list_folder(path):
                raise InvalidParameter(f"{shown(path)} is a folder: ask for the files in it one by one") from None
            raise
        yield file


# Reading requests


def _path_of(request: Request, route: str) -> str:
    """The path behind the route, decoded once from what was sent: in `scope["path"]` a `%2F` is a `/` already."""
    _, found, raw = request.scope["raw_path"].partition(f"/mlflow-artifacts/{route}/".encode())
    parts = [unquote_to_bytes(each) for each in raw.split(b"/")]
    if not found or any(b"/" in each for each in parts):
        raise InvalidParameter("invalid path: a '/' in it must not be percent-encoded")
    try:
        return check_path(b"/".join(parts).decode())
    except UnicodeDecodeError:
        raise InvalidParameter("invalid path: it must be UTF-8, percent-encoded") from None


def _parameter(request: Request, *names: str) -> str:
    """The one value that was given under one of the names."""
    given = [value for name in names for value in request.query_params.getlist(name)]
    if len(given) != 1:
        what = "Missing value for" if not given else "More than one value for"
        raise InvalidParameter(f"{what} required parameter '{names[0]}'.")
    return given[0]


def _below(uri: str, path: str) -> str:
    if not uri.startswith(STORE):
        raise InvalidParameter(f"the files lie at {shown(uri)}, where this server cannot read them")
    return check_path(f"{uri.removeprefix(STORE).strip('/')}/{path}")


def _check_upload(request: Request) -> None:
    """Refuse what would be stored as something else than what was meant."""
    if request.headers.get("content-encoding", "identity") not in {"", "identity"}:
        raise Encoded("a compressed upload would be stored as it comes: send the file without Content-Encoding")
    if "content-range" in request.headers:
        raise InvalidParameter("a part of a file cannot be uploaded: send the whole, without Content-Range")


def _check_multipart(body: bytes) -> None:
    try:
        given = msgspec.json.decode(body or b"{}")
    except (msgspec.DecodeError, RecursionError):
        raise InvalidParameter("the body of a multipart request must be JSON") from None
    path = given.get("path") if isinstance(given, dict) else None
    # The client names its own file here, which may be anywhere in its machine.
    if path is not None and (not isinstance(path, str) or ".." in unquote_to_bytes(path).decode("latin-1").split("/")):
        raise InvalidParameter(f"invalid path {shown(str(path))} in the body")


def _unsupported(message: str) -> Response:
    # No error of ours, which would be logged as a failure: the client asks, and then does without.
    return _json({"error_code": "NOT_IMPLEMENTED", "message": message}, 501)


def _json(body: dict[str, Any], status: int = 200) -> Response:
    headers = {"x-content-type-options": "nosniff"}
    return Response(msgspec.json.encode(body), status, headers, media_type="application/json")
