"""Encodes and decodes row groups with arro3, which brings the Parquet writer of the Arrow project in Rust.

It is arro3 and not pyarrow, because an export takes at most 100 MB: when it is imported, pyarrow takes 52 MB and
arro3 takes 8 MB. It is only imported if Parquet files are written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import xxhash

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


@cache
def _arro3() -> tuple[Any, Any]:
    try:
        import arro3.core
        import arro3.io
    except ImportError as error:
        raise ConfigurationError(
            "Parquet files need a package that is not installed: arro3-io.",
            hint="Install it: python -m pip install 'autoexport[parquet]'",
        ) from error
    return arro3.core, arro3.io


def require() -> None:
    """Raise `ConfigurationError` if arro3 is not installed."""
    _arro3()


class Codec:
    """Encodes and decodes rows of one schema: the type of each column by name. Any value may be null."""

    def __init__(self, schema: Mapping[str, str]) -> None:
        self._core, self._io = _arro3()
        kinds = {kind: getattr(self._core.DataType, kind)() for kind in (TEXT, DOUBLE, INT64, BOOL)}
        self._fields = [self._core.Field(name, kinds[kind], nullable=True) for name, kind in schema.items()]
        self._schema = self._core.Schema(self._fields)

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

    def encode(self, tables: Sequence[Any]) -> tuple[bytes, RowGroup]:
        """Encode the rows of these tables as one row group: its bytes and its metadata."""
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

    def _file(self, tables: Sequence[Any]) -> bytes:
        """A whole file with one row group, or none if there are no rows."""
        batches = [batch for table in tables for batch in table.to_batches()]
        # The writer ends pages by the rows of each batch: so one batch, wherever its rows come from.
        table = self._core.Table.from_batches(batches, schema=self._schema).combine_chunks()
        sink = _Sink()
        self._io.write_parquet(
            table, sink, compression=_COMPRESSION, max_row_group_size=_ALL_ROWS, skip_arrow_metadata=True
        )
        return sink.content()


_SAMPLE: Mapping[str, list[Any]] = {
    TEXT: ["a", None, "b" * 5_000, "\u00e9"], DOUBLE: [0.1, None, -0.0, 1e300], INT64: [1, None, 2**62, -1],
    BOOL: [True, None, False, True],
}  # fmt: skip


@cache
def fingerprint() -> str:
    """A digest of what the writer, with its compression, makes of a few rows. Other versions may differ."""
    codec = Codec({kind: kind for kind in _SAMPLE})
    rows = codec.read_rows(codec.rows([values * 1_000 for values in _SAMPLE.values()]))
    data, group = codec.encode([rows])
    return xxhash.xxh3_64_hexdigest(data + codec.empty().written([group], {}))


def _footer_of(data: bytes) -> Footer:
    end = len(data) - END_BYTES
    return read_footer(data[end - metadata_length(data[-END_BYTES:]) : end])
