"""Data as the real mlflow client writes it: run by an environment that has mlflow, with an address and a count of runs.

Prints one JSON object that names what was written. The model of the first run is registered.
"""

import json
import struct
import sys
import tempfile
import zlib
from pathlib import Path

import mlflow
import numpy
import pandas
from mlflow.models import infer_signature
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge

HOSTILE = "<script>document.title='stolen'</script>"
IS_2 = mlflow.__version__.startswith("2.")


def png(width: int = 240, height: int = 160) -> bytes:
    """A picture of two shades that meet on a diagonal."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = [bytes([0]) + bytes(200 if x * height > y * width else 90 for x in range(width)) for y in range(height)]
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    packed = zlib.compress(b"".join(rows))
    return bytes.fromhex("89504e470d0a1a0a") + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def log_artifacts() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "plots").mkdir()
        (folder / "plots" / "residuals.png").write_bytes(png())
        (folder / "page.html").write_text(f"<h1>Report</h1>{HOSTILE}")
        (folder / "drawing.svg").write_text(f'<svg xmlns="http://www.w3.org/2000/svg">{HOSTILE}</svg>')
        (folder / "notes.txt").write_text("Ridge on the diabetes set.\n" * 3)
        pandas.DataFrame({"feature": ["bmi", "bp"], "weight": [519.8, 324.4]}).to_csv(
            folder / "weights.csv", index=False
        )
        (folder / "weights.bin").write_bytes(numpy.arange(300, dtype="float64").tobytes())
        mlflow.log_artifacts(name)


def train(alpha: float, registered_as: str | None) -> tuple[str, str]:
    """One run with params, metrics and their history, tags, artifacts and a model; its id and the model's."""
    data, target = load_diabetes(return_X_y=True, as_frame=True)
    with mlflow.start_run(run_name=f"ridge-{alpha}") as run:
        model = Ridge(alpha=alpha).fit(data, target)
        mlflow.log_params({"alpha": alpha, "solver": "auto"})
        for step in range(20):
            mlflow.log_metric("loss", 100 / (step + 1) + alpha, step=step)
        mlflow.log_metric("r2", model.score(data, target))
        mlflow.set_tag("team", "risk")
        signature = infer_signature(data, model.predict(data))
        place = {"artifact_path": "model"} if IS_2 else {"name": "model"}
        info = mlflow.sklearn.log_model(
            model,
            **place,
            signature=signature,
            input_example=data.head(2),
            registered_model_name=registered_as,
            pip_requirements=["scikit-learn"],  # given, so that no process has to find them out
        )
        log_artifacts()
    return run.info.run_id, getattr(info, "model_id", None) or ""


def main(address: str, count: int) -> None:
    mlflow.set_tracking_uri(address)
    experiment = mlflow.set_experiment("diabetes").experiment_id
    runs = [train(10.0**number, None if number else "risk") for number in range(count)]
    written = {"experiment": experiment, "runs": [each[0] for each in runs], "models": [each[1] for each in runs]}
    print(json.dumps(written))


main(sys.argv[1], int(sys.argv[2]))
