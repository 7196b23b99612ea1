"""Applies the value rule of JSON columns: JSON on one line with spaces after commas and colons."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from autoexport.model.catalog import Scalar
from autoexport.values.jsonb import json_text
from autoexport.values.scalars import Ruled, encode, number_from_text, text, value_by_value

_LONG_INTEGER = re.compile(rb"(?<![0-9.])[0-9]{19}")
_TO_ZERO = bytes.maketrans(b"123456789", b"000000000")
_MAX_DEPTH = 254
"""Levels of nesting that orjson writes; it reads 1,024 (https://github.com/ijl/orjson, "Questions")."""

_STRING = re.compile(rb'("(?:[^"\\]|\\.)*")')

# Numbers that orjson writes as they were read: up to 15 digits, which every double keeps (IEEE 754), no exponent,
# no superfluous zero, and not so small that orjson would write an exponent.
_ZERO = r"0(?:(?=\.(?!0000))|(?!\.)(?<!-0))"
_NUMBER = rf"-?(?:[1-9][0-9]{{0,6}}+|{_ZERO})(?:\.[0-9]{{1,8}}+(?<![0-9]0))?"
_POINT = rf'\{{"x": {_NUMBER}, "y": {_NUMBER}\}}'
_PAIR = rf"\[{_NUMBER}(?:, {_NUMBER}){{0,3}}+\]"
_POLYGON = rf"\[(?:{_POINT}(?:, {_POINT})*+|{_PAIR}(?:, {_PAIR})*+)\]"
_POLYGONS = re.compile(rf"(?:{_POLYGON}\n)*+")


def documents(column: Sequence[Scalar]) -> Ruled:
    """Apply the JSON rule to a column: compact or indented JSON becomes JSON on one line.

    Text that is not JSON becomes a JSON string and counts as repaired. Null and the text `null` become None.
    """
    return published(column) or rendered(column)


def published(column: Sequence[Scalar], rewritten: Callable[[bytes], bytes] | None = None) -> Ruled | None:
    """The column if all of it already is in the published form; None if any value has to be looked at.

    Parsing and writing polygons again would take a third of all rendering. `rewritten` writes all of them in
    another way at once: one a line.
    """
    present: list[Any] = [value for value in column if value is not None and value != "null"]
    if not present:
        return [None] * len(column), 0
    try:
        lines = "\n".join([*present, ""])
    except TypeError:
        return None
    # The count of lines excludes values of several lines, of which each would count as a value.
    if lines.count("\n") != len(present) or not _POLYGONS.fullmatch(lines):
        return None
    encoded = lines.encode()
    if rewritten is not None:
        encoded = rewritten(encoded)
    return _with_nulls(column, [*encoded.split(b"\n")[:-1]]), 0


def _with_nulls(column: Sequence[Scalar], written: list[bytes | None]) -> list[bytes | None]:
    if len(written) == len(column):
        return written
    remaining = iter(written)
    return [None if value is None or value == "null" else next(remaining) for value in column]


def rendered(column: Sequence[Scalar]) -> Ruled:
    """Apply the JSON rule to a column of which some values are not in the published form."""
    present: list[Any] = [value for value in column if value is not None and value != "null"]
    try:
        if has_long_integer("\n".join(present).encode()):
            return value_by_value(column, document)
        # Each is written as soon as it is parsed: the parsed polygons of a block exceed the processor's cache.
        written = _all_spaced([orjson.dumps(orjson.loads(value)) for value in present])
        if b"null" in written:
            written = [None if text == b"null" else text for text in written]
    except (ValueError, TypeError):
        return value_by_value(column, document)
    return _with_nulls(column, written), 0


def document(value: Any) -> tuple[bytes | None, int]:
    """Apply the JSON rule to one value. Also returns the number of repaired values in it."""
    parsed, repaired = parse(value)
    return (None if parsed is None else spaced(encode(parsed))), repaired


def spaced(compact: bytes) -> bytes:
    """Insert a space after every comma and colon outside of strings."""
    parts = _STRING.split(compact)
    parts[::2] = [part.replace(b",", b", ").replace(b":", b": ") for part in parts[::2]]
    return b"".join(parts)


def _all_spaced(compact: list[bytes]) -> list[bytes | None]:
    lines = b"\n".join(compact)
    if lines.count(b'"') == 2 * (lines.count(b'"x":') + lines.count(b'"y":')):
        # The only strings are names of coordinates, so every comma and colon is structure.
        return [*lines.replace(b",", b", ").replace(b":", b": ").split(b"\n")]
    return [*map(spaced, compact)]


def has_long_integer(raw: bytes) -> bool:
    """Whether a number in this JSON has digits that orjson would not keep."""
    # Searching a run of zeros in a translated copy is much faster than searching a run of digits.
    return b"0" * 19 in raw.translate(_TO_ZERO) and _LONG_INTEGER.search(raw) is not None


def parse(value: Any) -> tuple[Any, int]:
    """Parse one value of a JSON column. Also returns the number of repaired values in it.

    The text `null` and blank text become None. JSON that is nested too deep for orjson remains text. Bytes may be
    JSON text or SQLite's JSONB; other bytes become base64. A value that is no JSON counts as repaired.
    """
    if value is None or value == "null":
        return None, 0
    if isinstance(value, bytes):
        return _parse_bytes(value)
    if not isinstance(value, str):
        return text(value)
    try:
        return _parse_text(value) if value.strip() else (None, 0)
    except (ValueError, TypeError, RecursionError):
        return text(value)[0], 1


def _parse_bytes(value: bytes) -> tuple[Any, int]:
    """Parse bytes as JSON text, or else as JSONB. No list or object can be read as both."""
    for decode in (bytes.decode, json_text):
        try:
            return _parse_text(decode(value))
        except (ValueError, TypeError, RecursionError):
            pass
    return (text(value)[0], 1) if value.strip() else (None, 0)


def _parse_text(value: str) -> tuple[Any, int]:
    """Parse JSON text. Raises ValueError, TypeError or RecursionError if it is no JSON that can be published."""
    raw = value.encode()
    if not has_long_integer(raw):
        try:
            parsed = orjson.loads(raw)
        except ValueError:
            return _parse_leniently(value)
        if len(raw) > 2 * _MAX_DEPTH and raw.count(b"[") + raw.count(b"{") > _MAX_DEPTH:
            orjson.dumps(parsed)
        return parsed, 0
    return _parse_leniently(value)


def _parse_leniently(value: str) -> tuple[Any, int]:
    """Parse JSON with NaN, infinities or integers beyond 64 bits, which orjson does not read."""
    total_repaired = 0

    def number_or_null(digits: str) -> Any:
        nonlocal total_repaired
        number, repaired = number_from_text(digits)
        total_repaired += repaired
        return number

    def real(digits: str) -> Any:
        number = float(digits)
        return number if math.isfinite(number) else number_or_null(digits)

    parsed = json.loads(value, parse_constant=number_or_null, parse_float=real, parse_int=number_or_null)
    orjson.dumps(parsed)
    return parsed, total_repaired
