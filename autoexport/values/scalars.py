"""Applies the value rules for text, numbers, flags and times to whole columns.

A rule takes a stored column and returns the published one with the number of repaired values. Ordinarily, one call
that runs in C checks the whole column. A column that holds anything unusual takes the same rule value by value.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from autoexport.model.blocks import Value
from autoexport.model.catalog import Scalar

Ruled = tuple[Sequence[Any], int]
"""A column after its rule, and the number of its repaired values."""

_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_JSON_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,400}")
_INT64 = range(-(2**63), 2**63)

# The parser checks the part after the separator. Digits alone are no time: it would read thirteen of them, an
# epoch in milliseconds, as the year 1705. 24:00 is excluded: newer parsers read it as the next midnight.
_TIME = re.compile(r"....-..-..(?:[ Tt](?!24).+)?|[0-9]{8}T(?!24).+")

# A fraction has at most six digits, which is what the parser keeps. It follows the seconds: in 09:30.5, the parser
# would take half a minute for half a second.
_ORDINARY_TIMES = re.compile(r"(?:....-..-..[ T](?!24)..:..:.{2,9}(?:\n|\+..\n|[Z+\-].{0,6}\n))*+")
_TIMES_TO_THE_MINUTE = re.compile(r"(?:....-..-..[ T](?!24)..:..(?:\n|[Z+\-][0-9:]*\n))*+")
_EXACT_FRACTION = re.compile(
    r"(?:.{10}[ Tt]..:..:.{2,9}|[0-9]{8}T[0-9]{6}[.,][0-9]{1,6})0*(?:[Z+\-](?:.{0,6}|[^.,]*))?"
)

_FLAGS: dict[Any, bool | None] = {None: None, 0: False, 1: True}
_FLAG_WORDS = {
    "1": True, "true": True, "t": True, "yes": True, "y": True, "on": True,
    "0": False, "false": False, "f": False, "no": False, "n": False, "off": False,
}  # fmt: skip
TRUE_WORDS = tuple(word for word, flag in _FLAG_WORDS.items() if flag)
"""Text that means true, in lower case."""

BLANKS = " \t\n\r\f\v"
"""Characters around a word that do not count."""

_SPLITS = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip


def value_by_value(column: Sequence[Scalar], rule: Callable[[Any], tuple[Any, int]]) -> Ruled:
    """Apply the rule for one value to each value of an unusual column."""
    values, total_repaired = [], 0
    for value in column:
        ruled, repaired = rule(value)
        values.append(ruled)
        total_repaired += repaired
    return values, total_repaired


def _present(column: Sequence[Scalar]) -> Sequence[Any]:
    return [value for value in column if value is not None] if None in column else column


# --- text ------------------------------------------------------------------------------------------


def texts(column: Sequence[Scalar]) -> Ruled:
    """Apply the text rule: text as stored, bytes as base64; a number in a text column remains a number.

    Invalid UTF-8 becomes U+FFFD and counts as repaired.
    """
    if _are_valid_text(column):
        return column, 0
    present = _present(column)
    ordinary = _are_valid_text(present) or _are_numbers(present)
    return (column, 0) if ordinary else value_by_value(column, text)


def _are_valid_text(present: Sequence[Any]) -> bool:
    try:
        "".join(present).encode()
    except (TypeError, UnicodeEncodeError):
        return False
    return True


def text(value: Any) -> tuple[Any, int]:
    """Apply the text rule to one value."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return _repaired_text(value), 1
        return value, 0
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii"), 0
    if isinstance(value, int | float):
        return number(value)
    return value, 0


def _repaired_text(value: str) -> str:
    try:
        stored = value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        stored = value.encode("utf-8", "surrogatepass")
    return stored.decode("utf-8", "replace")


def names(column: Sequence[Scalar]) -> Ruled:
    """Apply the text rule to names, which are always text: a number becomes its digits."""
    ruled, repaired = texts(column)
    if ruled is column and {*map(type, column)} <= {str, type(None)}:
        return column, 0
    return [value if value is None or isinstance(value, str) else _digits(value) for value in ruled], repaired


def _digits(value: Any) -> str:
    return orjson.dumps(value).decode()


def splits(column: Sequence[Scalar]) -> Ruled:
    """Normalize the usual spellings of train, val and test; other words as stored; blank text becomes None."""
    ruled, repaired = names(column)
    normalized = {word: split(word) for word in set(ruled)}
    return [normalized[word] for word in ruled], repaired


def split(word: str | None) -> str | None:
    """Normalize the name of one split."""
    plain = word.strip().lower() if word else ""
    return _SPLITS.get(plain, word) if plain else None


# --- numbers and flags -------------------------------------------------------------------------------


def numbers(column: Sequence[Scalar]) -> Ruled:
    """Apply the number rule: numbers with all their digits; NaN and infinities become None, as repaired values."""
    ordinary = _are_numbers(column) or _are_numbers(_present(column))
    return (column, 0) if ordinary else value_by_value(column, number)


def _are_numbers(present: Sequence[Any]) -> bool:
    """Whether all values are numbers that JSON can hold, judged by their sum in one call that runs in C.

    A sum beyond 64 bits gives False, so that each value is checked.
    """
    try:
        total = sum(present)
        return math.isfinite(total) and -(2**63) < total < 2**63
    except (TypeError, OverflowError):
        return False


def number(value: Any) -> tuple[Any, int]:
    """Apply the number rule to one value.

    Text that is a number becomes that number: PostgreSQL delivers `numeric` so. Other text remains as stored, and
    bytes become base64; both count as repaired. A number beyond the largest double, which readers of JSON cannot
    hold, becomes None like an infinity.
    """
    if value is None or isinstance(value, bool):
        return value, 0
    if isinstance(value, float):
        return (value, 0) if math.isfinite(value) else (None, 1)
    if isinstance(value, int):
        if value in _INT64:
            return value, 0
        return (orjson.Fragment(str(value).encode()), 0) if abs(value) < 10**308 else (None, 1)
    if isinstance(value, str):
        return number_from_text(value)
    return text(value)[0], 1


def number_from_text(value: str) -> tuple[Any, int]:
    """Apply the number rule to text."""
    word = value.strip()
    if _NUMBER.fullmatch(word):
        as_float = float(word)
        if not math.isfinite(as_float):
            return None, 1
        if _WHOLE_NUMBER.fullmatch(word):
            return number(int(word))
        ordinary = repr(as_float) == word or not _JSON_NUMBER.fullmatch(word)
        return (as_float, 0) if ordinary else (orjson.Fragment(word.encode()), 0)
    if word.lower().lstrip("+-") in ("nan", "inf", "infinity"):
        return None, 1
    return text(value)[0], 1


def as_floats(column: Sequence[Any]) -> list[float | int | None]:
    """Convert a ruled column of numbers for arithmetic; a value that is no number becomes None."""
    return [_plain(value) for value in column]


def _plain(value: Any) -> float | int | None:
    if isinstance(value, orjson.Fragment):
        return float(orjson.dumps(value))
    return value if isinstance(value, int | float) else None


def flags(column: Sequence[Scalar]) -> Ruled:
    """Apply the boolean rule: booleans, numbers (true unless zero) and the usual words.

    An unreadable value becomes None and counts as repaired.
    """
    try:
        return [*map(_FLAGS.__getitem__, column)], 0
    except (KeyError, TypeError):
        return value_by_value(column, flag)


def flag(value: Any) -> tuple[bool | None, int]:
    """Apply the boolean rule to one value."""
    if value is None:
        return None, 0
    if isinstance(value, int | float):
        return (bool(value), 0) if value == value else (None, 1)
    word = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    known = _FLAG_WORDS.get(word.strip().lower())
    return (known, 0) if known is not None else (None, 1)


# --- times -------------------------------------------------------------------------------------------


def times(column: Sequence[Scalar]) -> Ruled:
    """Parse ISO 8601 times as `datetime`: naive ones stay naive, aware ones are converted to UTC.

    A value that cannot be parsed without loss takes the text rule. So a number remains a number, and a time with
    nanoseconds remains text. PostgreSQL's `infinity` becomes None and counts as repaired, as an infinite number.
    """
    present = _present(column)
    try:
        lines = "\n".join([*present, ""])
        if not _ORDINARY_TIMES.fullmatch(lines) and not _TIMES_TO_THE_MINUTE.fullmatch(lines):
            return value_by_value(column, time)
        parsed: list[Any] = list(map(datetime.fromisoformat, present))
        if "+" in lines or "Z" in lines or lines.count("-") > 2 * len(present):
            parsed = [value if value.tzinfo is None else value.astimezone(UTC) for value in parsed]
    except (TypeError, ValueError, OverflowError):
        return value_by_value(column, time)
    if len(present) < len(column):
        remaining = iter(parsed)
        parsed = [None if value is None else next(remaining) for value in column]
    return parsed, 0


def time(value: Any) -> tuple[Value, int]:
    """Apply the time rule to one value."""
    if not isinstance(value, str):
        return text(value)
    if not _TIME.fullmatch(value):
        infinite = value.strip().lower().lstrip("+-") == "infinity"
        return (None, 1) if infinite else text(value)
    if ("." in value or "," in value) and not _EXACT_FRACTION.fullmatch(value):
        return text(value)
    try:
        parsed = datetime.fromisoformat(value)
        return (parsed if parsed.tzinfo is None else parsed.astimezone(UTC)), 0
    except (ValueError, OverflowError):
        return text(value)


# --- bytes -------------------------------------------------------------------------------------------

_INDENTED = orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z


def encoded(column: Sequence[Any]) -> list[bytes]:
    """Encode each scalar of a ruled column as JSON.

    One call encodes the column as an indented list with one value a line. JSON never contains a bare newline, so
    the lines are the values.
    """
    if not column:
        return []
    return orjson.dumps(column, option=_INDENTED)[4:-2].split(b",\n  ")


def encoded_texts(column: Sequence[Any]) -> list[str]:
    """Encode each scalar of a ruled column as JSON, as `encoded` does, as text."""
    if not column:
        return []
    return orjson.dumps(column, option=_INDENTED)[4:-2].decode().split(",\n  ")


def encode(value: Any) -> bytes:
    """Encode one scalar as JSON."""
    return orjson.dumps(value, option=orjson.OPT_UTC_Z)
