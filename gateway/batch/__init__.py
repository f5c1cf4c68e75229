"""Batch prediction of a file, with the replicas of the gateway and without HTTP."""

FORMATS = ("csv", "jsonl", "parquet")
