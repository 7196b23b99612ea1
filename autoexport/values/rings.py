"""Reads published polygons as rings of numbers, and computes with them: area, hull, holes.

A flat ring is a list `[x, y, x, y, …]` of at least three points, without the first point at its end.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from operator import mul, sub
from typing import Any

import orjson

Flat = list[Any]
"""The coordinates of a ring, x and y by turns."""

_POINT = b'[{"x": '
_PAIRS = re.compile(rb"\[(?:\[[-0-9.eE+]++, [-0-9.eE+]++\](?:, )?+)++\]")
_LINES_OF_PAIRS = re.compile(rb"(?:\[(?:\[[-0-9.eE+]++, [-0-9.eE+]++\](?:, )?+)++\](?:\n|\Z))++")
_NUMBERS = {int, float}
_Extent = tuple[Any, Any, Any, Any, float]
"""The corners of the box around a ring, and its area."""
_FEWEST = 6
"""The numbers of three points."""


def parse(text: bytes) -> Any:
    """Parse one published polygon; None if it is no JSON that orjson reads.

    Points `{"x": 1, "y": 2}` and `[1, 2]` become one flat list at once: an object for each takes three times as
    long.
    """
    try:
        if text.startswith(_POINT):
            flat = text.replace(b'{"x": ', b"").replace(b'"y": ', b"").replace(b"}", b"")
            if b'"' not in flat and b"{" not in flat:
                return orjson.loads(flat)
        elif _PAIRS.fullmatch(text):
            return orjson.loads(b"[" + text.translate(None, b"[]") + b"]")
        return orjson.loads(text)
    except ValueError:
        return None


def parse_all(texts: Sequence[bytes]) -> list[Any]:
    """Parse many published polygons as `parse` does, all at once if each has one ring of points `[x, y]`."""
    lines = b"\n".join(texts)
    if _LINES_OF_PAIRS.fullmatch(lines):
        try:
            found: list[Any] = orjson.loads(b"[[" + lines.translate(None, b"[]").replace(b"\n", b"],[") + b"]]")
        except ValueError:
            found = []
        if len(found) == len(texts):
            return found
    return list(map(parse, texts))


def usual_area(polygon: Any, width: float, height: float) -> float:
    """The area of a polygon that is one flat ring, not closed, inside an image; 0 if it is another."""
    if not isinstance(polygon, list) or len(polygon) < _FEWEST or len(polygon) % 2:
        return 0.0
    if not {*map(type, polygon)} <= _NUMBERS:
        return 0.0
    across, down = polygon[::2], polygon[1::2]
    if polygon[:2] == polygon[-2:] or min(polygon) < 0 or max(across) > width or max(down) > height:
        return 0.0
    return abs(_signed_area(across, down))


def dump_all(polygons: Sequence[Sequence[Flat]]) -> list[str]:
    """The JSON of the parts of many polygons, without blanks. Each polygon has a part."""
    texts = orjson.dumps(polygons)[3:-3].decode().split("]],[[") if polygons else []
    return [f"[[{text}]]" for text in texts]


def flat_rings(polygon: Any) -> list[Flat]:
    """The rings of a parsed polygon that enclose something; empty if there is none or it is no polygon."""
    if not isinstance(polygon, list) or not polygon:
        return []
    if isinstance(polygon[0], int | float):
        ring = (
            _without_repeated_end(polygon) if len(polygon) % 2 == 0 and {*map(type, polygon)} <= _NUMBERS else []
        )
        return [ring] if len(ring) >= _FEWEST and area(ring) else []
    nested = isinstance(polygon[0], list) and bool(polygon[0]) and isinstance(polygon[0][0], list | dict)
    rings = map(_flat, polygon if nested else [polygon])
    return [ring for ring in rings if len(ring) >= _FEWEST and area(ring)]


def _flat(points: Any) -> Flat:
    """The coordinates of a list of points; empty if one of them is no point."""
    try:
        if isinstance(points[0], dict):
            flat = [value for point in points for value in (point["x"], point["y"])]
        else:
            flat = [value for point in points for value in point]
            if len(flat) != 2 * len(points):
                flat = [value for point in points for value in (point[0], point[1])]
    except (TypeError, KeyError, IndexError):
        return []
    return _without_repeated_end(flat) if {*map(type, flat)} <= _NUMBERS else []


def _without_repeated_end(flat: Flat) -> Flat:
    return flat[:-2] if len(flat) > _FEWEST and flat[:2] == flat[-2:] else flat


def area(ring: Flat) -> float:
    """The area that a ring encloses, by the shoelace formula; an exact integer for integers of even area."""
    return abs(signed_area(ring))


def signed_area(ring: Flat) -> float:
    """The area with a sign that tells the sense in which the ring turns."""
    return _signed_area(ring[::2], ring[1::2])


def _signed_area(across: Flat, down: Flat) -> float:
    # The products of each x with the y before and after it: half as many as of each edge.
    steps = map(sub, down[1:] + down[:1], down[-1:] + down[:-1])
    return float(sum(map(mul, across, steps)) / 2)


def hull(rings: Sequence[Flat]) -> tuple[Any, Any, Any, Any]:
    """The corners of the box around some rings."""
    across = [value for ring in rings for value in ring[::2]]
    down = [value for ring in rings for value in ring[1::2]]
    return min(across), min(down), max(across), max(down)


def scaled(ring: Flat, across: float, down: float) -> Flat:
    """The ring with each x and each y multiplied."""
    flat = list(ring)
    flat[::2] = [value * across for value in ring[::2]]
    flat[1::2] = [value * down for value in ring[1::2]]
    return flat


def clamped(ring: Flat, width: float, height: float) -> Flat:
    """The ring with each point that lies outside an image moved to its border."""
    flat = list(ring)
    flat[::2] = [0 if value < 0 else width if value > width else value for value in ring[::2]]
    flat[1::2] = [0 if value < 0 else height if value > height else value for value in ring[1::2]]
    return flat


def parts(rings: Sequence[Flat]) -> list[Flat]:
    """Rings of which none is a hole: each hole is joined to the ring around it.

    Readers of COCO take every ring for a part, so a hole would be filled. A cut without width leads to the hole
    and back. Parity decides: a ring inside one other ring is a hole, inside two a part again. A ring that lies in
    holes alone, because they cross a part, is a part. A repeated ring counts once.
    """
    if len(rings) == 1:
        return list(rings)
    rings = [list(ring) for ring in dict.fromkeys(map(tuple, rings))]
    extents = [(*hull([ring]), area(ring)) for ring in rings]
    around = [
        [
            other
            for other, outer in enumerate(rings)
            if _may_hold(extents[other], inner) and _holds(outer, *ring[:2])
        ]
        for ring, inner in zip(rings, extents, strict=True)
    ]
    # The ring around a hole that lies in the most others is the nearest.
    owners = {
        index: max(outer, key=lambda other: len(around[other]))
        for index, others in enumerate(around)
        if len(others) % 2 and (outer := [other for other in others if len(around[other]) % 2 == 0])
    }
    joined = {index: ring for index, ring in enumerate(rings) if index not in owners}
    for index, owner in owners.items():
        joined[owner] = _cut(joined[owner], _turned_against(rings[index], rings[owner]))
    return list(joined.values())


def one_ring(rings: Sequence[Flat]) -> Flat:
    """All parts as one ring, joined by lines without width, for formats that have one ring for each object."""
    joined = rings[0]
    for ring in rings[1:]:
        joined = _cut(joined, ring)
    return joined


def _may_hold(outer: _Extent, inner: _Extent) -> bool:
    """Whether a ring of this extent may lie in another one, which is larger."""
    left, top, right, bottom, area = outer
    inner_left, inner_top, inner_right, inner_bottom, inner_area = inner
    return bool(
        left <= inner_left
        and top <= inner_top
        and right >= inner_right
        and bottom >= inner_bottom
        and area > inner_area
    )


def _holds(ring: Flat, x: float, y: float) -> bool:
    """Whether a point lies in a ring."""
    within = False
    before_x, before_y = ring[-2:]
    for here_x, here_y in zip(ring[::2], ring[1::2], strict=True):
        if (here_y > y) != (before_y > y) and x < (before_x - here_x) * (y - here_y) / (
            before_y - here_y
        ) + here_x:
            within = not within
        before_x, before_y = here_x, here_y
    return within


def _turned_against(ring: Flat, outer: Flat) -> Flat:
    """The ring in the other sense than the outer one, so that their areas subtract."""
    if (signed_area(ring) > 0) != (signed_area(outer) > 0):
        return ring
    flat = ring[::-1]
    flat[::2], flat[1::2] = flat[1::2], flat[::2]
    return flat


def _cut(outer: Flat, ring: Flat) -> Flat:
    """Two rings as one, joined at the point of the outer one that is nearest to the first point of the other."""
    x, y = ring[:2]
    distances = [
        (there_x - x) * (there_x - x) + (there_y - y) * (there_y - y)
        for there_x, there_y in zip(outer[::2], outer[1::2], strict=True)
    ]
    nearest = 2 * distances.index(min(distances))
    return [*outer[: nearest + 2], *ring, *ring[:2], *outer[nearest:]]
