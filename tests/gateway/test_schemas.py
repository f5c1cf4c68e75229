"""Schemas of requests: what a model takes is valid by them, and what it surely refuses is not."""

import json

import pytest
from openapi_schema_validator import OAS31Validator

from gateway.protocols import examples, schemas
from tests.gateway.v2 import column, tensor

PARAMS = [
    {"name": "k", "type": "long", "default": 1, "shape": None},
    {"name": "t", "type": "double", "default": float("nan"), "shape": None},
    {"name": "l", "type": "string", "default": ["a"], "shape": [-1]},
]
NESTED = [
    column("list", "array", items={"type": "array", "items": {"type": "long"}}),
    column("object", "object", properties={"a": {"type": "double", "required": True}}),
    column("map", "map", values={"type": "string"}),
    column("any", "any"),
]
SIGNATURES = [
    {},
    {"inputs": [column(kind, kind) for kind in schemas.COLUMNS], "params": PARAMS},
    {"inputs": NESTED},
    {"inputs": [column(None, "double"), column(None, "double")]},
    {"inputs": [tensor("float32", [-1, 2, 3])]},
    {"inputs": [tensor("float64", [-1, 2], "a"), tensor("str", [-1], "b")]},
    {"inputs": [column(None, "string")], "is_signature_from_type_hint": True},
    {"inputs": [column("\ud800", "double"), {**column("x", "double"), "name": 0}]},
]


@pytest.mark.parametrize("signature", SIGNATURES)
def test_schemas_are_schemas(signature):
    """Both are JSON, and by the draft that OpenAPI 3.1 uses."""
    for schema in (schemas.of_mlflow(signature), schemas.of_v2(signature)):
        json.dumps(schema, allow_nan=False)
        OAS31Validator.check_schema(schema)


@pytest.mark.parametrize("signature", SIGNATURES[:-2])
def test_a_request_made_of_the_signature_is_valid(tmp_path, signature):
    """In both protocols, as far as it has a form in them."""
    body = examples.of_mlflow(tmp_path, {}, signature)
    v2_body = examples.of_v2(body, signature)

    OAS31Validator(schemas.of_mlflow(signature)).validate(body)
    if v2_body is not None and v2_body["inputs"][0]["shape"] != [0]:
        OAS31Validator(schemas.of_v2(signature)).validate(v2_body)


@pytest.mark.parametrize(
    ("signature", "body"),
    [
        ({}, {}),
        ({}, {"dataframe_split": {"data": []}, "instances": []}),
        ({"inputs": [column("a", "long")]}, {"dataframe_records": [{"a": 1.5}]}),
        ({"inputs": [column("a", "long")]}, {"dataframe_records": [{"b": 1}]}),
        ({"inputs": [tensor("float32", [-1, 2])]}, {"inputs": [[1, 2, 3]]}),
        ({"inputs": [tensor("float32", [-1, 2])]}, {"dataframe_split": {"data": [[1, 2]]}}),
    ],
)
def test_what_a_model_refuses_is_not_valid(signature, body):
    """No form, two forms, another type, a missing column, another shape."""
    assert not OAS31Validator(schemas.of_mlflow(signature)).is_valid(body)
