"""LitServe as its documentation shows it: one model, one worker, MLflow's request body."""

import os
import pickle
from pathlib import Path
from typing import Any

import litserve
import pandas as pd


class Predictions(litserve.LitAPI):
    """Loads the pickled model in the worker and predicts on a DataFrame."""

    def setup(self, device: str) -> None:
        self.model = pickle.loads(Path(os.environ["MODEL_FILE"]).read_bytes())

    def decode_request(self, request):  # LitServe makes a query parameter of what it finds annotated
        return pd.DataFrame(**request["dataframe_split"])

    def predict(self, x: pd.DataFrame) -> Any:
        return self.model.predict(x)

    def encode_response(self, output: Any) -> dict[str, Any]:
        return {"predictions": output.tolist()}


if __name__ == "__main__":
    api = Predictions(api_path="/invocations")
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, healthcheck_path="/ping")
    server.run(
        host="127.0.0.1", port=int(os.environ["PORT"]), num_api_servers=1, generate_client_file=False,
        log_level="warning",
    )  # fmt: skip
