"""The baseline: the FastAPI app that a competent engineer writes by hand for one scikit-learn model."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pandas as pd
from fastapi import FastAPI
from pydantic import BaseModel

model = pickle.loads(Path(os.environ["MODEL_FILE"]).read_bytes())
app = FastAPI()


class Table(BaseModel):
    columns: list[str]
    data: list[list[float]]


class PredictionRequest(BaseModel):
    dataframe_split: Table


class PredictionResponse(BaseModel):
    predictions: list[float]


@app.get("/ping")
def ping() -> str:
    return "ok"


@app.post("/invocations")
def predict(request: PredictionRequest) -> PredictionResponse:
    table = request.dataframe_split
    frame = pd.DataFrame(table.data, columns=table.columns)
    return PredictionResponse(predictions=model.predict(frame).tolist())
