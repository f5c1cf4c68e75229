"""What stock clients once sent to a stock server, sent to ours: the same answers, field by field."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.connection import connect
from registry.server.transport import acting
from tests.compat.replay import Deliberate, Replay, read
from tests.registry.serving import served

RECORDINGS = sorted((Path(__file__).parent / "recorded").glob("*.jsonl"))

# What differs on purpose, beside texts, times and made-up ids, which are never compared.
DELIBERATE = (
    Deliberate(
        r"GET 3\.0/mlflow/server-info",
        r"presigned_upload_(run|model)_id_supported|features_enabled\.gateway",
        "no upload goes past the server, and it is no gateway for language models",
    ),
)
# A version's digest, which clients show and copy like any other tag.
OWN_TAGS = frozenset({"turnout.digest"})


@pytest.fixture
def address(tmp_path: Path) -> Iterator[tuple[str, int]]:
    # A stock server takes any bucket; ours takes those that its operator names.
    buckets = ["s3://bucket", "s3://b"]
    database = f"sqlite:///{tmp_path / 'registry.db'}"
    with (
        connect(database, actor=acting.get, allowed_sources=buckets) as registry,
        served(registry) as address,
    ):
        yield address


@pytest.mark.parametrize("prefix", ["/api", "/ajax-api"])
@pytest.mark.parametrize("recording", RECORDINGS, ids=[each.stem for each in RECORDINGS])
def test_a_recorded_workflow_is_answered_alike(recording: Path, prefix: str, address: tuple[str, int]) -> None:
    """Every status, error code, field and value is the stock server's."""
    replay = Replay(*address, prefix, DELIBERATE, OWN_TAGS)

    differences = replay.differences(read(recording))

    assert not differences, "\n".join([f"{len(differences)} differences in {recording.name}:", *differences])


def test_every_recording_is_there() -> None:
    """Eighteen workflows of each client major are replayed."""
    assert [
        len([each for each in RECORDINGS if each.name.startswith(client)]) for client in ("mlflow2", "mlflow3")
    ] == [18, 18]
