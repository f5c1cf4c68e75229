"""Webhooks and the messages that wait for them, in every kind of database."""

from __future__ import annotations

import json
import threading
import time
from itertools import pairwise

import pytest

from registry.changes import EVENTS
from registry.errors import InvalidParameter, NotFound

# Those that a server can stand on: a server's clients have its routes instead.
pytestmark = pytest.mark.parametrize("registry", ["sqlite", "postgresql"], indirect=True)

URL = "https://8.8.8.8/hook"
KEY = "k" * 32
ALL = EVENTS
CLAIM_MS = 60_000


@pytest.fixture
def webhooks(registry, monkeypatch):
    """With a key for secrets, on every kind of database."""
    monkeypatch.setenv("TURNOUT_SECRET_KEY", KEY)
    return registry.webhooks


def messages(webhooks):
    """What is due, as (event, data), claimed until nothing is left."""
    found = []
    while claimed := webhooks.claim_deliveries(100, CLAIM_MS):
        for each in claimed:
            body = json.loads(each.body)
            found.append((f"{body['entity']}.{body['action']}", body["data"]))
            webhooks.finish_delivery(each.id, None)
    return found


def claim_next(webhooks):
    """The next message, as soon as one is due."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if claimed := webhooks.claim_deliveries(10, CLAIM_MS):
            return claimed
        time.sleep(0.05)
    raise AssertionError("nothing was due within 30 s")


def test_create_and_get(webhooks):
    """A webhook is read as it was made: events once each, without its secret."""
    made = webhooks.create_webhook("hook", URL, ["MODEL_VERSION.CREATED"] * 2, description="d", secret="hush")

    assert webhooks.get_webhook(made.webhook_id) == made
    assert (made.name, made.url, list(made.events)) == ("hook", URL, ["MODEL_VERSION.CREATED"])
    assert (made.description, made.status) == ("d", "ACTIVE")
    assert made.creation_timestamp == made.last_updated_timestamp > 0
    assert "hush" not in repr(made)
    assert webhooks.secret_of(made.webhook_id) == "hush"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", "-a"),
        ("name", "a-"),
        ("name", "a b"),
        ("name", "é"),
        ("name", "a" * 64),
        ("name", "a\n"),
        ("name", None),
        ("events", []),
        ("events", "MODEL_VERSION.CREATED"),
        ("events", ["MODEL_VERSION.SET"]),
        ("events", ["model_version.created"]),
        ("events", [7]),
        ("events", [["MODEL_VERSION.CREATED"]]),
        ("status", "active"),
        ("status", "DELETED"),
        ("description", "d" * 1001),
        ("secret", "s" * 1001),
        ("secret", 7),
        ("url", ""),
        ("url", "https://8.8.8.8/" + "a" * 2000),
        ("url", "ftp://8.8.8.8/"),
        ("url", None),
    ],
)
def test_what_is_refused(webhooks, field, value):
    """What a webhook cannot be is refused, and nothing is kept."""
    given = {"name": "hook", "url": URL, "events": ["MODEL_VERSION.CREATED"], field: value}

    with pytest.raises(InvalidParameter):
        webhooks.create_webhook(**given)

    assert list(webhooks.list_webhooks()) == []


@pytest.mark.parametrize(
    "url",
    [
        "http://8.8.8.8/",
        "https://127.0.0.1/",
        "https://169.254.169.254/latest/meta-data",
        "https://[::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://0/",
        "https://2130706433/",
        "https://0x7f.1/",
        "https://localhost/",
        "https://user:secret@8.8.8.8/",
    ],
)
def test_tf063_an_internal_address_is_refused(webhooks, url):
    """An address that is not public is refused when a webhook is made, and when it is given another one."""
    made = webhooks.create_webhook("hook", URL, ["MODEL_VERSION.CREATED"])

    with pytest.raises(InvalidParameter):
        webhooks.create_webhook("hook", url, ["MODEL_VERSION.CREATED"])
    with pytest.raises(InvalidParameter):
        webhooks.update_webhook(made.webhook_id, url=url)

    assert list(webhooks.list_webhooks()) == [made]


def test_an_allowed_host_may_be_inside(registry, monkeypatch):
    """A host that the operator lists may be called, by http too; others at that address may not."""
    monkeypatch.setenv("TURNOUT_WEBHOOK_ALLOWED_HOSTS", "chat.internal, 127.0.0.1:8080")

    made = registry.webhooks.create_webhook("hook", "http://127.0.0.1:8080/x", ["MODEL_VERSION.CREATED"])

    assert made.url == "http://127.0.0.1:8080/x"
    registry.webhooks.create_webhook("hook", "https://chat.internal/x", ["MODEL_VERSION.CREATED"])
    with pytest.raises(InvalidParameter):
        registry.webhooks.create_webhook("hook", "http://127.0.0.1:8081/x", ["MODEL_VERSION.CREATED"])


def test_list_newest_first_in_pages(webhooks):
    """Listing goes from the newest to the oldest, each once, over pages of any size."""
    made = [webhooks.create_webhook(f"hook-{number}", URL, ["MODEL_VERSION.CREATED"]) for number in range(5)]

    for size in (1, 2, 5, 100):
        found, token = [], None
        while True:
            page = webhooks.list_webhooks(size, token)
            found += page
            token = page.token
            if token is None:
                break
        assert {each.webhook_id for each in found} == {each.webhook_id for each in made}
        assert len(found) == 5
        assert all(a.creation_timestamp >= b.creation_timestamp for a, b in pairwise(found))


@pytest.mark.parametrize("token", ["x", "e30=", "WzEsMl0=", "WyJhIiwiYiJd", "é", "W" * 300])
def test_a_foreign_page_token_is_refused(webhooks, token):
    """A token that no page had is refused."""
    with pytest.raises(InvalidParameter, match="token"):
        webhooks.list_webhooks(10, token)


@pytest.mark.parametrize("size", [0, -1, 1001, "7", None])
def test_a_wrong_page_size_is_refused(webhooks, size):
    """A page has one to a thousand webhooks."""
    with pytest.raises(InvalidParameter, match="max_results"):
        webhooks.list_webhooks(size)


def test_update_changes_what_is_given(webhooks):
    """An update changes what is given, keeps the rest, and takes away an empty secret or description."""
    made = webhooks.create_webhook("hook", URL, ["MODEL_VERSION.CREATED"], description="d", secret="hush")

    renamed = webhooks.update_webhook(made.webhook_id, name="other", events=["PROMPT.CREATED"])
    bare = webhooks.update_webhook(made.webhook_id, description="", secret="")

    assert (renamed.name, renamed.url, list(renamed.events)) == ("other", URL, ["PROMPT.CREATED"])
    assert renamed.description == "d"
    assert (bare.name, bare.description) == ("other", "")
    assert bare.last_updated_timestamp >= made.last_updated_timestamp
    assert webhooks.secret_of(made.webhook_id) is None


def test_delete(webhooks, registry):
    """A deleted webhook is gone, with the messages that waited for it."""
    made = webhooks.create_webhook("hook", URL, ["REGISTERED_MODEL.CREATED"])
    registry.create_registered_model("wine")

    webhooks.delete_webhook(made.webhook_id)

    for ask in (webhooks.get_webhook, webhooks.delete_webhook, webhooks.update_webhook, webhooks.secret_of):
        with pytest.raises(NotFound, match=made.webhook_id):
            ask(made.webhook_id)
    assert messages(webhooks) == []
    assert list(webhooks.list_webhooks()) == []


def test_every_event_of_a_model(registry, webhooks, make_version):
    """Each change of a model that MLflow tells of is told once, with what MLflow tells."""
    webhooks.create_webhook("hook", URL, ALL)
    registry.create_registered_model("wine", {"team": "cellar"}, "red")
    version = make_version(tags={"a": "1"}, description="first")
    registry.set_model_version_tag("wine", 1, "b", "2")
    registry.delete_model_version_tag("wine", 1, "b")
    registry.set_registered_model_alias("wine", "champion", 1)
    registry.delete_registered_model_alias("wine", "champion")

    told = messages(webhooks)

    assert told[0] == (
        "registered_model.created",
        {"name": "wine", "tags": {"team": "cellar"}, "description": "red"},
    )
    event, data = told[1]
    assert event == "model_version.created"
    assert data == {
        "name": "wine",
        "version": "1",
        "source": version.source,
        "run_id": None,
        "tags": dict(version.tags),
        "description": "first",
    }
    place = {"name": "wine", "version": "1"}
    assert told[2:] == [
        ("model_version_tag.set", place | {"key": "b", "value": "2"}),
        ("model_version_tag.deleted", place | {"key": "b"}),
        ("model_version_alias.created", {"name": "wine", "alias": "champion", "version": "1"}),
        ("model_version_alias.deleted", {"name": "wine", "alias": "champion"}),
    ]


def test_every_event_of_a_prompt(registry, webhooks):
    """A model that is a prompt is told of by its own events, without the tags that mark it."""
    webhooks.create_webhook("hook", URL, ALL)
    mark = {"mlflow.prompt.is_prompt": "true"}
    registry.create_registered_model("greeting", mark | {"team": "cellar"})
    text = {"mlflow.prompt.text": "Hi {{name}}", "_mlflow_prompt_type": "text", "lang": "en"}
    registry.create_model_version("greeting", "dummy-source", tags=mark | text)
    registry.set_registered_model_tag("greeting", "a", "1")
    registry.delete_registered_model_tag("greeting", "a")
    registry.set_model_version_tag("greeting", 1, "b", "2")
    registry.delete_model_version_tag("greeting", 1, "b")
    registry.set_registered_model_alias("greeting", "live", 1)
    registry.delete_registered_model_alias("greeting", "live")

    place = {"name": "greeting", "version": "1"}
    assert messages(webhooks) == [
        ("prompt.created", {"name": "greeting", "tags": {"team": "cellar"}, "description": ""}),
        (
            "prompt_version.created",
            place | {"template": "Hi {{name}}", "tags": {"lang": "en"}, "description": None},
        ),
        ("prompt_tag.set", {"name": "greeting", "key": "a", "value": "1"}),
        ("prompt_tag.deleted", {"name": "greeting", "key": "a"}),
        ("prompt_version_tag.set", place | {"key": "b", "value": "2"}),
        ("prompt_version_tag.deleted", place | {"key": "b"}),
        ("prompt_alias.created", {"name": "greeting", "alias": "live", "version": "1"}),
        ("prompt_alias.deleted", {"name": "greeting", "alias": "live"}),
    ]


def test_other_changes_are_not_told(registry, webhooks, make_version):
    """Nobody is told of a rename, a description, a stage, a model's tag or a deletion, as in MLflow."""
    registry.create_registered_model("wine")
    make_version()
    webhooks.create_webhook("hook", URL, ALL)

    registry.set_registered_model_tag("wine", "a", "1")
    registry.delete_registered_model_tag("wine", "a")
    registry.update_registered_model("wine", "red")
    registry.update_model_version("wine", 1, "first")
    registry.transition_model_version_stage("wine", 1, "Staging")
    registry.rename_registered_model("wine", "beer")
    registry.delete_model_version("beer", 1)
    registry.delete_registered_model("beer")

    assert messages(webhooks) == []


def test_moves_of_an_alias_are_told(registry, webhooks, make_version):
    """A move, a rollback and the loss of its version are told too; setting it to where it is, is no change."""
    registry.create_registered_model("wine")
    make_version()
    make_version()
    webhooks.create_webhook("hook", URL, ["MODEL_VERSION_ALIAS.CREATED", "MODEL_VERSION_ALIAS.DELETED"])

    registry.set_registered_model_alias("wine", "champion", 1)
    registry.set_registered_model_alias("wine", "champion", 2)
    registry.set_registered_model_alias("wine", "champion", 2)
    registry.rollback_alias("wine", "champion")
    registry.delete_model_version("wine", 1)

    told = [(event.rpartition(".")[2], data.get("version")) for event, data in messages(webhooks)]
    assert told == [("created", "1"), ("created", "2"), ("created", "1"), ("deleted", None)]


def test_only_who_asked_is_told(registry, webhooks):
    """A webhook is told of its own events only, and not at all while it is disabled."""
    asked = webhooks.create_webhook("asked", URL, ["REGISTERED_MODEL.CREATED"])
    webhooks.create_webhook("other", "https://8.8.4.4/other", ["MODEL_VERSION.CREATED"])
    webhooks.create_webhook("off", "https://8.8.4.4/off", ["REGISTERED_MODEL.CREATED"], status="DISABLED")

    registry.create_registered_model("wine")

    (delivery,) = webhooks.claim_deliveries(10, CLAIM_MS)
    assert (delivery.url, delivery.secret, delivery.attempts) == (asked.url, None, 1)


def test_disabling_drops_what_waits(registry, webhooks):
    """What waited when a webhook was disabled is not sent when it is active again."""
    made = webhooks.create_webhook("hook", URL, ["REGISTERED_MODEL.CREATED"])
    registry.create_registered_model("wine")

    webhooks.update_webhook(made.webhook_id, status="DISABLED")
    webhooks.update_webhook(made.webhook_id, status="ACTIVE")

    assert messages(webhooks) == []


def test_a_change_that_is_undone_is_not_told(registry, webhooks):
    """A change that failed leaves no message."""
    webhooks.create_webhook("hook", URL, ALL)

    with pytest.raises(NotFound):
        registry.set_registered_model_alias("wine", "champion", 1)

    assert messages(webhooks) == []


def test_a_claim_ends(registry, webhooks):
    """A message that was claimed is given to nobody else, until the claim ends; then it counts as another attempt."""
    webhooks.create_webhook("hook", URL, ["REGISTERED_MODEL.CREATED"], secret="hush")
    registry.create_registered_model("wine")

    (first,) = webhooks.claim_deliveries(10, 2_000)
    assert list(webhooks.claim_deliveries(10, 2_000)) == []
    (second,) = claim_next(webhooks)

    assert (first.delivery_id, first.body, first.secret) == (second.delivery_id, second.body, "hush")
    assert (first.attempts, second.attempts) == (1, 2)


def test_a_retry_is_due_later(registry, webhooks):
    """A failed message is due again when it was said to be; others of its webhook go on meanwhile."""
    webhooks.create_webhook("hook", URL, ["REGISTERED_MODEL.CREATED"])
    registry.create_registered_model("wine")
    registry.create_registered_model("beer")

    (failed,) = webhooks.claim_deliveries(10, CLAIM_MS)
    webhooks.finish_delivery(failed.id, 2_000)
    (other,) = webhooks.claim_deliveries(10, CLAIM_MS)
    webhooks.finish_delivery(other.id, None)

    assert json.loads(other.body)["data"]["name"] == "beer"
    assert list(webhooks.claim_deliveries(10, CLAIM_MS)) == []
    (again,) = claim_next(webhooks)
    assert (again.delivery_id, again.attempts) == (failed.delivery_id, 2)


def test_one_message_of_a_webhook_at_a_time(registry, webhooks):
    """Each webhook is sent its messages in order, one after another, and never more than were asked for."""
    for number in range(3):
        webhooks.create_webhook(f"hook-{number}", f"https://8.8.8.8/{number}", ["REGISTERED_MODEL.CREATED"])
    registry.create_registered_model("wine")
    registry.create_registered_model("beer")

    two = webhooks.claim_deliveries(2, CLAIM_MS)
    rest = webhooks.claim_deliveries(10, CLAIM_MS)

    assert len({each.url for each in [*two, *rest]}) == 3
    assert (len(two), len(rest)) == (2, 1)
    assert {json.loads(each.body)["data"]["name"] for each in [*two, *rest]} == {"wine"}
    assert list(webhooks.claim_deliveries(0, CLAIM_MS)) == []


def test_nobody_claims_what_another_has(registry, webhooks):
    """Of many who claim at once, each message has one."""
    for number in range(10):
        webhooks.create_webhook(f"hook-{number}", f"https://8.8.8.8/{number}", ["REGISTERED_MODEL.CREATED"])
    registry.create_registered_model("wine")
    claimed = []
    start = threading.Barrier(4)

    def claim():
        start.wait()
        for _ in range(5):
            claimed.extend(each.id for each in webhooks.claim_deliveries(3, CLAIM_MS))

    threads = [threading.Thread(target=claim) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    assert len(claimed) == len(set(claimed)) == 10
