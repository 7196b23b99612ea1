"""CRC-32 of files that are put together from pieces whose CRC-32 is known.

CRC-32 (the one of zip and gzip; RFC 1952, section 8) is used because it can be combined: the
checksum of two pieces one after the other follows from theirs and the length of the second, without
reading either. It is a check against damage, not against an adversary.
"""

from __future__ import annotations

from functools import lru_cache

_POLYNOMIAL = 0xEDB88320  # reflected, RFC 1952
_ONE = 1 << 31  # the polynomial 1, reflected


def _times(a: int, b: int) -> int:
    """The product of two polynomials modulo the CRC polynomial."""
    product = 0
    while a:
        if a & _ONE:
            product ^= b
        a = (a << 1) & 0xFFFFFFFF
        b = (b >> 1) ^ _POLYNOMIAL if b & 1 else b >> 1
    return product


@lru_cache(maxsize=8 * 256)
def _shift(digit: int, place: int) -> int:
    """What a shift by `digit` * 256 ** `place` bytes multiplies by: x to the power of eight times that."""
    if digit > 1:
        half = _shift(digit // 2, place)
        return _times(_times(half, half), _shift(digit % 2, place))
    if digit == 0:
        return _ONE
    # x to the power 8, to begin with
    return _times(_shift(128, place - 1), _shift(128, place - 1)) if place else 1 << 23


@lru_cache(maxsize=4096)
def _shift_by(length: int) -> int:
    factor, place = _ONE, 0
    while length:
        length, digit = divmod(length, 256)
        if digit:
            factor = _times(factor, _shift(digit, place))
        place += 1
    return factor


def combine(first: int, second: int, second_length: int) -> int:
    """The CRC-32 of two pieces joined, from theirs and the length of the second in bytes."""
    return _times(first, _shift_by(second_length)) ^ second


def digest(crc: int) -> str:
    """As it is written in the manifest."""
    return f"crc32:{crc:08x}"
