"""What a training script calls: log, register and load with a registry behind it."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

import registry
from registry.errors import (
    CorruptModel,
    InvalidModel,
    InvalidParameter,
    ModelLoadFailed,
    NotFound,
    SchemaMismatch,
)

TABLE = pd.DataFrame({"a": [0.0, 1.0, 2.0]})
LINEAR = LinearRegression().fit(TABLE, [0.0, 2.0, 4.0])


@pytest.fixture(autouse=True)
def _import_state(monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", sys.dont_write_bytecode)


@pytest.fixture
def client(sqlite_registry):
    return sqlite_registry


def log(client, **options):
    return registry.log_model(LINEAR, name="linear", input_example=TABLE, client=client, **options)


def test_a_logged_model_becomes_a_version(client):
    """The files lie in the artifact root; the version's source is the logged model, never a path."""
    info = log(client, registered_model_name="wine")

    version = client.get_model_version("wine", info.registered_model_version)
    assert info.model_uri == f"models:/{info.model_id}" == version.source
    assert version.digest.startswith("sha256:")
    assert info.signature.inputs == [{"type": "double", "name": "a", "required": True}]
    assert client.get_registered_model("wine").name == "wine"


def test_logging_again_makes_the_next_version(client):
    """The registered model is made once."""
    numbers = [log(client, registered_model_name="wine").registered_model_version for _ in range(2)]

    assert numbers == ["1", "2"]


@pytest.mark.parametrize("uri", ["models:/wine/1", "models:/wine@champion", "models:/wine/latest", "logged", "path"])
def test_a_model_loads_from_every_address(client, tmp_path, uri):
    """By version, alias, latest, logged model or directory, with the same answers."""
    info = log(client, registered_model_name="wine")
    client.set_registered_model_alias("wine", "champion", 1)
    registry.save_model(tmp_path / "saved", LINEAR, signature=info.signature)
    where = {"logged": info.model_uri, "path": tmp_path / "saved"}.get(uri, uri)

    model = registry.load_model(where, client=client)

    assert model.predict(TABLE) == pytest.approx([0.0, 2.0, 4.0])
    assert model.metadata.signature.inputs == info.signature.inputs
    assert isinstance(model.unwrap_python_model(), LinearRegression)


def test_the_signature_is_enforced(client):
    """As mlflow does: extra columns ignored, missing ones refused by name."""
    info = log(client)
    model = registry.load_model(info.model_uri, client=client)

    assert model.predict(TABLE.assign(b=1)) == pytest.approx([0.0, 2.0, 4.0])
    with pytest.raises(SchemaMismatch, match=r"Model is missing inputs \['a'\]"):
        model.predict(pd.DataFrame({"b": [1.0]}))


def test_params_are_enforced(tmp_path):
    """Defaults are filled in; a wrong type is refused."""

    def scale(model_input, params):
        return np.asarray(model_input) * params["factor"]

    registry.save_model(tmp_path / "m", scale, input_example=(np.array([1.0]), {"factor": 2.0}))
    model = registry.load_model(tmp_path / "m")

    assert model.predict(np.array([3.0])).tolist() == [6.0]
    assert model.predict(np.array([3.0]), {"factor": 1}).tolist() == [3.0]
    with pytest.raises(SchemaMismatch, match="'factor'"):
        model.predict(np.array([3.0]), {"factor": "x"})


def test_a_directory_is_copied_when_it_is_registered(client, tmp_path):
    """Later changes of the directory change nothing; tags and description stand on the version."""
    registry.save_model(tmp_path / "m", LINEAR)

    version = registry.register_model(tmp_path / "m", "wine", tags={"k": "v"}, description="first", client=client)
    (tmp_path / "m" / "model.pkl").write_bytes(b"changed")

    assert (version.tags["k"], version.description) == ("v", "first")
    assert version.source.startswith("models:/m-")
    assert registry.load_model("models:/wine/1", client=client).predict(TABLE) == pytest.approx([0.0, 2.0, 4.0])


def test_registering_a_version_again_shares_its_files(client):
    """`models:/` addresses are used as they are."""
    info = log(client, registered_model_name="wine")

    by_id = registry.register_model(info.model_uri, "copy", client=client)
    by_number = registry.register_model("models:/wine/1", "copy", client=client)

    assert [by_id.version, by_number.version] == ["1", "2"]
    assert by_id.digest == by_number.digest


def test_the_folder_above_a_model_is_told(client, tmp_path):
    """What is no model directory is refused with a hint, and no name is taken."""
    registry.save_model(tmp_path / "m", LINEAR)

    with pytest.raises(InvalidModel, match="did you mean"):
        registry.register_model(tmp_path, "wine", client=client)
    with pytest.raises(InvalidModel, match="is a file, not a model directory"):
        registry.register_model(tmp_path / "m" / "model.pkl", "wine", client=client)
    with pytest.raises(InvalidModel, match="does not exist"):
        registry.register_model("no/such", "wine", client=client)
    assert client.search_registered_models() == []


@pytest.mark.parametrize("uri", ["models:/m-00000000000000000000000000000000", "models:/nope/1"])
def test_an_unknown_source_takes_no_name(client, uri):
    """A registered model is made only when its first version can be."""
    with pytest.raises(NotFound):
        registry.register_model(uri, "wine", client=client)

    assert client.search_registered_models() == []


def kept(client):
    """Every name and file that a registry has."""
    files = [each for each in Path(client.artifacts.root).rglob("*") if each.is_file()]
    return [each.name for each in client.search_registered_models()], client.search_model_versions(), files


@pytest.mark.parametrize(
    "refused",
    [
        {"name": "a/b"},
        {"alias": "latest"},
        {"alias": "a b"},
        {"tags": {"a$": "x"}},
        {"description": "x" * 100_001},
        {"uri_or_path": "s3://bucket/model"},
        {"uri_or_path": "runs:/0123/model"},
        {"uri_or_path": "mlflow-artifacts:/elsewhere"},
    ],
    ids=lambda refused: ":".join(f"{key}={str(value)[:20]}" for key, value in refused.items()),
)
def test_a_refused_registration_changes_nothing(client, tmp_path, refused):
    """No name is taken, no version made and no file copied, and the change feed stands still."""
    registry.save_model(tmp_path / "m", LINEAR)
    before = client.cursor()

    with pytest.raises(InvalidParameter):
        registry.register_model(**{"uri_or_path": tmp_path / "m", "name": "ghost", "client": client} | refused)

    assert kept(client) == ([], [], [])
    assert client.cursor() == before


def test_a_refused_registration_leaves_a_model_as_it_was(client):
    """The versions that a model has stay, and it stays when it has none."""
    log(client, registered_model_name="wine")
    client.create_registered_model("empty")
    before = kept(client)

    for name in ("wine", "empty"):
        with pytest.raises(InvalidParameter):
            registry.register_model("s3://bucket/model", name, client=client)

    assert kept(client) == before


class Refusing:
    """A registry that refuses the version or its alias at the last moment, as when another process interferes."""

    def __init__(self, client, method, error):
        self.client, self.method, self.error = client, method, error

    def __getattr__(self, name):
        return self.refuse if name == self.method else getattr(self.client, name)

    def refuse(self, name, *arguments, **named):
        self.client.get_registered_model(name)  # first NotFound, as for any model that is not there
        raise self.error


@pytest.mark.parametrize(
    ("method", "error"),
    [
        ("create_model_version", InvalidParameter("no")),
        ("create_model_version", KeyboardInterrupt()),
        ("set_registered_model_alias", InvalidParameter("no")),
    ],
    ids=["version", "interrupted", "alias"],
)
def test_what_was_made_for_a_version_goes_with_it(client, tmp_path, method, error):
    """The copied files and the model are deleted when the version cannot be, or cannot have its alias."""
    registry.save_model(tmp_path / "m", LINEAR)
    refusing = Refusing(client, method, error)

    with pytest.raises(type(error)):
        registry.register_model(tmp_path / "m", "ghost", client=refusing, alias="champion")

    assert kept(client) == ([], [], [])


def test_a_registered_alias_points_at_the_new_version(client, tmp_path):
    """One call registers and deploys."""
    registry.save_model(tmp_path / "m", LINEAR)

    version = registry.register_model(tmp_path / "m", "wine", client=client, alias="champion")

    assert (version.version, version.aliases) == ("1", ["champion"])
    assert client.get_model_version_by_alias("wine", "champion").version == "1"


@pytest.mark.parametrize("refused", [{"registered_model_name": "a/b"}, {"tags": {"a$": "x"}}], ids=str)
def test_a_refused_log_changes_nothing(client, refused):
    """Nothing is copied for a name or a tag that can be none."""
    with pytest.raises(InvalidParameter):
        log(client, **refused)

    assert kept(client) == ([], [], [])


def test_a_directory_with_links_is_refused(client, tmp_path):
    """Links would be followed on another machine, or to other files."""
    registry.save_model(tmp_path / "m", LINEAR)
    (tmp_path / "m" / "link").symlink_to("/etc/passwd")

    with pytest.raises(InvalidParameter):
        registry.register_model(tmp_path / "m", "wine", client=client)

    assert client.search_registered_models() == []


def test_altered_files_are_refused_before_they_are_unpickled(client, tmp_path):
    """A pickle that would leave a mark leaves none."""
    log(client, registered_model_name="wine")
    mark = tmp_path / "mark"
    (stored,) = Path(client.artifacts.root).rglob("model.pkl")
    stored.write_bytes(
        b"cbuiltins\nopen\n(X%c\x00\x00\x00%bX\x01\x00\x00\x00wtR." % (len(str(mark)), str(mark).encode())
    )

    with pytest.raises(CorruptModel, match=r"changed: model.pkl"):
        registry.load_model("models:/wine/1", client=client)

    assert not mark.exists()


def test_code_that_would_replace_ours_is_not_loaded(tmp_path):
    """A package named registry belongs into a replica."""
    registry.save_model(tmp_path / "m", LINEAR)
    (tmp_path / "m" / "code").mkdir()
    (tmp_path / "m" / "code" / "registry.py").touch()
    mlmodel = tmp_path / "m" / "MLmodel"
    mlmodel.write_text(mlmodel.read_text().replace("model_path:", "code: code\n    model_path:"))

    with pytest.raises(ModelLoadFailed, match="turnout serve"):
        registry.load_model(tmp_path / "m")


def test_a_model_that_fails_to_load_says_why(tmp_path):
    """The model's own error is the cause, and its sentence is in ours."""

    class Broken(registry.PythonModel):
        def load_context(self, context):
            raise KeyError("no vocabulary")

        def predict(self, model_input):
            return model_input

    registry.save_model(tmp_path / "m", Broken())

    with pytest.raises(ModelLoadFailed, match="KeyError: 'no vocabulary'") as failed:
        registry.load_model(tmp_path / "m")
    assert isinstance(failed.value.__cause__, KeyError)


def test_the_private_copy_lives_as_long_as_the_model(tmp_path):
    """Artifacts may be read at any prediction, and nothing stays behind."""
    (tmp_path / "words.txt").write_text("hello")

    class Reads(registry.PythonModel):
        def load_context(self, context):
            self.path = context.artifacts["words"]

        def predict(self, model_input):
            return [self.path, Path(self.path).read_text()]

    registry.save_model(tmp_path / "m", Reads(), artifacts={"words": tmp_path / "words.txt"})
    model = registry.load_model(tmp_path / "m")

    path, text = model.predict(None)
    del model
    gc.collect()

    assert text == "hello"
    assert not Path(path).exists()
    assert tmp_path not in Path(path).parents


def test_without_a_client_the_environment_says_where(tmp_path, monkeypatch):
    """The same lookup as the command line's."""
    monkeypatch.setenv("TURNOUT_REGISTRY_URI", f"sqlite:///{tmp_path}/elsewhere.db")

    info = registry.log_model(LINEAR, registered_model_name="wine")

    assert registry.load_model("models:/wine/1").predict(TABLE) == pytest.approx([0.0, 2.0, 4.0])
    assert info.registered_model_version == "1"
    assert (tmp_path / "elsewhere.db").exists()


def test_importing_registry_is_cheap():
    """Only the standard library and msgspec, and a fifth of a second of processor time at most."""
    code = """if True:
        import sys, time
        before = set(sys.modules)
        started = time.process_time()
        import registry
        seconds = time.process_time() - started
        loaded = {name.split(".")[0] for name in set(sys.modules) - before}
        print(seconds, *loaded - set(sys.stdlib_module_names))
    """

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    seconds, *packages = done.stdout.split()
    assert set(packages) <= {"registry", "msgspec"}
    assert float(seconds) < 0.2
