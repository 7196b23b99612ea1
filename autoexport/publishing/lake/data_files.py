"""Cuts a published Parquet file into the data files of a lake table: each holds some of its row groups, in order.

A data file is named after its content. So the table itself says which rows it holds, and a lost ledger loses
nothing. Row groups are copied as they are: their bytes were encoded for the published file.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import xxhash

from autoexport.formats.contract import Readable
from autoexport.formats.parquet_footer import (
    END_BYTES,
    MAGIC,
    Bounds,
    Footer,
    group_places,
    metadata_length,
    outline,
    read_footer,
    read_group,
)
from autoexport.formats.parquet_rows import ENTRY

KEYS = ("project_id", "dataset_id", "image_id")
"""The columns whose bounds a table knows for each data file, so that readers can skip files."""

MOST_BYTES = 256 << 20
"""A data file has no more bytes, unless a single row group has. If polygons are large, it has fewer rows."""

_COPY_BYTES = 1 << 20
_GROUP = struct.Struct("<3Q")


@dataclass(slots=True)
class DataFile:
    """A data file: `length` bytes of row groups from `begin` on in the published file, with `rows` rows.

    `groups` are the places of their metadata. `digest` identifies the content.
    """

    begin: int
    length: int = 0
    rows: int = 0
    groups: list[tuple[int, int]] = field(default_factory=list)
    digest: str = ""
    columns: list[_Column] = field(default_factory=lambda: [_Column() for _ in KEYS])

    def statistics(self) -> str:
        """The statistics of the data file as Delta has them, in JSON: rows, and bounds of the keys.

        See "Per-file Statistics" in PROTOCOL.md of https://github.com/delta-io/delta.
        """
        known = {name: column for name, column in zip(KEYS, self.columns, strict=True) if column.known}
        bounded = {name: it for name, it in known.items() if it.least is not None and it.greatest is not None}
        facts: dict[str, Any] = {"numRecords": self.rows}
        if bounded:
            facts["minValues"] = {name: it.least.decode() for name, it in bounded.items()}
            facts["maxValues"] = {name: it.greatest.decode() for name, it in bounded.items()}
        if known:
            facts["nullCount"] = {name: it.nulls for name, it in known.items()}
        return json.dumps(facts, ensure_ascii=False, separators=(",", ":"))


@dataclass(slots=True)
class _Column:
    """The bounds of a column in a data file. `known`: every row group has them."""

    least: Any = None
    greatest: Any = None
    nulls: int = 0
    known: bool = True

    def add(self, found: Bounds, rows: int) -> None:
        if found.nulls is None or (found.nulls < rows and (found.least is None or found.greatest is None)):
            self.known = False
        self.nulls += found.nulls or 0
        if found.least is not None and (self.least is None or found.least < self.least):
            self.least = found.least
        if found.greatest is not None and (self.greatest is None or found.greatest > self.greatest):
            self.greatest = found.greatest


class PublishedFile:
    """A published Parquet file, whose columns are named by `schema`, and the data files that hold its rows."""

    def __init__(self, file: Readable, schema: Sequence[str]) -> None:
        self._file = file
        length = metadata_length(file.read(file.length - END_BYTES, END_BYTES))
        self._metadata = file.read(file.length - END_BYTES - length, length)
        self._footer: Footer = read_footer(self._metadata, with_groups=False)
        self._columns = {schema.index(name): place for place, name in enumerate(KEYS) if name in schema}

    def data_files(self, file_rows: int) -> list[DataFile]:
        """The data files, of about so many rows each, in order.

        A file ends before a row group that draws its end, if it has enough rows. The ids of the images draw, so a
        changed annotation moves no end.
        """
        checksums: list[int] = json.loads(self._footer.entries[ENTRY])["crc32"]
        spread = max(file_rows // 2, 1)
        files: list[DataFile] = []
        hashed = xxhash.xxh3_128()
        for place, checksum in zip(group_places(self._metadata), checksums, strict=True):
            group = outline(self._metadata, place[0], self._columns)
            found = group.bounds
            last = files[-1] if files else None
            if last is None or _ends(last, group.rows, group.length, _drawn(found, self._columns), spread):
                hashed = xxhash.xxh3_128(self._footer.head + self._footer.tail)
                last = DataFile(group.begin)
                files.append(last)
            hashed.update(_GROUP.pack(group.rows, group.length, checksum))
            last.digest = hashed.hexdigest()
            last.length += group.length
            last.rows += group.rows
            last.groups.append(place)
            for index, column in self._columns.items():
                last.columns[column].add(found.get(index, Bounds()), group.rows)
        return files

    def content(self, data_file: DataFile) -> Iterator[bytes]:
        """The bytes of a data file in order, at most 1 MB at a time. Raises EOFError."""
        yield MAGIC
        for begun in range(0, data_file.length, _COPY_BYTES):
            yield self._file.read(data_file.begin + begun, min(_COPY_BYTES, data_file.length - begun))
        groups = [read_group(self._metadata, *place)[1] for place in data_file.groups]
        yield self._footer.written(groups, {})


def _drawn(found: Mapping[int, Bounds], columns: Mapping[int, int]) -> int:
    """A number that the images of a row group draw."""
    keys = [found.get(index, Bounds()) for index, column in columns.items() if KEYS[column] == "image_id"]
    return xxhash.xxh3_64_intdigest(b"\0".join((it.least or b"") + b"\0" + (it.greatest or b"") for it in keys))


def _ends(last: DataFile, rows: int, length: int, drawn: int, spread: int) -> bool:
    """Whether a data file ends before a row group of so many rows and bytes.

    It has half as many rows as wished, and then about as many again until a row group draws its end.
    """
    if last.length + length > MOST_BYTES or last.rows + rows > 4 * spread:
        return True
    return last.rows >= spread and drawn % spread < rows
