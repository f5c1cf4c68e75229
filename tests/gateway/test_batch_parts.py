"""The folder of finished parts."""

import shutil

import pytest

from gateway.batch.parts import Key, Parts
from gateway.errors import BatchFailed

ONE, TWO = Key(1, 10, "0" * 32), Key(11, 5, "1" * 32)


@pytest.fixture
def target(tmp_path):
    return tmp_path / "out.csv"


def join(paths, file):
    file.write(b"".join(path.read_bytes() for path in paths))


def test_parts_outlive_the_run_that_wrote_them(target):
    """The next one finds them by what they answer, uses them in its order, and makes the file of them."""
    with Parts(target) as parts:
        parts.begin({"model": "m"})
        parts.put(TWO, b"two", 3)
    with Parts(target) as parts:
        assert (parts.record, parts.finished) == ({"model": "m"}, 1)
        assert not parts.has(ONE)
        assert parts.has(TWO)
        parts.put(ONE, b"one", 0)
        assert parts.take(TWO).bad_rows == 3
        assert not target.exists()
        parts.finish(join)

    assert target.read_bytes() == b"onetwo"
    assert not parts.folder.exists()


def test_a_part_that_is_not_used_is_not_joined(target):
    """An input that has changed leaves parts behind that answer nothing any more."""
    with Parts(target) as parts:
        parts.begin({})
        parts.put(ONE, b"old", 0)
    with Parts(target) as parts:
        parts.put(Key(1, 10, "f" * 32), b"new", 0)
        parts.finish(join)

    assert target.read_bytes() == b"new"


def test_what_was_half_written_is_no_part(target):
    """A run that was killed while it wrote leaves a file that the next one replaces."""
    with Parts(target) as parts:
        parts.begin({})
        parts.put(ONE, b"one", 0)
        (parts.folder / "incoming").write_bytes(b"hal")
    with Parts(target) as parts:
        parts.take(ONE)
        parts.finish(join)

    assert target.read_bytes() == b"one"


def test_a_failed_join_leaves_every_part(target):
    """A full disk at the end costs the join alone, and no half of a file is seen."""

    def fail(paths, file):
        file.write(b"hal")
        raise OSError(28, "No space left on device")

    with Parts(target) as parts:
        parts.begin({})
        parts.put(ONE, b"one", 0)
        with pytest.raises(OSError, match="No space left"):
            parts.finish(fail)

    assert not target.exists()
    assert sorted(path.suffix for path in parts.folder.iterdir()) == [".json", ".part"]


def test_one_process_at_a_time_writes(target):
    """A second run of the same command is told so, and leaves everything as it is."""
    with Parts(target) as parts:
        parts.begin({})
        parts.put(ONE, b"one", 0)
        with pytest.raises(BatchFailed, match="another `turnout predict` writes into"), Parts(target):
            pass
        assert parts.has(ONE) is False
        assert parts.finished == 1


def test_a_folder_of_somebody_else_is_left_alone(target):
    """What is not of a batch prediction is never deleted."""
    folder = target.with_name("out.csv.parts")
    folder.mkdir()
    (folder / "thesis.tex").write_text("precious")

    with (
        pytest.raises(BatchFailed, match=r"holds 'thesis.tex', which is of no batch prediction; move it away"),
        Parts(target),
    ):
        pass

    assert (folder / "thesis.tex").read_text() == "precious"
    shutil.rmtree(folder)


def test_a_run_that_finished_nothing_leaves_nothing(target):
    """No folder stays behind for a run that could not begin."""
    with Parts(target) as parts:
        parts.begin({})

    assert list(target.parent.iterdir()) == []
