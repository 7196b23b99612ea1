"""Applies the value rules of polygons and points: lists of `[x, y]`, whichever way they are stored."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import orjson

from autoexport.model.catalog import Scalar
from autoexport.values.json_columns import has_long_integer, published, rendered, spaced
from autoexport.values.scalars import Ruled, encode

_FEWEST_NUMBERS = 6
"""Fewer numbers are no polygon but a point, a line, a circle or a box."""

_FLAT_TEXT = re.compile(r"[ \t]*-?[0-9.]+(?:[ \t]*[,; \t][ \t]*-?[0-9.]+){5,}[ \t]*")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?")
_FEW_NUMBERS = re.compile(rb"\[[-+.0-9eE]+, [-+.0-9eE]+(?:, [-+.0-9eE]+, [-+.0-9eE]+)?\]")

_BRACKETS = bytes.maketrans(b"{}", b"[]")

# As the JSON rule writes them: a flat list, a list that begins with one, a list of objects, an object with
# coordinates, or text.
_DIALECT = re.compile(rb'\[-?[0-9]|\[\[-?[0-9][^\]]*(?:,[^,\]]*){5}\]|\[\[?\{|\{.*"coordinates"|"[ \\0-9.-]')


def polygons(column: Sequence[Scalar]) -> Ruled:
    """Apply the JSON rule, and write other dialects of polygons as lists of `[x, y]`; several rings as their list.

    These are `{"x", "y"}` in place of pairs, also in rings, `[x, y, x, y, …]`, also as bare text, lists of such
    lists (COCO), and GeoJSON. What looks like one of them and is none stays as stored and counts as repaired.
    """
    ordinary = published(column, _as_pairs)
    if ordinary is not None:
        return ordinary
    ruled, repaired = rendered(column)
    if not any(text is not None and _DIALECT.match(text) for text in ruled):
        return ruled, repaired
    converted = [_polygon(*pair) for pair in zip(column, ruled, strict=True)]
    return [text for text, _ in converted], repaired + sum(bad for _, bad in converted)


def _polygon(stored: Scalar, text: bytes | None) -> tuple[bytes | None, int]:
    """A stored value and its JSON as a polygon, and how many more values count as repaired than in the JSON."""
    if text is None or not _DIALECT.match(text) or has_long_integer(text):
        return text, 0
    if text.startswith((b"[{", b"[[{")):
        return _pairs_of_objects(text), 0
    if text.startswith(b'"'):
        numbers = _bare_numbers(stored)
        rings, counted = _flat_rings(orjson.loads(numbers)) if numbers else None, 1
    else:
        parsed = orjson.loads(text)
        rings, counted = _geojson_rings(parsed) if isinstance(parsed, dict) else _flat_rings(parsed), 0
    if rings is None:
        return text, 0
    if not rings or not all(rings):
        return text, 1 - counted
    return spaced(encode(rings[0] if len(rings) == 1 else rings)), -counted


def points(column: Sequence[Scalar]) -> Ruled:
    """Apply the rule of polygons, in which a flat list of two or four numbers is one point or two."""
    ruled, repaired = polygons(column)
    few = [text is not None and _FEW_NUMBERS.fullmatch(text) is not None for text in ruled]
    return [_as_points(text) if flat else text for text, flat in zip(ruled, few, strict=True)], repaired


def _as_points(text: bytes) -> bytes:
    flat = orjson.loads(text)
    return spaced(encode([flat[index : index + 2] for index in range(0, len(flat), 2)]))


def _as_pairs(lines: bytes) -> bytes:
    """Published lists, of which those of `{"x", "y"}` become lists of `[x, y]`."""
    if b"{" not in lines:
        return lines
    # Half the time of replacing the text before each number.
    return lines.translate(_BRACKETS, b'"xy: ').replace(b",", b", ")


def _bare_numbers(stored: Scalar) -> str:
    """Bare text of numbers, such as `1,2;30,4;5,60`, as a JSON list; empty for any other value."""
    if not isinstance(stored, str) or not _FLAT_TEXT.fullmatch(stored):
        return ""
    numbers = re.split(r"[ \t]*[,; \t][ \t]*", stored.strip())
    return f"[{','.join(numbers)}]" if all(map(_NUMBER.fullmatch, numbers)) else ""


def _flat_rings(parsed: list[Any]) -> list[Any] | None:
    """The rings of a flat list or of a list of them; None if it is of another kind, empty if it cannot be read."""
    lists = parsed if parsed and isinstance(parsed[0], list) else [parsed]
    if not all(isinstance(ring, list) and len(ring) >= _FEWEST_NUMBERS for ring in lists):
        return None
    if not all(_is_number(value) for ring in lists for value in ring):
        return None
    if any(len(ring) % 2 for ring in lists):
        return []
    return [[ring[index : index + 2] for index in range(0, len(ring), 2)] for ring in lists]


def _pairs_of_objects(text: bytes) -> bytes:
    """A list of objects, or of such lists, as pairs; the text as it is unless each object has numbers x and y."""
    parsed = orjson.loads(text)
    try:
        pairs = [_pairs(ring) for ring in parsed] if isinstance(parsed[0], list) else _pairs(parsed)
    except (TypeError, KeyError):
        return text
    return spaced(encode(pairs[0] if isinstance(parsed[0], list) and len(pairs) == 1 else pairs))


def _pairs(ring: list[dict[str, Any]]) -> list[Any]:
    """The pairs of a list of objects. Raises TypeError or KeyError if one is no point."""
    pairs = [[point["x"], point["y"]] for point in ring]
    if not all(_is_number(value) for pair in pairs for value in pair):
        raise TypeError("no number")
    return pairs


def _geojson_rings(parsed: dict[str, Any]) -> list[Any] | None:
    shape = parsed.get("geometry") if parsed.get("type") == "Feature" else parsed
    if not isinstance(shape, dict) or shape.get("type") not in ("Polygon", "MultiPolygon"):
        return None
    coordinates: Any = shape.get("coordinates")
    try:
        one = shape["type"] == "Polygon"
        rings = coordinates if one else [ring for polygon in coordinates for ring in polygon]
        points = [point for ring in rings for point in ring]
        readable = all(len(point) >= 2 and all(map(_is_number, point[:2])) for point in points)
        return [[point[:2] for point in ring] for ring in rings] if readable else []
    except TypeError:
        return []


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
