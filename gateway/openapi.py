"""The gateway's OpenAPI document: every route, and for each endpoint and warm version what its model takes."""

from __future__ import annotations

from importlib.metadata import version as installed_version
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from gateway.endpoints import Endpoint, EndpointTable
from gateway.protocols import examples, schemas
from gateway.runtimes.base import Resolved
from gateway.servable import Servable

Json = dict[str, Any]

PLAIN = {
    "/ping": "Whether every endpoint has something to serve.",
    "/health": "The same as /ping.",
    "/version": "Turnout's version.",
    "/status": "What every endpoint serves.",
    "/metrics": "The same for Prometheus, and what was predicted.",
    "/openapi.json": "This document.",
    "/v2": "The server's name, version and extensions.",
    "/v2/health/live": "Whether the process answers.",
    "/v2/health/ready": "The same as /ping.",
}
TEXTS = ("/version", "/metrics")


class OpenApi:
    """Writes the document as the endpoints are at the moment; what it says of a version is made once."""

    def __init__(self, endpoints: EndpointTable) -> None:
        self._endpoints = endpoints
        self._versions: WeakKeyDictionary[Servable, _Bodies] = WeakKeyDictionary()

    def document(self) -> Json:
        """The whole of it."""
        paths: Json = {path: {"get": _plain(path, summary)} for path, summary in PLAIN.items()}
        default = self._endpoints.default
        if default is not None:
            body = self._primary(default).mlflow
            summary = f"Predict with {default.name}, in MLflow's protocol."
            paths["/invocations"] = {"post": _predict(default.name, "/invocations", summary, body, "Predictions")}
        for endpoint in self._endpoints:
            paths |= self._of_endpoint(endpoint)
        return {
            "openapi": "3.1.0",
            "info": {
                "title": "Turnout's gateway",
                "version": installed_version("turnout"),
                "description": "MLflow's scoring protocol and the Open Inference Protocol v2, for each endpoint.",
            },
            "paths": paths,
            "components": {"schemas": SCHEMAS},
        }

    def _of_endpoint(self, endpoint: Endpoint) -> Json:
        name, split = endpoint.name, endpoint.split
        scoring, model = f"/endpoints/{name}", f"/v2/models/{name}"
        paths = {
            **_predictions(name, scoring, model, self._primary(endpoint), "with what it serves"),
            **_metadata(name, model),
        }
        for servable, role, _ in [] if split is None else split.shares():
            pinned = f"/versions/{servable.resolved.label}"
            summary = f"with version {servable.resolved.label}, the {role}"
            paths |= _predictions(name, scoring + pinned, model + pinned, self._bodies(servable), summary)
            paths |= _metadata(name, model + pinned)
        return paths

    def _primary(self, endpoint: Endpoint) -> _Bodies:
        """Of what is not loaded nothing is known."""
        return UNKNOWN if endpoint.split is None else self._bodies(endpoint.split.primary)

    def _bodies(self, servable: Servable) -> _Bodies:
        found = self._versions.get(servable)
        if found is None:
            found = self._versions[servable] = _Bodies.of(servable.resolved)
        return found


class _Bodies(NamedTuple):
    """What one version's requests look like, in each of the protocols."""

    mlflow: Json
    v2: Json

    @classmethod
    def of(cls, resolved: Resolved) -> _Bodies:
        signature = resolved.signature or {}
        example = examples.of_mlflow(resolved.path, resolved.mlmodel, signature)
        v2_example = examples.of_v2(example, signature)
        return cls(_json(schemas.of_mlflow(signature), example), _json(schemas.of_v2(signature), v2_example))


def _predictions(tag: str, scoring: str, model: str, bodies: _Bodies, summary: str) -> Json:
    scoring, model = f"{scoring}/invocations", f"{model}/infer"
    mlflow = _predict(tag, scoring, f"Predict {summary}, in MLflow's protocol.", bodies.mlflow, "Predictions")
    v2 = _predict(tag, model, f"Predict {summary}, in the Open Inference Protocol.", bodies.v2, "Inference")
    return {scoring: {"post": mlflow}, model: {"post": v2}}


def _predict(tag: str, path: str, summary: str, body: Json, answer: str) -> Json:
    answered = {"description": "The model's answer.", "content": _json({"$ref": f"#/components/schemas/{answer}"})}
    return {
        "operationId": _operation_id("post", path),
        "tags": [tag],
        "summary": summary,
        "requestBody": {"required": True, "content": body},
        "responses": {"200": answered, **FAILURES},
    }


def _metadata(tag: str, model: str) -> Json:
    return {
        model: {"get": _told(tag, model, "What it takes and returns.")},
        f"{model}/ready": {"get": _told(tag, f"{model}/ready", "Whether it is up.")},
    }


def _told(tag: str, path: str, summary: str) -> Json:
    return {"operationId": _operation_id("get", path), "tags": [tag], "summary": summary, "responses": _answers("JSON")}


def _plain(path: str, summary: str) -> Json:
    kind = "JSON" if path not in TEXTS else "Text"
    return {"operationId": _operation_id("get", path), "summary": summary, "responses": _answers(kind)}


def _answers(kind: str) -> Json:
    content = _json({"type": "object"}) if kind == "JSON" else {"text/plain": {"schema": {"type": "string"}}}
    return {"200": {"description": "Yes.", "content": content}, **FAILURES}


def _json(schema: Json, example: Json | None = None) -> Json:
    return {"application/json": {"schema": schema} | ({"example": example} if example is not None else {})}


def _operation_id(method: str, path: str) -> str:
    """Unique, and made of what a generator of clients can make a name of; no two endpoints differ in `-` alone."""
    return method + "".join(f"_{ord(each)}_" if each in ".-" else each if each.isalnum() else "_" for each in path)


def _failed(description: str) -> Json:
    return {"description": description, "content": _json({"$ref": "#/components/schemas/Error"})}


UNKNOWN = _Bodies(_json(schemas.of_mlflow({})), _json(schemas.of_v2({})))
FAILURES: Json = {"4XX": _failed("Refused."), "5XX": _failed("Not at this moment.")}
SCHEMAS: Json = {
    "Error": {
        "type": "object",
        "required": ["error_code", "message"],
        "properties": {
            "error_code": {"type": "string"},
            "message": {"type": "string"},
            "error": {"type": "string", "description": "The message once more, below /v2."},
        },
    },
    "Predictions": {"type": "object", "properties": {"predictions": {}}},
    "Inference": {
        "type": "object",
        "required": ["model_name", "model_version", "outputs"],
        "properties": {
            "model_name": {"type": "string"},
            "model_version": {"type": "string"},
            "id": {"type": "string"},
            "outputs": {"type": "array", "items": schemas.ANY_INPUT},
        },
    },
}
