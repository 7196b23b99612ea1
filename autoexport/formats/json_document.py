"""Encodes `database_export.json`: projects, datasets, images and annotations as one tree.

In the `records` style the tree is indented and each record is one line: the head of an image, an annotation, a
list of labels. The fields of a project or a dataset take a few lines. In the `pretty` style everything is indented
by two.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import orjson

from autoexport.config.options import Option
from autoexport.formats.contract import FormatOptions, Output
from autoexport.model.blocks import Block, BlockRef, Counts
from autoexport.model.mapping import ANNOTATION_FIELDS, IMAGE_FIELDS, PROJECT_FIELDS, SHAPE_FIELDS
from autoexport.model.tree import DatasetNode, LabelNode, ProjectNode, Tree
from autoexport.values.boxes import CORNERS
from autoexport.values.json_columns import parse, spaced
from autoexport.values.scalars import encode, encoded

FORMAT_VERSION = 2
_SPLITS = ("train", "val", "test", "unassigned")

_ANNOTATION_KEYS = (
    "id", "type", "label", "label_id", "confidence", "bbox", "polygon",
    "is_auto_generated", "is_verified", "model_id", "created_at", "updated_at",
)  # fmt: skip

_ANNOTATION_COLUMNS = tuple(name for key in _ANNOTATION_KEYS for name in (CORNERS if key == "bbox" else (key,)))

_DOCUMENTS = frozenset({"polygon", "points", "mask", "attributes"})
"""The keys of annotations whose columns hold JSON."""

_IMAGE_BEGINS = re.compile(rb'^ {12}\{\s*"id": ("(?:[^"\\]|\\.)*"|[^,"]+)', re.MULTILINE)

_STANDARD = orjson.OPT_UTC_Z
_PROJECT_LINES = (
    ("id", "name", "description", "project_type"),
    ("created_at", "updated_at"),
    ("dataset_count", "image_count", "labeled_image_count", "annotation_count"),
)

_DATASET_LINES = (
    ("id", "project_id", "name", "description", "created_at", "updated_at"),
    ("image_count", "labeled_image_count", "annotation_count"),
)

JsonStyle = Literal["records", "pretty"]


class JsonDocument:
    """The whole database as one JSON document."""

    file_name = "database_export.json"
    has_blocks = True
    separator = b",\n"

    def __init__(self, style: JsonStyle = "records") -> None:
        self.style = style
        pretty = style == "pretty"
        self._image = _frame(IMAGE_FIELDS, 12, pretty, opened=True) + (
            b',\n              "annotation_count": %b,\n              "annotations": '
            if pretty
            else b', "annotation_count": %b, "annotations": '
        )
        self._image_ends = b"\n            }" if pretty else b"}"
        self._annotation_indent = 16 if pretty else 14
        self._frames: dict[tuple[str, ...], bytes] = {}
        self._box_frame = _frame(CORNERS, self._annotation_indent + 2, pretty).lstrip()

    # --- blocks ------------------------------------------------------------------------------------

    def block(self, block: Block, project: ProjectNode, dataset: DatasetNode) -> tuple[bytes, int]:
        """The images of a block, with separators between them."""
        between, last = self._between(block)
        if not between:
            return last, 0
        parts = [between, *self._annotations(block)]
        # One list and one join for the whole block: one `bytes` for each annotation would take twice as long.
        pieces = [part if isinstance(part, bytes) else b"" for part in parts] * len(between)
        for index, part in enumerate(parts):
            if not isinstance(part, bytes):
                pieces[index :: len(parts)] = part
        return b"".join(pieces) + last, 0

    def image_at(self, body: bytes, offset: int) -> str:
        """The id of the last image that begins at or before this byte."""
        matches = [match for match in _IMAGE_BEGINS.finditer(body) if match.start() <= offset]
        return matches[-1][1].decode() if matches else ""

    def _between(self, block: Block) -> tuple[list[bytes], bytes]:
        """The text before each annotation, and the text after the last one.

        The text between two annotations of an image is a comma. The text before the first annotation of an image
        closes the image before and holds the head of its own, with all images without annotations between them.
        """
        cells = [_cells(block.json_cells, block.images, name) for name in IMAGE_FIELDS]
        heads = map(self._image.__mod__, zip(*cells, encoded(block.spans), strict=True))
        end = b"\n" + b" " * (self._annotation_indent - 2) + b"]" + self._image_ends
        between = [self.separator] * sum(block.spans)
        first, text = 0, b""
        for head, span in zip(heads, block.spans, strict=True):
            if span:
                between[first] = text + head + b"[\n"
                first += span
                text = end + self.separator
            else:
                text += head + b"[]" + self._image_ends + self.separator
        return between, text[: -len(self.separator)]

    def _annotations(self, block: Block) -> list[bytes | list[bytes]]:
        """The parts of an annotation in order: text that all annotations have, and columns of cells."""
        columns = block.annotations
        parts: list[bytes | list[bytes]] = []
        keys = _ANNOTATION_KEYS + tuple(name for name in SHAPE_FIELDS if name in columns)
        frame = iter(self._annotation_frame(keys).split(b"%b"))
        for name in keys:
            parts.append(next(frame))
            if name == "bbox":
                parts += self._boxes(columns)
            elif name in _DOCUMENTS:
                parts.append(self._documents(columns[name]))
            else:
                parts.append(encoded(columns[name]))
        return _joined([*parts, next(frame)])

    def _annotation_frame(self, keys: tuple[str, ...]) -> bytes:
        if keys not in self._frames:
            self._frames[keys] = _frame(keys, self._annotation_indent, self.style == "pretty")
        return self._frames[keys]

    def _boxes(self, columns: Mapping[str, Sequence[Any]]) -> list[bytes | list[bytes]]:
        boxed = columns["boxed"]
        if not any(boxed):
            return [b"null"]
        corners = [encoded(columns[name]) for name in CORNERS]
        if all(boxed):
            texts = self._box_frame.split(b"%b")
            between: list[bytes | list[bytes]] = [texts[0]]
            for text, cells in zip(texts[1:], corners, strict=True):
                between += (cells, text)
            return between
        boxes = map(self._box_frame.__mod__, zip(*corners, strict=True))
        return [[box if has_box else b"null" for box, has_box in zip(boxes, boxed, strict=True)]]

    def _documents(self, column: Sequence[bytes | None]) -> bytes | list[bytes]:
        if column.count(None) == len(column):
            return b"null"
        if self.style != "pretty":
            return [document or b"null" for document in column]
        indent = b"\n" + b" " * (self._annotation_indent + 2)
        parsed = [parse(document.decode())[0] if document else None for document in column]
        return [orjson.dumps(value, option=orjson.OPT_INDENT_2).replace(b"\n", indent) for value in parsed]

    # --- the tree ----------------------------------------------------------------------------------

    def assemble(self, tree: Tree) -> Iterator[bytes | BlockRef]:
        """The document in order."""
        info = {
            "format_version": FORMAT_VERSION,
            "timestamp": tree.timestamp,
            "total_projects": len(tree.projects),
            "total_datasets": sum(len(project.datasets) for project in tree.projects),
            "total_images": tree.counts.images,
            "total_annotations": tree.counts.annotations,
            "total_labels": tree.total_labels,
        }
        yield b'{\n  "export_info": ' + self._inline(info, 2) + b',\n  "projects": '
        yield from _list((self._project(project) for project in tree.projects), 2)
        yield b"\n}\n"

    def _project(self, project: ProjectNode) -> Iterator[bytes | BlockRef]:
        head = {name: project.values[name] for name in PROJECT_FIELDS}
        head["dataset_count"] = len(project.datasets)
        head |= _count_fields(project.counts)
        yield b"    {\n" + self._members(head, _PROJECT_LINES, 6)
        yield b',\n      "labels": ' + self._labels(project.labels)
        yield b',\n      "datasets": '
        yield from _list((self._dataset(dataset) for dataset in project.datasets), 6)
        yield b"\n    }"

    def _labels(self, labels: Sequence[LabelNode]) -> bytes:
        return self._inline([{**label.values, "annotation_count": label.annotation_count} for label in labels], 6)

    def _dataset(self, dataset: DatasetNode) -> Iterator[bytes | BlockRef]:
        head = dict(dataset.values) | _count_fields(dataset.counts)
        yield b"        {\n" + self._members(head, _DATASET_LINES, 10)
        splits = {word: dataset.counts.splits.get(word, 0) for word in _SPLITS}
        splits |= {word: count for word, count in sorted(dataset.counts.splits.items()) if word not in splits}
        yield b',\n          "splits": ' + self._inline(splits, 10)
        yield b',\n          "label_counts": ' + self._inline(dict(sorted(dataset.counts.labels.items())), 10)
        yield b',\n          "images": '
        yield from _list(([BlockRef(block)] for block in dataset.blocks), 10)
        yield b"\n        }"

    def _members(self, values: Mapping[str, Any], lines: Sequence[Sequence[str]], indent: int) -> bytes:
        """The fields of a node: several on a line, or one in the pretty style."""
        if self.style == "pretty":
            lines = [(name,) for line in lines for name in line]
        margin = b" " * indent
        return b",\n".join(
            margin + b", ".join(encode(name) + b": " + encode(values[name]) for name in line) for line in lines
        )

    def _inline(self, value: Any, indent: int) -> bytes:
        """A small value, on one line, or indented in the pretty style."""
        if self.style == "pretty":
            return orjson.dumps(value, option=_STANDARD | orjson.OPT_INDENT_2).replace(
                b"\n", b"\n" + b" " * indent
            )
        return spaced(orjson.dumps(value, option=_STANDARD))

    def guarded(self, tree: Tree) -> int:
        """None: JSON always has the exact text."""
        return 0

    def rows(self, tree: Tree) -> int:
        """The number of images."""
        return tree.counts.images


def _count_fields(counts: Counts) -> dict[str, int]:
    return {
        "image_count": counts.images,
        "labeled_image_count": counts.labeled,
        "annotation_count": counts.annotations,
    }


def _list(items: Iterator[Any], indent: int) -> Iterator[Any]:
    """The text of a list. Its items are already indented."""
    first = True
    for item in items:
        yield b"[\n" if first else b",\n"
        first = False
        yield from item
    yield b"[]" if first else b"\n" + b" " * indent + b"]"


def _frame(names: Sequence[str], indent: int, pretty: bool, *, opened: bool = False) -> bytes:
    """A bytes template of an object with these members, at this indentation; `opened` leaves it open for more."""
    margin = b" " * indent
    if not pretty:
        return margin + b"{" + b", ".join(encode(name) + b": %b" for name in names) + (b"" if opened else b"}")
    inner = b",\n".join(margin + b"  " + encode(name) + b": %b" for name in names)
    return margin + b"{\n" + inner + (b"" if opened else b"\n" + margin + b"}")


def _joined(parts: Sequence[bytes | list[bytes]]) -> list[bytes | list[bytes]]:
    """Join texts that follow each other."""
    joined: list[bytes | list[bytes]] = []
    for part in parts:
        if isinstance(part, bytes) and joined and isinstance(last := joined[-1], bytes):
            joined[-1] = last + part
        else:
            joined.append(part)
    return joined


def _cells(kept: dict[str, list[bytes]], columns: Mapping[str, Sequence[Any]], name: str) -> list[bytes]:
    if name not in kept:
        kept[name] = encoded(columns[name])
    return kept[name]


def _make(options: FormatOptions) -> list[JsonDocument]:
    return [JsonDocument(options["json_style"])]


OUTPUT = Output(
    switch=Option("export_json", default=True),
    options=(Option("json_style", default="records", choices=("records", "pretty")),),
    file_names=(JsonDocument.file_name,),
    make=_make,
)

assert set(_ANNOTATION_KEYS) - {"bbox"} <= set(ANNOTATION_FIELDS)  # noqa: S101  (the names are one vocabulary)
