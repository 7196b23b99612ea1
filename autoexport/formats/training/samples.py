"""Chooses the images and the shapes of a block that the formats for training publish, and counts the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any, Literal

from autoexport.model.blocks import Block
from autoexport.model.tree import SPLITS
from autoexport.values import rings
from autoexport.values.boxes import CORNERS
from autoexport.values.scalars import as_floats

BoxUnits = Literal["pixels", "normalized", "percent"]

LEFT_OUT = -1
"""In place of a split: the image is not published."""

# An image with another word than those of the splits, or none, is unassigned.
_UNASSIGNED = SPLITS.index("unassigned")
_SPLIT_INDEX = {name: index for index, name in enumerate(SPLITS)}
_NUMBERS = {int, float}
_NUMBERS_AND_NULL = {int, float, type(None)}

Box = tuple[Any, Any, Any, Any]
"""Corners: left, top, right, bottom."""


@dataclass(slots=True)
class Images:
    """The images of a block: the index of its split for each, or `LEFT_OUT`; its width and height in pixels."""

    splits: list[int]
    widths: list[int]
    heights: list[int]


@dataclass(slots=True)
class Shapes:
    """The annotations of a block that have a class and a shape, by column.

    `indexes` are their places in the block, `owners` those of their images. The boxes are in pixels inside the
    image. `polygons` has for each its parts as flat rings in pixels, none of them a hole; empty without one.
    """

    indexes: list[int]
    owners: list[int]
    classes: list[int]
    boxes: list[Box]
    polygons: list[list[rings.Flat]]


def choose_images(block: Block, *, include_unlabeled: bool, counted: Counter[str]) -> Images:
    """Choose the images that are labelled and have a size.

    An unlabelled image is no example of an image without objects, unless `include_unlabeled`.
    """
    splits = [_SPLIT_INDEX.get(word, _UNASSIGNED) for word in block.images["split"]]
    widths, heights = map(_pixels, (block.images["width"], block.images["height"]))
    if not include_unlabeled:
        for index, (labeled, span) in enumerate(zip(block.images["is_labeled"], block.spans, strict=True)):
            if not labeled and not span:
                splits[index] = LEFT_OUT
        counted["images_unlabeled"] += splits.count(LEFT_OUT)
    if 0 in widths or 0 in heights:
        for index, (width, height) in enumerate(zip(widths, heights, strict=True)):
            if not (width and height) and splits[index] != LEFT_OUT:
                splits[index] = LEFT_OUT
                counted["images_without_size"] += 1
    return Images(splits, widths, heights)


def _pixels(column: Sequence[Any]) -> list[int]:
    """Sizes in whole pixels; 0 for what is none."""
    if {*map(type, column)} == {int} and min(column) > 0:
        return list(column)
    return [
        int(value) if value is not None and 0 < value < 2**31 and value == int(value) else 0
        for value in as_floats(column)
    ]


def leave_out(images: Images, without: Sequence[Any], reason: str, counted: Counter[str]) -> None:
    """Leave out the images for which `without` has None."""
    if None in without:
        for index, value in enumerate(without):
            if value is None and images.splits[index] != LEFT_OUT:
                images.splits[index] = LEFT_OUT
                counted[reason] += 1


def shapes(
    block: Block,
    images: Images,
    classes: Mapping[Any, int],
    units: BoxUnits,
    counted: Counter[str],
    *,
    with_polygons: bool = True,
) -> Shapes:
    """The shapes of the chosen images, in pixels and inside their image.

    `classes` has the id of each class by name; an annotation of another name counts as one without a label.
    """
    columns = block.annotations
    owners = chain.from_iterable(map(repeat, range(len(block.spans)), block.spans))
    boxes = zip(*(_numbers(columns[name]) for name in CORNERS), strict=True)
    polygons = _polygons(columns["polygon"])
    splits, sizes = images.splits, list(zip(images.widths, images.heights, strict=True))
    reasons: list[str] = []
    chosen: list[tuple[int, int, int, Box, list[rings.Flat]]] = []
    for index, (owner, name, box, polygon) in enumerate(
        zip(owners, columns["label"], boxes, polygons, strict=True)
    ):
        if splits[owner] == LEFT_OUT:
            continue
        class_id = classes.get(name)
        if class_id is None:
            reasons.append("annotations_without_label")
            continue
        size = sizes[owner]
        parts = _parts(polygon, size, units, reasons) if polygon is not None else _NO_PARTS
        inside = _inside(box, size, units, reasons) if None not in box else None
        if inside is None:
            if not parts:
                reasons.append("annotations_without_shape" if None in box else "boxes_without_size")
                continue
            inside = rings.hull(parts)
        chosen.append((index, owner, class_id, inside, parts if with_polygons else _NO_PARTS))
    counted.update(reasons)
    return Shapes(*map(list, zip(*chosen, strict=True))) if chosen else Shapes([], [], [], [], [])


_NO_PARTS: list[rings.Flat] = []


def _inside(box: Box, size: tuple[int, int], units: BoxUnits, reasons: list[str]) -> Box | None:
    """The corners of a box in pixels, inside its image; None if nothing is left of it."""
    left, top, right, bottom = box
    width, height = size
    if units == "pixels" and 0 <= left < right <= width and 0 <= top < bottom <= height:
        return box
    if units != "pixels":
        across, down = (width, height) if units == "normalized" else (width / 100, height / 100)
        left, top, right, bottom = left * across, top * down, right * across, bottom * down
    if left < 0 or top < 0 or right > width or bottom > height:
        left, top = 0 if left < 0 else left, 0 if top < 0 else top
        right, bottom = width if right > width else right, height if bottom > height else bottom
        if right > left and bottom > top:
            reasons.append("boxes_clipped")
    return (left, top, right, bottom) if right > left and bottom > top else None


def _parts(polygon: Any, size: tuple[int, int], units: BoxUnits, reasons: list[str]) -> list[rings.Flat]:
    """The parts of a polygon in pixels, inside its image; empty if nothing is left of it."""
    width, height = size
    flat = rings.flat_rings(polygon)
    if units != "pixels":
        across, down = (width, height) if units == "normalized" else (width / 100, height / 100)
        flat = [rings.scaled(ring, across, down) for ring in flat]
    inside = []
    for ring in flat:
        if min(ring) < 0 or max(ring[::2]) > width or max(ring[1::2]) > height:
            ring = rings.clamped(ring, width, height)
            if not rings.area(ring):
                continue
            reasons.append("polygons_clipped")
        inside.append(ring)
    if not inside and polygon:
        reasons.append("polygons_unusable")
    return rings.parts(inside) if inside else _NO_PARTS


def _numbers(column: Sequence[Any]) -> Sequence[Any]:
    kinds = {*map(type, column)}
    return column if kinds <= _NUMBERS or kinds <= _NUMBERS_AND_NULL else as_floats(column)


def _polygons(column: Sequence[bytes | None]) -> Sequence[Any]:
    """The parsed polygons of a column."""
    if column.count(None) == len(column):
        return [None] * len(column)
    return [rings.parse(text) if text is not None else None for text in column]
