"""Thrift's compact protocol: integers, strings, lists and structs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoexport.formats.thrift import (
    BINARY,
    LIST,
    STOP,
    STRUCT,
    elements,
    field_header,
    fields,
    list_header,
    read_binary,
    read_integer,
    read_unsigned,
    write_binary,
    write_integer,
    write_unsigned,
)


@pytest.mark.parametrize(
    ("value", "encoded"),
    [(0, "00"), (-1, "01"), (1, "02"), (-2, "03"), (63, "7e"), (64, "8001"), (2**31 - 1, "feffffff0f"),
     (-(2**63), "ffffffffffffffffff01")],
)  # fmt: skip
def test_integers_of_the_specification(value: int, encoded: str) -> None:
    """Zigzag, and seven bits a byte, as the specification has them."""
    assert write_integer(value).hex() == encoded
    assert read_integer(bytes.fromhex(encoded), 0) == value


@given(st.integers(0, 2**64 - 1), st.integers(-(2**63), 2**63 - 1), st.binary(max_size=300))
def test_values_are_read_as_they_were_written(unsigned: int, signed: int, text: bytes) -> None:
    """Also behind other bytes."""
    assert read_unsigned(b"x" + write_unsigned(unsigned), 1) == (unsigned, 1 + len(write_unsigned(unsigned)))
    assert read_integer(b"x" + write_integer(signed), 1) == signed
    assert read_binary(b"x" + write_binary(text) + b"y", 1) == text


@pytest.mark.parametrize("length", [0, 1, 14, 15, 16, 1_000])
def test_lists(length: int) -> None:
    """Short and long ones, of strings."""
    written = [write_binary(str(number).encode()) for number in range(length)]
    data = list_header(length, BINARY) + b"".join(written) + b"rest"
    places = list(elements(data, 0))
    assert [data[begin:end] for begin, end in places] == written


def test_structs_of_all_types() -> None:
    """Fields of every type that Parquet's metadata uses, and the numbers of fields far apart."""
    inner = field_header(1, 0, BINARY) + write_binary(b"inner") + STOP
    values = [
        (1, 1, b""), (2, 2, b""), (3, 3, b"\x07"), (4, 4, write_integer(-5)), (5, 5, write_integer(70_000)),
        (6, 6, write_integer(-(2**40))), (7, 7, b"\0" * 8), (8, BINARY, write_binary(b"text")),
        (9, LIST, list_header(2, 1) + b"\x01\x02"), (10, LIST, list_header(2, STRUCT) + inner + inner),
        (12, STRUCT, inner),
    ]  # fmt: skip
    data, last = b"", 0
    for number, kind, value in values:
        data += field_header(number, last, kind) + value
        last = number
    data += bytes([5]) + write_integer(100) + write_integer(1) + STOP
    found = [(number, kind, data[begin:end]) for number, kind, begin, end in fields(data, 0)]
    assert found == [*values, (100, 5, write_integer(1))]


@pytest.mark.parametrize("kind", [10, 11, 13])
def test_other_types_are_refused(kind: int) -> None:
    """A map or a set is not in the metadata of Parquet, so it is an error and not skipped."""
    with pytest.raises(ValueError, match="Thrift type"):
        list(fields(bytes([0x10 | kind]) + b"\0" * 20, 0))
