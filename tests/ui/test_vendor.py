"""The scripts that others wrote and we ship: exactly those that are listed, each with its licence."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

from registry.server.ui import assets

VENDOR = assets.FOLDER / "vendor"


def found_files() -> dict[str, str]:
    """The digest of every vendored file, by its path."""
    files = (each for each in VENDOR.rglob("*") if each.is_file() and each.name != "vendor.json")
    return {each.relative_to(VENDOR).as_posix(): sha256(each.read_bytes()).hexdigest() for each in files}


def test_files_are_those_that_are_listed():
    """vendor.json names each file with its digest, and nothing else lies there."""
    listed = {
        str(Path(f"{each['name']}-{each['version']}", name)): digest
        for each in json.loads((VENDOR / "vendor.json").read_text())
        for name, digest in each["files"].items()
    }

    assert found_files() == listed


def test_licences_are_there():
    """Each package lies beside the licence that it is given under."""
    for each in json.loads((VENDOR / "vendor.json").read_text()):
        assert each["licence"]
        assert "LICENSE" in each["files"]
