"""Bounding boxes: however they are stored, read as corners."""

from __future__ import annotations

import math
from collections.abc import Sequence
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
    ("xywh", ("x", "y", "width", "height")),
    ("xywh", ("x", "y", "w", "h")),
    ("xywh", ("left", "top", "width", "height")),
)


class BoxMapping(Protocol):
    """What the mapping says of boxes."""

    @property
    def box(self) -> BoxReading | None:
        """How a box is stored; None where there is none."""
        ...

    @property
    def box_format(self) -> BoxFormat | None:
        """How a JSON list of four is read."""
        ...


Box = tuple[Any, Any, Any, Any]
_NO_BOX: Box = (None, None, None, None)


def corners(
    columns: dict[str, Sequence[Scalar]], mapping: BoxMapping, length: int
) -> tuple[dict[str, Sequence[Any]], int]:
    """The columns `x_min` to `y_max`, all null where there is no box, and `boxed`; and how many values
    had to be repaired or, where a box cannot be read at all, boxes."""
    nothing = [None] * length
    if mapping.box is None or length == 0:
        return {**dict.fromkeys(CORNERS, nothing), "boxed": [False] * length}, 0
    if mapping.box == "json":
        return _columns(_from_json(columns["box_json"], mapping.box_format))
    raw = [columns.get(f"box_{place}", nothing) for place in range(4)]
    if mapping.box != "corners":
        return _columns(_moved(raw, "cxcywh" if mapping.box == "center" else "xywh"))
    stored, repaired = [], 0
    for column in raw:
        ruled, bad = scalars.numbers(column)
        stored.append(ruled)
        repaired += bad
    if any(None in column for column in stored):
        boxed = [any(value is not None for value in box) for box in zip(*stored, strict=True)]
    else:
        boxed = [True] * length
    return {**dict(zip(CORNERS, stored, strict=True)), "boxed": boxed}, repaired


def _columns(read: tuple[list[Box], int]) -> tuple[dict[str, Sequence[Any]], int]:
    boxes, repaired = read
    columns = dict(zip(CORNERS, zip(*boxes, strict=True), strict=True))
    return {**columns, "boxed": [box[0] is not None for box in boxes]}, repaired


def _moved(raw: list[Sequence[Scalar]], box_format: BoxFormat) -> tuple[list[Box], int]:
    """Boxes as corners. One that lacks a value, or is beyond all numbers, is none: a size without an
    origin says nothing about where the box is."""
    ruled = [scalars.numbers(column) for column in raw]
    plain = [scalars.as_floats(column) for column, _ in ruled]
    boxes: list[Box] = []
    repaired = 0
    for place, box in enumerate(zip(*plain, strict=True)):
        moved = _finite(to_corners(box, box_format)) if None not in box else None
        boxes.append(moved or _NO_BOX)
        if moved is None:
            there = [column[place] for column in raw if column[place] is not None]
            repaired += max(sum(scalars.number(value)[1] for value in there), bool(there))
    return boxes, repaired


def _finite(box: Box) -> Box | None:
    """The box, unless reckoning led beyond the numbers that can be written."""
    if min(box) >= -(2**63) and max(box) < 2**63:
        return box
    first, second, third, fourth = map(float, box)
    return (first, second, third, fourth) if all(map(math.isfinite, box)) else None


def to_corners(box: Sequence[Any], box_format: BoxFormat) -> Box:
    """Four numbers in one of the three usual orders, as corners, in the units they came in."""
    first, second, third, fourth = box
    if box_format == "xywh":
        return first, second, first + third, second + fourth
    if box_format == "cxcywh":
        return first - third / 2, second - fourth / 2, first + third / 2, second + fourth / 2
    return first, second, third, fourth


def _from_json(column: Sequence[Scalar], list_format: BoxFormat | None) -> tuple[list[Box], int]:
    boxes: list[Box] = []
    repaired = 0
    for value in column:
        parsed, bad = parse(value)
        box = _read(parsed, list_format)
        boxes.append(box or _NO_BOX)
        repaired += max(bad, box is None and parsed is not None)
    return boxes, repaired


def _read(box: Any, list_format: BoxFormat | None) -> Box | None:
    """One parsed box: an object by its keys, a list of four by the configured order, else None."""
    if isinstance(box, dict):
        for box_format, keys in _KEYS:
            if all(_is_number(box.get(key)) for key in keys):
                return _finite(to_corners([box[key] for key in keys], box_format))
    if isinstance(box, list) and list_format is not None and len(box) == 4 and all(map(_is_number, box)):
        return _finite(to_corners(box, list_format))
    return None


def is_ambiguous(value: Scalar) -> bool:
    """Whether a stored box is a list of four: corners, or an origin or a centre with a size."""
    parsed, _ = parse(value)
    return isinstance(parsed, list) and len(parsed) == 4 and all(map(_is_number, parsed))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
