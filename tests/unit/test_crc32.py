"""The checksum of joined pieces follows from their checksums."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoexport.publishing.crc32 import combine, digest


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_two_pieces(first: bytes, second: bytes) -> None:
    """The checksum of two pieces follows from theirs, whatever is in them, and empty ones too."""
    assert combine(zlib.crc32(first), zlib.crc32(second), len(second)) == zlib.crc32(first + second)


@given(st.lists(st.binary(max_size=50)))
def test_many_pieces(pieces: list[bytes]) -> None:
    """From left to right, as a file is laid out."""
    crc = 0
    for piece in pieces:
        crc = combine(crc, zlib.crc32(piece), len(piece))
    assert crc == zlib.crc32(b"".join(pieces))


@pytest.mark.parametrize("length", [2**16 - 1, 2**16, 2**20 + 1, 5_000_011])
def test_long_pieces(length: int) -> None:
    """Lengths of many bits."""
    first, second = b"head", bytes(range(256)) * (length // 256) + b"x" * (length % 256)
    assert combine(zlib.crc32(first), zlib.crc32(second), length) == zlib.crc32(first + second)


def test_lengths_beyond_memory() -> None:
    """A piece of three terabytes gives the same checksum in steps of one terabyte."""
    tera, of_tera = 2**40, 0x12345678
    two = combine(of_tera, of_tera, tera)
    assert combine(two, of_tera, tera) == combine(of_tera, combine(of_tera, of_tera, tera), 2 * tera)


def test_as_it_is_published() -> None:
    """The algorithm's name and eight hexadecimal digits, leading zeros included."""
    assert digest(zlib.crc32(b"123456789")) == "crc32:cbf43926"
    assert digest(0x1A) == "crc32:0000001a"
