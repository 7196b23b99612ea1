"""Reads and writes the parts of Thrift's compact protocol that the metadata of a Parquet file needs.

The encoding is that of doc/specs/thrift-compact-protocol.md in https://github.com/apache/thrift.
"""

from __future__ import annotations

from collections.abc import Iterator

_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, BINARY, LIST, _SET, _MAP, STRUCT = range(1, 13)
STOP = b"\0"
_LONG_LIST = 15


def read_unsigned(data: bytes, begin: int) -> tuple[int, int]:
    """A variable-length integer, and the offset after it: seven bits a byte, the lowest first."""
    value = shift = 0
    while True:
        byte = data[begin]
        begin += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, begin
        shift += 7


def write_unsigned(value: int) -> bytes:
    """Encode an integer of at least 0."""
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)


def read_integer(data: bytes, begin: int) -> int:
    """A signed integer. Zigzag: 0, -1, 1, -2 are 0, 1, 2, 3."""
    value, _ = read_unsigned(data, begin)
    return (value >> 1) ^ -(value & 1)


def write_integer(value: int) -> bytes:
    """Encode a signed integer of up to 64 bits."""
    return write_unsigned((value << 1) ^ (value >> 63))


def read_binary(data: bytes, begin: int) -> bytes:
    """A string of bytes, after its length."""
    length, begin = read_unsigned(data, begin)
    return data[begin : begin + length]


def write_binary(value: bytes) -> bytes:
    """Encode a string of bytes."""
    return write_unsigned(len(value)) + value


def field_header(number: int, previous: int, kind: int) -> bytes:
    """The header of a field in a struct: the distance from the field before it, at most 15, and the type."""
    return bytes([(number - previous) << 4 | kind])


def list_header(length: int, kind: int) -> bytes:
    """The header of a list of elements of one type."""
    if length < _LONG_LIST:
        return bytes([length << 4 | kind])
    return bytes([_LONG_LIST << 4 | kind]) + write_unsigned(length)


def fields(data: bytes, begin: int) -> Iterator[tuple[int, int, int, int]]:
    """The fields of the struct at `begin`: number, type, and the offsets of its value and after it."""
    number = 0
    while data[begin]:
        distance, kind = data[begin] >> 4, data[begin] & 0x0F
        begin += 1
        if distance:
            number += distance
        else:
            number = read_integer(data, begin)
            _, begin = read_unsigned(data, begin)
        end = _end(data, begin, kind)
        yield number, kind, begin, end
        begin = end


def elements(data: bytes, begin: int) -> Iterator[tuple[int, int]]:
    """The elements of the list at `begin`: the offsets of each and after it."""
    length, kind, begin = _list(data, begin)
    for _ in range(length):
        end = _end(data, begin, kind)
        yield begin, end
        begin = end


def _list(data: bytes, begin: int) -> tuple[int, int, int]:
    length, kind = data[begin] >> 4, data[begin] & 0x0F
    begin += 1
    if length == _LONG_LIST:
        length, begin = read_unsigned(data, begin)
    return length, kind, begin


def _end(data: bytes, begin: int, kind: int) -> int:
    """The offset after a value. Raises ValueError for a type that the metadata of Parquet does not use."""
    if kind in (_TRUE, _FALSE):
        return begin  # in a struct, the type of the field is its value
    if kind == _BYTE:
        return begin + 1
    if kind in (_I16, _I32, _I64):
        return read_unsigned(data, begin)[1]
    if kind == _DOUBLE:
        return begin + 8
    if kind == BINARY:
        length, begin = read_unsigned(data, begin)
        return begin + length
    if kind == LIST:
        length, inner, begin = _list(data, begin)
        for _ in range(length):
            # In a list, a truth value is a byte.
            begin = begin + 1 if inner in (_TRUE, _FALSE) else _end(data, begin, inner)
        return begin
    if kind == STRUCT:
        for _, _, _, end in fields(data, begin):
            begin = end
        return begin + len(STOP)
    raise ValueError(f"a value of Thrift type {kind}")
