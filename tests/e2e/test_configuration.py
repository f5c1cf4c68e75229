"""The configuration file: what changes in it takes effect while requests go on."""

import contextlib
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

import registry
from tests.e2e.gateways import behaving, eventually
from tests.e2e.servers import RegistryServer
from tests.e2e.test_swap import Clients


@pytest.fixture
def configured(tmp_path, serve, champion):
    """A gateway that is configured by a file, and a function that writes the file anew."""
    path = tmp_path / "turnout.toml"

    def write(text):
        path.write_text(f'[registry]\nuri = "sqlite:///{tmp_path}/turnout.db"\n{text}')

    def start(text):
        write(text)
        return serve("--config", str(path), models=(), registry_uri=False).ready()

    return start, write


ONE = '[endpoints.m]\nmodel = "models:/m@champion"\n'
TWO = ONE + '[endpoints.fixed]\nmodel = "models:/m/1"\n'


def names(gateway):
    return [each["name"] for each in gateway.client.get("/status").json()["endpoints"]]


def test_endpoints_come_and_go_with_the_file(configured):
    """A new section is served, one that is taken out is closed with its processes, and the other never notices."""
    start, write = configured
    gateway = start(ONE)
    clients = Clients(gateway, 2)

    write(TWO.replace("[endpoints.m]\n", "[endpoints.m]\ndefault = true\n"))
    eventually(lambda: gateway.ask(path="/endpoints/fixed/invocations").status_code == 200, "the new one is served")
    write(ONE)
    eventually(lambda: names(gateway) == ["m"], "the file's section is gone")
    gone = gateway.ask(path="/endpoints/fixed/invocations")
    eventually(lambda: len(gateway.replicas()) == 1, "its process is gone")
    clients.stop()

    assert clients.wrong == []
    assert gone.status_code == 404
    assert "there is: m" in gone.json()["message"]


@pytest.mark.parametrize("http_workers", [1, 2])
def test_whoever_waits_for_an_endpoint_that_is_taken_out_hears_so(configured, add, http_workers):
    """Its model is still being loaded, and will not be: nobody waits for that until a time-out."""
    start, write = configured
    add(behaving(2, on_load="hang"))
    rest = ONE + f"[server]\nhttp_workers = {http_workers}\n"
    gateway = start(rest + '[endpoints.slow]\nmodel = "models:/m/2"\nkeep_warm = false\n')
    eventually(lambda: len(gateway.client.get("/status").json()["http_workers"]) == http_workers, "all take requests")
    with ThreadPoolExecutor(12) as threads:
        asked = [threads.submit(gateway.ask, path="/endpoints/slow/invocations", timeout=30) for _ in range(12)]
        eventually(lambda: '"state":"loading"' in gateway.client.get("/status").text, "it is being loaded")

        write(rest)

        answers = [each.result() for each in asked]
    assert {each.status_code for each in answers} <= {503, 404}
    assert any("it is not configured any more" in each.text for each in answers)


def test_a_body_that_is_sent_while_its_endpoint_is_taken_out_is_answered(configured):
    """The version that would have answered it is closed; the client hears at once that there is none."""
    start, write = configured
    gateway = start(TWO)
    head = b"POST /endpoints/fixed/invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    body = b'{"dataframe_records": [{"do": "nothing"}]}'
    url = gateway.client.base_url
    with socket.create_connection((url.host, url.port), timeout=15) as client:
        client.sendall(head + b"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n" % len(body))
        assert client.recv(100).startswith(b"HTTP/1.1 100")  # from here on its endpoint is known

        write(ONE)
        eventually(lambda: len(gateway.replicas()) == 1, "its process is gone")
        client.sendall(body)

        assert client.recv(1000).startswith(b"HTTP/1.1 503")


def test_an_endpoint_is_changed_without_losing_a_request(configured):
    """More replicas are brought up beside the one that serves."""
    start, write = configured
    gateway = start(ONE)
    clients = Clients(gateway, 2)

    write(ONE + "replicas = 2\n")
    eventually(lambda: gateway.status()["versions"][0].get("replicas") == 2, "two replicas serve")
    eventually(lambda: len(gateway.replicas()) == 2, "the one before is gone")
    clients.stop()

    assert clients.wrong == []


def test_an_endpoint_is_pointed_elsewhere(configured, add):
    """Another reference in the file is followed from then on."""
    start, write = configured
    add(behaving(2))
    gateway = start(ONE)

    write(ONE.replace("m@champion", "m/2"))

    gateway.serves(2)
    assert gateway.ask().json() == {"predictions": [2]}


def test_an_alias_is_followed_after_the_file_has_changed(configured, add, client):
    """Looking goes on for those that stay, and begins for those that come."""
    start, write = configured
    add(behaving(2))
    gateway = start(ONE)
    write(TWO)
    eventually(lambda: "fixed" in names(gateway), "the file is taken over")

    client.set_registered_model_alias("m", "champion", "2")

    gateway.serves(2)


def test_a_broken_file_leaves_the_old_settings_in_force(configured):
    """The log, /status and the metrics say what is wrong, until it is mended."""
    start, write = configured
    gateway = start(ONE)

    write(ONE + "replicas = many\n")
    problem = eventually(lambda: gateway.client.get("/status").json()["config"]["problem"], "the problem is told")
    metrics = gateway.client.get("/metrics").text
    answer = gateway.ask()
    write(ONE)
    eventually(lambda: gateway.client.get("/status").json()["config"]["problem"] is None, "it is mended")

    assert "is no TOML" in problem
    assert "stay in force" in problem
    assert problem in gateway.log()
    assert "turnout_config_last_reload_successful 0.0" in metrics
    assert answer.status_code == 200


def test_an_address_that_is_no_registry_changes_nothing(configured, tmp_path):
    """It is found out while the file is read, and not in the middle of following it."""
    start, _ = configured
    gateway = start(ONE)

    (tmp_path / "turnout.toml").write_text(f'[registry]\nuri = "sqlite:turnout.db"\n{ONE}')
    problem = eventually(lambda: gateway.client.get("/status").json()["config"]["problem"], "the problem is told")

    assert "names no SQLite file" in problem
    assert gateway.ask().status_code == 200


def test_a_file_that_is_away_for_a_moment_changes_nothing(configured, tmp_path):
    """As while an editor, or a tool that deploys, replaces it."""
    start, _ = configured
    gateway = start(ONE)

    (tmp_path / "turnout.toml").rename(tmp_path / "away.toml")
    eventually(lambda: gateway.client.get("/status").json()["config"]["problem"], "its absence is told")
    answer = gateway.ask()
    (tmp_path / "away.toml").rename(tmp_path / "turnout.toml")
    eventually(lambda: gateway.client.get("/status").json()["config"]["problem"] is None, "it is there again")

    assert answer.status_code == 200


def test_what_needs_a_start_is_said(configured):
    """The address that is listened on stays; the rest of the file is taken over."""
    start, write = configured
    gateway = start(ONE)

    write('[server]\nhost = "127.0.0.2"\n' + TWO)

    eventually(lambda: "fixed" in names(gateway), "the rest is taken over")
    assert "server.host will change at the next start" in gateway.client.get("/status").json()["config"]["problem"]


def test_another_registry_is_followed(configured, tmp_path):
    """What is served stays until the other registry has said what should be, and then swaps."""
    start, _ = configured
    gateway = start(ONE)
    clients = Clients(gateway, 2)
    other = f"sqlite:///{tmp_path}/other/turnout.db"
    (tmp_path / "other").mkdir()
    with contextlib.closing(registry.connect(other)) as client:
        for number in (1, 2):
            registry.log_model(behaving(number), name="m", registered_model_name="m", client=client)
        client.set_registered_model_alias("m", "champion", "2")

    (tmp_path / "turnout.toml").write_text(f'[registry]\nuri = "{other}"\n{ONE}')
    gateway.serves(2)
    clients.stop()

    assert clients.wrong == []
    assert gateway.client.get("/status").json()["registry"]["uri"] == other


def test_another_registry_is_reported_to(configured, tmp_path):
    """A server that the file comes to name shows what this gateway serves."""
    start, _ = configured
    start(ONE)
    uri = f"sqlite:///{tmp_path}/turnout.db"

    with contextlib.closing(RegistryServer(tmp_path, uri).ready()) as server:
        (tmp_path / "turnout.toml").write_text(f'[registry]\nuri = "{server.url}"\n{ONE}')
        gateways = eventually(
            lambda: server.client.get("/api/turnout/v1/gateways").json()["gateways"], "the gateway reports there"
        )

    assert [each["name"] for each in gateways[0]["endpoints"]] == ["m"]


def test_a_sleeping_endpoint_is_pointed_at_nothing(configured):
    """Who asks for it hears why it does not wake, and the gateway goes on."""
    start, write = configured
    gateway = start(ONE + "keep_warm = false\n")

    write(ONE.replace("m@champion", "m@nobody") + "keep_warm = false\n")
    eventually(lambda: gateway.status()["alias"] == "nobody", "the file is taken over")
    answer = gateway.ask()

    assert answer.status_code == 503
    assert "has no alias 'nobody'" in answer.json()["message"]
