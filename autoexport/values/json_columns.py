"""The value rule for JSON columns: what is stored becomes JSON on one line, as people write it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any

import orjson

from autoexport.model.catalog import Scalar
from autoexport.values.scalars import Ruled, encode, number_from_text, text, value_by_value

_LONG_INTEGER = re.compile(rb"(?<![0-9.])[0-9]{19}")
_TO_ZERO = bytes.maketrans(b"123456789", b"000000000")
_DEEPEST = 254
"""Levels of nesting that orjson writes; it reads 1,024 (https://github.com/ijl/orjson, "Questions")."""

_STRING = re.compile(rb'("(?:[^"\\]|\\.)*")')

# Numbers that are written as they are read: up to 15 digits, which every double keeps (IEEE 754), no exponent, no
# zero too many, and not so small that they would be written with an exponent.
_ZERO = r"0(?:(?=\.(?!0000))|(?!\.)(?<!-0))"
_NUMBER = rf"-?(?:[1-9][0-9]{{0,6}}+|{_ZERO})(?:\.[0-9]{{1,8}}+(?<![0-9]0))?"
_POINT = rf'\{{"x": {_NUMBER}, "y": {_NUMBER}\}}'
_PAIR = rf"\[{_NUMBER}(?:, {_NUMBER})*+\]"
_POLYGON = rf"\[(?:{_POINT}(?:, {_POINT})*+|{_PAIR}(?:, {_PAIR})*+)\]"
_POLYGONS = re.compile(rf"(?:{_POLYGON}\n)*+")


def documents(column: Sequence[Scalar]) -> Ruled:
    """JSON columns as JSON; text that is not JSON becomes a string and counts as repaired."""
    present: list[Any] = [value for value in column if value is not None and value != "null"]
    if not present:
        return [None] * len(column), 0
    try:
        lines = "\n".join([*present, ""])
        if lines.count("\n") == len(present) and _POLYGONS.fullmatch(lines):
            # Already as it would be written: reading and writing them again would be a third of all rendering.
            # A value of several lines is none of these: each would be taken for a value.
            written: list[bytes | None] = [*lines.encode().split(b"\n")[:-1]]
        elif _has_long_integer(lines.encode()):
            return value_by_value(column, document)
        else:
            # Each is written as soon as it is read: parsed polygons of a whole block would not stay in the cache.
            written = _all_spaced([orjson.dumps(orjson.loads(value)) for value in present])
            if b"null" in written:
                written = [None if text == b"null" else text for text in written]
    except (ValueError, TypeError):
        return value_by_value(column, document)
    if len(present) == len(column):
        return written, 0
    following = iter(written)
    return [None if value is None or value == "null" else next(following) for value in column], 0


def document(value: Any) -> tuple[bytes | None, int]:
    """The JSON rule for one value."""
    parsed, repaired = parse(value)
    return (None if parsed is None else spaced(encode(parsed))), repaired


def spaced(compact: bytes) -> bytes:
    """JSON on one line with a space after every comma and colon that is not inside a string."""
    parts = _STRING.split(compact)
    parts[::2] = [part.replace(b",", b", ").replace(b":", b": ") for part in parts[::2]]
    return b"".join(parts)


def _all_spaced(compact: list[bytes]) -> list[bytes | None]:
    lines = b"\n".join(compact)
    if lines.count(b'"') == 2 * (lines.count(b'"x":') + lines.count(b'"y":')):
        # No string but the names of coordinates, or none at all: every comma and colon is structure.
        return [*lines.replace(b",", b", ").replace(b":", b": ").split(b"\n")]
    return [*map(spaced, compact)]


def _has_long_integer(raw: bytes) -> bool:
    # Looking for a run of zeros in a copy is much faster than looking for a run of digits.
    return b"0" * 19 in raw.translate(_TO_ZERO) and _LONG_INTEGER.search(raw) is not None


def parse(value: Any) -> tuple[Any, int]:
    """One value of a JSON column, parsed, and how many values in it were repaired. The text `null`, and blank
    text, are null; JSON that is nested too deep to be written is left as text."""
    if value is None or value == "null":
        return None, 0
    if not isinstance(value, str):
        return text(value)
    try:
        raw = value.encode()
        if not _has_long_integer(raw):
            parsed = orjson.loads(raw)
            if len(raw) > 2 * _DEEPEST and raw.count(b"[") + raw.count(b"{") > _DEEPEST:
                orjson.dumps(parsed)
            return parsed, 0
    except ValueError:
        pass
    except TypeError:
        return text(value)[0], 1
    return _parse_at_length(value) if value.strip() else (None, 0)


def _parse_at_length(value: str) -> tuple[Any, int]:
    """JSON with what orjson does not read: NaN, infinities, integers beyond 64 bits."""
    bad = 0

    def number_or_null(digits: str) -> Any:
        nonlocal bad
        read, repaired = number_from_text(digits)
        bad += repaired
        return read

    def real(digits: str) -> Any:
        read = float(digits)
        return read if math.isfinite(read) else number_or_null(digits)

    try:
        parsed = json.loads(value, parse_constant=number_or_null, parse_float=real, parse_int=number_or_null)
        orjson.dumps(parsed)
    except (ValueError, RecursionError, TypeError):
        return text(value)[0], 1
    return parsed, bad
