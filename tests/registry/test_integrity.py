"""Manifests: equal exactly for equal files under equal paths."""

from __future__ import annotations

import os

import pytest

from registry.errors import CorruptModel, InvalidModel
from registry.models.integrity import compute_manifest, verify


@pytest.fixture
def directory(tmp_path):
    (tmp_path / "code" / "deep").mkdir(parents=True)
    (tmp_path / "MLmodel").write_text("flavors: {}")
    (tmp_path / "code" / "deep" / "x.py").write_text("x = 1")
    (tmp_path / "code" / "empty.py").touch()
    return tmp_path


def test_every_file_is_in_the_manifest(directory):
    """Paths are relative, with `/`, in order; sizes and digests are those of the bytes."""
    manifest = compute_manifest(directory)

    assert [(file.path, file.size) for file in manifest.files] == [
        ("MLmodel", 11),
        ("code/deep/x.py", 5),
        ("code/empty.py", 0),
    ]
    assert manifest.files[2].sha256 == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert manifest.digest.startswith("sha256:")
    verify(directory, manifest)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda root: (root / "MLmodel").write_text("flavors: []"), "changed: MLmodel"),
        (lambda root: (root / "code" / "deep" / "x.py").write_text("x = 2"), "changed: code/deep/x.py"),
        (lambda root: (root / "extra.py").touch(), "added: extra.py"),
        (lambda root: (root / ".turnout-hidden").touch(), "added: .turnout-hidden"),
        (lambda root: (root / "code" / "empty.py").unlink(), "removed: code/empty.py"),
        (lambda root: (root / "code" / "empty.py").rename(root / "moved"), "added: moved; removed: code/empty.py"),
        (lambda root: (root / "link").symlink_to("MLmodel"), "'link' is a link"),
        (lambda root: (root / "folder").symlink_to("code"), "'folder' is a link"),
        (lambda root: os.mkfifo(root / "pipe"), "'pipe' is a link or no regular file"),
    ],
    ids=["byte", "deep byte", "added", "hidden", "removed", "moved", "link", "folder link", "pipe"],
)
def test_any_difference_is_told(directory, change, said):
    """The manifest is the complete set: nothing may change, come or go."""
    manifest = compute_manifest(directory)
    change(directory)

    with pytest.raises(CorruptModel, match=said):
        verify(directory, manifest)


def test_many_differences_are_cut_short(directory):
    """The sentence stays one."""
    manifest = compute_manifest(directory)
    for number in range(9):
        (directory / f"new{number}").touch()

    with pytest.raises(CorruptModel, match="new4 and 4 more"):
        verify(directory, manifest)


def test_a_link_has_no_manifest(directory):
    """What lies outside of the directory is no part of the model."""
    (directory / "link").symlink_to("/etc/passwd")

    with pytest.raises(InvalidModel, match="'link'"):
        compute_manifest(directory)
