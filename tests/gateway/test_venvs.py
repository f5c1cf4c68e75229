"""Environments that uv builds: by content, once, from hashes, and never seen half-built."""

import asyncio
import logging
import os
import subprocess
import time
from pathlib import Path

import pytest

from gateway.errors import LoadFailed
from gateway.requirements import Requirements
from gateway.venvs import UNUSED_S, Venvs
from tests.gateway.wheels import index, write_wheel

ONE, TWO = Requirements(("tiny==1.0",)), Requirements(("tiny==2.0",))


@pytest.fixture
def wheels(tmp_path):
    """A folder with two releases of the package `tiny`."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    for version in ("1.0", "2.0"):
        write_wheel(folder, "tiny", version)
    return folder


@pytest.fixture
def open_venvs(tmp_path, wheels):
    """Open the environments of a gateway that shares the cache folder; all are closed at the end of the test."""

    def open_venvs(**settings):
        offline = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)}
        return Venvs(tmp_path / "cache", {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **(settings or offline)})

    return open_venvs


def version_in(venv):
    return subprocess.run([venv.python, "-I", "-c", "import tiny; print(tiny.VERSION)"], capture_output=True).stdout


async def test_an_environment_has_what_is_required(open_venvs, tmp_path):
    """Two releases of one package lie side by side, locked with hashes, compiled, and named by their content."""
    venvs = open_venvs()

    async with venvs.hold(ONE) as one, venvs.hold(TWO) as two:
        assert (version_in(one), version_in(two)) == (b"1.0\n", b"2.0\n")

    assert one.key != two.key
    assert str(one).startswith(f"uv:{one.key[:12]} python 3.")
    assert len(list(one.folder.rglob("tiny.*.pyc"))) == 1
    assert all("--hash=sha256:" in lock.read_text() for lock in (tmp_path / "cache" / "locks").glob("*.txt"))


async def test_the_cache_folder_may_be_a_relative_path(wheels, tmp_path, monkeypatch):
    """As `--cache ./cache` gives it: uv runs elsewhere, and finds it all the same."""
    monkeypatch.chdir(tmp_path)
    settings = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)}
    venvs = Venvs(Path("cache"), {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **settings})

    async with venvs.hold(ONE) as venv:
        assert version_in(venv) == b"1.0\n"

    assert venv.folder.is_relative_to(tmp_path / "cache")


async def test_two_that_need_the_same_have_it_built_once(open_venvs, caplog):
    """At the same time in one gateway, and in another that shares the folder."""
    caplog.set_level(logging.INFO)
    venvs, others = open_venvs(), open_venvs()

    async def folder(venvs):
        async with venvs.hold(ONE) as venv:
            return venv.folder

    folders = await asyncio.gather(folder(venvs), folder(venvs), folder(others), folder(others))

    assert len(set(folders)) == 1
    assert [each.message for each in caplog.records].count("environment built") == 1


async def test_what_was_built_needs_no_index_again(open_venvs, wheels):
    """The next start works without one."""
    async with open_venvs().hold(ONE):
        pass
    for each in wheels.iterdir():
        each.unlink()

    async with open_venvs().hold(ONE) as venv:
        assert version_in(venv) == b"1.0\n"


async def test_what_cannot_be_had_is_told_in_uvs_words(open_venvs, tmp_path):
    """One sentence, and nothing of the attempt stays."""
    with pytest.raises(LoadFailed, match=r"^uv says: .*there is no version of tiny==3\.0") as caught:
        async with open_venvs().hold(Requirements(("tiny==3.0",))):
            pass

    assert "\n" not in str(caught.value)
    assert list((tmp_path / "cache").glob(".building-*")) == []


async def test_a_constraint_holds(open_venvs):
    """It chooses a release, and requires nothing."""
    async with open_venvs().hold(Requirements(("tiny",), ("tiny<2", "other==1"))) as venv:
        assert version_in(venv) == b"1.0\n"


async def test_what_has_changed_since_it_was_locked_is_refused(open_venvs, wheels, tmp_path):
    """The lock's hashes are those that the index had first."""
    venvs = open_venvs()
    async with venvs.hold(ONE) as venv:
        pass
    venv.folder.rename(tmp_path / "gone")
    (tmp_path / "cache" / "uv-cache").rename(tmp_path / "gone-too")
    write_wheel(wheels, "tiny", "1.0", evil="evil")

    with pytest.raises(LoadFailed, match=r"[Hh]ash mismatch"):
        async with venvs.hold(ONE):
            pass


async def test_nothing_of_a_package_runs_while_it_is_installed(open_venvs, wheels, tmp_path):
    """No source is built, and no .pth file is obeyed, where credentials of an index are at hand."""
    marker = tmp_path / "marker"
    command = f"open({str(marker)!r}, 'w').close()"
    write_wheel(wheels, "tricky", "1.0", **{"tricky.pth": f"import builtins; {command}\n"})
    subprocess.run(["tar", "-czf", wheels / "built-1.0.tar.gz", "-C", wheels, "tiny-1.0-py3-none-any.whl"], check=True)

    async with open_venvs().hold(Requirements(("tricky",))) as venv:
        assert not marker.exists()
        version_in(venv)
        assert marker.exists()
    with pytest.raises(LoadFailed, match="no usable wheels"):
        async with open_venvs().hold(Requirements(("built",))):
            pass


async def test_an_index_with_a_password_is_reached_and_never_told(open_venvs, wheels, tmp_path, caplog):
    """pip's own setting is enough; the password is in no file, no log line and no message."""
    caplog.set_level(logging.DEBUG)
    with index(wheels, "user:sesame") as address:
        right, wrong = (
            open_venvs(PIP_CONFIG_FILE=os.devnull, PIP_INDEX_URL=f"http://user:{password}@{address}")
            for password in ("sesame", "wrong-sesame")
        )
        async with right.hold(ONE) as venv:
            assert version_in(venv) == b"1.0\n"
        with pytest.raises(LoadFailed) as caught:
            async with wrong.hold(TWO):
                pass

    assert "sesame" not in str(caught.value)
    kept = [each for each in (tmp_path / "cache").rglob("*") if each.is_file()]
    assert [each for each in kept if b"sesame" in each.read_bytes()] == []
    assert "sesame" not in caplog.text


async def test_a_build_that_is_given_up_leaves_nothing(open_venvs, tmp_path):
    """What nobody waits for goes on, until the gateway ends; an unfinished environment has no name."""
    venvs = open_venvs()

    async def hold():
        async with venvs.hold(ONE):
            pass

    task = asyncio.create_task(hold())
    while not task.done() and not list((tmp_path / "cache").glob(".building-*")):
        await asyncio.sleep(0.001)
    task.cancel()
    await venvs.close()

    assert [each.name for each in (tmp_path / "cache").iterdir() if each.name not in ("locks", "uv-cache")] == []
    async with open_venvs().hold(ONE) as venv:
        assert version_in(venv) == b"1.0\n"


async def test_an_environment_that_has_lost_its_python_is_built_again(open_venvs):
    """Somebody has deleted a part of it."""
    venvs = open_venvs()
    async with venvs.hold(ONE) as venv:
        venv.python.unlink()

    async with venvs.hold(ONE) as again:
        assert again.folder == venv.folder
        assert version_in(again) == b"1.0\n"


async def test_each_is_told_of_the_python_that_it_asked_for(open_venvs):
    """Two that share an environment, built at once, have each its own note."""
    venvs = open_venvs()

    async def told(python):
        async with venvs.hold(Requirements(("tiny",), (), python)) as venv:
            return str(venv)

    old, older = await asyncio.gather(told("3.8"), told("2.7"))

    assert "asks for 3.8" in old
    assert "asks for 2.7" in older


async def test_what_nobody_uses_for_long_is_removed(open_venvs, tmp_path):
    """When something else is built; what a gateway holds stays, however old."""
    venvs = open_venvs()
    long_ago = time.time() - UNUSED_S - 60
    async with venvs.hold(Requirements(("tiny>=1,<2",))) as held:
        async with venvs.hold(TWO) as left:
            pass
        for each in (held, left):
            os.utime(each.folder, (long_ago, long_ago))
        write_wheel(tmp_path / "wheels", "other", "1.0")

        async with venvs.hold(Requirements(("other",))):
            assert held.folder.exists()
            assert not left.folder.exists()
    async with venvs.hold(TWO) as again:
        assert version_in(again) == b"2.0\n"


@pytest.mark.parametrize("python", ["3.99", "2.7", "3.8"])
async def test_a_python_that_is_not_here_gives_way_to_the_gateways_own(open_venvs, python):
    """The environment's name says so."""
    async with open_venvs().hold(Requirements(("tiny",), (), python)) as venv:
        assert f"(the model asks for {python}, which " in str(venv)
        assert version_in(venv) == b"2.0\n"
