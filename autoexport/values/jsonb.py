"""Reads SQLite's JSONB, in which a BLOB holds JSON as nested elements (https://www.sqlite.org/jsonb.html).

An element is a header and its payload. The lower half of the first byte is its type, the upper half its size; from
12 on, the size follows in 1, 2, 4 or 8 bytes, the highest first.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator

_NULL, _TRUE, _FALSE, _INT, _INT5, _FLOAT, _FLOAT5, _TEXT, _TEXTJ, _TEXT5, _TEXTRAW, _ARRAY, _OBJECT = range(13)
_WORDS = {_NULL: "null", _TRUE: "true", _FALSE: "false"}
_NUMBERS = {
    _INT: re.compile(r"-?[0-9]+"),
    _INT5: re.compile(r"[+-]?0[xX][0-9a-fA-F]+"),
    _FLOAT: re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"),
    _FLOAT5: re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"),
}
_STRINGS = (_TEXT, _TEXTJ, _TEXT5, _TEXTRAW)
_JSON5_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|(\r\n|[\s\S]))|\"")
_OF_JSON5 = {"'": "'", "v": "\\u000b", "0": "\\u0000", "\n": "", "\r": "", "\r\n": "", "\u2028": "", "\u2029": ""}
_MAX_DEPTH = 300
"""More than the levels that the JSON encoder writes."""


def json_text(blob: bytes) -> str:
    """The JSON text of a JSONB value. Raises ValueError if the bytes are no such value."""
    text, end = _element(blob, 0, len(blob), 0)
    if end != len(blob):
        raise ValueError("There are bytes after the JSONB value.")
    return text


def _element(blob: bytes, start: int, limit: int, depth: int) -> tuple[str, int]:
    """The text of the element that starts here, and where it ends."""
    kind, begin, end = _header(blob, start, limit)
    if kind in (_ARRAY, _OBJECT):
        if depth == _MAX_DEPTH:
            raise ValueError("The JSONB value is nested too deep.")
        items = list(_items(blob, begin, end, depth + 1))
        return ("[" + ",".join(items) + "]" if kind == _ARRAY else _object(items)), end
    if kind in _WORDS and begin == end:
        return _WORDS[kind], end
    payload = blob[begin:end].decode()
    if kind in _STRINGS:
        return _string(kind, payload), end
    if kind in _NUMBERS and _NUMBERS[kind].fullmatch(payload):
        return _number(kind, payload), end
    raise ValueError("A JSONB element is not valid.")


def _header(blob: bytes, start: int, limit: int) -> tuple[int, int, int]:
    """Type, begin and end of an element's payload."""
    if start >= limit:
        raise ValueError("A JSONB element is missing.")
    size, kind = divmod(blob[start], 16)
    begin = start + 1
    if size >= 12:
        begin += 1 << (size - 12)
        size = int.from_bytes(blob[start + 1 : begin])
    if begin + size > limit:
        raise ValueError("A JSONB element is longer than what contains it.")
    return kind, begin, begin + size


def _items(blob: bytes, begin: int, end: int, depth: int) -> Iterator[str]:
    while begin < end:
        text, begin = _element(blob, begin, end, depth)
        yield text


def _object(items: list[str]) -> str:
    names, values = items[::2], items[1::2]
    if len(names) != len(values) or not all(name.startswith('"') for name in names):
        raise ValueError("A JSONB object lacks a name or a value.")
    return "{" + ",".join(f"{name}:{value}" for name, value in zip(names, values, strict=True)) + "}"


def _string(kind: int, payload: str) -> str:
    if kind == _TEXT5:
        payload = _JSON5_ESCAPE.sub(_json_escape, payload)
    if kind in (_TEXTJ, _TEXT5):
        payload = json.loads(f'"{payload}"', strict=False)
    return json.dumps(payload, ensure_ascii=False)


def _json_escape(escape: re.Match[str]) -> str:
    if escape[1]:
        return f"\\u00{escape[1]}"
    return _OF_JSON5.get(escape[2], escape[0]) if escape[2] else '\\"'


def _number(kind: int, payload: str) -> str:
    if kind == _INT5:
        return str(int(payload, 16))
    if kind == _FLOAT5:
        number = float(payload)
        return str(number) if math.isfinite(number) else "1e999"
    return payload
