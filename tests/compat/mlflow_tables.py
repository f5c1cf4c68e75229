"""Runs under mlflow's interpreter: what mlflow does with every row of the tables, as JSON."""

import json
import logging
import sys
import warnings

import cases
from mlflow.models import ModelSignature, infer_signature
from mlflow.models.utils import _enforce_params_schema, _enforce_schema
from mlflow.types.schema import ParamSchema, Schema

logging.disable(logging.WARNING)
warnings.simplefilter("ignore")


def enforce_inputs(data, columns):
    return _enforce_schema(data, Schema.from_json(json.dumps(columns)))


def enforce_params(params, schema):
    return _enforce_params_schema(params, ParamSchema.from_json(json.dumps(schema)))


def infer(example, params):
    signature: ModelSignature = infer_signature(example, params=params)
    return {name: value and json.loads(value) for name, value in signature.to_dict().items()}


sys.stdout.write(cases.main(enforce_inputs, enforce_params, infer))
