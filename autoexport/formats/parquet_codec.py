"""Encodes and decodes row groups with arro3, which brings the Parquet writer of the Arrow project in Rust.

It is arro3 and not pyarrow, because an export takes at most 100 MB: when it is imported, pyarrow takes 52 MB and
arro3 takes 8 MB. It is only imported if Parquet files are written.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any

from autoexport.errors import ConfigurationError
from autoexport.formats.parquet_footer import END_BYTES, MAGIC, Footer, RowGroup, metadata_length, read_footer

TEXT, DOUBLE, INT64, BOOL = "utf8", "float64", "int64", "bool"
"""The types of columns, by their names in arro3."""

_COMPRESSION = "zstd(3)"
_ALL_ROWS = 1 << 31


class _Sink:
    """Collects the bytes that a writer writes; it writes them in order."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing is buffered."""

    def seek(self, offset: int, whence: int = 0) -> int:
        raise NotImplementedError  # arro3 only looks whether it is there

    def content(self) -> bytes:
        return b"".join(self._pieces)


def require() -> None:
    """Raise `ConfigurationError` if arro3 is not installed."""
    try:
        found = find_spec("arro3.io") and find_spec("arro3.core")
    except ImportError:
        found = None
    if not found:
        raise ConfigurationError(
            "Parquet files need a package that is not installed: arro3-io.",
            hint="Install it: python -m pip install 'autoexport[parquet]'",
        )


class Codec:
    """Encodes and decodes rows of one schema: the type of each column by name. Any value may be null.

    The values of the columns `distinct` are mostly different from one another.
    """

    def __init__(self, schema: Mapping[str, str], distinct: Sequence[str] = ()) -> None:
        import arro3.core
        import arro3.io

        self._core: Any = arro3.core
        self._io: Any = arro3.io
        kinds = {kind: getattr(self._core.DataType, kind)() for kind in (TEXT, DOUBLE, INT64, BOOL)}
        self._fields = [self._core.Field(name, kinds[kind], nullable=True) for name, kind in schema.items()]
        self._schema = self._core.Schema(self._fields)
        # A dictionary of values that are all different takes memory and time, and makes the file larger.
        plain = [name for name, kind in schema.items() if kind == DOUBLE or name in distinct]
        self._dictionaries = dict.fromkeys(plain, False)

    # --- rows of a block ---------------------------------------------------------------------------

    def rows(self, columns: Iterable[Sequence[Any]]) -> bytes:
        """The rows in these columns in a form that is quick to write and to read (an Arrow IPC stream)."""
        arrays = [
            self._core.Array(column, type=field) for column, field in zip(columns, self._fields, strict=True)
        ]
        sink = _Sink()
        batch = self._core.RecordBatch.from_arrays(arrays, schema=self._schema)
        self._io.write_ipc_stream(batch, sink, compression="lz4")
        return sink.content()

    def read_rows(self, data: bytes) -> Any:
        """The table of rows that `rows` wrote."""
        return self._io.read_ipc_stream(data).read_all()

    # --- row groups --------------------------------------------------------------------------------

    def encode(self, tables: list[Any]) -> tuple[bytes, RowGroup]:
        """Encode the rows of these tables as one row group: its bytes and its metadata. Empties the list."""
        data = self._file(tables)
        footer = _footer_of(data)
        ((begin, group),) = footer.groups
        return data[begin : begin + group.length], group

    def decode(self, data: bytes, group: RowGroup) -> Any:
        """The table of the rows of a row group, from its bytes and its metadata."""
        end = self.empty().written([group], {})
        return self._io.read_parquet(MAGIC + data + end, batch_size=_ALL_ROWS).read_all()

    @cache  # noqa: B019 - there are two codecs
    def empty(self) -> Footer:
        """The metadata of a file without rows, for the files of this schema."""
        return _footer_of(self._file([]))

    def _file(self, tables: list[Any]) -> bytes:
        """A whole file with one row group, or none if there are no rows."""
        batches = [batch for table in tables for batch in table.to_batches()]
        # The writer ends pages by the rows of each batch: so one batch, wherever its rows come from.
        table = self._core.Table.from_batches(batches, schema=self._schema).combine_chunks()
        batches.clear()
        tables.clear()
        sink = _Sink()
        self._io.write_parquet(
            table, sink, compression=_COMPRESSION, max_row_group_size=_ALL_ROWS, skip_arrow_metadata=True,
            column_dictionary_enabled=self._dictionaries,
        )  # fmt: skip
        return sink.content()


@cache
def fingerprint() -> str:
    """The versions of the encoder and the compression: another version may write other bytes.

    The compression library is a part of arro3, which is not imported for this: a process that only lays out the
    files would need 20 MB more. Where it is imported, that version counts, whichever is installed meanwhile.
    """
    versions = [f"{package} {_version(package)}" for package in ("arro3-core", "arro3-io")]
    return ", ".join([*versions, _COMPRESSION])


def _version(package: str) -> str:
    module = sys.modules.get(package.replace("-", "."))
    if module is not None:
        return str(module.__version__)
    from importlib.metadata import version  # 4 MB, which a worker process can do without

    return version(package)


def _footer_of(data: bytes) -> Footer:
    end = len(data) - END_BYTES
    return read_footer(data[end - metadata_length(data[-END_BYTES:]) : end])
