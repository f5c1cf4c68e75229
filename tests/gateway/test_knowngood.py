"""The last set of versions that served."""

import pytest

from gateway.knowngood import KnownGood, KnownGoodFile
from registry import ModelVersion

ONE = KnownGood(
    ModelVersion("wine", "1", 10, 10, tags={"turnout.digest": "sha256:a"}, aliases=[], registry="r"), "sha256:a"
)
TWO = KnownGood(ModelVersion("wine", "2", 20, 20, aliases=[], registry="r"), "sha256:b")


def test_what_was_written_is_read(tmp_path):
    """A new object on the same cache and registry reads it; another registry's file is another."""
    KnownGoodFile(tmp_path, "sqlite:////a.db").write({"models:/wine@champion": ONE})

    assert KnownGoodFile(tmp_path, "sqlite:////a.db").read() == {"models:/wine@champion": ONE}
    assert KnownGoodFile(tmp_path, "sqlite:////b.db").read() == {}


def test_writing_one_reference_keeps_the_others(tmp_path):
    """Each endpoint writes its own when it swaps."""
    file = KnownGoodFile(tmp_path, "r")
    file.write({"models:/wine@champion": ONE, "models:/wine@challenger": TWO})

    file.write({"models:/wine@champion": TWO})

    assert file.read() == {"models:/wine@champion": TWO, "models:/wine@challenger": TWO}


@pytest.mark.parametrize("content", ["", "nonsense", "[]", '{"a": 1}', '{"a": {"version": {"x": 1}, "digest": ""}}'])
def test_what_cannot_be_read_is_left_out(tmp_path, content):
    """A damaged file is no reason not to start."""
    file = KnownGoodFile(tmp_path, "r")
    file.write({"models:/wine@champion": ONE})
    (path,) = (tmp_path / "known-good").iterdir()
    path.write_text(content)

    assert file.read() == {}


def test_nothing_half_written_is_left(tmp_path):
    """One file, readable by its owner only."""
    KnownGoodFile(tmp_path, "r").write({"models:/wine@champion": ONE})

    (path,) = (tmp_path / "known-good").iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
