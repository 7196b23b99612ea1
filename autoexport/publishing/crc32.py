"""CRC-32 of files that are put together from pieces whose CRC-32 is known.

CRC-32 (the one of zip and gzip; RFC 1952, section 8) is used because it can be combined: the
checksum of two pieces one after the other follows from theirs and the length of the second, without
reading either. It is a check against damage, not against an adversary.
"""

from __future__ import annotations

from functools import lru_cache

_POLYNOMIAL = 0xEDB88320  # reflected, RFC 1952
_BASE = 1 << 9  # two digits of it say how long most blocks are
_ONE = 1 << 31  # the polynomial 1, reflected


def _by_x(a: int) -> int:
    """A polynomial times x, modulo the CRC polynomial."""
    return (a >> 1) ^ _POLYNOMIAL if a & 1 else a >> 1


_BY_X_TO_4 = [_by_x(_by_x(_by_x(_by_x(nibble)))) for nibble in range(16)]


def _times(a: int, b: int) -> int:
    """The product of two polynomials modulo the CRC polynomial, by Horner's scheme in steps of four bits."""
    by_x = _by_x(b)
    by_x2 = _by_x(by_x)
    by_x3 = _by_x(by_x2)
    low = (0, by_x3, by_x2, by_x2 ^ by_x3)
    middle = (*low, by_x, by_x ^ low[1], by_x ^ low[2], by_x ^ low[3])
    multiples = (*middle, *[b ^ multiple for multiple in middle])
    product = 0
    for _ in range(8):
        product = (product >> 4) ^ _BY_X_TO_4[product & 15] ^ multiples[a & 15]
        a >>= 4
    return product


@lru_cache(maxsize=4 * _BASE)
def _shift(digit: int, place: int) -> int:
    """What a shift by `digit` * `_BASE` ** `place` bytes multiplies by: x to the power of eight times that."""
    if digit > 1:
        half = _shift(digit // 2, place)
        return _times(_times(half, half), _shift(digit % 2, place))
    if digit == 0:
        return _ONE
    # x to the power 8, to begin with
    return _times(_shift(_BASE // 2, place - 1), _shift(_BASE // 2, place - 1)) if place else 1 << 23


@lru_cache(maxsize=4096)
def _shift_by(length: int) -> int:
    factor, place = _ONE, 0
    while length:
        length, digit = divmod(length, _BASE)
        if digit:
            shift = _shift(digit, place)
            factor = shift if factor == _ONE else _times(factor, shift)
        place += 1
    return factor


def combine(first: int, second: int, second_length: int) -> int:
    """The CRC-32 of two pieces joined, from theirs and the length of the second in bytes."""
    return _times(first, _shift_by(second_length)) ^ second


def digest(crc: int) -> str:
    """As it is written in the manifest."""
    return f"crc32:{crc:08x}"
