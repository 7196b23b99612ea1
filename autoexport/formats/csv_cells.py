"""Encodes the cells of a CSV file, and guards text that spreadsheets take for formulas."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from autoexport.values.scalars import encoded

# The openers that spreadsheets take for formulas. OWASP, "CSV Injection", lists the signs, their full-width forms
# and the ends of lines; its ASVS 5.0, 1.2.10, adds NUL.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\0", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")

# JSON escapes the four control characters. In UTF-8, the full-width signs begin with the byte EF. So do some other
# characters, and those cells are looked at one by one.
_OPENED = re.compile(rb'"[=+\-@\xef]')
_LIST_UNITS = 32_766
"""The longest list in a cell, in UTF-16 code units. Excel holds 32,767 ("Excel specifications and limits"), of
which one may be the `'` of a guard. Python's `csv` reads 131,072 characters."""


_CELL = re.compile(rb'"(?:[^"]|"")*"|[^,\n]*')


class CsvCells:
    """Encodes values as cells: text and dates quoted, numbers bare, null empty.

    `guard`: a `'` before a text that a spreadsheet would take for a formula.
    """

    def __init__(self, guard: bool) -> None:
        self.guard = guard

    def cells(self, column: Sequence[Any], json_cells: list[bytes] | None = None) -> tuple[list[bytes], int]:
        """The cells of values and the number of guarded ones; `json_cells` is their JSON if it is known."""
        cells = json_cells or encoded(column)
        kinds = set(map(type, column))
        if str in kinds:
            # If JSON writes a text without an escape, CSV writes it in the same way.
            joined = b",".join(cells)
            opened = self.guard and _OPENED.search(joined)
            if datetime in kinds or b"\\" in joined or opened:
                return self._one_by_one(column, cells)
        elif datetime in kinds:
            cells = b"\n".join(cells).replace(b"T", b" ").split(b"\n")
        if type(None) in kinds:
            cells = [b"" if cell == b"null" else cell for cell in cells]
        return cells, 0

    def _one_by_one(self, column: Sequence[Any], json_cells: list[bytes]) -> tuple[list[bytes], int]:
        cells, guarded = [], 0
        for value, cell in zip(column, json_cells, strict=True):
            if isinstance(value, str):
                neutral = self._neutral(value)
                guarded += neutral is not value
                cells.append(b'"' + neutral.replace('"', '""').encode() + b'"')
            elif isinstance(value, datetime):
                cells.append(cell.replace(b"T", b" "))
            else:
                cells.append(b"" if value is None else cell)
        return cells, guarded

    def _neutral(self, text: str) -> str:
        formula = self.guard and text.startswith(_FORMULA) and not _NUMBER.fullmatch(text)
        return "'" + text if formula else text


def byte_order_mark(wanted: bool) -> bytes:
    """The mark of UTF-8 at the beginning of a file, or nothing."""
    return b"\xef\xbb\xbf" if wanted else b""


def documents(column: Sequence[bytes | None]) -> list[bytes]:
    """The quoted cells of a column of JSON documents. JSON text opens no formula, so none is guarded."""
    return [b'"' + text.replace(b'"', b'""') + b'"' if text else b"" for text in column]


def cell_at(body: bytes, offset: int, index: int) -> str:
    """The cell of this index in the row that has the byte at `offset`.

    Quotes are counted, because a quoted cell may contain line ends.
    """
    start = offset
    while start and (body[start - 1 : start] != b"\n" or body.count(b'"', 0, start) % 2):
        start -= 1
    for _ in range(index):
        start = _end_of_cell(body, start) + 1
    return body[start : _end_of_cell(body, start)].decode("utf-8", "replace")


def _end_of_cell(body: bytes, start: int) -> int:
    match = _CELL.match(body, start)
    return match.end() if match else start


def joined(names: Iterable[str]) -> str:
    """The names in one cell. A list that is too long ends with an ellipsis, after a whole name."""
    shown: list[str] = []
    units = 0
    for name in names:
        units += _units(name) + len("; ")
        shown.append(name)
        if units - len("; ") > _LIST_UNITS:
            break
    else:
        return "; ".join(shown)
    while units + len("…") > _LIST_UNITS:
        units -= _units(shown.pop()) + len("; ")
    return "; ".join([*shown, "…"])


def _units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2
