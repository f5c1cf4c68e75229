"""Which settings of pip's and of uv's reach uv, and which secrets do not."""

import pytest

from gateway.indexes import uv_environment, uv_options

INDEX = "https://user:sesame@index.example/simple"


@pytest.fixture
def environment(tmp_path):
    """An environment in which pip has no settings but those that a test gives."""
    return {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "XDG_CONFIG_DIRS": str(tmp_path / "xdg")}


def test_pips_variables_become_uvs(environment):
    """Indexes, certificates and time limits, with the password that an index needs."""
    pip = {
        "PIP_INDEX_URL": INDEX,
        "PIP_EXTRA_INDEX_URL": "https://a.example/simple\n  https://b.example/simple",
        "PIP_FIND_LINKS": "/wheels /more",
        "PIP_CERT": "/ca.pem",
        "PIP_DEFAULT_TIMEOUT": "60",
    }

    found = uv_environment(environment | pip)

    assert found["UV_DEFAULT_INDEX"] == INDEX
    assert found["UV_INDEX"] == "https://a.example/simple https://b.example/simple"
    assert found["UV_INDEX_STRATEGY"] == "unsafe-best-match"
    assert found["UV_FIND_LINKS"] == "/wheels,/more"
    assert (found["SSL_CERT_FILE"], found["UV_HTTP_TIMEOUT"]) == ("/ca.pem", "60")
    assert not any(name.startswith("PIP_") for name in found)


def test_pip_conf_is_read(environment, tmp_path):
    """The user's file over the machine's, the section install over global, a variable over both."""
    for path, text in {
        "xdg/pip/pip.conf": "[global]\nindex-url = https://a.example\ntimeout = 1\n",
        ".config/pip/pip.conf": f"[install]\nindex-url={INDEX}\n[global]\nindex-url=https://b.example\ncert=/b.pem\n",
        ".pip/pip.conf": "this is no configuration\n",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)

    found = uv_environment(environment | {"PIP_TIMEOUT": "3"})

    assert found["UV_DEFAULT_INDEX"] == INDEX
    assert (found["SSL_CERT_FILE"], found["UV_HTTP_TIMEOUT"]) == ("/b.pem", "3")


def test_uvs_own_settings_win(environment):
    """Where uv has been told of an index, pip's indexes are left out."""
    own = {"UV_INDEX_URL": "https://uv.example", "UV_INDEX_WORK_PASSWORD": "sesame", "SSL_CERT_FILE": "/uv.pem"}
    pip = {"PIP_INDEX_URL": INDEX, "PIP_EXTRA_INDEX_URL": INDEX, "PIP_CERT": "/pip.pem"}

    found = uv_environment(environment | pip | own)

    assert own.items() <= found.items()
    assert "UV_DEFAULT_INDEX" not in found
    assert "UV_INDEX" not in found
    assert "UV_INDEX_STRATEGY" not in found


def test_an_index_may_be_forbidden(environment):
    """Only folders of wheels then, unless uv has been told of an index itself."""
    assert uv_options(environment | {"PIP_NO_INDEX": "1", "UV_INDEX_URL": ""}) == ("--no-index",)
    assert uv_options(environment | {"PIP_NO_INDEX": "1", "UV_INDEX_URL": "https://uv.example"}) == ()
    assert uv_options(environment | {"PIP_NO_INDEX": "0"}) == ()


def test_no_other_secret_reaches_uv(environment):
    """Credentials of the registry, stores and databases stay here, and so does what would change where uv installs."""
    secrets = {
        "TURNOUT_TOKEN": "sesame",
        "MLFLOW_TRACKING_PASSWORD": "sesame",
        "AWS_SECRET_ACCESS_KEY": "sesame",
        "DATABASE_URL": "postgresql://u:sesame@db/x",
        "UV_PUBLISH_TOKEN": "sesame",
        "UV_SYSTEM_PYTHON": "1",
        "UV_NO_BINARY": "1",
    }

    found = uv_environment(environment | secrets)

    assert secrets.keys() & found.keys() == set()
    assert "sesame" not in str(found)


def test_stand_ins_of_version_managers_are_not_on_the_path(environment):
    """They look like interpreters, and fail."""
    found = uv_environment(environment | {"PATH": "/root/.pyenv/shims:/usr/bin"})

    assert found["PATH"] == "/usr/bin"
