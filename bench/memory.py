"""What Turnout costs at rest: memory of the ingress, of each further endpoint, time of `import registry`.

Exits 1 when a bound is missed.
"""

from __future__ import annotations

import place  # noqa: F401  # before anything that imports the product

# isort: split

import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import click
import models
from load import Load, run
from processes import mapped_files, of_session, pss_mb, rss_mb, total_pss_mb
from servers import ROOT, Endpoint, Server, registry_uri, turnout
from verdicts import Verdicts

import registry

MAX_INGRESS_MB = 80.0
MAX_ENDPOINT_MB = 15.0
MAX_IMPORT_S = 0.2
NEVER_IN_THE_INGRESS = ("pandas", "sklearn")
TIMED_IMPORT = "from time import perf_counter as t; s = t(); import registry; print(t() - s)"


def register(folder: Path, count: int) -> list[Endpoint]:
    """As many registered models, each with a version of its own, and an endpoint for each."""
    client = registry.connect(registry_uri(folder))
    endpoints = []
    for number in range(count):
        directory, name = folder / f"model{number}", f"bench{number}"
        models.save(directory, models.linear(shift=float(number)))
        registry.register_model(str(directory), name, client=client)
        client.set_registered_model_alias(name, "champion", 1)
        endpoints.append(Endpoint(name, f"models:/{name}@champion"))
    return endpoints


def use(server: Server, endpoints: list[Endpoint]) -> None:
    """Ask every endpoint a few hundred times, so that the pages that serving touches are there."""
    for number, endpoint in enumerate(endpoints):
        expected = {"1": models.predictions(models.linear(shift=float(number)), 1)}
        load = Load(
            port=server.port, path=f"/endpoints/{endpoint.name}/invocations", body=models.request_body(1),
            connections=8, seconds=0.5, expected=expected,
        )  # fmt: skip
        result = run(load)
        if result.failures or not result.answered:
            raise SystemExit(f"{endpoint.name}: {result.errors} {result.samples}\n{server.log_tail}")


def import_seconds(times: int) -> float:
    """Median time of `import registry` in a new interpreter."""
    taken = []
    for _ in range(times):
        command = [sys.executable, "-c", TIMED_IMPORT]
        taken.append(float(subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout))
    return median(taken)


def total_with(folder: Path, endpoints: list[Endpoint]) -> float:
    """PSS of every process of a gateway that serves *endpoints*."""
    with turnout(folder, endpoints) as server:
        use(server, endpoints)
        pid = server.process.pid
        print(f"        {len(endpoints)} endpoints: ", end="")
        print(", ".join(f"{pss_mb(each):.1f}" for each in sorted(of_session(pid))), "MB PSS by process")
        return total_pss_mb(pid)


@click.command(help=__doc__)
@click.option("--further", default=10, show_default=True, help="How many endpoints to add to the first.")
@click.option("--imports", default=7, show_default=True, help="How often the import is timed.")
def main(further: int, imports: int) -> None:
    verdicts = Verdicts()
    with tempfile.TemporaryDirectory(prefix="turnout-bench-") as name:
        folder = Path(name)
        endpoints = register(folder, 1 + further)
        with turnout(folder, endpoints[:1]) as server:
            use(server, endpoints[:1])
            ingress = server.process.pid
            rss, pss, mapped = rss_mb(ingress), pss_mb(ingress), mapped_files(ingress)
        one, many = total_with(folder, endpoints[:1]), total_with(folder, endpoints)
    verdicts.check(rss < MAX_INGRESS_MB, f"ingress: {rss:.1f} MB RSS ({pss:.1f} PSS) < {MAX_INGRESS_MB:.0f}")
    for library in NEVER_IN_THE_INGRESS:
        found = [each for each in mapped if f"/{library}/" in each]
        verdicts.check(not found, f"ingress: {len(found)} files of {library} mapped, none wanted {found[:1]}")
    each = (many - one) / further
    verdicts.check(each < MAX_ENDPOINT_MB, f"a further endpoint: {each:.1f} MB PSS < {MAX_ENDPOINT_MB:.0f}")
    seconds = import_seconds(imports)
    verdicts.check(seconds < MAX_IMPORT_S, f"import registry: {seconds:.3f} s < {MAX_IMPORT_S}")
    sys.exit(verdicts.finish())


if __name__ == "__main__":
    main()
