"""Runs under mlflow's interpreter: goes through the workflow and writes what each step observed.

Arguments: a folder to work in, `all` or `requests` (leave out the steps that start processes), and the addresses of
one server, or of several that share a database: each step then goes to the next of them.
"""

import itertools
import json
import logging
import os
import sys
import time
import traceback
import warnings
from pathlib import Path

import mlflow

from .session import Session, plain
from .steps import in_order


def run_steps(session, uris, wanted):
    observed = {}
    addresses = itertools.cycle(uris)
    for name, step in in_order():
        if session.major not in step.majors or (step.starts_processes and wanted == "requests"):
            continue
        session.use(next(addresses))
        began = time.monotonic()
        try:
            observed[name] = plain(step.act(session))
        except Exception:
            observed[name] = {"failed": traceback.format_exc()}
        print(f"{time.monotonic() - began:6.2f} s  {name}", flush=True)
    return observed


def main():
    folder, wanted, *uris = sys.argv[1:]
    os.chdir(folder)
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    observed = run_steps(Session(mlflow, Path(folder)), uris, wanted)
    Path(folder, "observed.json").write_text(json.dumps(observed, indent=1))


if __name__ == "__main__":
    main()
