"""What a stored JSON document becomes in the files."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from autoexport.values.json_columns import document, documents, spaced

LONE = b"caf\xe9".decode("utf-8", "surrogateescape")


def deep(levels: int) -> str:
    return "[" * levels + "]" * levels


@pytest.mark.parametrize(
    ("stored", "expected", "repaired"),
    [
        ("null", "null", 0),
        (" null ", "null", 0),
        ("", "null", 0),
        (" \n", "null", 0),
        ("[]", "[]", 0),
        ("0", "0", 0),
        ('[[1, 2.50], {"x": 1e3, "y": -0.0}]', '[[1, 2.5], {"x": 1000.0, "y": -0.0}]', 0),
        ('{"b": 1, "a": "ü,:\\" "}', '{"b": 1, "a": "ü,:\\" "}', 0),
        ("[9007199254740993, 18446744073709551616]", "[9007199254740993, 18446744073709551616]", 0),
        ("[NaN, 1, -Infinity]", "[null, 1, null]", 2),
        ("[1e999, 0.12345678901234567890]", "[null, 0.12345678901234568]", 1),
        ("[" + "9" * 400 + "]", "[null]", 1),
        ("[" + "9" * 5000 + "]", "[null]", 1),
        ("[1, 2", '"[1, 2"', 1),
        ("POLYGON((0 0))", '"POLYGON((0 0))"', 1),
        ('"\\ud800"', '"\\"\\\\ud800\\""', 1),
        (LONE, '"caf\ufffd"', 1),
        (deep(254), deep(254), 0),
        (deep(256), f'"{deep(256)}"', 1),  # orjson writes 255 levels up to 3.11 and 254 from 3.12 on
        (deep(1000), f'"{deep(1000)}"', 1),
        (deep(100_000), f'"{deep(100_000)}"', 1),
        (5, "5", 0),
        (0, "0", 0),
        (b'[[1, 2.50], {"x": 1e3}]', '[[1, 2.5], {"x": 1000.0}]', 0),
        (b"[NaN, 18446744073709551616]", "[null, 18446744073709551616]", 1),
        (b"null", "null", 0),
        (b"", "null", 0),
        (b" \n", "null", 0),
        (b"[1, 2", '"WzEsIDI="', 1),
        (b"\xff[1]", '"/1sxXQ=="', 1),
        (b"\xef\xbb\xbf[1]", '"77u/WzFd"', 1),
        (bytes.fromhex("4B13311332"), "[1, 2]", 0),
        (b"3123", "3123", 0),  # also JSONB, of 123
        (float("inf"), "null", 1),
    ],
)
def test_documents(stored: Any, expected: str, repaired: int) -> None:
    """JSON is parsed; NaN in it is null and counted; what is no JSON, or too deep, is text and counted."""
    for column in ((stored,), (None, stored, None), [stored, stored]):
        ruled, bad = documents(column)
        assert ruled == [None if value is None or expected == "null" else expected.encode() for value in column]
        assert bad == repaired * sum(value is not None for value in column)


def test_deep_documents_can_be_read_again() -> None:
    """Nothing is written that orjson or Python refuse to read at the place where it stands."""
    (ruled,), _ = documents((deep(254),))
    document = b"[" * 8 + ruled + b"]" * 8
    assert orjson.loads(document) == json.loads(document)


@pytest.mark.parametrize(
    ("compact", "expected"),
    [
        (b"[1,2]", b"[1, 2]"),
        (b'{"a,b":"c:d","e\\"f":[",",":"]}', b'{"a,b": "c:d", "e\\"f": [",", ":"]}'),
        (b'"\\\\",1', b'"\\\\", 1'),
        (b"null", b"null"),
    ],
)
def test_spaced(compact: bytes, expected: bytes) -> None:
    """A space after each comma and colon of the structure, and none in a string."""
    assert spaced(compact) == expected


# --- polygons that need not be read ------------------------------------------------------------------

DIGITS = st.text("0123456789", min_size=0, max_size=9)
NUMBERS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(json.dumps),
    st.floats(-4000, 4000).map(lambda number: json.dumps(round(number, 1))),
    st.integers(-(10**9), 10**20).map(str),
    st.builds("{}{}.{}".format, st.sampled_from(["", "-"]), DIGITS, DIGITS),
    st.builds("0.{}{}".format, st.text("0", max_size=8), DIGITS),
    st.sampled_from(["-0", "-0.0", "0", "00", "1.", ".5", "1e5", "1E-7", "-", "1.50", "0.00001", "0.0001", "+1"]),
)


@st.composite
def polygons(draw: st.DrawFn) -> str:
    """Lists of points as applications write them, most of them valid JSON."""
    comma, colon = draw(st.sampled_from([(", ", ": "), (",", ":"), (" ,", ":  "), (",\n", ": ")]))
    if draw(st.booleans()):
        point = st.builds(f'{{{{"x"{colon}{{}}{comma}"y"{colon}{{}}}}}}'.format, NUMBERS, NUMBERS)
    else:
        point = st.lists(NUMBERS, min_size=1, max_size=4).map(lambda numbers: f"[{comma.join(numbers)}]")
    return f"[{comma.join(draw(st.lists(point, max_size=4)))}]"


@given(st.lists(polygons(), min_size=1, max_size=4))
@example(['[{"x": 0.00001, "y": 1}]'])
@example(['[{"x": 1.10, "y": -0}]'])
@example(["[[12345678.12345678, 123456789012345678901]]"])
@example(["[[1, 2]]\n[[3, 4]]", "[[5, 6]]"])
def test_polygons_are_copied_or_written_again(column: list[str]) -> None:
    """A copied value equals the value that reading and writing it would give."""
    written = [document(value) for value in column]
    assert documents(column) == ([value for value, _ in written], sum(repaired for _, repaired in written))
    for stored, (value, repaired) in zip(column, written, strict=True):
        if not repaired and value is not None:
            assert orjson.loads(value) == orjson.loads(stored)
