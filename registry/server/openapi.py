"""The OpenAPI document of every JSON route, from one table of the fields that each one reads."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from importlib.metadata import version as installed_version
from typing import Any

Json = dict[str, Any]

# The fields beside those in the path: `name` is text, `name:kind` something else, and with `!` it is required.
MLFLOW_FIELDS: Mapping[tuple[str, str], str] = {
    ("POST", "registered-models/create"): "name! tags:tags description",
    ("GET", "registered-models/get"): "name!",
    ("GET", "registered-models/search"): "filter max_results:integer order_by:texts page_token",
    ("POST", "registered-models/rename"): "name! new_name!",
    ("PATCH", "registered-models/update"): "name! description",
    ("DELETE", "registered-models/delete"): "name!",
    ("POST", "registered-models/get-latest-versions"): "name! stages:texts",
    ("GET", "registered-models/get-latest-versions"): "name! stages:texts",
    ("POST", "registered-models/set-tag"): "name! key! value",
    ("DELETE", "registered-models/delete-tag"): "name! key!",
    ("POST", "registered-models/alias"): "name! alias! version!",
    ("DELETE", "registered-models/alias"): "name! alias!",
    ("GET", "registered-models/alias"): "name! alias!",
    ("POST", "model-versions/create"): "name! source! run_id tags:tags run_link description model_id",
    ("GET", "model-versions/get"): "name! version!",
    ("GET", "model-versions/get-download-uri"): "name! version!",
    ("GET", "model-versions/search"): "filter max_results:integer order_by:texts page_token",
    ("PATCH", "model-versions/update"): "name! version! description",
    ("POST", "model-versions/transition-stage"): "name! version! stage! archive_existing_versions:boolean",
    ("DELETE", "model-versions/delete"): "name! version!",
    ("POST", "model-versions/set-tag"): "name! version! key! value",
    ("DELETE", "model-versions/delete-tag"): "name! version! key!",
    ("POST", "experiments/create"): "name! artifact_location tags:tags",
    ("GET", "experiments/get"): "experiment_id!",
    ("GET", "experiments/get-by-name"): "experiment_name!",
    ("GET", "experiments/search"): "view_type max_results:integer filter order_by:texts page_token",
    ("POST", "experiments/search"): "view_type max_results:integer filter order_by:texts page_token",
    ("POST", "experiments/update"): "experiment_id! new_name!",
    ("POST", "experiments/delete"): "experiment_id!",
    ("POST", "experiments/restore"): "experiment_id!",
    ("POST", "experiments/set-experiment-tag"): "experiment_id! key! value",
    ("POST", "experiments/delete-experiment-tag"): "experiment_id! key!",
    ("POST", "runs/create"): "experiment_id! user_id run_name start_time:integer tags:tags",
    ("GET", "runs/get"): "run_id run_uuid",
    ("POST", "runs/update"): "run_id run_uuid status end_time:integer run_name",
    ("POST", "runs/delete"): "run_id!",
    ("POST", "runs/restore"): "run_id!",
    ("POST", "runs/search"): (
        "experiment_ids:texts filter run_view_type max_results:integer order_by:texts page_token"
    ),
    ("POST", "runs/log-metric"): (
        "run_id run_uuid key! value:number! timestamp:integer! step:integer model_id dataset_name dataset_digest"
    ),
    ("POST", "runs/log-parameter"): "run_id run_uuid key! value",
    ("POST", "runs/set-tag"): "run_id run_uuid key! value",
    ("POST", "runs/delete-tag"): "run_id run_uuid key!",
    ("POST", "runs/log-batch"): "run_id! metrics:metrics params:tags tags:tags",
    ("POST", "runs/log-inputs"): "run_id! datasets:objects models:objects",
    ("POST", "runs/log-model"): "run_id! model_json!",
    ("POST", "runs/outputs"): "run_id! models:links",
    ("GET", "metrics/get-history"): "run_id run_uuid metric_key! max_results:integer page_token",
    ("GET", "artifacts/list"): "run_id run_uuid path",
    ("POST", "logged-models"): "experiment_id! name source_run_id tags:tags params:tags model_type",
    ("POST", "logged-models/search"): ("experiment_ids:texts filter max_results:integer order_by:orders page_token"),
    ("GET", "logged-models/{model_id}"): "",
    ("PATCH", "logged-models/{model_id}"): "status!",
    ("DELETE", "logged-models/{model_id}"): "",
    ("PATCH", "logged-models/{model_id}/tags"): "tags:tags",
    ("DELETE", "logged-models/{model_id}/tags/{tag_key}"): "",
    ("POST", "logged-models/{model_id}/params"): "params:tags",
    ("GET", "logged-models/{model_id}/artifacts/directories"): "artifact_directory_path",
    ("POST", "webhooks"): "name! url! events:events! description secret status",
    ("GET", "webhooks"): "max_results:integer page_token",
    ("GET", "webhooks/{webhook_id}"): "",
    ("PATCH", "webhooks/{webhook_id}"): "name url events:events description secret status",
    ("DELETE", "webhooks/{webhook_id}"): "",
    ("POST", "webhooks/{webhook_id}/test"): "event:event",
}

_ALIAS = "registered-models/{name}/aliases/{alias}"

TURNOUT_FIELDS: Mapping[tuple[str, str], str] = {
    ("GET", ""): "",
    ("PUT", _ALIAS): "version:version! expected_version:version reason",
    ("DELETE", _ALIAS): "expected_version:version reason",
    ("GET", _ALIAS): "at",
    ("GET", f"{_ALIAS}/history"): "max_results:integer page_token",
    ("POST", f"{_ALIAS}/rollback"): "expected_version:version reason",
    ("GET", "registered-models/{name}/versions/{version}/manifest"): "",
    ("PUT", "gateways/{id}"): (
        "address interval_s:number endpoints:objects endpoints_left_out:integer counters:object "
        "latency_bounds_s:numbers latencies:object"
    ),
    ("GET", "gateways"): "",
}

PROBE_FIELDS: Mapping[tuple[str, str], str] = {("GET", "server-info"): ""}


def _list_of(items: Json) -> Json:
    return {"type": "array", "items": items}


def _object(**fields: Json) -> Json:
    return {"type": "object", "properties": fields}


_TEXT: Json = {"type": "string"}
_INTEGER: Json = {"type": "integer", "format": "int64"}
_EVENT = _object(entity=_TEXT, action=_TEXT) | {"required": ["entity", "action"]}
_METRIC = _object(key=_TEXT, value={"type": "number"}, timestamp=_INTEGER, step=_INTEGER, model_id=_TEXT)
_KINDS: Mapping[str, Json] = {
    "text": _TEXT,
    "integer": _INTEGER,
    "number": {"type": "number"},
    "boolean": {"type": "boolean"},
    "texts": _list_of(_TEXT),
    "tags": _list_of(_object(key=_TEXT, value=_TEXT) | {"required": ["key"]}),
    "metrics": _list_of(_METRIC | {"required": ["key", "value", "timestamp"]}),
    "links": _list_of(_object(model_id=_TEXT, step=_INTEGER) | {"required": ["model_id"]}),
    "orders": _list_of(_object(field_name=_TEXT, ascending={"type": "boolean"}) | {"required": ["field_name"]}),
    "event": _EVENT,
    "events": _list_of(_EVENT),
    "version": {"type": ["integer", "string"]},
    "object": {"type": "object"},
    "numbers": _list_of({"type": "number"}),
    "objects": _list_of({"type": "object"}),
}
_ERROR = _object(error_code=_TEXT, message=_TEXT) | {"required": ["error_code", "message"]}
_NO_BODY = frozenset({"GET"})


def document(prefix: str) -> Json:
    """The whole of it, for a server whose paths begin with *prefix*."""
    paths: dict[str, Json] = {}
    for base, routes in (
        ("/api/2.0/mlflow/", MLFLOW_FIELDS),
        ("/api/3.0/mlflow/", PROBE_FIELDS),
        ("/api/turnout/v1/", TURNOUT_FIELDS),
    ):
        for (method, path), fields in routes.items():
            paths.setdefault(prefix + base + path, {})[method.lower()] = _operation(method, base + path, fields)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Turnout's registry server",
            "version": installed_version("turnout"),
            "description": "MLflow's REST API, also below /ajax-api, and Turnout's own. Fields may be in camelCase.",
        },
        "paths": paths,
        "components": {"schemas": {"Error": _ERROR}},
    }


def _operation(method: str, path: str, fields: str) -> Json:
    declared = [_declared(each) for each in fields.split()]
    parameters = [_parameter(name, "path", _TEXT, True) for name in re.findall(r"{(\w+)}", path)]
    operation: Json = {
        "operationId": re.sub(r"\W+", "_", f"{method}{path}").strip("_"),
        "tags": [path.split("/")[4] or "api"],
        "responses": {
            "200": {"description": "Done.", "content": {"application/json": {"schema": {"type": "object"}}}},
            "4XX": _failed("Refused."),
            "503": _failed("Try again later."),
        },
    }
    if method in _NO_BODY:
        parameters += [_parameter(name, "query", schema, required) for name, schema, required in declared]
    elif declared or method in ("POST", "PUT"):
        schema = _body(declared)
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    return operation | ({"parameters": parameters} if parameters else {})


def _declared(text: str) -> tuple[str, Json, bool]:
    name, _, kind = text.rstrip("!").partition(":")
    return name, _KINDS[kind or "text"], text.endswith("!")


def _parameter(name: str, place: str, schema: Json, required: bool) -> Json:
    return {"name": name, "in": place, "required": required, "schema": schema}


def _body(declared: Iterable[tuple[str, Json, bool]]) -> Json:
    fields = list(declared)
    required = [name for name, _, is_required in fields if is_required]
    body = _object(**{name: schema for name, schema, _ in fields})
    return body | ({"required": required} if required else {})


def _failed(description: str) -> Json:
    reference = {"$ref": "#/components/schemas/Error"}
    return {"description": description, "content": {"application/json": {"schema": reference}}}
