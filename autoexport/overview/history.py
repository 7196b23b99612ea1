"""Keeps history.csv: a row for each publish, thinned with age."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from datetime import UTC, datetime, timedelta

HISTORY_NAME = "history.csv"
_DAY, _MONTH = timedelta(days=1), timedelta(days=30)
_ROW = re.compile(
    rb'(\d{1,18}),"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ)"'
    + rb",(\d{1,18})" * 10
    + rb',"(full|incremental)",(\d{1,18}(?:\.\d{1,9})?)'
)


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """A publish: its generation, the time of its snapshot (UTC, in seconds), its counts, its mode and duration."""

    generation: int
    timestamp: datetime
    projects: int
    datasets: int
    images: int
    labeled_images: int
    verified_images: int
    annotations: int
    train_count: int
    val_count: int
    test_count: int
    unassigned_count: int
    mode: str
    seconds: float

    def line(self) -> bytes:
        """The line of the file, without its end."""
        number, time, *counts, mode, seconds = astuple(self)
        cells = [str(number), f'"{_stamp(time)}"', *map(str, counts), f'"{mode}"', f"{seconds:.3f}"]
        return ",".join(cells).encode()

    @classmethod
    def parse(cls, line: bytes) -> HistoryRow | None:
        """The row of a line; None if this program did not write it."""
        found = _ROW.fullmatch(line)
        if found is None:
            return None
        number, time, *counts, mode, seconds = (cell.decode() for cell in found.groups())
        try:
            timestamp = datetime.fromisoformat(time)
        except ValueError:
            return None
        return cls(int(number), timestamp, *map(int, counts), mode, float(seconds))  # type: ignore[call-arg, arg-type]


HEADER = ",".join(field.name for field in fields(HistoryRow)).encode()


class History:
    """The lines of the file. `HEADER` and rows that this program did not write are left out."""

    def __init__(self, text: bytes = b"") -> None:
        lines = text.split(b"\n")
        # A file with other columns is not ours.
        self._lines = [line for line in lines[1:] if _plausible(line)] if lines[0] == HEADER else []

    def add(self, row: HistoryRow) -> None:
        """Add the row of a publish, and thin out the older ones.

        A killed exporter may have left a row of the same generation at the end: it is replaced.
        """
        if self._lines and self._lines[-1].startswith(b"%d," % row.generation):
            self._lines.pop()
        self._lines = [*_thinned(self._lines, row.timestamp), row.line()]

    def text(self) -> bytes:
        """The bytes of the file."""
        return b"\n".join([HEADER, *self._lines, b""])

    def rows(self, most: int) -> list[HistoryRow]:
        """At most about this many rows, in order: the first, the last, and others at equal distances."""
        step = max(1, -(-len(self._lines) // most))
        chosen = self._lines[::-1][::step][::-1]
        if chosen and chosen[0] is not self._lines[0]:
            chosen.insert(0, self._lines[0])
        return [row for row in map(HistoryRow.parse, chosen) if row is not None]

    def before(self, time: datetime) -> HistoryRow | None:
        """The last row that is not younger than this time; None if all are."""
        stamp = _stamp(time).encode()
        for line in reversed(self._lines):
            if _time_of(line) <= stamp and (row := HistoryRow.parse(line)) is not None:
                return row
        return None

    def first(self) -> HistoryRow | None:
        """The oldest row; None if there is none."""
        return next((row for row in map(HistoryRow.parse, self._lines) if row is not None), None)


def _plausible(line: bytes) -> bool:
    """Whether a line may be a row: reading each one completely would take 30 times as long."""
    return line[:1].isdigit() and line.count(b",") == 13


def _thinned(lines: Sequence[bytes], now: datetime) -> list[bytes]:
    """Of the last day all rows, of 30 days the last of each hour, of the time before the last of each day."""
    hourly, daily = _stamp(now - _DAY).encode(), _stamp(now - _MONTH).encode()
    kept: list[bytes] = []
    last = b""
    for index, line in enumerate(lines):
        time = _time_of(line)
        if time > hourly:
            # Rows are in the order of time, unless a clock was set back. Then the others stay for a while.
            return [*kept, *lines[index:]]
        bucket = time[:10] if time <= daily else time[:13]
        if bucket == last:
            kept[-1] = line
        else:
            kept.append(line)
        last = bucket
    return kept


def _time_of(line: bytes) -> bytes:
    begin = line.find(b'"') + 1
    return line[begin : begin + 20]


def _stamp(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")
