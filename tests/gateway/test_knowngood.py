"""The last set of versions that served."""

import pytest

from gateway.knowngood import KnownGood, KnownGoodSet
from registry import ModelVersion

ONE = KnownGood(ModelVersion("wine", "1", 10, 10, tags={"turnout.digest": "sha256:a"}, aliases=[], registry="r"), "a")
TWO = KnownGood(ModelVersion("wine", "2", 20, 20, aliases=[], registry="r"), "b")


def test_what_was_written_is_read(tmp_path):
    """A new object on the same cache and registry reads it; another registry has its own."""
    KnownGoodSet(tmp_path, "sqlite:////a.db").write("models:/wine@champion", ONE)

    assert KnownGoodSet(tmp_path, "sqlite:////a.db").read("models:/wine@champion") == ONE
    assert KnownGoodSet(tmp_path, "sqlite:////b.db").read("models:/wine@champion") is None


def test_each_reference_is_kept_by_itself(tmp_path):
    """Each endpoint writes its own when it swaps."""
    known = KnownGoodSet(tmp_path, "r")
    known.write("models:/wine@champion", ONE)
    known.write("models:/wine@challenger", TWO)

    known.write("models:/wine@champion", TWO)

    assert known.read("models:/wine@champion") == TWO
    assert known.read("models:/wine@challenger") == TWO


@pytest.mark.parametrize("content", ["", "nonsense", "[]", '{"a": 1}', '{"version": {"x": 1}, "digest": ""}'])
def test_what_cannot_be_read_is_left_out(tmp_path, content):
    """A damaged file is no reason not to start."""
    known = KnownGoodSet(tmp_path, "r")
    known.write("models:/wine@champion", ONE)
    (path,) = tmp_path.rglob("*.json")
    path.write_text(content)

    assert known.read("models:/wine@champion") is None


def test_nothing_half_written_is_left(tmp_path):
    """One file, readable by its owner only."""
    KnownGoodSet(tmp_path, "r").write("models:/wine@champion", ONE)

    (path,) = [each for each in tmp_path.rglob("*") if each.is_file()]
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_cannot_be_written_leaves_nothing(tmp_path):
    """As on a full disk, which would be fuller with each swap."""
    known = KnownGoodSet(tmp_path, "r")
    known.write("models:/wine@champion", ONE)
    (path,) = tmp_path.rglob("*.json")
    path.unlink()
    path.mkdir()  # which no file can take the place of

    with pytest.raises(OSError, match="directory"):
        known.write("models:/wine@champion", TWO)

    assert list(path.parent.iterdir()) == [path]
