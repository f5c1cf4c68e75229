"""Parquet, through pyarrow, which is imported once it is needed."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from gateway.batch.rows import Columns, Limit, place, refuse_doubles
from gateway.errors import BadRow, BatchFailed

CONTENT_TYPE = "application/vnd.apache.parquet"
GROUP_BYTES = 64 << 20
GROUP_ROWS = 1 << 17


@dataclass(frozen=True, slots=True)
class ArrowRows:
    """Rows of an Arrow table."""

    table: Any
    first: int
    nullable: Sequence[str]  # integers with a null somewhere in the file, which pandas makes floats everywhere
    keeps_types: bool  # for an output that has Arrow's types too

    content_type = CONTENT_TYPE

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @property
    def size(self) -> int:
        return len(self)

    def body(self) -> bytes:
        table = self.table
        for name in self.nullable:
            at = table.column_names.index(name)
            table = table.set_column(at, name, table.column(at).cast("float64"))
        return _written(table, compression="NONE", use_dictionary=False, write_statistics=False)

    def check(self) -> None:
        """A table is what it is."""

    def cut(self, start: int, stop: int) -> ArrowRows:
        return replace(self, table=self.table.slice(start, stop - start), first=self.first + start)

    def columns(self) -> Columns:
        refuse_doubles(self.table.column_names)
        columns = zip(self.table.column_names, self.table.columns, strict=True)
        return {name: column if self.keeps_types else column.to_pylist() for name, column in columns}

    def place(self) -> str:
        return place(self.first, len(self))


def opened(path: Path) -> Any:
    """The file, and its outline. Raises `BadRow` for what is no Parquet, `BatchFailed` where pyarrow is missing."""
    pyarrow = library()
    try:
        return pyarrow.parquet.ParquetFile(path, buffer_size=1 << 20)
    except pyarrow.ArrowInvalid as problem:
        raise BadRow(f"the file is no Parquet: {problem}") from None


def library() -> Any:
    """pyarrow with its Parquet module. Raises `BatchFailed` where it is not installed."""
    try:
        import pyarrow.parquet
    except ImportError:
        raise BatchFailed("Parquet needs pyarrow, which is not installed: pip install 'turnout[batch]'") from None
    return pyarrow


def read(file: Any, limit: Limit, signature: Mapping[str, Any], keeps_types: bool = True) -> Iterator[ArrowRows]:
    """The rows, a batch at a time; of a batch as much as fits into the limit is held in memory."""
    pyarrow = library()
    nullable = _nullable_integers(file, signature)
    outline = file.metadata
    sizes = (outline.row_group(at).total_byte_size for at in range(outline.num_row_groups))
    row_bytes = max(1, sum(sizes) // max(1, outline.num_rows))
    if not outline.num_rows:
        yield ArrowRows(file.schema_arrow.empty_table(), 1, nullable, keeps_types)
    first = 1
    for batch in file.iter_batches(batch_size=min(limit.rows, max(1, limit.size_bytes // row_bytes))):
        if batch.num_rows:
            yield ArrowRows(pyarrow.Table.from_batches([batch]), first, nullable, keeps_types)
            first += batch.num_rows


def _nullable_integers(file: Any, signature: Mapping[str, Any]) -> list[str]:
    """Those that become floats. A column that the model takes as integers does not: there a null is a bad row."""
    inputs = signature.get("inputs") or []
    whole = {spec.get("name") for spec in inputs if spec["type"] in ("integer", "long")}
    kinds = library().types
    names = [each.name for each in file.schema_arrow if kinds.is_integer(each.type) and each.name not in whole]
    return [name for name in names if _has_nulls(file, name)]


def _has_nulls(file: Any, name: str) -> bool:
    outline = file.metadata
    for at in range(outline.num_row_groups):
        group = outline.row_group(at)
        column = next(each for each in map(group.column, range(group.num_columns)) if each.path_in_schema == name)
        found = column.statistics
        if found is None or not found.has_null_count:
            return any(batch.column(0).null_count for batch in file.iter_batches(columns=[name]))
        if found.null_count:
            return True
    return False


def encode(columns: Columns, types: Mapping[str, str]) -> bytes:
    """A Parquet file of these columns; *types* names those of the signature's outputs."""
    pyarrow = library()
    try:
        arrays = [_array(values, types.get(name)) for name, values in columns.items()]
    except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError) as problem:
        raise BatchFailed(f"a column of the answer has no one type: {problem}; write JSON lines or CSV") from None
    return _written(pyarrow.table(arrays, names=list(columns)))


def _array(values: Any, kind: str | None) -> Any:
    pyarrow = library()
    if isinstance(values, pyarrow.ChunkedArray):
        return values
    array = pyarrow.array(values, from_pandas=True)  # NaN is null, as pandas writes it
    wanted = {"datetime": pyarrow.timestamp("us"), "float": pyarrow.float32(), "integer": pyarrow.int32()}.get(
        kind or ""
    )
    if wanted is None:
        return array
    try:
        return array.cast(wanted)
    except (pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError):  # the model does not keep to its signature
        return array


def _written(table: Any, **options: Any) -> bytes:
    sink = io.BytesIO()
    library().parquet.write_table(table, sink, **options)
    return sink.getvalue()


def join(parts: Iterable[Path], target: BinaryIO) -> None:
    """Write several Parquet files as one, with types that hold the values of all."""
    pyarrow = library()
    paths = list(parts)
    schemas = [pyarrow.parquet.read_schema(path).remove_metadata() for path in paths]
    try:
        schema = pyarrow.unify_schemas(schemas, promote_options="permissive")
    except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError) as problem:
        raise BatchFailed(f"the parts' columns have different types: {problem}; write JSON lines or CSV") from None
    with pyarrow.parquet.ParquetWriter(target, schema) as writer:
        for group in _groups(paths):
            tables = [_as(table, schema) for table in group]
            writer.write_table(pyarrow.concat_tables(tables))


def _groups(paths: Iterable[Path]) -> Iterator[list[Any]]:
    """Tables of parts, as many as make one row group."""
    group: list[Any] = []
    for path in paths:
        group.append(library().parquet.read_table(path, partitioning=None))
        if sum(each.num_rows for each in group) >= GROUP_ROWS or sum(each.nbytes for each in group) >= GROUP_BYTES:
            yield group
            group = []
    if group:
        yield group


def _as(table: Any, schema: Any) -> Any:
    pyarrow = library()
    columns = [
        table.column(each.name).cast(each.type)
        if each.name in table.column_names
        else pyarrow.nulls(table.num_rows, each.type)
        for each in schema
    ]
    return pyarrow.table(columns, schema=schema)
