"""What a request may ask for as its deadline, and that a replica begins nothing after it."""

import asyncio
import json
import logging

import pytest

import registry
from gateway.config import EndpointConfig
from gateway.deadlines import Deadline, own_deadline
from gateway.errors import BadRequest, DeadlineExceeded
from gateway.runtimes.base import Resolved
from gateway.runtimes.local import LocalRuntime
from gateway.worker.frames import Payload
from tests.e2e.gateways import behaving


@pytest.mark.parametrize(
    ("header", "limit_s"),
    [(b"250ms", 0.25), (b"30s", 30), (b"2m", 120), (b"1h", 3600), (b"1.5", 1.5), (b" 7 ", 7), (b"0.5s", 0.5)],
)
def test_a_deadline_is_written_as_durations_are(header, limit_s):
    """With a unit, or as plain seconds."""
    assert own_deadline(header, 100.0) == Deadline(100.0 + limit_s, limit_s, is_own=True)


@pytest.mark.parametrize(
    "header", [b"", b"0", b"0ms", b"-1s", b"soon", b"1e3", b"1 s", b"1S", b"nan", b"inf", "٣s".encode(), b"1" * 10]
)
def test_what_is_no_duration_is_refused(header):
    """With what was found and what would do."""
    with pytest.raises(BadRequest, match="is no duration above zero, such as 250ms"):
        own_deadline(header, 100.0)


def test_the_sooner_of_two_counts():
    """A caller can shorten what the endpoint allows, never lengthen it."""
    own = own_deadline(b"10s", 100.0)

    assert own.sooner(100.0, 60.0) is own
    assert own.sooner(100.0, 5.0) == Deadline(105.0, 5.0)


def test_a_replica_begins_nothing_after_its_deadline(tmp_path, caplog):
    """What comes too late is told so, the model never sees it, and the next is answered."""
    registry.save_model(tmp_path / "model", behaving(1))
    resolved = Resolved(tmp_path / "model", "sha256:0", registry.read_mlmodel(tmp_path / "model"))
    body = json.dumps({"dataframe_records": [{"do": "print"}]}).encode()
    payload = Payload({"kind": "body", "content_type": "application/json"}, (body,))
    caplog.set_level(logging.INFO, "turnout.model")

    async def scenario():
        config = EndpointConfig("m", tmp_path)
        async with LocalRuntime(tmp_path / "cache") as runtime, runtime.prepare(resolved, config) as place:
            replica = await place.start(lambda _: None)
            now_s = asyncio.get_running_loop().time()
            late = [asyncio.create_task(replica.predict(payload, now_s + left_s)) for left_s in (-1, 60, -1)]
            outcomes = await asyncio.gather(*late, return_exceptions=True)
            await replica.close()
            return outcomes

    outcomes = asyncio.run(scenario())

    assert [type(each) for each in outcomes] == [DeadlineExceeded, Payload, DeadlineExceeded]
    assert caplog.messages.count("the model says hello") == 1
