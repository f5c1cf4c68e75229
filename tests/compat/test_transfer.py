"""Moving in from a stock MLflow server, and out to one: complete, repeatable, and resumed after a cut."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

import registry
from registry.connection import connect
from registry.names import DIGEST_TAG
from registry.tracking import Metric
from tests.compat.servers import REPOSITORY, stock_server, turnout_server
from tests.registry.between import CHUNK, Between

pytestmark = [pytest.mark.compat, pytest.mark.timeout(300)]

BIG_BYTES = 20_000_000
CUT_AT_BYTES = 5_000_000


@dataclass(frozen=True)
class Moved:
    """What a command did."""

    status: int
    said: str
    told: dict[str, Any]


class Narrow(Between):
    """A relay that stops in the middle: after so many bytes in both directions nothing goes on."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._bytes_up = 0
        self.is_full = threading.Event()
        self._is_over = threading.Event()
        super().__init__(target)

    def close(self) -> None:
        super().close()
        self._is_over.set()

    def _pump_up(self, client, server) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(CHUNK):
                self._bytes_up += len(data)
                self._wait_when_full()
                server.sendall(data)

    def _pump_down(self, server, client, left) -> None:
        while data := server.recv(CHUNK):
            self.bytes_down += len(data)
            self._wait_when_full()
            client.sendall(data)

    def _wait_when_full(self) -> None:
        if self.bytes_down + self._bytes_up > CUT_AT_BYTES:
            self.is_full.set()
            self._is_over.wait()


def arguments(direction: str, address: str, registry_uri: str, *more: str) -> list[str]:
    return [sys.executable, "-m", "gateway", direction, "mlflow", address, "--registry-uri", registry_uri, *more]


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(REPOSITORY), "TURNOUT_ACTOR": "ana"}


def move(direction: str, address: str, registry_uri: str, *more: str) -> Moved:
    command = arguments(direction, address, registry_uri, "--json", *more)
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False, timeout=200)
    return Moved(done.returncode, done.stderr, json.loads(done.stdout or "{}"))


def ask(python: Path, what: str, address: str, folder: Path) -> dict[str, Any]:
    """Run the script under mlflow's interpreter."""
    folder.mkdir(exist_ok=True)
    script = Path(__file__).parent / "mlflow_moving.py"
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
    done = subprocess.run(
        [python, "-W", "ignore", script, what, address, folder],
        capture_output=True, text=True, check=False, env=os.environ | quiet,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    told = folder / "told.json"
    return json.loads(told.read_text()) if told.exists() else {}


def ask_ours(python: Path, folder: Path) -> dict[str, Any]:
    """What the real client sees of the registry in a folder."""
    with turnout_server(folder, uri_in(folder)) as address:
        return ask(python, "tell", address, folder / "client")


def uri_in(folder: Path) -> str:
    return f"sqlite:///{folder}/turnout.db"


def files_below(folder: Path) -> dict[str, str]:
    files = (each for each in folder.rglob("*") if each.is_file())
    return {str(each.relative_to(folder)): sha256(each.read_bytes()).hexdigest() for each in files}


def without(told: dict[str, Any], *left_out: str) -> dict[str, Any]:
    """The models without the tag that we compute, and without some other keys."""
    for model in told["models"].values():
        for version in model["versions"]:
            for key in (DIGEST_TAG, *left_out):
                version["tags"].pop(key, None)
    return told


@pytest.fixture(scope="module")
def stock(mlflow3, tmp_path_factory) -> Iterator[tuple[str, Path]]:
    """The address and the folder of a stock server with a bit of everything."""
    folder = tmp_path_factory.mktemp("stock")
    with stock_server(mlflow3, folder) as address:
        ask(mlflow3, "fill", address, folder / "client")
        yield address, folder


@pytest.fixture(scope="module")
def imported(mlflow3, stock, tmp_path_factory) -> dict[str, Any]:
    """Two imports in a row, and what the real client sees of both sides after the first."""
    address, theirs = stock
    folder = tmp_path_factory.mktemp("imported")
    first = move("import", address, uri_in(folder))
    files = files_below(theirs / "artifacts"), files_below(folder / "artifacts")
    told = ask(mlflow3, "tell", address, theirs / "client"), ask_ours(mlflow3, folder)
    with connect(uri_in(folder)) as client:
        before = client.cursor()
        again = move("import", address, uri_in(folder))
        cursors = before, client.cursor()
    return {"folder": folder, "first": first, "again": again, "told": told, "files": files, "cursors": cursors}


@pytest.fixture
def copy(imported, tmp_path) -> Path:
    """A folder of one's own with what was imported."""
    return Path(shutil.copytree(imported["folder"], tmp_path / "copy"))


@pytest.fixture(scope="module")
def changed(mlflow3, stock, imported) -> str:
    """The address of the stock server after more has happened there."""
    ask(mlflow3, "change", stock[0], stock[1] / "client")
    return stock[0]


def test_a_client_sees_the_same(imported):
    """After an import the real client is told the same by our server: ids, numbers, times, metrics, aliases, tags."""
    theirs, ours = imported["told"]

    assert imported["first"].status == 0, imported["first"].said
    assert [each["version"] for each in theirs["models"]["wine"]["versions"]] == ["1", "3", "5"]
    assert without(ours) == without(theirs)


def test_files_are_the_same(imported):
    """Every file of the stock server's store is in ours, byte by byte; the summary counts them."""
    theirs, ours = imported["files"]

    assert ours == theirs
    assert imported["first"].told["files"] == len(theirs)
    assert imported["first"].told["bytes"] > BIG_BYTES
    assert imported["first"].told["problems"] == []


def test_progress_is_told(imported):
    """Each run and model is named on stderr while it is copied."""
    assert "experiment training: run first\n" in imported["first"].said
    assert "model wine\n" in imported["first"].said


def test_imported_model_loads(copy):
    """An imported version is verified by its manifest and predicts as it did."""
    with connect(uri_in(copy)) as client:
        loaded = registry.load_model("models:/wine@champion", client)

        assert [round(each) for each in loaded.predict([[10.0]])] == [20]
        assert client.get_model_version_manifest("copied and renamed", 1) is not None
        assert client.create_model_version("wine", "models:/wine/1").version == "6"


def test_repeated_import_copies_nothing(imported):
    """A second import copies no file and is no change to anybody who follows."""
    assert (imported["again"].status, imported["again"].told["files"], imported["again"].told["bytes"]) == (0, 0, 0)
    assert imported["again"].told["versions"] == imported["first"].told["versions"]
    assert imported["cursors"][0] == imported["cursors"][1]


def test_repeated_import_brings_changes(mlflow3, changed, stock, copy):
    """What changed there since is brought over, and what was made here since stays."""
    with connect(uri_in(copy), actor="ana") as client:
        client.create_registered_model("ours")
        client.set_registered_model_alias("wine", "mine", 3)
        client.set_model_version_tag("wine", 3, "seen", "yes")
    done = move("import", changed, uri_in(copy))
    theirs, ours = ask(mlflow3, "tell", changed, stock[1] / "client"), ask_ours(mlflow3, copy)

    assert done.status == 0, done.said
    assert ours["models"].pop("ours")["versions"] == []
    assert ours["models"]["wine"]["aliases"].pop("mine") == "3"
    assert ours["models"]["wine"]["versions"][1]["aliases"].remove("mine") is None
    assert ours["models"]["wine"]["versions"][1]["tags"].pop("seen") == "yes"
    ours["models"]["wine"]["times"] = theirs["models"]["wine"]["times"]
    assert without(ours) == without(theirs)
    assert files_below(copy / "artifacts") == files_below(stock[1] / "artifacts")


def test_alias_moved_on_both_sides_stays(changed, copy):
    """An alias that was moved here and there stays where it was moved here, and exit code 1 says so."""
    with connect(uri_in(copy), actor="ana") as client:
        client.set_registered_model_alias("wine", "champion", 1)
        done = move("import", changed, uri_in(copy))

        assert client.get_registered_model("wine").aliases == {"champion": "1", "new": "1"}
    assert done.status == 1
    assert done.told["problems"] == [
        "alias 'champion' of model 'wine' was moved here and there, and stays here at version 1; there it is at "
        "version 5"
    ]


def test_version_of_the_same_number_is_left_out(changed, copy):
    """A version that was made here with a number that is taken there is told of; everything else comes over."""
    with connect(uri_in(copy), actor="ana") as client:
        made = client.create_model_version("wine", "models:/wine/1")
        done = move("import", changed, uri_in(copy))

        assert client.get_model_version("wine", made.version) == made
        assert client.get_registered_model("wine").aliases == {"champion": "5", "new": "1"}
    assert done.status == 1
    assert "version 6 of model 'wine' was left out" in done.told["problems"][0]


@pytest.mark.parametrize("how", ["killed", "server stopped"])
def test_import_that_was_cut_is_completed(stock, imported, tmp_path, how):
    """Cut in the middle of a big file, an import leaves no part of it to see, and the next one completes it."""
    uri, artifacts = uri_in(tmp_path), tmp_path / "artifacts"
    host, _, port = stock[0].removeprefix("http://").partition(":")
    relay = Narrow((host, int(port)))
    command = arguments("import", relay.address, uri)
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment()) as process:
        assert relay.is_full.wait(60)
        if how == "killed":
            process.kill()
        relay.close()
        _, said = process.communicate(timeout=100)

    assert process.returncode != 0
    assert not list(artifacts.rglob("big.bin"))
    assert how == "killed" or "repeat the command to go on" in said
    assert move("import", stock[0], uri).status == 0
    visible = {path: digest for path, digest in files_below(artifacts).items() if not path.startswith(".turnout-")}
    assert visible == files_below(stock[1] / "artifacts")


def test_import_into_postgresql(stock, imported, postgres_url, tmp_path):
    """The same import goes into a PostgreSQL database, and numbers that are given out later are free ones."""
    uri = postgres_url()
    done = move("import", stock[0], uri, "--artifacts-destination", str(tmp_path / "artifacts"))

    assert (done.status, done.told["problems"]) == (0, [])
    with connect(uri) as client:
        assert registry.load_model("models:/wine/3", client).predict([[1.0]]) == pytest.approx([2.0])
        assert client.tracking.create_experiment("next") == "3"


def test_import_from_mlflow_2(mlflow2, tmp_path):
    """A server of MLflow 2, which has no logged models, is imported whole."""
    with stock_server(mlflow2, tmp_path) as address:
        ask(mlflow2, "fill-old", address, tmp_path / "client")
        done = move("import", address, uri_in(tmp_path))

    assert (done.status, done.told["problems"]) == (0, [])
    assert (done.told["runs"], done.told["logged_models"], done.told["versions"]) == (1, 0, 1)
    with connect(uri_in(tmp_path)) as client:
        assert registry.load_model("models:/wine@champion", client).predict([[1.0]]) == pytest.approx([2.0])


class Page(http.server.BaseHTTPRequestHandler):
    """Some other program's page, whatever is asked for."""

    def do_POST(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>hello</html>")

    do_GET = do_POST

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture(scope="module")
def other_program() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("direction", ["import", "export"])
@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("http://127.0.0.1:9", "Connection refused"),
        ("page", "not a registry's JSON"),
        ("sqlite:///mlflow.db", "is no address of an MLflow server"),
    ],
)
def test_wrong_address_is_told(direction, address, sentence, other_program, tmp_path):
    """An address with no server, another program or no HTTP is a sentence and exit code 1."""
    with connect(uri_in(tmp_path)) as client:
        client.create_registered_model("wine")

    done = move(direction, other_program if address == "page" else address, uri_in(tmp_path))

    assert done.status == 1
    assert sentence in done.said
    assert "Traceback" not in done.said


def test_import_needs_a_database(tmp_path):
    """A server cannot be imported into: its database can."""
    done = move("import", "http://127.0.0.1:9", "http://127.0.0.1:10")

    assert done.status == 1
    assert "import into its database" in done.said


# Moving out


@pytest.fixture(scope="module")
def exported(mlflow3, imported, tmp_path_factory) -> Iterator[tuple[str, Path, Path, Moved]]:
    """A stock server that was empty, its folder, the registry's folder, and what the first export did."""
    folder = tmp_path_factory.mktemp("target")
    source = Path(shutil.copytree(imported["folder"], folder / "source"))
    with stock_server(mlflow3, folder) as address:
        yield address, folder, source, move("export", address, uri_in(source))


def test_export_is_seen_by_a_client(mlflow3, imported, exported):
    """Versions come in order with their number here in a tag, with aliases, tags, stages, and the run's record."""
    address, folder, _, first = exported
    theirs = ask(mlflow3, "tell", address, folder / "client")
    ours = imported["told"][1]

    assert (first.status, first.told["problems"]) == (0, [])
    assert theirs["models"].keys() == ours["models"].keys()
    wine, original = theirs["models"]["wine"], ours["models"]["wine"]
    assert [each["tags"]["turnout.version"] for each in wine["versions"]] == ["1", "3", "5"]
    assert [each["version"] for each in wine["versions"]] == ["1", "2", "3"]
    assert (wine["aliases"], wine["tags"]) == ({"champion": "2", "old": "1"}, original["tags"])
    for made, before in zip(wine["versions"], original["versions"], strict=True):
        run, run_before = theirs["runs"][made["run_id"]], ours["runs"][before["run_id"]]
        assert {key: made[key] for key in ("description", "current_stage")} == {
            key: before[key] for key in ("description", "current_stage")
        }
        for key in ("name", "status", "times", "params", "history", "user"):
            assert run[key] == run_before[key]
        assert run["tags"].items() >= run_before["tags"].items()
        assert theirs["experiments"][run["experiment"]][0] == "training"
    assert theirs["models"]["greeting"]["versions"][0]["tags"]["mlflow.prompt.text"] == "Hello {{name}}"


def test_exported_model_loads_with_mlflow(mlflow3, exported):
    """The real client loads an exported model by its alias from the stock server."""
    ask(mlflow3, "load", exported[0], exported[1] / "client")


def test_repeated_export_moves_aliases(mlflow3, exported):
    """A second export copies nothing again; aliases, tags and descriptions follow."""
    address, _, source, first = exported
    with connect(uri_in(source), actor="ana") as client, connect(address) as there:
        client.set_registered_model_alias("wine", "champion", 5)
        client.set_model_version_tag("wine", 1, "seen", "yes")
        client.update_model_version("wine", 3, "better")
        done = move("export", address, uri_in(source))

        assert done.status == 0, done.said
        assert (done.told["files"], done.told["runs"]) == (0, 0)
        assert done.told["versions"] == first.told["versions"]
        assert there.get_registered_model("wine").aliases == {"champion": "3", "old": "1"}
        assert there.get_model_version("wine", 1).tags["seen"] == "yes"
        assert there.get_model_version("wine", 2).description == "better"


def test_export_does_not_mix_with_another_model(exported, tmp_path):
    """A model of the same name that did not come from here is left alone, and told of."""
    with connect(exported[0]) as there:
        before = there.get_registered_model("wine").aliases
        run = there.tracking.create_run("0")
        there.create_registered_model("foreign")
        with there.artifacts.create(f"{run.artifact_uri.removeprefix('mlflow-artifacts:/')}/m/MLmodel") as upload:
            upload.write(b"flavors: {}\n")
        there.create_model_version("foreign", f"{run.artifact_uri}/m", run.run_id)
        register_big(tmp_path, "foreign", 10)

        done = move("export", exported[0], uri_in(tmp_path))

        assert done.status == 1
        assert "did not come from here" in done.told["problems"][0]
        assert there.get_registered_model("wine").aliases == before


def register_big(folder: Path, name: str, size: int) -> None:
    """A registry with one version of so many bytes, made from a run."""
    with connect(uri_in(folder), actor="ana") as client:
        run = client.tracking.create_run(tags={"kind": "big"})
        client.tracking.log_batch(run.run_id, [Metric("loss", 0.5, 1000)], {"alpha": "1"})
        with client.artifacts.create(f"{run.artifact_uri.removeprefix('mlflow-artifacts:/')}/m/weights") as upload:
            upload.write(os.urandom(size))
        client.create_registered_model(name)
        client.create_model_version(name, f"runs:/{run.run_id}/m")


def test_export_that_was_cut_is_completed(exported, tmp_path):
    """Killed in the middle of a big file, an export is completed by the next one, in the same run."""
    register_big(tmp_path, "big", BIG_BYTES)
    host, _, port = exported[0].removeprefix("http://").partition(":")
    relay = Narrow((host, int(port)))
    with subprocess.Popen(arguments("export", relay.address, uri_in(tmp_path)), env=environment()) as process:
        assert relay.is_full.wait(60)
        process.kill()
    relay.close()

    done = move("export", exported[0], uri_in(tmp_path))

    assert (done.status, done.told["files"]) == (0, 1)
    with connect(exported[0]) as there:
        version = there.get_model_version("big", 1)
        runs = there.tracking.search_runs(["0"], "tags.kind = 'big'")
        assert [each.run_id for each in runs] == [version.run_id]
        assert (runs[0].params, runs[0].metrics[0].value) == ({"alpha": "1"}, 0.5)
        with connect(uri_in(tmp_path)) as here:
            path = there.get_model_version_download_uri("big", 1).removeprefix("mlflow-artifacts:/")
            assert there.artifacts.manifest(path) == here.get_model_version_manifest("big", 1)
