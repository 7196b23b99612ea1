"""Converts bounding boxes from the stored formats to corners."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Sequence
from typing import Any, Protocol

from autoexport.model.catalog import Scalar
from autoexport.model.mapping import BoxFormat, BoxReading
from autoexport.values import scalars
from autoexport.values.json_columns import parse

CORNERS = ("x_min", "y_min", "x_max", "y_max")

_KEYS: tuple[tuple[BoxFormat, tuple[str, ...]], ...] = (
    ("xyxy", ("x_min", "y_min", "x_max", "y_max")),
    ("xyxy", ("xmin", "ymin", "xmax", "ymax")),
    ("xyxy", ("xMin", "yMin", "xMax", "yMax")),
    ("xyxy", ("x1", "y1", "x2", "y2")),
    ("xyxy", ("left", "top", "right", "bottom")),
    ("cxcywh", ("x_center", "y_center", "width", "height")),
    ("cxcywh", ("cx", "cy", "w", "h")),
    ("cxcywh", ("cx", "cy", "width", "height")),
    ("xywh", ("x", "y", "w", "h")),  # before the next line: beside w and h, width and height are the image's
    ("xywh", ("x", "y", "width", "height")),
    ("xywh", ("left", "top", "width", "height")),
)

_TURNS = ("rotation", "angle", "theta", "rotate", "rotation_angle")
"""Keys of a turned box. Applications turn about a corner or the centre, in degrees or radians, in either sense."""

_NUMBERED = re.compile(r"[xy][0-9]")


class BoxMapping(Protocol):
    """The part of the mapping that describes boxes."""

    @property
    def box(self) -> BoxReading | None:
        """The storage of boxes; None if the database has none."""
        ...

    @property
    def box_format(self) -> BoxFormat | None:
        """The meaning of a JSON list of four numbers; None if it is not known."""
        ...

    @property
    def worded(self) -> Collection[str]:
        """The fields of numbers whose columns hold text."""
        ...


Box = tuple[Any, Any, Any, Any]
_NO_BOX: Box = (None, None, None, None)


def corners(
    columns: dict[str, Sequence[Scalar]], mapping: BoxMapping, length: int
) -> tuple[dict[str, Sequence[Any]], int]:
    """Compute the columns `x_min` to `y_max` (all None without a box) and `boxed` (whether there is one).

    `length` is the number of annotations. Also returns the number of repaired values; an unreadable box counts
    as one.
    """
    nulls = [None] * length
    if mapping.box is None or length == 0:
        return {**dict.fromkeys(CORNERS, nulls), "boxed": [False] * length}, 0
    if mapping.box == "json":
        return _columns(_from_json(columns["box_json"], mapping.box_format))
    stored = [columns.get(f"box_{index}", nulls) for index in range(4)]
    if mapping.box != "corners":
        return _columns(_converted(stored, "cxcywh" if mapping.box == "center" else "xywh"))
    numbers, total_repaired = [], 0
    for index, column in enumerate(stored):
        rule = scalars.numbers_in_words if f"box_{index}" in mapping.worded else scalars.numbers
        ruled, repaired = rule(column)
        numbers.append(ruled)
        total_repaired += repaired
    if any(None in column for column in numbers):
        boxed = [any(value is not None for value in box) for box in zip(*numbers, strict=True)]
    else:
        boxed = [True] * length
    return {**dict(zip(CORNERS, numbers, strict=True)), "boxed": boxed}, total_repaired


def _columns(converted: tuple[list[Box], int]) -> tuple[dict[str, Sequence[Any]], int]:
    boxes, repaired = converted
    columns = dict(zip(CORNERS, zip(*boxes, strict=True), strict=True))
    return {**columns, "boxed": [box[0] is not None for box in boxes]}, repaired


def _converted(stored: list[Sequence[Scalar]], box_format: BoxFormat) -> tuple[list[Box], int]:
    """Convert four stored columns to corners. A box that lacks a value or overflows is none: a size without an
    origin does not locate it."""
    ruled = [scalars.numbers(column) for column in stored]
    plain = [scalars.as_floats(column) for column, _ in ruled]
    boxes: list[Box] = []
    repaired = 0
    for index, box in enumerate(zip(*plain, strict=True)):
        converted = _finite(to_corners(box, box_format)) if None not in box else None
        boxes.append(converted or _NO_BOX)
        if converted is None:
            present = [column[index] for column in stored if column[index] is not None]
            repaired += max(sum(scalars.number(value)[1] for value in present), bool(present))
    return boxes, repaired


def _finite(box: Box) -> Box | None:
    """The box; None if the arithmetic overflowed the numbers that JSON can hold."""
    if min(box) >= -(2**63) and max(box) < 2**63:
        return box
    first, second, third, fourth = map(float, box)
    return (first, second, third, fourth) if all(map(math.isfinite, box)) else None


def to_corners(box: Sequence[Any], box_format: BoxFormat) -> Box:
    """Convert four numbers to corners in the same unit."""
    first, second, third, fourth = box
    if box_format == "xywh":
        return first, second, first + third, second + fourth
    if box_format == "cxcywh":
        return first - third / 2, second - fourth / 2, first + third / 2, second + fourth / 2
    return first, second, third, fourth


def _from_json(column: Sequence[Scalar], list_format: BoxFormat | None) -> tuple[list[Box], int]:
    boxes: list[Box] = []
    total_repaired = 0
    for value in column:
        parsed, repaired = parse(value)
        box = _from_parsed(parsed, list_format)
        boxes.append(box or _NO_BOX)
        total_repaired += max(repaired, box is None and parsed is not None)
    return boxes, total_repaired


def _from_parsed(box: Any, list_format: BoxFormat | None) -> Box | None:
    """Convert a parsed box: an object by its keys, a list of four numbers by the configured format, else None.

    A turned box is none, and a shape of other numbered points than 1 and 2 gives its hull.
    """
    if isinstance(box, dict):
        if len(box) > 4 and any(_is_turn(box.get(key)) for key in _TURNS):
            return None
        if ("x1" in box and len(box) > 4) or "x0" in box:
            points = {key: value for key, value in box.items() if _NUMBERED.fullmatch(key) and value is not None}
            if len(points) >= 4 and points.keys() != _TWO_CORNERS:
                return _hull(points)
        for box_format, keys in _KEYS:
            if all(_is_number(box.get(key)) for key in keys):
                return _finite(to_corners([box[key] for key in keys], box_format))
    if isinstance(box, list) and list_format is not None and len(box) == 4 and all(map(_is_number, box)):
        return _finite(to_corners(box, list_format))
    return None


_TWO_CORNERS = {"x1", "y1", "x2", "y2"}


def _is_turn(value: Any) -> bool:
    if _is_number(value):
        return bool(value % 360)
    return value not in (None, "", "0", False)


def _hull(points: dict[str, Any]) -> Box | None:
    """The box around the points `x1`, `y1`, `x2` and so on; None if one of them lacks a number."""
    if len({key[1:] for key in points}) * 2 != len(points) or not all(map(_is_number, points.values())):
        return None
    across, down = ([points[key] for key in points if key[0] == axis] for axis in "xy")
    return _finite((min(across), min(down), max(across), max(down)))


def is_ambiguous(value: Scalar) -> bool:
    """Whether a stored box is a list of four numbers: corners, or a size with an origin or a centre."""
    parsed, _ = parse(value)
    return isinstance(parsed, list) and len(parsed) == 4 and all(map(_is_number, parsed))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
