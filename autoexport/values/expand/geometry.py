"""What all dialects need: shapes as published JSON, hulls, names."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from autoexport.values.json_columns import spaced
from autoexport.values.turned import direction

Box = tuple[float | None, float | None, float | None, float | None]
NO_BOX: Box = (None, None, None, None)


_NUMBERS = {int, float}
UNREADABLE = (TypeError, ValueError, KeyError, AttributeError, IndexError, OverflowError)
"""What the functions of shapes raise if a document holds other JSON than the application writes."""


def numbers_of(*values: Any) -> tuple[float, ...]:
    """Numbers. Raises TypeError for other JSON: texts could be added, and a multiplied list fills the memory."""
    if not _NUMBERS.issuperset(map(type, values)):
        raise TypeError(values)
    return values


def number_of(value: Any) -> float:
    """A number. Raises TypeError for other JSON."""
    (number,) = numbers_of(value)
    return number


def number_or_none(value: Any) -> float | None:
    """A number; None for other JSON."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def size_of(value: Any) -> float | None:
    """A width or a height, also one that was stored as text; None for what is none."""
    if type(value) is int and value > 0:  # as almost always
        return value
    if isinstance(value, str):
        try:
            value = int(value) if value.isdecimal() else float(value)
        except ValueError:
            return None
    size = number_or_none(value)
    return size if size is not None and 0 < size < math.inf else None


def box_of(shape: Mapping[str, Any]) -> tuple[float, float, float, float]:
    """The corners of a box from its `x`, `y`, `width` and `height`. Raises one of `UNREADABLE`."""
    x, y, across, down = numbers_of(shape["x"], shape["y"], shape["width"], shape["height"])
    return x, y, x + across, y + down


def points_of(points: Sequence[Mapping[str, Any]]) -> list[tuple[float, float]]:
    """Points from their `x` and `y`, without negative zeros. Raises one of `UNREADABLE`."""
    return [(number_of(point["x"]) + 0, number_of(point["y"]) + 0) for point in points]


def written_points(points: Sequence[Sequence[float]]) -> bytes:
    """Points as published JSON. Raises ValueError if a coordinate is beyond the largest number."""
    written = orjson.dumps(points).replace(b",", b", ")
    if b"null" in written:  # what orjson writes for an infinity
        raise ValueError(points)
    return written


def written(value: Any) -> bytes | None:
    """A value as published JSON; None if it is empty."""
    return spaced(orjson.dumps(value)) if value else None


def ellipse_hull(x: float, y: float, across: float, down: float, degrees: float) -> Box:
    """The box around an ellipse with these radii, turned about its centre."""
    if degrees:
        cosine, sine = direction(degrees)
        across, down = math.hypot(across * cosine, down * sine), math.hypot(across * sine, down * cosine)
    return x - across, y - down, x + across, y + down


def key_of(value: Any) -> Any:
    """An id or a kind that may be a key of a dictionary. A list, an object or a long number becomes its JSON."""
    return value if isinstance(value, str | int | float | None) else orjson.dumps(value).decode()


def name_of(value: Any) -> str | None:
    """A label as text; None if it is null."""
    return value if value is None or isinstance(value, str) else orjson.dumps(value).decode()
