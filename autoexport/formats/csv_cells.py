"""Encodes the cells of CSV files: text and dates are quoted, numbers are bare, null is empty."""

from __future__ import annotations

import re
from collections.abc import Sequence
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
_CELL = re.compile(rb'"(?:[^"]|"")*"|[^,\n]*')


def byte_order_mark(wanted: bool) -> bytes:
    """The mark of UTF-8 at the beginning of a file, or nothing."""
    return b"\xef\xbb\xbf" if wanted else b""


def cells_of(column: Sequence[Any], guard: bool, json_cells: list[bytes] | None = None) -> tuple[list[bytes], int]:
    """The cells of a ruled column and the number of guarded ones; `json_cells` is their JSON if it is known."""
    cells = json_cells or encoded(column)
    kinds = set(map(type, column))
    if str in kinds:
        # If JSON writes a text without an escape, CSV writes it in the same way.
        joined = b",".join(cells)
        opened = guard and _OPENED.search(joined)
        if datetime in kinds or b"\\" in joined or opened:
            return _one_by_one(column, cells, guard)
    elif datetime in kinds:
        cells = b"\n".join(cells).replace(b"T", b" ").split(b"\n")
    if type(None) in kinds:
        cells = [b"" if cell == b"null" else cell for cell in cells]
    return cells, 0


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


def _one_by_one(column: Sequence[Any], json_cells: list[bytes], guard: bool) -> tuple[list[bytes], int]:
    cells, guarded = [], 0
    for value, cell in zip(column, json_cells, strict=True):
        if isinstance(value, str):
            neutral = _neutral(value, guard)
            guarded += neutral is not value
            cells.append(b'"' + neutral.replace('"', '""').encode() + b'"')
        elif isinstance(value, datetime):
            cells.append(cell.replace(b"T", b" "))
        else:
            cells.append(b"" if value is None else cell)
    return cells, guarded


def _neutral(text: str, guard: bool) -> str:
    formula = guard and text.startswith(_FORMULA) and not _NUMBER.fullmatch(text)
    return "'" + text if formula else text
