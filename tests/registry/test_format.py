"""The MLmodel file: what is read of it, and what is refused."""

from __future__ import annotations

import json

import pytest

from registry.errors import InvalidModel, InvalidParameter
from registry.models.format import read_mlmodel, write_mlmodel
from registry.models.signature import ModelSignature

FLAVORS = "flavors:\n  python_function:\n    loader_module: mlflow.sklearn\n"


def written(folder, text):
    (folder / "MLmodel").write_text(text)
    return folder


def test_what_is_written_is_read_again(tmp_path):
    """Flavors, signature, example and metadata survive a round trip."""
    signature = ModelSignature(inputs=[{"type": "double", "name": "a", "required": True}])
    flavors = {"python_function": {"loader_module": "mlflow.sklearn"}}

    write_mlmodel(
        tmp_path, flavors, signature=signature, example_info={"type": "dataframe"}, metadata={"k": [1]}, model_id="m-1"
    )

    mlmodel = read_mlmodel(tmp_path)
    assert mlmodel["flavors"] == flavors
    assert mlmodel["signature"] == {"inputs": signature.inputs, "outputs": None, "params": None}
    assert mlmodel["saved_input_example_info"] == {"type": "dataframe"}
    assert mlmodel["metadata"] == {"k": [1]}
    assert mlmodel["model_id"] == "m-1"


def test_the_signature_is_json_text_in_the_file(tmp_path):
    """MLflow wants each part of the signature as text."""
    write_mlmodel(tmp_path, {"python_function": {}}, signature=ModelSignature(inputs=[{"type": "long"}]))

    assert """inputs: '[{"type": "long"}]'""" in (tmp_path / "MLmodel").read_text()


def test_values_that_json_lacks_become_text(tmp_path):
    """Dates, bytes, sets and keys that are no text come out as JSON can say them."""
    text = FLAVORS + "metadata: {1: 2026-01-02, b: !!binary aGk=, c: !!set {x}}\n"

    metadata = read_mlmodel(written(tmp_path, text))["metadata"]

    assert metadata == {"1": "2026-01-02", "b": "aGk=", "c": ["x"]}
    json.dumps(metadata)


def bomb():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    return FLAVORS + "\n".join(lines)


def with_inputs(text):
    return f"{FLAVORS}signature: {{inputs: '{text}'}}"


HALF_COLUMNS = [
    '{"name": "a"}',
    '{"type": ["long"]}',
    '{"type": "long", "name": {}}',
    '{"type": "tensor"}',
    '{"type": "tensor", "tensor-spec": {"dtype": "int64", "shape": "3"}}',
    '{"type": "tensor", "tensor-spec": {"dtype": 64, "shape": [3]}}',
    '{"type": "array"}',
    '{"type": "array", "items": {"type": "map"}}',
    '{"type": "object", "properties": {"a": 1}}',
]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (FLAVORS + "x: !!python/object/apply:os.system ['true']\n", "not plain YAML"),
        (FLAVORS + "x: " + "[" * 100_000, "nests deeper"),
        (FLAVORS + "x: " + "[" * 200 + "]" * 200, "nests deeper"),
        (FLAVORS + "x: &x [*x]\n", "more than a model can need"),
        (bomb(), "more than a model can need"),
        (FLAVORS + "x: '" + "y" * (5 << 20) + "'", "bytes"),
        (FLAVORS + "x: [", "not plain YAML"),
        (FLAVORS + "x: \x00", "not plain YAML"),
        ("[]", "no flavors"),
        ("flavors: []", "no flavors"),
        ("", "no flavors"),
        (FLAVORS + "signature: 3", "not a mapping"),
        (FLAVORS + "signature: {inputs: '{'}", "not JSON"),
        (FLAVORS + "signature: {inputs: '{}'}", "not a list"),
        (FLAVORS + "signature: {inputs: '[3]'}", "not a list"),
        *((with_inputs(f"[{column}]"), "not a list") for column in HALF_COLUMNS),
        (with_inputs('[{"type":"array","items":' * 400 + "1" + "}]" * 400), "not a list|not JSON"),
        (
            with_inputs('[{"type": "long"}, {"type": "tensor", "tensor-spec": {"dtype": "x", "shape": []}}]'),
            "mixes tensors",
        ),
    ],
    ids=lambda value: value[-30:] if len(value) < 60 else value[:12],
)
def test_what_no_mlflow_writes_is_refused(tmp_path, text, reason):
    """Unsafe tags, expanding aliases, huge or broken files are an error with a reason, quickly."""
    with pytest.raises(InvalidModel, match=reason):
        read_mlmodel(written(tmp_path, text))


def test_a_link_is_no_mlmodel_file(tmp_path):
    """The file itself must lie in the directory."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "MLmodel").symlink_to(written(elsewhere, FLAVORS) / "MLmodel")

    with pytest.raises(InvalidModel, match="no file named MLmodel"):
        read_mlmodel(tmp_path)


def test_metadata_must_be_plain(tmp_path):
    """An object in the metadata is refused before anything is written."""
    with pytest.raises(InvalidParameter, match="plain values"):
        write_mlmodel(tmp_path, {}, metadata={"x": object()})

    assert not (tmp_path / "MLmodel").exists()
