"""Encodes the images and the annotations of a block as rows of COCO files, one for each split."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import mul, sub
from typing import Any

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
from autoexport.values.scalars import encoded_texts

_BETWEEN = ",\n"


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
        sizes = encoded_texts(images.widths), encoded_texts(images.heights)
        cells = encoded_texts(ids), ascii_cells(paths), *sizes, ascii_cells(block.images["id"])
        rows = [
            f'{{"id": {key}, "file_name": {path}, "width": {width}, "height": {height}, "source_id": {source}}}'
            for key, path, width, height, source in zip(*cells, strict=True)
        ]
        of_images = _by_split(rows, images.splits)
        for split, name in enumerate(SPLITS):
            counted[f"images_{name}"] = images.splits.count(split)
        return [*of_images, *self._annotations(block, images, cells[0], classes, counted)], counted

    def _annotations(
        self,
        block: Block,
        images: Images,
        image_ids: Sequence[str],
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
        left, top, right, bottom = found.corners
        widths, heights = list(map(sub, right, left)), list(map(sub, bottom, top))
        areas: list[Any] = list(map(mul, widths, heights))
        polygons = ["[]"] * len(areas)
        for index, text in zip(found.polygons, rings.dump_all([*found.polygons.values()]), strict=True):
            areas[index], polygons[index] = found.areas[index], text
        cells = (
            encoded_texts(ids), [image_ids[owner] for owner in found.owners], encoded_texts(found.classes),
            encoded_texts(left), encoded_texts(top), encoded_texts(widths), encoded_texts(heights),
            encoded_texts(areas), polygons, ascii_cells(keys),
        )  # fmt: skip
        rows = [
            f'{{"id": {key}, "image_id": {owner}, "category_id": {class_id}, '
            f'"bbox": [{x}, {y}, {width}, {height}], "area": {area}, '
            f'"iscrowd": 0, "segmentation": {polygon}, "source_id": {source}}}'
            for key, owner, class_id, x, y, width, height, area, polygon, source in zip(*cells, strict=True)
        ]
        return _by_split(rows, splits)


def _picked(column: Sequence[Any], indexes: Sequence[int]) -> Sequence[Any]:
    return column if len(indexes) == len(column) else [column[index] for index in indexes]


def _by_split(rows: Sequence[str], splits: Sequence[int]) -> list[bytes]:
    """The rows of each split, joined."""
    if len(set(splits)) == 1:
        joined = [b""] * len(SPLITS)
        if splits[0] != LEFT_OUT:
            joined[splits[0]] = _BETWEEN.join(rows).encode()
        return joined
    lists: list[list[str]] = [[] for _ in range(len(SPLITS) + 1)]  # the last one is that of `LEFT_OUT`
    for row, split in zip(rows, splits, strict=True):
        lists[split].append(row)
    return [_BETWEEN.join(some).encode() for some in lists[:-1]]


def ascii_cells(column: Sequence[Any]) -> list[str]:
    """The JSON of texts and numbers in ASCII: pycocotools opens files in the encoding of the system."""
    cells = encoded_texts(column)
    if "".join(cells).isascii():
        return cells
    return [cell if cell.isascii() else json.dumps(value) for cell, value in zip(cells, column, strict=True)]


def head(classes: Sequence[str], info: Mapping[str, Any]) -> bytes:
    """The text of a COCO file up to its first image: what it is, and the categories, with ids from 1 on."""
    lines = b",\n".join(
        b'{"id": %d, "name": %b, "supercategory": ""}' % (number, json.dumps(name).encode())
        for number, name in enumerate(classes, 1)
    )
    listed = b"[\n%b\n]" % lines if classes else b"[]"
    return b'{\n"info": %b,\n"licenses": [],\n"categories": %b,\n"images": [' % (json.dumps(info).encode(), listed)
