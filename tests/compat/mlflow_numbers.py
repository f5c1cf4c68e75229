"""Run by a real mlflow: log odd numbers to the server at argv[1], read them back, print what came."""

import json
import math
import sys

from mlflow import MlflowClient

NUMBERS = {"nan": math.nan, "infinity": math.inf, "negative": -math.inf, "tiny": 5e-324, "whole": 3.0}

client = MlflowClient(sys.argv[1])
run = client.create_run("0")
for key, value in NUMBERS.items():
    client.log_metric(run.info.run_id, key, value, timestamp=1, step=2)
latest = client.get_run(run.info.run_id).data.metrics
found = {
    "latest": {key: repr(latest[key]) for key in NUMBERS},
    "history": {key: repr(client.get_metric_history(run.info.run_id, key)[0].value) for key in NUMBERS},
}
print(json.dumps(found))
