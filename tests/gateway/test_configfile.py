"""TOML into settings."""

from pathlib import Path

import pytest

from gateway.configfile import ConfigFile, Given, settle
from gateway.errors import InvalidSettings

WHOLE = """
[registry]
uri = "http://registry:5000"
poll_interval = "2s"

[server]
host = "0.0.0.0"
port = 9000
cache = "models"
max_body = "1MiB"
models_memory = "4GB"
shutdown_notice = "5s"
shutdown_timeout = "1m"

[defaults]
replicas = 2
max_queue = 10

[endpoints.wine]
model = "models:/wine@champion"
replicas = 3
load_timeout = "90s"
predict_timeout = "250ms"
memory_limit = "2GiB"
batch = { mode = "on", max_rows = 64, max_wait = "5ms" }
accelerate = "off"
keep_warm = true
default = true

[endpoints.price]
model = "models:/price/3"
"""


def write(folder: Path, text: str) -> ConfigFile:
    path = folder / "turnout.toml"
    path.write_text(text)
    return ConfigFile(path, Given())


def test_every_key_is_taken_over(tmp_path):
    """Each has its field, with its unit read; paths are relative to the file."""
    settings = write(tmp_path, WHOLE).read()
    wine, price = settings.endpoints

    assert (settings.registry_uri, settings.poll_interval_s) == ("http://registry:5000", 2.0)
    assert (settings.host, settings.port, settings.cache) == ("0.0.0.0", 9000, tmp_path / "models")
    assert (settings.max_body_bytes, settings.models_memory_bytes) == (1 << 20, 4 * 10**9)
    assert (settings.shutdown_notice_s, settings.shutdown_timeout_s) == (5.0, 60.0)
    assert (wine.name, str(wine.model), wine.replicas, wine.max_queue) == ("wine", "models:/wine@champion", 3, 10)
    assert (wine.load_timeout_s, wine.predict_timeout_s, wine.memory_limit_bytes) == (90.0, 0.25, 2 << 30)
    assert (wine.batch, wine.batch_max_rows, wine.batch_max_wait_s, wine.accelerates) == ("on", 64, 0.005, False)
    assert (wine.keep_warm, wine.is_default) == (True, True)
    assert (price.replicas, price.keep_warm, price.is_default) == (2, False, False)


def test_without_a_limit_models_are_kept_warm(tmp_path):
    """Loading on request is asked for, by a key or by a limit."""
    text = '[endpoints.a]\nmodel = "models:/a@b"\n[endpoints.c]\nmodel = "models:/c@d"\nkeep_warm = false\n'

    assert [each.keep_warm for each in write(tmp_path, text).read().endpoints] == [True, False]


def test_a_model_directory_is_relative_to_the_file(tmp_path):
    """Wherever the gateway is started."""
    (tmp_path / "my-model").mkdir()

    (endpoint,) = write(tmp_path, '[endpoints.a]\nmodel = "my-model"\n').read().endpoints

    assert endpoint.model == tmp_path / "my-model"


def test_the_command_line_wins_over_all_but_an_endpoints_own(tmp_path):
    """A flag is said for this start; an endpoint's section is said for that endpoint."""
    file = {
        "server": {"port": 9000},
        "defaults": {"replicas": 2, "max_queue": 1},
        "endpoints": {"a": {"model": "models:/a@b", "max_queue": 7}, "c": {"model": "models:/c@d"}},
    }
    given = Given(("models:/e@f",), {"port": 1234}, {"replicas": 5, "max_queue": 6})

    settings = settle(given, file, tmp_path)

    assert settings.port == 1234
    assert [(each.name, each.replicas, each.max_queue) for each in settings.endpoints] == [
        ("e", 5, 6),
        ("a", 5, 7),
        ("c", 5, 6),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "nothing to serve"),
        ("[endpoints.wine", "is no TOML"),
        pytest.param(f"a = {'9' * 5_000}", "is no TOML", id="a number without end"),
        pytest.param(f"a = {'[' * 5_000}", "is no TOML", id="lists without end"),
        ("[sever]", r"no section \[sever\]; did you mean server\?"),
        ("server = 3", "server is a section"),
        ('[server]\nprot = 3\n[endpoints.a]\nmodel = "models:/a@b"', "no key 'prot'; did you mean port"),
        ("[server]\nport = 70000", "port"),
        (
            '[server]\ncache = "~nobody-is-called-so/models"',
            "cache = '~nobody-is-called-so/models': no such home folder",
        ),
        ('[registry]\nuri = "databricks"\n[endpoints.a]\nmodel = "models:/a@b"', "Databricks registries are not"),
        ('[endpoints.a]\nmodle = "models:/a@b"', r"\[endpoints.a\] has no key 'modle'; did you mean model"),
        ("[endpoints.a]\nreplicas = 2", 'names no model; add: model = "models:/NAME@ALIAS"'),
        ('[endpoints.a]\nmodel = "nowhere"', r"\[endpoints.a\]: cannot serve"),
        ('[endpoints.a]\nmodel = "models:/a"', r"\[endpoints.a\]: "),
        ('[endpoints.a]\nmodel = "models:/a@b"\nreplicas = "2"', "Expected `int`, got `str`"),
        ('[endpoints.a]\nmodel = "models:/a@b"\nload_timeout = 3', "3 has no unit"),
        ('[endpoints.a]\nmodel = "models:/a@b"\nmemory_limit = "3 cows"', "not a size such as"),
        ('[endpoints.a]\nmodel = "models:/a@b"\nbatch = { max_row = 3 }', "max_row"),
        ('[endpoints]\na = "models:/a@b"', r"section, \[endpoints.a\]"),
        ('[endpoints."a b"]\nmodel = "models:/a@b"', "only letters"),
        (
            "".join(f'[endpoints.{name}]\nmodel = "models:/a@b"\ndefault = true\n' for name in ("a", "c")),
            "only one endpoint can be the default",
        ),
    ],
)
def test_what_is_not_understood_is_refused(tmp_path, text, message):
    """The message names the file, the section, the key, and what was meant."""
    with pytest.raises(InvalidSettings, match=message) as refused:
        write(tmp_path, text).read()

    assert "turnout.toml" in str(refused.value)


def test_an_endpoint_is_planned_once(tmp_path):
    """A name from -m and the same from the file is a contradiction."""
    with pytest.raises(InvalidSettings, match="two endpoints would be called 'a'"):
        settle(Given(("a=models:/x@y",)), {"endpoints": {"a": {"model": "models:/a@b"}}}, tmp_path)


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_file_that_cannot_be_read_is_refused(tmp_path, content):
    """Missing, or no text."""
    path = tmp_path / "turnout.toml"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(InvalidSettings, match=r"turnout\.toml"):
        ConfigFile(path, Given()).read()
