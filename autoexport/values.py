"""The value rules: what a stored value becomes in the files, a column at a time.

Each rule takes a column and returns a new one with the number of repaired values. All are written
for the ordinary case, in which a whole column is checked by one call that runs in C, and fall back
to the same rule value by value for a column that holds anything odd.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from autoexport.model import Scalar, Value

Ruled = tuple[Sequence[Any], int]
"""A column after its rule, and how many of its values had to be repaired."""

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_LONG_DIGITS = re.compile(r"[0-9]{19}")
_INT64 = range(-(2**63), 2**63)
_FLAGS: dict[Any, bool | None] = {None: None, 0: False, 1: True}
_FLAG_WORDS = {
    "1": True, "true": True, "t": True, "yes": True, "y": True, "on": True,
    "0": False, "false": False, "f": False, "no": False, "n": False, "off": False,
}  # fmt: skip
_SPLITS = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip


def _value_by_value(column: Sequence[Scalar], rule: Callable[[Any], tuple[Any, int]]) -> Ruled:
    values, repaired = [], 0
    for value in column:
        ruled, bad = rule(value)
        values.append(ruled)
        repaired += bad
    return values, repaired


def _present(column: Sequence[Scalar]) -> Sequence[Any]:
    return [value for value in column if value is not None] if None in column else column


# --- text ------------------------------------------------------------------------------------------


def texts(column: Sequence[Scalar]) -> Ruled:
    """Text as stored; bytes as base64; a number that is stored in a text column stays a number.

    Invalid UTF-8 becomes U+FFFD and counts as repaired.
    """
    try:
        "".join(_present(column)).encode()
    except (TypeError, UnicodeEncodeError):
        return _value_by_value(column, text)
    return column, 0


def text(value: Any) -> tuple[Any, int]:
    """The text rule for one value."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace"), 1
        return value, 0
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii"), 0
    if isinstance(value, int | float):
        return number(value)
    return value, 0


def names(column: Sequence[Scalar]) -> Ruled:
    """The text rule for names, which are always text: a number becomes its digits."""
    ruled, repaired = texts(column)
    if ruled is column:
        return column, 0
    return [value if value is None or isinstance(value, str) else _digits(value) for value in ruled], repaired


def _digits(value: Any) -> str:
    return orjson.dumps(value).decode()


def splits(column: Sequence[Scalar]) -> Ruled:
    """The usual spellings of train, val and test as these; any other word as stored."""
    ruled, repaired = names(column)
    return [_SPLITS.get(word.strip().lower(), word) if word else word for word in ruled], repaired


# --- numbers and flags -------------------------------------------------------------------------------


def numbers(column: Sequence[Scalar]) -> Ruled:
    """Numbers with all their digits; NaN and infinities become null and count as repaired."""
    try:
        total = sum(_present(column))
    except TypeError:
        return _value_by_value(column, number)
    if math.isfinite(total) and -(2**53) < total < 2**53:
        return column, 0
    return _value_by_value(column, number)


def number(value: Any) -> tuple[Any, int]:
    """The number rule for one value. Text that is a number is that number, as PostgreSQL's `numeric`
    arrives; other text is written as stored and counts as repaired."""
    if value is None or isinstance(value, bool):
        return value, 0
    if isinstance(value, float):
        return (value, 0) if math.isfinite(value) else (None, 1)
    if isinstance(value, int):
        return (value, 0) if value in _INT64 else (orjson.Fragment(str(value).encode()), 0)
    if isinstance(value, str):
        return _number_from_text(value)
    return text(value)


def _number_from_text(value: str) -> tuple[Any, int]:
    word = value.strip()
    if _NUMBER.fullmatch(word):
        if word.lstrip("-").isdigit():
            return number(int(word)) if len(word) < 4000 else (orjson.Fragment(word.encode()), 0)
        as_float = float(word)
        exact = math.isfinite(as_float) and repr(as_float) == word
        return (as_float, 0) if exact else (orjson.Fragment(word.encode()), 0)
    if word.lower().lstrip("+-") in ("nan", "inf", "infinity"):
        return None, 1
    return text(value)[0], 1


def as_floats(column: Sequence[Any]) -> list[float | int | None]:
    """A ruled column of numbers as something to reckon with: what is no plain number is None."""
    return [_plain(value) for value in column]


def _plain(value: Any) -> float | int | None:
    if isinstance(value, orjson.Fragment):
        return float(orjson.dumps(value))
    return value if isinstance(value, int | float) else None


def flags(column: Sequence[Scalar]) -> Ruled:
    """Booleans: 0 and 1, PostgreSQL's own, the usual words; any other number is true unless zero;
    what cannot be read is null and counts as repaired."""
    try:
        return [_FLAGS[value] for value in column], 0
    except (KeyError, TypeError):
        return _value_by_value(column, flag)


def flag(value: Any) -> tuple[bool | None, int]:
    """The boolean rule for one value."""
    if value is None:
        return None, 0
    if isinstance(value, int | float):
        return (bool(value), 0) if value == value else (None, 1)
    word = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    known = _FLAG_WORDS.get(word.strip().lower())
    return (known, 0) if known is not None else (None, 1)


# --- times -------------------------------------------------------------------------------------------


def times(column: Sequence[Scalar]) -> Ruled:
    """ISO 8601 times as `datetime`: naive ones stay naive, aware ones are moved to UTC.

    What cannot be parsed is left as stored, by the rule for text or for numbers.
    """
    parse = datetime.fromisoformat
    try:
        if None in column:
            parsed: list[Any] = [None if value is None else parse(value) for value in column]  # type: ignore[arg-type]
        else:
            parsed = list(map(parse, column))  # type: ignore[arg-type]
        # Newer interpreters read 24:00 as the next day's midnight; here it stays as stored.
        plain = not any(value.tzinfo for value in parsed if value is not None)
        odd = not plain or any(value[11:13] == "24" for value in _present(column))
    except (TypeError, ValueError):
        odd = True
    return _value_by_value(column, time) if odd else (parsed, 0)


def time(value: Any) -> tuple[Value, int]:
    """The time rule for one value."""
    if not isinstance(value, str):
        return text(value)
    if value[11:13] == "24":
        return text(value)
    try:
        parsed = datetime.fromisoformat(value)
        return (parsed if parsed.tzinfo is None else parsed.astimezone(UTC)), 0
    except (ValueError, OverflowError):
        return text(value)


# --- JSON --------------------------------------------------------------------------------------------


def documents(column: Sequence[Scalar]) -> Ruled:
    """JSON columns parsed; text that is not JSON is left as stored and counts as repaired."""
    if not any(column):
        return [None] * len(column), 0
    return _value_by_value(column, document)


def document(value: Any) -> tuple[Any, int]:
    """The JSON rule for one value. The text `null`, and empty text, are null."""
    if value is None:
        return None, 0
    if not isinstance(value, str):
        return text(value)
    if not value.strip():
        return None, 0
    if not _LONG_DIGITS.search(value):
        try:
            return orjson.loads(value), 0
        except ValueError:
            pass
    return _document_at_length(value)


def _document_at_length(value: str) -> tuple[Any, int]:
    bad = 0

    def unrepresentable(_: str) -> None:
        nonlocal bad
        bad += 1

    def real(digits: str) -> float | None:
        parsed = float(digits)
        return parsed if math.isfinite(parsed) else unrepresentable(digits)

    def whole(digits: str) -> Any:
        return number(int(digits))[0] if len(digits) < 4000 else orjson.Fragment(digits.encode())

    try:
        parsed = json.loads(value, parse_constant=unrepresentable, parse_float=real, parse_int=whole)
        orjson.dumps(parsed)
    except (ValueError, RecursionError, TypeError):
        return text(value)[0], 1
    return parsed, bad


# --- bytes -------------------------------------------------------------------------------------------

_INDENTED = orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z


def encoded(column: Sequence[Any]) -> list[bytes]:
    """Each scalar of a ruled column as JSON.

    One call encodes the column as an indented list, in which every value is a line of its own:
    JSON text never holds a bare newline, so the lines are the values.
    """
    if not column:
        return []
    return orjson.dumps(column if isinstance(column, list) else list(column), option=_INDENTED)[4:-2].split(b",\n  ")


def encode(value: Any) -> bytes:
    """One scalar as JSON."""
    return orjson.dumps(value, option=orjson.OPT_UTC_Z)
