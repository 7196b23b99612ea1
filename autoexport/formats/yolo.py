"""Encodes YOLO data sets as ultralytics reads them: `yolo/<project>/`, with lists, label files and `data.yaml`.

A list names images, and a label file belongs to each of them. The label files are a part of each block, which is
in no file: `folder_files` cuts it into them.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from autoexport.config.options import Option
from autoexport.formats.contract import FormatOptions, Output, PublishedFile, PublishedFolder
from autoexport.formats.training import classes
from autoexport.formats.training.facts import Facts
from autoexport.formats.training.file_set import TrainingFiles
from autoexport.formats.training.options import SHARED
from autoexport.formats.training.yolo_rows import LabelFile, YoloRows, classes_text, data_yaml, list_line
from autoexport.model.blocks import Block, BlockRef
from autoexport.model.tree import SPLITS, DatasetNode, ProjectNode, Tree

_COUNTED = "yolo."
_IMAGES = tuple(f"{_COUNTED}images_{name}" for name in SPLITS)
_BYTES, _SUM = f"{_COUNTED}label_bytes", f"{_COUNTED}label_sum"
_LENGTHS = struct.Struct(">II")
_LISTS = tuple(f"{name}.txt" for name in SPLITS)


class YoloFiles(TrainingFiles):
    """The YOLO data sets of all projects that have an image to list."""

    counted = _COUNTED
    images_of = _IMAGES
    file_name = "yolo"
    has_blocks = True
    separator = b""
    part_count = len(SPLITS) + 1
    folder_part = len(SPLITS)
    published_tallies = (*_IMAGES, _BYTES, _SUM)
    patterns = tuple(f"yolo/*/{name}" for name in (*_LISTS, "data.yaml", "classes.txt", classes.CLASSES_NAME))

    def __init__(self, rows: YoloRows) -> None:
        self._rows = rows

    def parts(
        self, block: Block, project: ProjectNode, dataset: DatasetNode
    ) -> tuple[list[bytes], dict[str, int]]:
        """The lines of each list, then the label files."""
        numbers = {name: number for number, name in enumerate(project.classes, 1)}
        files, counted = self._rows.files(block, numbers, dataset.key)
        lines: list[list[bytes]] = [[] for _ in SPLITS]
        for file in files:
            lines[file.split].append(list_line(file.image))
        tallies = {_COUNTED + name: count for name, count in counted.items()}
        tallies[_BYTES] = sum(len(file.text) for file in files)
        tallies[_SUM] = sum(zlib.crc32(b"%b\0%b" % (file.path.encode(), file.text)) for file in files)
        return [*map(b"".join, lines), b"".join(map(_packed, files))], tallies

    def folder_files(self, body: bytes, project: ProjectNode) -> Iterator[tuple[str, bytes]]:
        """The path below the export directory and the text of each label file in a part of a block."""
        offset, above = 0, f"{self.file_name}/{project.folder}/labels/"
        while offset < len(body):
            path, text = _LENGTHS.unpack_from(body, offset)
            offset += _LENGTHS.size
            yield above + body[offset : offset + path].decode(), body[offset + path : offset + path + text]
            offset += path + text

    def image_at(self, body: bytes, offset: int) -> str:
        """The path of the image in the line at this byte."""
        begin = body.rfind(b"\n", 0, offset) + 1
        return body[begin:].partition(b"\n")[0].decode("utf-8", "replace")

    def files(self, tree: Tree) -> Iterator[PublishedFile]:
        """The classes and the lists of each project, and the YAML that names them."""
        for project in tree.projects:
            above = f"{self.file_name}/{project.folder}/"
            datasets = list(project.datasets)
            counted = self.tallies(datasets)
            blocks = [block for dataset in datasets for block in dataset.blocks]
            listed = [index for index in range(len(SPLITS)) if counted.get(_IMAGES[index])]
            if project.classes:
                text = classes.document(project.values["id"], project.classes)
                yield PublishedFile(above + classes.CLASSES_NAME, len(project.classes), [text])
            if listed:
                yield PublishedFile(above + "classes.txt", len(project.classes), [classes_text(project.classes)])
                for index in listed:
                    refs = (BlockRef(block, index) for block in blocks)
                    yield PublishedFile(above + _LISTS[index], counted[_IMAGES[index]], refs)
                text = data_yaml(project.classes, [SPLITS[index] for index in listed])
                yield PublishedFile(above + "data.yaml", len(project.classes), [text])

    def folders(self, tree: Tree) -> Iterator[PublishedFolder]:
        """The folder of label files of each project, as the manifest has it."""
        for project in tree.projects:
            counted = self.tallies(project.datasets)
            images = sum(counted.get(name, 0) for name in _IMAGES)
            if images:
                digest = f"crc32-sum:{counted[_SUM] % 2**32:08x}"
                name = f"{self.file_name}/{project.folder}/labels/"
                yield PublishedFolder(name, images, counted[_BYTES], digest)


def _packed(file: LabelFile) -> bytes:
    path = file.path.encode()
    return _LENGTHS.pack(len(path), len(file.text)) + path + file.text


def _make(options: FormatOptions) -> list[YoloFiles]:
    rows = YoloRows(
        options["yolo_task"], options["box_units"], options["image_root"], options["include_unlabeled"],
        Facts.of(options).doubled,
    )  # fmt: skip
    return [YoloFiles(rows)]


OUTPUT = Output(
    switch=Option("export_yolo", default=False),
    options=(*SHARED, Option("yolo_task", default="detect", choices=("detect", "segment"))),
    file_names=(YoloFiles.file_name,),
    make=_make,
    patterns=YoloFiles.patterns,
)
