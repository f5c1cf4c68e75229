"""What a leader and its members say to each other, and the note that a shared replica keeps."""

import asyncio
import json
import os
import socket
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.config import EndpointConfig, Settings
from gateway.endpoints import Endpoint, EndpointTable
from gateway.ingress import messages, numbers
from gateway.ingress.crew import Crew
from gateway.ingress.line import Line
from gateway.ingress.process import MemberProcess
from gateway.meters import LoopLag
from gateway.runtimes.base import Resolved
from gateway.runtimes.shared import SharedPlace
from gateway.servable import Servable
from gateway.worker import frames
from gateway.worker.timecard import Timecard
from registry import ModelUri, ModelVersion

CONFIG = EndpointConfig("wine", ModelUri.parse("models:/wine@champion"), replicas=2, predict_timeout_s=1.5)


def through_json(value):
    return json.loads(json.dumps(value))


@pytest.mark.parametrize(
    "model", [ModelUri.parse("models:/wine@champion"), ModelUri.parse("models:/a b/3"), Path("/m")]
)
def test_settings_come_through_as_they_are(model):
    """All limits and endpoints, whatever an endpoint serves."""
    settings = Settings((replace(CONFIG, model=model),), port=1, http_workers=3, cache=Path("/cache"))

    assert messages.settings_from(through_json(messages.settings_as_json(settings))) == settings


def test_the_registrys_password_stays_with_the_leader():
    """A member does not need the registry's address."""
    settings = Settings((CONFIG,), registry_uri="postgresql://ana:secret@db/registry")

    assert "secret" not in json.dumps(messages.settings_as_json(settings))


@pytest.mark.parametrize("version", [None, ModelVersion("wine", "3", 1, 2, tags={"a": "b"})])
async def test_a_version_comes_through_as_it_is(version):
    """Its files, its MLmodel, its registry entry, and how it is served."""
    resolved = Resolved(Path("/cache/x"), "sha256:12", {"signature": {"inputs": "[]"}}, version, "champion")
    servable = Servable(SharedPlace("local", "wine", lambda *_: None), resolved, CONFIG)

    row = through_json(messages.servable_as_json(7, servable))

    assert messages.version_from(row) == (resolved, CONFIG)
    assert (row["id"], row["environment"], row["replicas"], row["trouble"]) == (7, "local", [], None)


async def test_a_process_that_comes_later_hears_what_the_others_were_told(tmp_path):
    """That no replica is up, and why; so nobody waits there either."""
    servable = Servable.lent(SharedPlace("local", "wine", lambda *_: None), Resolved(tmp_path, "sha256:12", {}), CONFIG)
    servable.trouble = "a replica of version 3 ran out of memory"

    row = through_json(messages.servable_as_json(7, servable))
    await servable.abandon()

    assert row["trouble"] == "a replica of version 3 ran out of memory"


async def test_what_members_count_is_added_to_what_the_leader_counts():
    """Predictions, the servable's requests, and those in flight; each is taken once."""
    here, there = (Endpoint(CONFIG) for _ in range(2))
    resolved = Resolved(Path("/cache/x"), "sha256:12", {})
    ours, theirs = (Servable(SharedPlace("local", "wine", lambda *_: None), resolved, CONFIG) for _ in range(2))
    here.meters.of("3", "primary").count("ok", 0.002)
    there.meters.of("3", "primary").count("ok", 0.002)
    there.meters.of("3", "primary").count("refused", 0.0)
    there.last_used_s = 12.0

    with theirs.lease():
        for _ in range(2):
            used = through_json(numbers.taken([there], {7: theirs}, 0.0))
            numbers.add(used, "member", EndpointTable([here]), {7: ours})

    meter = here.meters.of("3", "primary")
    assert meter.outcomes == {"ok": 2, "refused": 1}
    assert (sum(meter.counts), meter.sum_s) == (2, 0.004)
    assert (ours.requests, ours.leases, here.last_used_s) == (1, 1, 12.0)


async def test_a_version_stays_open_until_its_last_holder_lets_go(tmp_path):
    """A process that may have requests in it keeps it open as a lease does, and to let go twice is to let go."""
    resolved = Resolved(tmp_path, "sha256:12", {})
    servable = Servable(SharedPlace("local", "wine", lambda *_: None), resolved, CONFIG)
    servable.hold("one")
    servable.hold("other")
    servable.let_go("one")
    servable.let_go("one")
    with servable.lease():
        pass
    retiring = asyncio.create_task(servable.retire())
    await asyncio.sleep(0)
    before = servable.state

    servable.let_go("other")
    await retiring

    assert (before, servable.state) == ("draining", "closed")


async def test_a_member_that_dies_with_its_question_asked_keeps_nothing_awake():
    """The leader hears in one turn of its loop that a request waits there for a model, and that the process is gone."""
    endpoint = Endpoint(CONFIG)
    endpoint.is_asleep = True
    crew = Crew([], None, None, EndpointTable([endpoint]), Settings((CONFIG,)), LoopLag(), "text")
    ours, theirs = socket.socketpair()
    member = MemberProcess(subprocess.Popen(["sleep", "60"]), None)
    line = await Line.open(ours, lambda message, body: crew._heard(member, message, body))

    theirs.send(frames.encode({"op": "wake", "endpoint": "wine"}))
    member.kill()
    os.waitid(os.P_PID, member.pid, os.WEXITED | os.WNOWAIT)
    await member.ended.wait()
    for _ in range(5):
        await asyncio.sleep(0)
        endpoint.came_to_nothing()

    assert not endpoint.is_awaited
    line.close()
    theirs.close()


def test_a_timecard_says_since_when_and_for_whom(tmp_path):
    """As another process reads it; after the call, since when there is none, and for whom the last one was."""
    written = Timecard(str(tmp_path / "card"), is_new=True)
    read = Timecard(str(tmp_path / "card"))
    before_s = time.monotonic()

    written.begin(4711)
    during = read.read()
    written.end()

    assert before_s <= during[0] <= time.monotonic()
    assert during[1] == 4711
    ended_s, caller = read.read()
    assert during[0] <= -ended_s <= time.monotonic()
    assert caller == 4711


def test_a_timecard_that_nobody_writes_is_not_made_up(tmp_path):
    """The replica it was of is gone."""
    with pytest.raises(FileNotFoundError):
        Timecard(str(tmp_path / "card"))
