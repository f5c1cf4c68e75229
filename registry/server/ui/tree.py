"""Artifacts as a tree that is open along one path, and the beginning of the file or folder that was chosen."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from registry.artifacts import ArtifactStore, Entry, check_path
from registry.errors import NotFound, RegistryError, Unavailable
from registry.models.format import MLMODEL
from registry.server.ui.contents import MOST_TEXT_BYTES, read_start

MOST_ENTRIES = 200
MOST_ROWS = 50
MOST_COLUMNS = 20
MOST_IMAGE_BYTES = 10 << 20
# By what they begin with, never by their name: an SVG or a page that calls itself picture.png stays text.
_IMAGES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a")
_DELIMITERS = {".csv": ",", ".tsv": "\t"}


@dataclass(frozen=True, slots=True)
class Node:
    """One name in the tree. *address* is the page on which it is chosen."""

    name: str
    address: str
    is_folder: bool
    size: int | None = None
    is_chosen: bool = False
    is_open: bool = False
    children: Sequence[Node] = ()
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class Preview:
    """What is shown of a file: *kind* is `text`, `table`, `image`, `binary`, or `problem`."""

    kind: str
    path: str
    size: int = 0
    text: str = ""
    rows: Sequence[Sequence[str]] = ()
    is_cut: bool = False


@dataclass(frozen=True, slots=True)
class Tree:
    """A folder of the store as a page shows it."""

    nodes: Sequence[Node]
    left_out: int
    chosen: str
    is_model: bool
    preview: Preview | None
    problem: str | None = None


def read_tree(store: ArtifactStore, folder: str, chosen: str, address: Callable[[str], str]) -> Tree:
    """The tree of *folder*, open along the path *chosen*. Raises `InvalidParameter` for one that leaves it."""
    chosen = check_path(chosen.strip("/")) if chosen.strip("/") else ""
    try:
        nodes, left_out, found = _nodes(store, folder, "", chosen, address)
        if not chosen:
            return Tree(nodes, left_out, chosen, any(each.name == MLMODEL for each in nodes), None)
        if found is None:
            return Tree(nodes, left_out, chosen, False, Preview("problem", chosen, text="there is no such file"))
        if found.is_folder:
            is_model = any(each.name == MLMODEL for each in store.list_folder(f"{folder}/{chosen}"))
            return Tree(nodes, left_out, chosen, is_model, None)
        return Tree(nodes, left_out, chosen, False, preview(store, f"{folder}/{chosen}", found.size or 0))
    except (NotFound, Unavailable) as problem:
        return Tree((), 0, chosen, False, None, str(problem))


def preview(store: ArtifactStore, path: str, size: int) -> Preview:
    """The beginning of the file, as text or a table, or the whole of an image. Never as HTML."""
    try:
        start = read_start(store, path, MOST_TEXT_BYTES)
    except RegistryError as problem:
        return Preview("problem", path, size, str(problem))
    if _is_image(start):
        return Preview("image" if size <= MOST_IMAGE_BYTES else "binary", path, size)
    is_cut = size > len(start)
    try:
        text = start.decode()
    except UnicodeDecodeError as problem:
        if not is_cut or problem.start < len(start) - 4:
            return Preview("binary", path, size)
        text = start[: problem.start].decode()
    if "\0" in text:
        return Preview("binary", path, size)
    delimiter = next((each for end, each in _DELIMITERS.items() if path.lower().endswith(end)), None)
    if delimiter and (rows := _rows(text, delimiter)):
        return Preview("table", path, size, rows=rows, is_cut=is_cut or len(rows) > MOST_ROWS)
    return Preview("text", path, size, text, is_cut=is_cut)


def _is_image(start: bytes) -> bool:
    return start.startswith(_IMAGES) or (start[:4] == b"RIFF" and start[8:12] == b"WEBP")


def _rows(text: str, delimiter: str) -> list[list[str]]:
    """The first rows, none where the text is no table."""
    try:
        rows = [row[:MOST_COLUMNS] for row in islice(csv.reader(text.splitlines(), delimiter=delimiter), MOST_ROWS + 1)]
    except csv.Error:
        return []
    return rows if rows and len(rows[0]) > 1 else []


def _nodes(
    store: ArtifactStore, folder: str, above: str, chosen: str, address: Callable[[str], str]
) -> tuple[list[Node], int, Entry | None]:
    """What lies in one folder of the tree, how much was left out, and what was chosen, where it is in there."""
    entries = store.list_folder(f"{folder}/{above}" if above else folder)
    found: Entry | None = None
    nodes: list[Node] = []
    for entry in _shown(entries, above, chosen):
        path = f"{above}/{entry.name}" if above else entry.name
        is_open = entry.is_folder and (chosen == path or chosen.startswith(f"{path}/"))
        children: tuple[list[Node], int, Entry | None] = ([], 0, None)
        if is_open:
            children = _nodes(store, folder, path, chosen, address)
        found = entry if path == chosen else found or children[2]
        nodes.append(
            Node(
                entry.name, address(path), entry.is_folder, entry.size, path == chosen, is_open, children[0],
                children[1],
            )
        )  # fmt: skip
    return nodes, len(entries) - len(nodes), found


def _shown(entries: Sequence[Entry], above: str, chosen: str) -> Iterator[Entry]:
    """The first of them, and the one that leads to what was chosen."""
    below = chosen.removeprefix(f"{above}/") if above else chosen
    wanted = below.partition("/")[0]
    for number, entry in enumerate(entries):
        if number < MOST_ENTRIES or entry.name == wanted:
            yield entry
