"""Encodes the images and the annotations of a block as rows of COCO files, one for each split."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from autoexport.formats.training.paths import relative_paths
from autoexport.formats.training.samples import (
    LEFT_OUT,
    BoxUnits,
    Images,
    choose_images,
    leave_out,
    shapes,
)
from autoexport.model.blocks import Block
from autoexport.model.tree import SPLITS
from autoexport.values import rings
from autoexport.values.integer_ids import IdRule
from autoexport.values.scalars import encoded

_IMAGE = b'{"id": %b, "file_name": %b, "width": %b, "height": %b, "source_id": %b}'
_ANNOTATION = (
    b'{"id": %b, "image_id": %b, "category_id": %b, "bbox": [%b, %b, %b, %b], "area": %b, "iscrowd": 0, '
    b'"segmentation": %b, "source_id": %b}'
)
_BETWEEN = b",\n"


@dataclass(frozen=True, slots=True)
class CocoRows:
    """The rules of COCO rows that hold for all projects."""

    image_ids: IdRule
    annotation_ids: IdRule
    units: BoxUnits = "pixels"
    image_root: str = ""
    include_unlabeled: bool = False

    def rows(self, block: Block, classes: Mapping[Any, int]) -> tuple[list[bytes], Counter[str]]:
        """The images of each split, then the annotations of each split, and what was left out, by reason.

        `classes` has the category id of each class by name. The rows of a split are separated as in the file.
        """
        counted: Counter[str] = Counter()
        images = choose_images(block, include_unlabeled=self.include_unlabeled, counted=counted)
        ids = self.image_ids.ids(block.images["id"])
        leave_out(images, ids, "images_without_id", counted)
        paths = relative_paths(block.images["file_path"], block.images["filename"], self.image_root)
        leave_out(images, paths, "images_without_path", counted)
        sizes = encoded(images.widths), encoded(images.heights)
        cells = encoded(ids), ascii_cells(paths), *sizes, ascii_cells(block.images["id"])
        rows = map(_IMAGE.__mod__, zip(*cells, strict=True))
        of_images = _by_split(rows, images.splits)
        for split, name in enumerate(SPLITS):
            counted[f"images_{name}"] = images.splits.count(split)
        return [*of_images, *self._annotations(block, images, cells[0], classes, counted)], counted

    def _annotations(
        self,
        block: Block,
        images: Images,
        image_ids: Sequence[bytes],
        classes: Mapping[Any, int],
        counted: Counter[str],
    ) -> list[bytes]:
        found = shapes(block, images, classes, self.units, counted)
        keys = _picked(block.annotations["id"], found.indexes)
        ids = self.annotation_ids.ids(keys)
        splits = [images.splits[owner] for owner in found.owners]
        if None in ids:
            counted["annotations_without_id"] += ids.count(None)
            splits = [LEFT_OUT if key is None else split for key, split in zip(ids, splits, strict=True)]
        left, top, right, bottom = zip(*found.boxes, strict=True) if found.boxes else ((), (), (), ())
        widths = [end - begin for begin, end in zip(left, right, strict=True)]
        heights = [end - begin for begin, end in zip(top, bottom, strict=True)]
        areas = [
            sum(map(rings.area, parts)) if parts else width * height
            for parts, width, height in zip(found.polygons, widths, heights, strict=True)
        ]
        polygons = [orjson.dumps(parts) if parts else b"[]" for parts in found.polygons]
        owners = [image_ids[owner] for owner in found.owners]
        cells = (
            encoded(ids), owners, encoded(found.classes), encoded(left), encoded(top), encoded(widths),
            encoded(heights), encoded(areas), polygons, ascii_cells(keys),
        )  # fmt: skip
        return _by_split(map(_ANNOTATION.__mod__, zip(*cells, strict=True)), splits)


def _picked(column: Sequence[Any], indexes: Sequence[int]) -> Sequence[Any]:
    return column if len(indexes) == len(column) else [column[index] for index in indexes]


def _by_split(rows: Iterable[bytes], splits: Sequence[int]) -> list[bytes]:
    """The rows of each split, joined."""
    if len(set(splits)) == 1:
        joined = [b""] * len(SPLITS)
        if splits[0] != LEFT_OUT:
            joined[splits[0]] = _BETWEEN.join(rows)
        return joined
    lists: list[list[bytes]] = [[] for _ in range(len(SPLITS) + 1)]  # the last one is that of `LEFT_OUT`
    for row, split in zip(rows, splits, strict=True):
        lists[split].append(row)
    return [_BETWEEN.join(some) for some in lists[:-1]]


def ascii_cells(column: Sequence[Any]) -> list[bytes]:
    """The JSON of texts and numbers in ASCII: pycocotools opens files in the encoding of the system."""
    cells = encoded(column)
    if b"".join(cells).isascii():
        return cells
    return [
        cell if cell.isascii() else json.dumps(value).encode() for cell, value in zip(cells, column, strict=True)
    ]


def head(classes: Sequence[str], info: Mapping[str, Any]) -> bytes:
    """The text of a COCO file up to its first image: what it is, and the categories, with ids from 1 on."""
    lines = b",\n".join(
        b'{"id": %d, "name": %b, "supercategory": ""}' % (number, json.dumps(name).encode())
        for number, name in enumerate(classes, 1)
    )
    listed = b"[\n%b\n]" % lines if classes else b"[]"
    return b'{\n"info": %b,\n"licenses": [],\n"categories": %b,\n"images": [' % (json.dumps(info).encode(), listed)
