"""Versions that need different releases of a library, each under an environment of its own."""

import contextlib
import os
import threading
from pathlib import Path

import httpx2
import psutil
import pytest

import registry
from tests.e2e.gateways import eventually

ROOT = Path(__file__).parents[2]
WHEELS = ROOT / ".envs" / "wheels"
RELEASES = {"1": "1.5.2", "2": "1.6.1"}
BUILD_TIMEOUT_S = 150
UNSET = ("UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "PIP_CONSTRAINT")
OFFLINE = dict.fromkeys(UNSET, "") | {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1"}

MODEL_SOURCE = '''
class Release(Base):
    """Answers which scikit-learn it runs under, and fits with it."""

    def predict(self, context, model_input, params=None):
        import sklearn
        from sklearn.linear_model import LinearRegression

        slope = LinearRegression().fit([[0.0], [1.0]], [0.0, 2.0]).coef_[0]
        return [f"{sklearn.__version__} {slope:.0f}"] * len(model_input)
'''


def needing(*requirements):
    """A model, and what it requires."""
    namespace = {"__name__": "__main__", "Base": registry.PythonModel}
    exec(MODEL_SOURCE, namespace)
    return {"model": namespace["Release"](), "pip_requirements": [*requirements]}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A cache folder that the tests of this file share, so that an environment is built once."""
    return tmp_path_factory.mktemp("environments")


@pytest.fixture
def releases(client, add):
    """Version 1 of `m` needs scikit-learn 1.5, version 2 needs 1.6; champion is 1."""
    for release in RELEASES.values():
        add(**needing(f"scikit-learn=={release}", "cloudpickle"))
    client.set_registered_model_alias("m", "champion", "1")


@pytest.fixture
def serve_isolated(serve, cache):
    """Start gateways with an environment for each version, from wheels on disk."""
    if not WHEELS.is_dir():
        pytest.skip("no wheels to build environments of: run `make envs`")

    def serve_isolated(*arguments, wheels=WHEELS, **attributes):
        environment = OFFLINE | {"PIP_FIND_LINKS": str(wheels)}
        flags = ("--env-manager", "uv", "--cache", str(cache))
        return serve(*flags, *arguments, environment=environment, **attributes)

    return serve_isolated


def expected(version):
    return {"predictions": [f"{RELEASES[version]} 2"]}


@contextlib.contextmanager
def asking(gateway):
    """Ask all the time from three threads; gives what was wrong with any answer, and the versions that answered."""
    stopped, wrong, answered = threading.Event(), [], set()

    def ask():
        with httpx2.Client(base_url=gateway.client.base_url, timeout=30) as client:
            while not stopped.wait(0.01):
                answer = client.post("/invocations", json={"dataframe_records": [{"do": "nothing"}]})
                version = answer.headers.get("X-Model-Version")
                answered.add(version)
                if answer.status_code != 200 or answer.json() != expected(version):
                    wrong.append((answer.status_code, version, answer.text))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        yield wrong, answered
    finally:
        stopped.set()
        for thread in threads:
            thread.join()


def fork_servers(gateway):
    return [each for each in psutil.Process(gateway.process.pid).children() if "main.py" in str(each.cmdline())]


@pytest.mark.timeout(3 * BUILD_TIMEOUT_S)
def test_two_releases_of_a_library_swap_under_load(client, releases, serve_isolated):
    """Requests go on while the alias moves between versions that no one environment could hold; none fails."""
    gateway = serve_isolated("--replicas", "2").ready(BUILD_TIMEOUT_S)
    environments = {}

    with asking(gateway) as (wrong, answered):
        for version in ("2", "1", "2", "1"):
            client.set_registered_model_alias("m", "champion", version)
            gateway.serves(version, within_s=BUILD_TIMEOUT_S)
            assert gateway.ask().json() == expected(version)
            environments[version] = gateway.status()["versions"][0]["environment"]

    assert wrong == []
    assert answered == {"1", "2"}
    assert len(set(environments.values())) == 2
    assert all(each.startswith("uv:") and " python 3." in each for each in environments.values())
    eventually(lambda: len(fork_servers(gateway)) == 1, "the fork server that no version needs has ended")


def test_a_second_start_needs_no_index(releases, serve_isolated, tmp_path):
    """What was locked and built serves when the index is gone."""
    serve_isolated().ready(BUILD_TIMEOUT_S).stop()

    gateway = serve_isolated(wheels=tmp_path / "nothing").ready(BUILD_TIMEOUT_S)

    assert gateway.ask().json() == expected("1")


@pytest.mark.parametrize(
    ("requirement", "message"),
    [
        ("no-such-package-of-anybody==1.0", "uv says: "),
        ("-r /etc/passwd", "requirements.txt of the model holds '-r /etc/passwd'"),
        ("own @ file:///etc/passwd", "a model may only name packages"),
    ],
)
def test_what_cannot_be_installed_is_told_and_the_old_version_serves(
    client, add, releases, serve_isolated, requirement, message
):
    """`last_error` has the cause in a sentence, it is tried again, and the next good version ends it."""
    gateway = serve_isolated().ready(BUILD_TIMEOUT_S)
    bad = add(**needing("cloudpickle", requirement))

    client.set_registered_model_alias("m", "champion", bad)
    error = eventually(lambda: gateway.status()["last_error"], "the failure is told")

    assert message in error["message"]
    assert requirement.partition("==")[0] in error["message"]
    assert error["version"] == bad
    assert error["retry_in_s"] > 0
    assert gateway.ask().json() == expected("1")
    client.set_registered_model_alias("m", "champion", "1")
    eventually(lambda: gateway.status()["last_error"] is None, "what is wanted is served")


def test_two_endpoints_share_an_environment(add, releases, serve_isolated):
    """Equal requirements are one environment and one fork server."""
    models = ("one=models:/m/1", "two=models:/m/1", "three=models:/m/2")

    gateway = serve_isolated(models=models).ready(BUILD_TIMEOUT_S)

    environments = [gateway.status(number)["versions"][0]["environment"] for number in range(3)]
    assert environments[0] == environments[1] != environments[2]
    assert len(fork_servers(gateway)) == 2
    for name, version in (("one", "1"), ("two", "1"), ("three", "2")):
        assert gateway.ask(path=f"/endpoints/{name}/invocations").json() == expected(version)


def test_replicas_that_die_come_back_in_their_environment(releases, serve_isolated):
    """The fork server is killed, with it its replicas, and both are there again."""
    gateway = serve_isolated().ready(BUILD_TIMEOUT_S)
    [server] = fork_servers(gateway)

    server.kill()

    answer = eventually(lambda: (found := gateway.ask()).status_code == 200 and found, "it answers again")
    assert answer.json() == expected("1")


def test_a_sleeping_model_has_its_environment_already(releases, serve_isolated, tmp_path):
    """No request waits for a build: a lazy endpoint is ready once its environment is, and loads under it."""
    gateway = serve_isolated("--lazy").ready(BUILD_TIMEOUT_S)
    before = gateway.replicas()

    answer = gateway.ask()

    assert before == []
    assert answer.json() == expected("1")


def test_a_sleeping_model_whose_environment_cannot_be_built_says_so(client, add, serve_isolated):
    """It is not ready, and a request hears why."""
    client.set_registered_model_alias("m", "champion", add(**needing("no-such-package-of-anybody")))
    gateway = serve_isolated("--lazy")

    eventually(lambda: gateway.status()["last_error"], "the failure is told")

    answer = gateway.ask()
    assert answer.status_code == 503
    assert "no-such-package-of-anybody" in answer.json()["message"]
