"""What a stored value becomes in the files, rule by rule."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from autoexport.values import scalars
from autoexport.values.scalars import Ruled
from autoexport.values.worded import numbers_in_words

LONG = 2**63 - 1
PLUS = "+" if b"+" in orjson.dumps(1e22) else ""
"""What orjson writes before a positive exponent: a plus from 3.11.7 on."""
LONE = b"caf\xe9".decode("utf-8", "surrogateescape")


def written(value: Any) -> str:
    """A ruled value as it stands in JSON."""
    return scalars.encode(value).decode()


def check(rule: Callable[[Any], Ruled], stored: Any, expected: str, repaired: int = 0) -> None:
    """The value as JSON and the count, alone, among nulls and among its like."""
    for column in ((stored,), (None, stored, None), [stored, stored]):
        ruled, bad = rule(column)
        times = sum(value is not None for value in column)
        assert [written(value) for value in ruled] == ["null" if v is None else expected for v in column]
        assert bad == (repaired * times if stored is not None else 0)


@pytest.mark.parametrize(
    ("stored", "expected", "repaired"),
    [
        ("plain", '"plain"', 0),
        ("", '""', 0),
        ("a\x00b\x1f\u202e\U0001f600", '"a\\u0000b\\u001f\u202e\U0001f600"', 0),
        (LONE, '"caf\ufffd"', 1),
        ("\ud800", '"\ufffd\ufffd\ufffd"', 1),
        (b"\xff\xfe", '"//4="', 0),
        (b"", '""', 0),
        (42, "42", 0),
        (LONG, "9223372036854775807", 0),
        (0.1 + 0.2, "0.30000000000000004", 0),
        (float("inf"), "null", 1),
    ],
)
def test_text(stored: Any, expected: str, repaired: int) -> None:
    """Text as stored, invalid bytes as U+FFFD and counted, bytes as base64, numbers as numbers."""
    check(scalars.texts, stored, expected, repaired)


def test_text_column_of_both() -> None:
    """A column may hold text, numbers and bytes at once."""
    assert scalars.texts(("a", 1, b"\x00", None, LONE)) == (["a", 1, "AA==", None, "caf\ufffd"], 1)


@pytest.mark.parametrize(
    ("stored", "expected"), [("car", '"car"'), (7, '"7"'), (0.5, '"0.5"'), (True, '"true"'), (b"\x00", '"AA=="')]
)
def test_names_are_text(stored: Any, expected: str) -> None:
    """A name is always text, so that it can be counted by and joined."""
    check(scalars.names, stored, expected)


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        ("train", '"train"'), ("training", '"train"'), ("Train", '"train"'), (" TRAINING ", '"train"'),
        ("val", '"val"'), ("valid", '"val"'), ("Validation", '"val"'),
        ("test", '"test"'), ("Testing", '"test"'),
        ("hold out", '"hold out"'), ("Held", '"Held"'), ("trains", '"trains"'), (3, '"3"'),
        ("", "null"), ("  ", "null"), (None, "null"),
    ],
)  # fmt: skip
def test_splits(stored: Any, expected: str) -> None:
    """The usual spellings in any case become the three words, any other word stays as stored."""
    check(scalars.splits, stored, expected)


@pytest.mark.parametrize(
    ("stored", "expected", "repaired"),
    [
        (640, "640", 0),
        (2**53 + 1, "9007199254740993", 0),
        (-(2**63), "-9223372036854775808", 0),
        (2**70, str(2**70), 0),
        (10**400, "null", 1),
        (0.1, "0.1", 0),
        (-0.0, "-0.0", 0),
        (5e-324, "5e-324", 0),
        (1.7976931348623157e308, f"1.7976931348623157e{PLUS}308", 0),
        (float("nan"), "null", 1),
        (float("-inf"), "null", 1),
        ("12", "12", 0),
        (" -3 ", "-3", 0),
        ("+5", "5", 0),
        ("007", "7", 0),
        (".5", "0.5", 0),
        ("1.10", "1.10", 0),
        ("0.1000000000000000055511151231257827", "0.1000000000000000055511151231257827", 0),
        ("12345678901234567890", "12345678901234567890", 0),
        ("NaN", "null", 1),
        ("-Infinity", "null", 1),
        ("1e999", "null", 1),
        ("9" * 400, "null", 1),
        ("wide", '"wide"', 1),
        ("", '""', 1),
        ("0x10", '"0x10"', 1),
        ("1_000", '"1_000"', 1),
        ("\u0661", '"\u0661"', 1),
        (LONE, '"caf\ufffd"', 1),
        (b"\x01", '"AQ=="', 1),
    ],
)
def test_numbers(stored: Any, expected: str, repaired: int) -> None:
    """All digits are kept; what is no number is null or, if it is text, as stored, and counted."""
    check(scalars.numbers, stored, expected, repaired)


def test_numbers_that_cancel_out_are_looked_at() -> None:
    """Infinities of both signs, whose sum is no infinity, and integers at the limits."""
    assert scalars.numbers((float("inf"), float("-inf"), 1)) == ([None, None, 1], 2)
    assert scalars.numbers((LONG, LONG, -LONG)) == ((LONG, LONG, -LONG), 0)
    assert scalars.numbers((1.7e308, 1.7e308)) == ([1.7e308, 1.7e308], 0)
    assert scalars.numbers((10**400, 1.0))[1] == 1


def test_ordinary_columns_are_not_copied() -> None:
    """The hot path hands on the very column it was given."""
    text, whole, real = ("a", None), (1, 2), (0.5, None)
    assert scalars.texts(text)[0] is text
    assert scalars.texts(whole)[0] is whole
    assert scalars.numbers(whole)[0] is whole
    assert scalars.numbers(real)[0] is real


def test_as_floats() -> None:
    """Numbers for arithmetic, long ones too; text becomes None."""
    ruled, _ = scalars.numbers((1, 0.5, "1.10", "wide", None))
    assert scalars.as_floats(ruled) == [1, 0.5, 1.1, None, None]


@pytest.mark.parametrize(
    ("stored", "expected", "repaired"),
    [
        (0, "false", 0), (1, "true", 0), (True, "true", 0), (2, "true", 0), (-0.5, "true", 0), (0.0, "false", 0),
        ("true", "true", 0), (" Yes", "true", 0), ("off", "false", 0), ("f", "false", 0), (b"1", "true", 0),
        ("perhaps", "null", 1), ("", "null", 1), (b"\xff", "null", 1), (float("nan"), "null", 1),
    ],
)  # fmt: skip
def test_flags(stored: Any, expected: str, repaired: int) -> None:
    """Numbers and the usual words are true or false; what cannot be read is null and counted."""
    check(scalars.flags, stored, expected, repaired)


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        ("2024-01-15 09:00:00", "2024-01-15T09:00:00"),
        ("2024-01-15T09:00:00.5", "2024-01-15T09:00:00.500000"),
        ("2024-01-15 09:00", "2024-01-15T09:00:00"),
        ("2024-01-15", "2024-01-15T00:00:00"),
        ("20240115T090000", "2024-01-15T09:00:00"),
        ("2024-01-15 09:00:00.1234560", "2024-01-15T09:00:00.123456"),
        ("2024-01-15T09:00:00.120000000Z", "2024-01-15T09:00:00.120000Z"),
        ("2024-01-15 09:00Z", "2024-01-15T09:00:00Z"),
        ("2024-01-15 09:00:00.5+01:00:30", "2024-01-15T07:59:30.500000Z"),
        ("20240115T090000.123456", "2024-01-15T09:00:00.123456"),
        ("2024-02-29 00:00:00", "2024-02-29T00:00:00"),
        ("2024-01-15 09:00:00Z", "2024-01-15T09:00:00Z"),
        ("2024-01-15 09:00:00+00", "2024-01-15T09:00:00Z"),
        ("2024-01-15 09:00:00-05:30", "2024-01-15T14:30:00Z"),
        ("2024-01-01T00:30:00.25+0200", "2023-12-31T22:30:00.250000Z"),
        ("0001-01-01 00:00:00", "0001-01-01T00:00:00"),
    ],
)
def test_times(stored: str, expected: str) -> None:
    """Naive times stay naive, aware ones are moved to UTC; fractions down to the microsecond."""
    check(scalars.times, stored, f'"{expected}"')


@pytest.mark.parametrize(
    "stored",
    [
        "0000-00-00 00:00:00", "0000-00-00", "24:00", "2024-01-15 24:00:00", "2024-01-15T24:00", "20240115T240000",
        "2024-02-30 00:00:00", "2024-01-15 25:00:00", "yesterday", "", "infinite", "2024-01-15 10:00 UTC",
        "1705312800", "17051231105", "1705123112034", "20240115", "2024-W01-1", "2024-01-15x10:00:00",
        "2024-01-15 09:00:00.1234567", "2024-01-15T09:00:00.123456789Z", "1969-12-31 23:59:59.9999999+02:00",
        "2024-01-15 09:00:00,1234567", "2024-01-15 09:00:00+01:00:30.1234567", "20240115T090000.1234567",
        "2024-01-15 09:30.5", "2024-01-15 09.5", "2024-01-15 09:00:60", "2023-02-29 00:00:00", "12024-01-15",
        "10000-01-01 00:00:00", "0001-01-01T00:00:00+01:00", "2024-01-15 10:00:00\n2024-01-15 10:00:00",
        "44-03-15 BC",
    ],
)  # fmt: skip
def test_what_is_no_time_stays_as_stored(stored: str) -> None:
    """Also next to times that can be read, and not counted as repaired."""
    check(scalars.times, stored, json.dumps(stored))
    ruled, repaired = scalars.times(("2024-01-15 09:00:00", stored, "2024-01-15 09:00:00+01:00"))
    expected = [datetime(2024, 1, 15, 9), stored, datetime(2024, 1, 15, 8, tzinfo=UTC)]  # noqa: DTZ001
    assert (ruled, repaired) == (expected, 0)


@pytest.mark.parametrize("stored", ["infinity", "-infinity", "Infinity", float("-inf")])
def test_infinite_times(stored: str | float) -> None:
    """They are null and counted, also next to others."""
    check(scalars.times, stored, "null", 1)
    column = ("2024-01-15 09:00:00", stored, None, stored)
    assert scalars.times(column) == ([datetime(2024, 1, 15, 9), None, None, None], 2)  # noqa: DTZ001


@pytest.mark.parametrize(("stored", "expected"), [(1705312800, "1705312800"), (1.5, "1.5"), (b"\x00", '"AA=="')])
def test_times_stored_as_something_else(stored: Any, expected: str) -> None:
    """An epoch stays the number it is."""
    check(scalars.times, stored, expected)


@pytest.mark.parametrize("column", [(), [], ("a",), ("line\nbreak", None, 1.5, True), [1, 2], ('",\n  "',)])
def test_encoded_is_each_value_encoded(column: Any) -> None:
    """One call for a column gives what one call for each value gives, whatever the text in it."""
    assert scalars.encoded(column) == [scalars.encode(value) for value in column]


def test_encoded_times_and_long_numbers() -> None:
    """Times and numbers with all their digits are cells like others."""
    ruled, _ = scalars.numbers(("1.10", 2, None))
    assert scalars.encoded(ruled) == [b"1.10", b"2", b"null"]
    moments, _ = scalars.times(("2024-01-15 09:00:00+01:00", None))
    assert scalars.encoded(moments) == [b'"2024-01-15T08:00:00Z"', b"null"]


@pytest.mark.parametrize(
    ("stored", "expected", "repaired"),
    [
        ("640", 640, 0),
        (" 1.5 ", 1.5, 0),
        ("wide", None, 1),
        ("", None, 1),
        (b"\x01", None, 1),
        ("NaN", None, 1),
        (7, 7, 0),
        (None, None, 0),
    ],
)
def test_numbers_in_text_columns(stored: Any, expected: Any, repaired: int) -> None:
    """A text column holds numbers as text; anything else in it is null and counted."""
    assert numbers_in_words([stored]) == ([expected], repaired)
