"""Computes the CRC-32 of joined pieces from the CRC-32 of each piece.

This is the CRC-32 of zip and gzip (RFC 1952, section 8). The checksum of two joined pieces follows from their
checksums and the length of the second, so that neither piece is read. It protects against damage, not against an
adversary.
"""

from __future__ import annotations

from functools import lru_cache

_POLYNOMIAL = 0xEDB88320  # reflected, RFC 1952
_BASE = 1 << 9  # lengths are split into digits of this base: most blocks have two
_ONE = 1 << 31  # the polynomial 1, reflected


def _by_x(a: int) -> int:
    """The product of a polynomial and x, modulo the CRC polynomial."""
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
def _shift(digit: int, exponent: int) -> int:
    """The factor of a shift by `digit` * `_BASE` ** `exponent` bytes: x to the power of eight times that."""
    if digit > 1:
        half = _shift(digit // 2, exponent)
        return _times(_times(half, half), _shift(digit % 2, exponent))
    if digit == 0:
        return _ONE
    if exponent == 0:
        return 1 << 23  # x to the power of 8: one byte
    half = _shift(_BASE // 2, exponent - 1)
    return _times(half, half)


@lru_cache(maxsize=4096)
def _shift_by(length: int) -> int:
    """The factor of a shift by `length` bytes."""
    factor, exponent = _ONE, 0
    while length:
        length, digit = divmod(length, _BASE)
        if digit:
            shift = _shift(digit, exponent)
            factor = shift if factor == _ONE else _times(factor, shift)
        exponent += 1
    return factor


def combine(first: int, second: int, second_length: int) -> int:
    """The CRC-32 of two joined pieces, from the CRC-32 of each and the length of the second in bytes."""
    return _times(first, _shift_by(second_length)) ^ second


def digest(crc: int) -> str:
    """The checksum as the manifest has it: `crc32:` and eight hexadecimal digits."""
    return f"crc32:{crc:08x}"
