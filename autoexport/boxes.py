"""Bounding boxes: however they are stored, read as corners."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autoexport import values
from autoexport.model import BoxFormat, Mapping, Scalar

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


def corners(
    columns: dict[str, Sequence[Scalar]], mapping: Mapping, length: int
) -> tuple[dict[str, Sequence[Any]], int]:
    """The columns `x_min` to `y_max`, all null where there is no box, and `boxed`; and how many values
    could not be read."""
    nothing = [None] * length
    if mapping.box is None or length == 0:
        return {**dict.fromkeys(CORNERS, nothing), "boxed": [False] * length}, 0
    if mapping.box == "json":
        return _from_json(columns["box_json"], mapping.box_format)
    repaired = 0
    stored: list[Sequence[Any]] = []
    for place in range(4):
        ruled, bad = values.numbers(columns.get(f"box_{place}", nothing))
        stored.append(ruled)
        repaired += bad
    if mapping.box != "corners":
        stored, bad = _moved(stored, "cxcywh" if mapping.box == "center" else "xywh")
        repaired += bad
    if any(None in column for column in stored):
        boxed = [any(value is not None for value in box) for box in zip(*stored, strict=True)]
    else:
        boxed = [True] * length
    return {**dict(zip(CORNERS, stored, strict=True)), "boxed": boxed}, repaired


def _moved(stored: list[Sequence[Any]], box_format: BoxFormat) -> tuple[list[Sequence[Any]], int]:
    boxes, repaired = [], 0
    for box in zip(*(values.as_floats(column) for column in stored), strict=True):
        if None in box:
            # A size without an origin says nothing about where the box is.
            repaired += any(value is not None for value in box)
            boxes.append((None,) * 4)
        else:
            boxes.append(to_corners(box, box_format))
    return [list(column) for column in zip(*boxes, strict=True)], repaired


def to_corners(box: Sequence[Any], box_format: BoxFormat) -> tuple[Any, Any, Any, Any]:
    """Four numbers in one of the three usual orders, as corners, in the units they came in."""
    first, second, third, fourth = box
    if box_format == "xywh":
        return first, second, first + third, second + fourth
    if box_format == "cxcywh":
        return first - third / 2, second - fourth / 2, first + third / 2, second + fourth / 2
    return first, second, third, fourth


def _from_json(column: Sequence[Scalar], list_format: BoxFormat | None) -> tuple[dict[str, Sequence[Any]], int]:
    parsed, repaired = values.documents(column)
    boxes = []
    for box in parsed:
        read = _read(box, list_format)
        repaired += read is None and box is not None
        boxes.append(read or (None,) * 4)
    columns = [list(values_) for values_ in zip(*boxes, strict=True)]
    return {**dict(zip(CORNERS, columns, strict=True)), "boxed": [box[0] is not None for box in boxes]}, repaired


def _read(box: Any, list_format: BoxFormat | None) -> tuple[Any, Any, Any, Any] | None:
    """One parsed box: an object by its keys, a list of four by the configured order, else None."""
    if isinstance(box, dict):
        for box_format, keys in _KEYS:
            if all(_is_number(box.get(key)) for key in keys):
                return to_corners([box[key] for key in keys], box_format)
    if isinstance(box, list) and list_format is not None and len(box) == 4 and all(map(_is_number, box)):
        return to_corners(box, list_format)
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
