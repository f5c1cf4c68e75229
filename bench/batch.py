"""A file of rows, predicted by `turnout predict` and by the script that one would write by hand, in turns.

The script reads CSV with pandas in chunks, calls the model, and appends the predictions to a file: no signature, no
process of its own for the model, nothing to go on from. Prints rows per second and ratios, start-up included, and
exits 1 when an answer differs.
"""

from __future__ import annotations

import place  # noqa: F401  # before anything that imports the product

# isort: split

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import click
import models
import numpy
import pandas
from servers import ROOT
from verdicts import Verdicts

SCRIPT = """
import sys

import pandas
import registry

model, source, target, rows = sys.argv[1:]
estimator = registry.load_model(model).unwrap_python_model()
for at, chunk in enumerate(pandas.read_csv(source, chunksize=int(rows))):
    answer = pandas.DataFrame({"prediction": estimator.predict(chunk)})
    answer.to_csv(target, mode="a" if at else "w", header=not at, index=False)
"""
KINDS = {"linear": models.linear, "forest": models.forest}


def write_rows(folder: Path, rows: int) -> None:
    """The data again and again, in both formats."""
    times = -(-rows // len(models.FEATURES))
    frame = pandas.concat([models.FEATURES] * times, ignore_index=True).head(rows)
    frame.to_csv(folder / "rows.csv", index=False)
    frame.to_parquet(folder / "rows.parquet", index=False)


def by_hand(folder: Path, chunk_rows: int) -> list[str]:
    """The script as a command."""
    return [sys.executable, "-c", SCRIPT, str(folder / "model"), "rows.csv", "by-hand.csv", str(chunk_rows)]


def by_turnout(folder: Path, chunk_rows: int, replicas: int, ending: str) -> list[str]:
    """`turnout predict` as a command."""
    output = f"turnout-{ending}-{replicas}.{ending}"
    return [
        *(sys.executable, "-m", "gateway", "predict", "-m", str(folder / "model"), "--cache", str(folder / "cache")),
        *("-i", f"rows.{ending}", "-o", output, "--overwrite", "--chunk-rows", str(chunk_rows)),
        *("--replicas", str(replicas)),
    ]


def seconds(command: Sequence[str], folder: Path) -> float:
    """How long a command takes from its start to its end."""
    begun = time.perf_counter()
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(folder), "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise SystemExit(ran.stderr)
    return time.perf_counter() - begun


def differences(folder: Path) -> int:
    """How many answers of all the files are not those of the script, to the last bit."""
    wanted = pandas.read_csv(folder / "by-hand.csv")["prediction"].to_numpy()
    count = 0
    for path in folder.glob("turnout-*"):
        frame = pandas.read_csv(path) if path.suffix == ".csv" else pandas.read_parquet(path)
        count += int(numpy.sum(frame["prediction"].to_numpy() != wanted))
    return count


def measure(folder: Path, rows: int, chunk_rows: int, rounds: int) -> None:
    """Run all of them in turns, and print the medians."""
    contenders = {"by hand, CSV": by_hand(folder, chunk_rows)}
    for ending in ("csv", "parquet"):
        for replicas in (1, 2):
            contenders[f"turnout, {ending}, --replicas {replicas}"] = by_turnout(folder, chunk_rows, replicas, ending)
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, command in contenders.items():
            taken[name].append(seconds(command, folder))
    [first, *_] = taken.values()
    for name, times in taken.items():
        ratio = median(hand / own for hand, own in zip(first, times, strict=True))
        print(f"        {name:28} {rows / median(times):12,.0f} rows/s {ratio:8.2f} times the script", flush=True)


@click.command(help=__doc__)
@click.option("--rows", default=1_000_000, show_default=True, help="How many rows the file has.")
@click.option("--chunk-rows", default=10_000, show_default=True, help="How many are read at a time, by all.")
@click.option("--rounds", default=5, show_default=True, help="How often each of them runs.")
@click.option("--model", "kinds", multiple=True, type=click.Choice(list(KINDS)), default=list(KINDS), help="Only this.")
def main(rows: int, chunk_rows: int, rounds: int, kinds: Sequence[str]) -> None:
    verdicts = Verdicts()
    for kind in kinds:
        with tempfile.TemporaryDirectory(prefix="turnout-bench-") as name:
            folder = Path(name)
            models.save(folder / "model", KINDS[kind]())
            write_rows(folder, rows)
            print(f"{kind}: {rows:,} rows", flush=True)
            measure(folder, rows, chunk_rows, rounds)
            count = differences(folder)
            verdicts.check(not count, f"{kind}: {count} answers differ from the script's")
    sys.exit(verdicts.finish())


if __name__ == "__main__":
    main()
