"""Encodes the images of a block as lines of YOLO's lists and as label files, and the YAML that names them.

The rules are those of ultralytics 8.4, `data/utils.py`: it drops an image with one bad row, so none is written.
A row has a class from 0 on, and coordinates as fractions of the image's size: centre and size of a box (`detect`),
or the points of a polygon (`segment`).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from autoexport.formats.training.paths import label_path, relative_paths
from autoexport.formats.training.samples import (
    LEFT_OUT,
    BoxUnits,
    Images,
    Shapes,
    choose_images,
    leave_out,
    shapes,
)
from autoexport.model.blocks import Block
from autoexport.model.catalog import Key
from autoexport.model.tree import SPLITS
from autoexport.values import rings

YoloTask = Literal["detect", "segment"]

_SMALLEST = 0.5e-8
"""Half of the last digit that is written: a box of less would be written as one of no size."""


@dataclass(frozen=True, slots=True)
class LabelFile:
    """An image of a list: the index of its split, its path below `images/`, its label file and that one's text."""

    split: int
    image: str
    path: str
    text: bytes


@dataclass(frozen=True, slots=True)
class YoloRows:
    """The rules of label files that hold for all projects.

    `doubled` are the keys of dataset and image of each image whose label file is that of another image.
    """

    task: YoloTask = "detect"
    units: BoxUnits = "pixels"
    image_root: str = ""
    include_unlabeled: bool = False
    doubled: Collection[tuple[Any, Any]] = ()

    def paths(self, images: Mapping[str, Sequence[Any]]) -> list[tuple[str, str] | None]:
        """The path of each image below `images/` and that of its label file; None if it can have none."""
        stored = relative_paths(images["file_path"], images["filename"], self.image_root)
        return [label_path(path, rooted=bool(self.image_root)) for path in stored]

    def files(
        self, block: Block, classes: Mapping[Any, int], dataset: Key = 0
    ) -> tuple[list[LabelFile], Counter[str]]:
        """The label files of a block in the order of its images, and what was left out, by reason.

        `classes` has the category id of each class by name, which is one more than its number here. `dataset` is
        the key of the block's dataset.
        """
        counted: Counter[str] = Counter()
        images = choose_images(block, include_unlabeled=self.include_unlabeled, counted=counted)
        paths = self.paths(block.images)
        leave_out(images, paths, "images_without_path", counted)
        if self.doubled:
            unique = [None if (dataset, key) in self.doubled else key for key in block.images["id"]]
            leave_out(images, unique, "images_with_the_path_of_another", counted)
        rows = self._rows(block, images, classes, counted)
        files = [
            LabelFile(split, *pair, b"".join(rows.get(index, ())))
            for index, (split, pair) in enumerate(zip(images.splits, paths, strict=True))
            if split != LEFT_OUT and pair is not None
        ]
        for split, name in enumerate(SPLITS):
            counted[f"images_{name}"] = images.splits.count(split)
        return files, counted

    def _rows(
        self, block: Block, images: Images, classes: Mapping[Any, int], counted: Counter[str]
    ) -> dict[int, list[bytes]]:
        """The rows of each image that has any. ultralytics counts equal rows once, so they are written once."""
        found = shapes(block, images, classes, self.units, counted, with_polygons=self.task == "segment")
        rows: dict[int, list[bytes]] = {}
        encode = _polygon_row if self.task == "segment" else _box_row
        for index, owner in enumerate(found.owners):
            row = encode(found, index, images.widths[owner], images.heights[owner])
            own = rows.setdefault(owner, [])
            if row is None:
                counted["boxes_without_size"] += 1
            elif row in own:
                counted["rows_repeated"] += 1
            else:
                own.append(row)
                counted["boxes_as_polygons"] += self.task == "segment" and index not in found.polygons
        return rows


def _box_row(found: Shapes, index: int, width: int, height: int) -> bytes | None:
    left, top, right, bottom = (column[index] for column in found.corners)
    across, down = (right - left) / width, (bottom - top) / height
    if across < _SMALLEST or down < _SMALLEST:
        return None
    return b"%d %.8f %.8f %.8f %.8f\n" % (
        found.classes[index] - 1, (left + right) / 2 / width, (top + bottom) / 2 / height, across, down,
    )  # fmt: skip


def _polygon_row(found: Shapes, index: int, width: int, height: int) -> bytes | None:
    left, top, right, bottom = (column[index] for column in found.corners)
    parts = found.polygons.get(index)
    if (right - left) / width < _SMALLEST or (bottom - top) / height < _SMALLEST:
        return None
    ring = rings.one_ring(parts) if parts else [left, top, right, top, right, bottom, left, bottom]
    points = rings.scaled(ring, 1 / width, 1 / height)
    return b"%d %b\n" % (found.classes[index] - 1, b" ".join(map(b"%.8f".__mod__, points)))


def list_line(image: str) -> bytes:
    """The line of an image in a list. ultralytics replaces the `./` by the folder of the list."""
    return b"./images/%b\n" % image.encode()


def data_yaml(classes: Sequence[str], listed: Collection[str]) -> bytes:
    """The YAML of a data set: where its lists are, and the names of its classes, quoted.

    `listed` are the splits that have images. ultralytics wants `train` and `val` and opens no empty list, so a
    missing one names another.
    """
    return b"".join(_yaml(classes, listed))


_INSTEAD = (("train", "unassigned", "val", "test"), ("val", "train", "unassigned", "test"), ("test",))
"""Each split that the YAML names, and the others that stand in for it, in this order."""


def _yaml(classes: Sequence[str], listed: Collection[str]) -> Iterator[bytes]:
    for wanted, *others in _INSTEAD:
        chosen = next((name for name in (wanted, *others) if name in listed), None)
        if chosen is not None:
            note = "" if chosen == wanted else f"  # no image has the split {wanted}"
            yield f"{wanted}: {chosen}.txt{note}\n".encode()
        elif wanted != "test":
            yield f"{wanted}:  # there is no image\n".encode()
    yield b"names:\n" if classes else b"names: {}\n"
    for number, name in enumerate(classes):
        yield b"  %d: %b\n" % (number, json.dumps(name).encode())


def classes_text(classes: Sequence[str]) -> bytes:
    """`classes.txt`: a line for each class; a line end in a name becomes a space."""
    return "".join(" ".join(name.splitlines()) + "\n" for name in classes).encode()
