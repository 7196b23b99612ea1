"""Geti: a dataset item holds a list of annotations in pixels, which name their labels by id."""

from __future__ import annotations

from typing import Any

from autoexport.values.expand.contract import Dialect, Facts, Region, Regions
from autoexport.values.expand.geometry import (
    NO_BOX,
    UNREADABLE,
    Box,
    box_of,
    ellipse_hull,
    key_of,
    number_of,
    number_or_none,
    points_of,
    written_points,
)
from autoexport.values.turned import hull, rectangle, turned

Shape = tuple[str, Box, bytes | None, Any, bytes | None]
"""Type, box, polygon, rotation and points."""

_WHOLE_IMAGE: Shape = ("classification", NO_BOX, None, None, None)


def _shape(shape: dict[str, Any]) -> Shape:
    """Read a shape. Raises one of `UNREADABLE` if it is incomplete."""
    kind = str(shape.get("type")).lower()
    if kind == "rectangle":
        return "bbox", box_of(shape), None, None, None
    if kind == "ellipse":
        left, top, right, bottom = box_of(shape)
        middle = (left + right) / 2, (top + bottom) / 2
        return "ellipse", ellipse_hull(*middle, (right - left) / 2, (bottom - top) / 2, 0), None, None, None
    if kind == "rotated_rectangle":
        x, y, width, height, angle = (number_of(shape[name]) for name in ("x", "y", "width", "height", "angle"))
        across, down = width / 2, height / 2
        corners = turned(rectangle(x - across, y - down, x + across, y + down), (x, y), angle)
        return "polygon", hull(corners), written_points(corners), angle, None
    points = points_of(shape.get("points") or ())
    if kind == "polygon" and points:
        return "polygon", NO_BOX, written_points(points), None, None
    return ("keypoints", NO_BOX, None, None, written_points(points)) if points else _WHOLE_IMAGE


def read_regions(annotations: Any, facts: Facts) -> Regions:
    """The annotations of an item. One of the whole image is a classification for each of its labels."""
    found = Regions()
    if not isinstance(annotations, list):
        found.repaired += annotations is not None
        return found
    names = facts.get("labels", {})
    for index, annotation in enumerate(annotations):
        if not isinstance(annotation, dict):
            found.repaired += 1
            continue
        labels, scores = annotation.get("labels"), annotation.get("confidences")
        labels = labels if isinstance(labels, list) else []
        keys = [key_of(label.get("id")) for label in labels if isinstance(label, dict)] or [None]
        scores = scores if isinstance(scores, list) and len(scores) == len(keys) else [None] * len(keys)
        scores = [*map(number_or_none, scores)]
        try:
            shape = _shape(annotation.get("shape") or {})
        except UNREADABLE:
            shape = _WHOLE_IMAGE
            found.repaired += 1
        if shape is _WHOLE_IMAGE:
            for number, (key, score) in enumerate(zip(keys, scores, strict=True)):
                part = f"{index}:{number}" if number else str(index)
                found.regions.append(_region(part, key, names, score, shape, None))
        else:
            more = {"labels": [names.get(key) for key in keys]} if len(keys) > 1 else None
            found.regions.append(_region(str(index), keys[0], names, scores[0], shape, more))
    return found


def _region(part: str, key: Any, names: Facts, score: Any, shape: Shape, attributes: Any) -> Region:
    word, box, polygon, rotation, points = shape
    return (part, word, names.get(key), key, score, *box, polygon, rotation, points, None, attributes)


DIALECT = Dialect(
    name="geti",
    fields=("type", "label", "label_id", "confidence", "box", "polygon"),
    shape_fields=("rotation", "points", "attributes"),
    read_regions=read_regions,
    labels_by_id=True,
)
