"""Files from one artifact store to another; those that are there in full already are left."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from registry.artifacts import ArtifactStore, check_path
from registry.errors import InvalidParameter, Unavailable
from registry.transfer.report import Report

STORE = "mlflow-artifacts:/"
MEGABYTE = 1_000_000
TOLD_EVERY_BYTES = 64 * MEGABYTE


def store_path(uri: str | None) -> str | None:
    """The path in a server's artifact store that an address names; None for any other place."""
    if uri is None or not uri.startswith(STORE) or uri.startswith(f"{STORE}/"):
        return None
    return uri.removeprefix(STORE).rstrip("/")


class FileCopier:
    """Copies folders of *source* to *target*. Files for which *is_fixed* holds are never replaced nor added to."""

    def __init__(
        self,
        source: ArtifactStore,
        target: ArtifactStore,
        report: Report,
        is_fixed: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._source = source
        self._target = target
        self._report = report
        self._is_fixed = is_fixed

    def copy(self, old: str, new: str) -> list[str]:
        """Copy what lies below *old* to below *new*. Gives a sentence for each file that cannot be taken."""
        problems = []
        there = dict(self._target.list_files(new))
        for path, size in self._source.list_files(old):
            if there.get(path) == size:
                continue
            place = f"{new}/{path}"
            try:
                check_path(place)
            except InvalidParameter as problem:
                problems.append(f"file {path!r} cannot be kept here: {problem}")
                continue
            if self._is_fixed(place):
                problems.append(f"file {path!r} was added or changed there after it was registered as a version")
                continue
            self._copy_file(f"{old}/{path}", place, size)
        return problems

    def _copy_file(self, old: str, new: str, size: int) -> None:
        with self._target.create(new) as upload:
            copied = 0
            for chunk in self._counted(old, size):
                upload.write(chunk)
                copied += len(chunk)
            if copied != size:  # inside of the block, so that the file does not appear
                raise Unavailable(f"file {old!r} has {copied} bytes instead of {size}: it is being written; try again")
        self._report.summary.files += 1
        self._report.summary.bytes += size

    def _counted(self, path: str, size: int) -> Iterator[bytes]:
        told, done = 0, 0
        for chunk in self._source.read(path):
            done += len(chunk)
            if done - told >= TOLD_EVERY_BYTES:
                told = done
                self._report.progress(f"  {path}: {done // MEGABYTE} of {size // MEGABYTE} MB")
            yield chunk
