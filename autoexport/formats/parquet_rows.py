"""Finds the rows of a new Parquet file: fresh ones in the spool, others in row groups of the published file."""

from __future__ import annotations

import json
import struct
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, MutableSequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from autoexport.formats.contract import Readable, RowRange
from autoexport.formats.parquet_codec import Codec
from autoexport.formats.parquet_footer import END_BYTES, RowGroup, metadata_length, read_footer
from autoexport.formats.row_groups import Marks

_HEAD = struct.Struct("<4I")
"""The number of rows, of light and of heavy marks, and of bytes of the rows."""

ENTRY = "autoexport"
"""The key of the entry in the file that says where the marks are, and the CRC-32 of each row group.

Both are functions of the rows. The next export needs them to copy row groups without reading them.
"""


def frame(rows: int, marks: Marks, data: bytes) -> bytes:
    """The form of rows in the spool: a head, the marks among them, and what `Codec.rows` made of them."""
    head = _HEAD.pack(rows, len(marks.light), len(marks.heavy), len(data))
    return head + array("I", [*marks.light, *marks.heavy]).tobytes() + data


def rows_in(frame: bytes) -> int:
    """The number of rows in a frame."""
    return int(_HEAD.unpack_from(frame)[0])


def entries(marks: Marks, checksums: list[int]) -> dict[str, str]:
    """The entry of a file for the next export."""
    content = {"light": marks.light, "heavy": marks.heavy, "crc32": checksums}
    return {ENTRY: json.dumps(content, separators=(",", ":"))}


class _Source:
    """Rows in portions, of which `begins` holds the first row of each. Marks are in order."""

    def __init__(self) -> None:
        self.begins: MutableSequence[int] = array("Q")
        self.light: MutableSequence[int] = array("Q")
        self.heavy: MutableSequence[int] = array("Q")
        self._index = -1
        self._table: Any = None

    def tables(self, begin: int, end: int) -> Iterator[Any]:
        """Tables of the rows from `begin` to before `end`."""
        for index in range(bisect_right(self.begins, begin) - 1, bisect_left(self.begins, end)):
            if index != self._index:
                self._index, self._table = index, self._read(index)
            start = max(begin - self.begins[index], 0)
            yield self._table.slice(start, min(end - self.begins[index], self._table.num_rows) - start)

    def _read(self, index: int) -> Any:
        raise NotImplementedError


class Frames(_Source):
    """The frames in the spool."""

    def __init__(self, spool: Readable, codec: Codec) -> None:
        super().__init__()
        self._spool = spool
        self._codec = codec
        self._places: list[tuple[int, int]] = []
        offset = begin = 0
        while offset < spool.length:
            rows, light, heavy, length = _HEAD.unpack(spool.read(offset, _HEAD.size))
            offset += _HEAD.size
            marks = array("I", spool.read(offset, 4 * (light + heavy)))
            offset += 4 * len(marks)
            self.light.extend(begin + mark for mark in marks[:light])
            self.heavy.extend(begin + mark for mark in marks[light:])
            self.begins.append(begin)
            self._places.append((offset, length))
            begin += rows
            offset += length

    def _read(self, index: int) -> Any:
        return self._codec.read_rows(self._spool.read(*self._places[index]))


class Published(_Source):
    """The row groups of the published file; none if there is no such file.

    `groups` are their offsets and metadata, `checksums` their CRC-32.
    """

    def __init__(self, file: Readable, codec: Codec) -> None:
        super().__init__()
        self._file = file
        self._codec = codec
        self.groups: list[tuple[int, RowGroup]] = []
        self.checksums: list[int] = []
        if file.length:
            length = metadata_length(file.read(file.length - END_BYTES, END_BYTES))
            footer = read_footer(file.read(file.length - END_BYTES - length, length))
            content = json.loads(footer.entries[ENTRY])
            self.groups, self.checksums = list(footer.groups), content["crc32"]
            self.light, self.heavy = content["light"], content["heavy"]
            self.begins = [0, *accumulate(group.rows for _, group in self.groups)]

    def group(self, begin: int, end: int) -> int | None:
        """The index of the row group of exactly these rows; None if there is none."""
        index = bisect_left(self.begins, begin)
        return index if self.begins[index : index + 2] == [begin, end] else None

    def _read(self, index: int) -> Any:
        offset, group = self.groups[index]
        return self._codec.decode(self._file.read(offset, group.length), group)


@dataclass(slots=True)
class _Run:
    """Rows that follow one another in one source: from `begin` on here, from `source_begin` on there."""

    begin: int
    fresh: bool
    source_begin: int
    length: int


class Rows:
    """The rows of the new file in order, and their sources."""

    def __init__(self, ranges: Iterable[RowRange], frames: Frames, published: Published) -> None:
        self._sources = {True: frames, False: published}
        self._published = published
        self._runs: list[_Run] = []
        self.total = 0
        for fresh, begin, length in ranges:
            last = self._runs[-1] if self._runs else None
            if last is not None and (last.fresh, last.source_begin + last.length) == (fresh, begin):
                last.length += length
            elif length:
                self._runs.append(_Run(self.total, fresh, begin, length))
            self.total += length
        self._begins = [run.begin for run in self._runs]

    def marks(self) -> Marks:
        """The marks among these rows."""
        found = Marks([], [])
        for run in self._runs:
            source: _Source = self._sources[run.fresh]
            for mine, theirs in ((found.light, source.light), (found.heavy, source.heavy)):
                low = bisect_left(theirs, run.source_begin)
                high = bisect_left(theirs, run.source_begin + run.length)
                mine.extend(mark - run.source_begin + run.begin for mark in theirs[low:high])
        return found

    def published_group(self, begin: int, end: int) -> int | None:
        """The index of the published row group that holds exactly these rows; None if there is none."""
        run = self._runs[bisect_right(self._begins, begin) - 1]
        if run.fresh or end > run.begin + run.length:
            return None
        shift = run.source_begin - run.begin
        return self._published.group(begin + shift, end + shift)

    def tables(self, begin: int, end: int) -> list[Any]:
        """Tables of the rows from `begin` to before `end`."""
        tables: list[Any] = []
        for run in self._runs[bisect_right(self._begins, begin) - 1 : bisect_left(self._begins, end)]:
            shift = run.source_begin - run.begin
            source: _Source = self._sources[run.fresh]
            tables += source.tables(max(begin, run.begin) + shift, min(end, run.begin + run.length) + shift)
        return tables
