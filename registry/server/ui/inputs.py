"""A form for a model's inputs, made from its signature and filled with its input example."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from registry.errors import InvalidParameter
from registry.names import shown
from registry.server.ui.contents import Contents

MOST_INPUTS = 60

NUMBERS = {"integer": int, "long": int, "float": float, "double": float}
OTHERS = {"boolean": str, "string": str, "datetime": str}


@dataclass(frozen=True, slots=True)
class Input:
    """One field of the form: a column of one row, or a param. *key* is its name among the form's fields."""

    key: str
    name: str | None
    kind: str
    is_required: bool
    value: str

    @property
    def label(self) -> str:
        return self.name if self.name is not None else self.key.replace("-", " ")

    def read(self, text: str) -> Any:
        """The value that was typed, None for nothing; raises `InvalidParameter`."""
        if text.strip() == "" and self.kind != "string":
            if self.is_required:
                raise InvalidParameter(f"{shown(self.label)} is missing: fill it in")
            return None
        if self.kind == "boolean":
            return text == "true"
        convert: Callable[[str], Any] = NUMBERS.get(self.kind, str)
        try:
            value = convert(text.strip() if self.kind != "string" else text)
        except ValueError:
            raise InvalidParameter(f"{shown(self.label)} must be a number ({self.kind}), got {shown(text)}") from None
        if isinstance(value, float) and not math.isfinite(value):
            raise InvalidParameter(f"{shown(self.label)} must be a finite number, got {shown(text)}")
        return value


@dataclass(frozen=True, slots=True)
class Inputs:
    """The fields of a form for one row and the params."""

    columns: Sequence[Input]
    params: Sequence[Input]

    def request(self, typed: Mapping[str, str]) -> bytes:
        """The row as MLflow's scoring protocol has it."""
        row = [each.read(typed.get(each.key, "")) for each in self.columns]
        names = [each.name for each in self.columns if each.name is not None]
        split: dict[str, Any] = {"columns": names} if len(names) == len(row) else {}
        params = {each.name: each.read(typed.get(each.key, "")) for each in self.params}
        given = {name: value for name, value in params.items() if value not in (None, "")}
        return msgspec.json.encode({"dataframe_split": split | {"data": [row]}} | ({"params": given} if given else {}))


def inputs_of(contents: Contents) -> Inputs | None:
    """None for what has no simple columns, or very many: it is asked for in JSON."""
    signature = contents.mlmodel.get("signature")
    columns = _dicts(signature.get("inputs")) if isinstance(signature, dict) else []
    if not 0 < len(columns) <= MOST_INPUTS:
        return None
    params = _dicts(signature.get("params")) if isinstance(signature, dict) else []
    example = _decoded(contents.request)
    found = [_column(each, number, _first_row(example)) for number, each in enumerate(columns)]
    if any(each.kind not in NUMBERS and each.kind not in OTHERS for each in found):
        return None
    given = example.get("params")
    return Inputs(
        found, [_param(each, number, given) for number, each in enumerate(params) if each.get("shape") is None]
    )


def _column(column: Mapping[str, Any], number: int, row: Mapping[str | int, Any]) -> Input:
    name = column.get("name")
    known = row.get(name, row.get(number)) if isinstance(name, str) else row.get(number)
    is_required = column.get("required") is not False
    return Input(
        f"column-{number}", name if isinstance(name, str) else None, str(column.get("type")), is_required, _text(known)
    )


def _param(param: Mapping[str, Any], number: int, given: object) -> Input:
    name = str(param.get("name"))
    value = given.get(name, param.get("default")) if isinstance(given, dict) else param.get("default")
    return Input(f"param-{number}", name, str(param.get("type")), False, _text(value))


def _first_row(example: Mapping[str, Any]) -> dict[str | int, Any]:
    """The first row of the input example, by the names of its columns and by their numbers."""
    split = example.get("dataframe_split")
    if isinstance(split, dict):
        rows, names = split.get("data"), split.get("columns")
        row = rows[0] if isinstance(rows, list) and rows and isinstance(rows[0], list) else []
        named = zip(names, row, strict=False) if isinstance(names, list) else ()
        return {**{name: value for name, value in named if isinstance(name, str)}, **dict(enumerate(row))}
    inputs = example.get("inputs")
    if isinstance(inputs, dict):
        return {name: value[0] if isinstance(value, list) and value else value for name, value in inputs.items()}
    return {}


def _decoded(text: str | None) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(text or "{}")
    except (msgspec.DecodeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _dicts(given: object) -> list[dict[str, Any]]:
    return [each for each in given if isinstance(each, dict)] if isinstance(given, list) else []


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)[:10_000] if isinstance(value, str | int | float) else ""
