"""Encodes COCO files: `coco/<project>/annotations/instances_<split>.json`, and the project's `classes.json`.

The layout and the keys are those of https://cocodataset.org/#format-data, "Object Detection". A row is a line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from autoexport.config.options import Option
from autoexport.formats.contract import FormatOptions, Output, PublishedFile
from autoexport.formats.training import classes
from autoexport.formats.training.coco_rows import CocoRows, head
from autoexport.formats.training.facts import Facts
from autoexport.formats.training.file_set import TrainingFiles
from autoexport.formats.training.options import SHARED
from autoexport.model.blocks import Block, BlockRef
from autoexport.model.tree import SPLITS, DatasetNode, ProjectNode, Tree

_ID = re.compile(rb'^\{"id": \d+, (?:"image_id": (\d+)|.*"source_id": (.*)\})', re.MULTILINE)
_COUNTED = "coco."
_PUBLISHED = tuple(f"{_COUNTED}images_{name}" for name in SPLITS)


class CocoFiles(TrainingFiles):
    """The COCO files of all projects: one for each split that has images."""

    counted = _COUNTED
    images_of = _PUBLISHED
    file_name = "coco"
    has_blocks = True
    separator = b",\n"
    part_count = 2 * len(SPLITS)
    published_tallies = _PUBLISHED
    patterns = ("coco/*/annotations/instances_*.json", "coco/*/classes.json")

    def __init__(self, rows: CocoRows) -> None:
        self._rows = rows

    def parts(
        self, block: Block, project: ProjectNode, dataset: DatasetNode
    ) -> tuple[list[bytes], dict[str, int]]:
        """The images of each split, then the annotations of each split."""
        numbers = {name: number for number, name in enumerate(project.classes, 1)}
        parts, counted = self._rows.rows(block, numbers)
        return parts, {_COUNTED + name: count for name, count in counted.items()}

    def image_at(self, body: bytes, offset: int) -> str:
        """The id of the image of the row at this byte."""
        begin = body.rfind(b"\n", 0, offset) + 1
        found = _ID.match(body, begin)
        return (found[1] or found[2]).decode() if found else ""

    def files(self, tree: Tree) -> Iterator[PublishedFile]:
        """The files of each project, in the order of the splits; its classes last."""
        for project in tree.projects:
            datasets = list(project.datasets)
            counted = self.tallies(datasets)
            blocks = [block for dataset in datasets for block in dataset.blocks]
            for split, name in enumerate(SPLITS):
                images = counted.get(_PUBLISHED[split], 0)
                if images:
                    path = f"{self.file_name}/{project.folder}/annotations/instances_{name}.json"
                    yield PublishedFile(path, images, _text(project, blocks, split))
            if project.classes:
                path = f"{self.file_name}/{project.folder}/{classes.CLASSES_NAME}"
                text = classes.document(project.values["id"], project.classes)
                yield PublishedFile(path, len(project.classes), [text])


def _text(project: ProjectNode, blocks: list[int], split: int) -> Iterator[bytes | BlockRef]:
    yield head(project.classes, {"description": project.values["name"] or ""}) + b"\n"
    for block in blocks:
        yield BlockRef(block, split)
    yield b'\n],\n"annotations": [\n'
    for block in blocks:
        yield BlockRef(block, len(SPLITS) + split)
    yield b"\n]\n}\n"


def _make(options: FormatOptions) -> list[CocoFiles]:
    facts = Facts.of(options)
    rows = CocoRows(
        facts.images, facts.annotations, options["box_units"], options["image_root"], options["include_unlabeled"]
    )
    return [CocoFiles(rows)]


OUTPUT = Output(
    switch=Option("export_coco", default=False),
    options=SHARED,
    file_names=(CocoFiles.file_name,),
    make=_make,
    patterns=CocoFiles.patterns,
)
