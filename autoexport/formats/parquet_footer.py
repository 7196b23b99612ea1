"""Takes the metadata of a Parquet file apart and puts it together again: so row groups can be copied undecoded.

A Parquet file is `PAR1`, the bytes of its row groups, the metadata, its length in four bytes, and `PAR1`. The
metadata is the struct `FileMetaData` of src/main/thrift/parquet.thrift in https://github.com/apache/parquet-format,
whose field numbers are used here. Only offsets in it depend on where a row group lies in the file, and on the row
groups before it.

Page indexes lie outside of the row groups and are optional, so they are left out (PageIndex.md there).
"""

from __future__ import annotations

import struct
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass

from autoexport.formats.thrift import (
    BINARY,
    LIST,
    STOP,
    STRUCT,
    elements,
    field_header,
    fields,
    list_header,
    read_binary,
    read_integer,
    write_binary,
    write_integer,
)

MAGIC = b"PAR1"
_LENGTH = struct.Struct("<I")
END_BYTES = _LENGTH.size + len(MAGIC)
"""The bytes after the metadata."""

# FileMetaData
_SCHEMA, _NUM_ROWS, _ROW_GROUPS, _KEY_VALUES, _CREATED_BY = 2, 3, 4, 5, 6
# RowGroup
_COLUMNS, _GROUP_ROWS, _GROUP_OFFSET, _GROUP_BYTES, _ORDINAL = 1, 3, 5, 6, 7
# ColumnChunk: 4 to 7 are offsets and lengths of the page indexes
_CHUNK_OFFSET, _METADATA, _INDEXES = 2, 3, range(4, 8)
# ColumnMetaData: the compressed size; the offsets of data, index and dictionary pages and of the Bloom filter
_CHUNK_BYTES, _PAGE_OFFSETS, _STATISTICS = 7, (9, 10, 11, 14), 12
# Statistics
_NULL_COUNT, _GREATEST, _LEAST = 3, 5, 6
# KeyValue
_KEY, _VALUE = 1, 2


@dataclass(frozen=True, slots=True)
class RowGroup:
    """The metadata of a row group without the places that depend on the file.

    `texts` are the bytes between them. `offsets` are the offsets in these places, relative to the begin of the row
    group, or None for its number. `rows` and `length` (in bytes) are its size.
    """

    texts: tuple[bytes, ...]
    offsets: tuple[int | None, ...]
    rows: int
    length: int

    def written(self, begin: int, ordinal: int) -> bytes:
        """The metadata of the row group at this offset in a file, after so many row groups."""
        pieces = [self.texts[0]]
        for offset, text in zip(self.offsets, self.texts[1:], strict=True):
            pieces += (write_integer(ordinal if offset is None else begin + offset), text)
        return b"".join(pieces)


@dataclass(frozen=True, slots=True)
class Footer:
    """The metadata of a file.

    `head` holds the version and the schema, `tail` the writer and the order of columns, up to the end. `entries`
    are the entries for readers, by key. `groups` are the row groups, each with its begin.
    """

    head: bytes
    tail: bytes
    entries: Mapping[str, str]
    groups: Sequence[tuple[int, RowGroup]]

    def written(self, groups: Sequence[RowGroup], entries: Mapping[str, str]) -> bytes:
        """The end of a file that holds these row groups, one after the other, and other entries."""
        pieces = [
            self.head,
            field_header(_NUM_ROWS, _SCHEMA, 6) + write_integer(sum(group.rows for group in groups)),
            field_header(_ROW_GROUPS, _NUM_ROWS, LIST) + list_header(len(groups), STRUCT),
        ]
        begin = len(MAGIC)
        for ordinal, group in enumerate(groups):
            pieces.append(group.written(begin, ordinal))
            begin += group.length
        last = _ROW_GROUPS
        if entries:
            pieces.append(field_header(_KEY_VALUES, last, LIST) + list_header(len(entries), STRUCT))
            pieces += [_entry(key, value) for key, value in entries.items()]
            last = _KEY_VALUES
        pieces.append(field_header(_CREATED_BY, last, BINARY) + self.tail)
        metadata = b"".join(pieces)
        return metadata + _LENGTH.pack(len(metadata)) + MAGIC


def _entry(key: str, value: str) -> bytes:
    return (
        field_header(_KEY, 0, BINARY)
        + write_binary(key.encode())
        + field_header(_VALUE, _KEY, BINARY)
        + write_binary(value.encode())
        + STOP
    )


def metadata_length(end: bytes) -> int:
    """The length of the metadata, from the last bytes of a file. Raises ValueError if it is no Parquet file."""
    if len(end) < END_BYTES or not end.endswith(MAGIC):
        raise ValueError("no Parquet file")
    return int(_LENGTH.unpack_from(end, len(end) - END_BYTES)[0])


def read_footer(metadata: bytes, *, with_groups: bool = True) -> Footer:
    """Take the metadata of a file apart; without `with_groups`, all but the row groups.

    Raises ValueError or IndexError if it is none.
    """
    head = tail = b""
    entries: dict[str, str] = {}
    groups: list[tuple[int, RowGroup]] = []
    for number, _, begin, end in fields(metadata, 0):
        if number == _SCHEMA:
            head = metadata[:end]
        elif number == _ROW_GROUPS and with_groups:
            groups = [read_group(metadata, *place) for place in elements(metadata, begin)]
        elif number == _KEY_VALUES:
            entries = dict(_read_entry(metadata, place) for place, _ in elements(metadata, begin))
        elif number == _CREATED_BY:
            tail = metadata[begin:]
    if not head or not tail:
        raise ValueError("a field is missing")
    return Footer(head, tail, entries, groups)


def _read_entry(metadata: bytes, begin: int) -> tuple[str, str]:
    values = {number: read_binary(metadata, place).decode() for number, _, place, _ in fields(metadata, begin)}
    return values[_KEY], values.get(_VALUE, "")


def group_places(metadata: bytes) -> Iterator[tuple[int, int]]:
    """The places of the row groups in the metadata of a file, in order."""
    for number, _, begin, _ in fields(metadata, 0):
        if number == _ROW_GROUPS:
            yield from elements(metadata, begin)


@dataclass(frozen=True, slots=True)
class Bounds:
    """The statistics of a text column in a row group: bounds of its values as bytes, and how many are null.

    A bound is None if the writer gave none. Long values are bounded by shorter ones.
    """

    least: bytes | None = None
    greatest: bytes | None = None
    nulls: int | None = None


@dataclass(frozen=True, slots=True)
class Outline:
    """The place of a row group in its file, its size in rows and bytes, and the statistics of some columns."""

    begin: int
    rows: int
    length: int
    bounds: Mapping[int, Bounds]


def outline(metadata: bytes, begin: int, columns: Container[int]) -> Outline:
    """The outline of the row group whose metadata is at `begin`, for less than `read_group`.

    `columns` are the numbers of the columns whose statistics it has.
    """
    group_begin = rows = length = 0
    found: dict[int, Bounds] = {}
    for number, _, place, _ in fields(metadata, begin):
        if number == _COLUMNS:
            chunks = enumerate(elements(metadata, place))
            found = {index: _bounds(metadata, chunk) for index, (chunk, _) in chunks if index in columns}
        elif number == _GROUP_ROWS:
            rows = read_integer(metadata, place)
        elif number == _GROUP_OFFSET:
            group_begin = read_integer(metadata, place)
        elif number == _GROUP_BYTES:
            length = read_integer(metadata, place)
    return Outline(group_begin, rows, length, found)


def _bounds(metadata: bytes, chunk: int) -> Bounds:
    for number, _, place, _ in fields(metadata, chunk):
        if number == _METADATA:
            for inner, _, statistics, _ in fields(metadata, place):
                if inner == _STATISTICS:
                    places = {field: begin for field, _, begin, _ in fields(metadata, statistics)}
                    least, greatest = (
                        read_binary(metadata, places[field]) if field in places else None
                        for field in (_LEAST, _GREATEST)
                    )
                    nulls = read_integer(metadata, places[_NULL_COUNT]) if _NULL_COUNT in places else None
                    return Bounds(least, greatest, nulls)
    return Bounds()


def read_group(metadata: bytes, begin: int, end: int) -> tuple[int, RowGroup]:
    """The begin of a row group, and its metadata, from its place in the metadata of the file."""
    cuts: list[tuple[int, int, int | None]] = []
    rows = group_begin = length = 0
    for number, _, place, after in fields(metadata, begin):
        if number == _COLUMNS:
            for chunk, chunk_end in elements(metadata, place):
                cuts += _chunk_cuts(metadata, chunk, chunk_end)
        elif number == _GROUP_ROWS:
            rows = read_integer(metadata, place)
        elif number == _GROUP_OFFSET:
            group_begin = read_integer(metadata, place)
            cuts.append((place, after, group_begin))
        elif number == _GROUP_BYTES:
            length = read_integer(metadata, place)
        elif number == _ORDINAL:
            cuts.append((place, after, None))
    texts, offsets, last = [b""], [], begin
    for place, after, value in sorted(cuts):
        texts[-1] += metadata[last:place]
        last = after
        if value == _LEFT_OUT:
            continue
        offsets.append(None if value is None else value - group_begin)
        texts.append(b"")
    texts[-1] += metadata[last:end]
    return group_begin, RowGroup(tuple(texts), tuple(offsets), rows, length)


_LEFT_OUT = -1


def _chunk_cuts(metadata: bytes, begin: int, end: int) -> list[tuple[int, int, int | None]]:
    """The places of a column in the metadata that hold offsets, and those of its page indexes."""
    cuts: list[tuple[int, int, int | None]] = []
    kept = begin
    for number, _, place, after in fields(metadata, begin):
        if number in _INDEXES:
            break
        kept = after
        if number == _CHUNK_OFFSET and (value := read_integer(metadata, place)):  # 0: not set
            cuts.append((place, after, value))
        elif number == _METADATA:
            for inner, _, inner_place, inner_after in fields(metadata, place):
                if inner in _PAGE_OFFSETS:
                    cuts.append((inner_place, inner_after, read_integer(metadata, inner_place)))
    if kept < end - len(STOP):
        # The page indexes are the last fields, so the numbers of the others stay.
        cuts.append((kept, end - len(STOP), _LEFT_OUT))
    return cuts
