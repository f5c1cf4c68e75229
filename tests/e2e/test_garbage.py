"""Requests leave nothing behind for the garbage collector, whose passes would stop every other request."""

import json
import re
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas
import pytest
from sklearn.linear_model import LinearRegression

import registry
from tests.e2e.gateways import behaving, eventually

# The interpreter imports it by its name. The first signal empties what there is, the second says what came meanwhile.
COLLECTOR = """
import gc, signal, sys

def begin(*_):
    gc.collect()
    gc.disable()
    print("collector: begins", file=sys.stderr, flush=True)

def end(*_):
    print(f"collector: {gc.collect()} objects", file=sys.stderr, flush=True)
    gc.enable()

signal.signal(signal.SIGUSR1, begin)
signal.signal(signal.SIGUSR2, end)
"""
REQUESTS = 40
ROW = {"dataframe_split": {"columns": ["a"], "data": [[1.0]]}}


@pytest.fixture
def gateway(tmp_path, add, client, serve):
    """One with a quick model `m`, whose requests are joined, and a model `slow`, with room for few requests."""
    table = pandas.DataFrame({"a": [0.0, 1.0, 2.0]})
    for name, model, attributes in (
        ("m", LinearRegression().fit(table, table["a"]), {"input_example": table}),
        ("slow", behaving(1), {}),
    ):
        client.set_registered_model_alias(name, "champion", add(model, name, **attributes))
    (tmp_path / "sitecustomize.py").write_text(COLLECTOR)
    path = f"{tmp_path}:{Path(registry.__file__).parents[1]}"
    models = ("m=models:/m@champion", "slow=models:/slow@champion")
    gateway = serve("--max-queue", "2", models=models, environment={"PYTHONPATH": path}).ready()
    eventually(
        lambda: "batch" in str(gateway.status(0)["versions"][0]["path"]), "the quick model's requests are joined"
    )
    return gateway


def post(gateway, name, body, **headers):
    content = body if isinstance(body, str) else json.dumps(body)
    kind = {"Content-Type": "application/json"}
    return gateway.client.post(f"/endpoints/{name}/invocations", content=content, headers=kind | headers).status_code


def together(gateway, name, body, **headers):
    with ThreadPoolExecutor(8) as threads:
        return set(threads.map(lambda _: post(gateway, name, body, **headers), range(REQUESTS)))


def leave(gateway):
    """Send a request, and hang up."""
    body = json.dumps(SLEEP).encode()
    for _ in range(REQUESTS):
        with socket.create_connection(("127.0.0.1", gateway.client.base_url.port)) as connection:
            head = f"POST /endpoints/slow/invocations HTTP/1.1\r\nHost: here\r\nContent-Length: {len(body)}\r\n"
            connection.sendall(f"{head}Content-Type: application/json\r\n\r\n".encode() + body)
    return True


SLEEP = {"dataframe_records": [{"do": "sleep 0.05"}]}
CASES = {
    "answered": lambda gateway: {post(gateway, "m", ROW) for _ in range(REQUESTS)} == {200},
    "joined": lambda gateway: 200 in together(gateway, "m", ROW),
    "refused by the model": lambda gateway: 400 in together(gateway, "m", {"dataframe_records": [{"b": 1}]}),
    "no JSON": lambda gateway: 400 in together(gateway, "m", "{"),
    "no endpoint": lambda gateway: together(gateway, "none", ROW) == {404},
    "no room": lambda gateway: together(gateway, "slow", SLEEP) == {200, 429},
    "too late": lambda gateway: 504 in together(gateway, "slow", SLEEP, **{"X-Request-Timeout": "20ms"}),
    "the client leaves": leave,
}


def test_requests_leave_no_rings_of_references(gateway):
    """Whatever becomes of them: fewer objects are found than there were requests, and a ring has several."""
    found = {}
    for name, ask in CASES.items():
        asked(gateway, signal.SIGUSR1, "collector: begins", len(found) + 1)
        assert ask(gateway), name
        eventually(lambda: is_idle(gateway), "no request is under way any more")
        asked(gateway, signal.SIGUSR2, r"collector: (\d+) objects", len(found) + 1)
        found[name] = int(re.findall(r"collector: (\d+) objects", gateway.log())[-1])

    assert {name: count for name, count in found.items() if count >= REQUESTS} == {}


def is_idle(gateway):
    in_flight = re.findall(
        r"^turnout_requests_in_flight\{.*\} (.*)$", gateway.client.get("/metrics").text, re.MULTILINE
    )
    return in_flight == ["0.0", "0.0"]


def asked(gateway, number, answer, times):
    gateway.process.send_signal(number)
    eventually(lambda: len(re.findall(answer, gateway.log())) == times, answer)
