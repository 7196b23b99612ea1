"""Turns boxes: a turned box is published as its four corners, and as the box around them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from autoexport.values.json_columns import spaced
from autoexport.values.scalars import as_floats, encode

_DIGITS = 6
"""Digits after the point of a computed corner: a millionth of a pixel. The arithmetic is not exact beyond."""

_BOXES = ("bbox", "polygon")
"""The published types of which a turned box may be; the box of an ellipse or a mask is not turned."""

Corner = tuple[float, float]
_QUARTERS = {0: (1, 0), 90: (0, 1), 180: (-1, 0), 270: (0, -1)}


def direction(degrees: float) -> tuple[float, float]:
    """Cosine and sine of an angle, exact for quarter turns."""
    degrees %= 360
    if degrees in _QUARTERS:
        return _QUARTERS[int(degrees)]
    return math.cos(math.radians(degrees)), math.sin(math.radians(degrees))


def turned(corners: Sequence[Corner], about: Corner, degrees: float) -> list[Corner]:
    """The corners, turned clockwise about a point; y grows downwards."""
    (across, down), (cosine, sine) = about, direction(degrees)
    moved = [(x - across, y - down) for x, y in corners]
    return [(_rounded(across + x * cosine - y * sine), _rounded(down + x * sine + y * cosine)) for x, y in moved]


def _rounded(value: float) -> float:
    return round(value, _DIGITS) + 0.0  # no negative zero


def hull(corners: Sequence[Corner]) -> tuple[float, float, float, float]:
    """The box around these corners, as `x_min`, `y_min`, `x_max`, `y_max`."""
    across, down = [x for x, _ in corners], [y for _, y in corners]
    return min(across), min(down), max(across), max(down)


def rectangle(x_min: float, y_min: float, x_max: float, y_max: float) -> list[Corner]:
    """The corners of a box, clockwise from the top left one."""
    return [(x_min, y_min), (x_max, y_min), (x_max, y_max), (x_min, y_max)]


def turn_boxes(annotations: dict[str, Sequence[Any]], types: Sequence[str], names: Sequence[str]) -> Sequence[str]:
    """Replace boxes whose `rotation` is not a whole turn: by four corners in `polygon`, and by their hull.

    They are turned about their centre. `types` are the published types; the result has `polygon` for each turned
    box. `names` are the four columns of the box. A box with a polygon of its own keeps it.
    """
    angles = as_floats(annotations["rotation"])
    turning = [index for index, angle in enumerate(angles) if angle is not None and angle % 360]
    if not turning:
        return types
    columns = {name: list(annotations[name]) for name in (*names, "polygon")}
    published = list(types)
    for index in turning:
        box = as_floats([columns[name][index] for name in names])
        if types[index] not in _BOXES or columns["polygon"][index] is not None or None in box:
            continue
        x_min, y_min, x_max, y_max = (float(side) for side in box if side is not None)
        centre = ((x_min + x_max) / 2, (y_min + y_max) / 2)
        corners = turned(rectangle(x_min, y_min, x_max, y_max), centre, float(angles[index] or 0))
        published[index], columns["polygon"][index] = "polygon", spaced(encode(corners))
        for name, side in zip(names, hull(corners), strict=True):
            columns[name][index] = side
    annotations.update(columns)
    return published
