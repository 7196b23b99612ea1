"""Chooses the images and the shapes of a block that the formats for training publish, and counts the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from operator import le, lt, mul
from typing import Any, Literal

from autoexport.model.blocks import Block
from autoexport.model.tree import SPLITS
from autoexport.values import rings
from autoexport.values.boxes import CORNERS
from autoexport.values.scalars import as_floats

BoxUnits = Literal["pixels", "normalized", "percent"]

_TOO_LARGE = 2**31
"""The least width or height that is no size of an image: with less, an area has fewer than 64 bits."""

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

    `indexes` are their places in the block, `owners` those of their images. `corners` are the columns left, top,
    right and bottom, in pixels inside the image. `polygons` has, by the place here, the parts of each annotation
    that has any: flat rings in pixels, none of them a hole. `areas` has the area of those parts.
    """

    indexes: Sequence[int]
    owners: Sequence[int]
    classes: Sequence[int]
    corners: Sequence[Sequence[Any]]
    polygons: dict[int, list[rings.Flat]]
    areas: dict[int, float]


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
    if {*map(type, column)} == {int} and min(column) > 0 and max(column) < _TOO_LARGE:
        return list(column)
    return [
        int(value) if value is not None and 0 < value < _TOO_LARGE and value == int(value) else 0
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
    owners = list(chain.from_iterable(map(repeat, range(len(block.spans)), block.spans)))
    named = [*map(classes.get, columns["label"])]
    corners = [_numbers(columns[name]) for name in CORNERS]
    polygons = _polygons(columns["polygon"])
    found = _all_usual(images, owners, named, corners, units)
    if found is None:
        return _one_by_one(images, owners, named, corners, polygons, units, counted, with_polygons)
    reasons: list[str] = []
    for index, polygon in polygons.items():
        size = images.widths[owners[index]], images.heights[owners[index]]
        if units == "pixels" and (area := rings.usual_area(polygon, *size)):
            parts = [polygon]
        else:
            parts = _parts(polygon, size, units, reasons)
            area = sum(map(rings.area, parts))
        if parts and with_polygons:
            found.polygons[index], found.areas[index] = parts, area
    counted.update(reasons)
    return found


def _all_usual(
    images: Images,
    owners: list[int],
    named: list[int | None],
    corners: Sequence[Sequence[Any]],
    units: BoxUnits,
) -> Shapes | None:
    """All annotations, without their polygons, if each is published with a box inside its image; else None.

    It looks at columns, not at rows: each condition is one call that runs in C.
    """
    if None in named or any(None in column for column in corners):
        return None
    if LEFT_OUT in images.splits and not {*owners}.isdisjoint(
        index for index, split in enumerate(images.splits) if split == LEFT_OUT
    ):
        return None
    widths = [images.widths[owner] for owner in owners]
    heights = [images.heights[owner] for owner in owners]
    left, top, right, bottom = corners
    if units != "pixels":
        across, down = (widths, heights) if units == "normalized" else (_hundredths(widths), _hundredths(heights))
        left, top, right, bottom = (
            list(map(mul, column, sizes))
            for column, sizes in ((left, across), (top, down), (right, across), (bottom, down))
        )
    inside = (
        min(left, default=0) >= 0
        and min(top, default=0) >= 0
        and all(map(lt, left, right))
        and all(map(lt, top, bottom))
        and all(map(le, right, widths))
        and all(map(le, bottom, heights))
    )
    return Shapes(range(len(owners)), owners, named, (left, top, right, bottom), {}, {}) if inside else None  # type: ignore[arg-type]


def _hundredths(column: list[int]) -> list[float]:
    return [value / 100 for value in column]


def _one_by_one(
    images: Images,
    owners: list[int],
    named: list[int | None],
    corners: Sequence[Sequence[Any]],
    polygons: dict[int, Any],
    units: BoxUnits,
    counted: Counter[str],
    with_polygons: bool,
) -> Shapes:
    """The shapes of a block in which an annotation is left out, clipped or without a box."""
    splits, sizes = images.splits, list(zip(images.widths, images.heights, strict=True))
    reasons: list[str] = []
    chosen: list[tuple[int, int, int, Box]] = []
    found = Shapes((), (), (), ((), (), (), ()), {}, {})
    for index, (owner, class_id, box) in enumerate(zip(owners, named, zip(*corners, strict=True), strict=True)):
        if splits[owner] == LEFT_OUT:
            continue
        if class_id is None:
            reasons.append("annotations_without_label")
            continue
        size = sizes[owner]
        parts = _parts(polygons[index], size, units, reasons) if index in polygons else _NO_PARTS
        inside = _inside(box, size, units, reasons) if None not in box else None
        if inside is None:
            if not parts:
                reasons.append("annotations_without_shape" if None in box else "boxes_without_size")
                continue
            inside = rings.hull(parts)
        if parts and with_polygons:
            found.polygons[len(chosen)], found.areas[len(chosen)] = parts, sum(map(rings.area, parts))
        chosen.append((index, owner, class_id, inside))
    counted.update(reasons)
    if chosen:
        found.indexes, found.owners, found.classes, boxes = zip(*chosen, strict=True)
        found.corners = list(zip(*boxes, strict=True))
    return found


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


def _polygons(column: Sequence[bytes | None]) -> dict[int, Any]:
    """The parsed polygons of a column, by their place; those that are no JSON are None."""
    present = {index: text for index, text in enumerate(column) if text is not None}
    return dict(zip(present, rings.parse_all(list(present.values())), strict=True))
