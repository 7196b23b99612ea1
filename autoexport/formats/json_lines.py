"""Encodes `images.jsonl`: a line for each image, with its annotations, its dataset and its project.

Readers that infer the types of columns from the first lines, such as `datasets` of Hugging Face, fail if a column
of whole numbers has a fraction later. So every number of a confidence, a box or a polygon has a point.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from autoexport.config.options import Option
from autoexport.formats.block_file import BlockFile
from autoexport.formats.contract import FormatOptions, Output
from autoexport.model.blocks import Block
from autoexport.model.mapping import IMAGE_FIELDS, SHAPE_FIELDS
from autoexport.model.tree import DatasetNode, ProjectNode, Tree
from autoexport.values.boxes import CORNERS
from autoexport.values.scalars import encode, encoded

_PARENTS = ("project_id", "project_name", "dataset_id", "dataset_name")
_HEAD = (
    b"{" + b", ".join(encode(name) + b": %b" for name in IMAGE_FIELDS) + b", %b"
    + b', "annotation_count": %b, "annotations": ['
)  # fmt: skip
_BOX = b"{" + b", ".join(encode(name) + b": %b" for name in CORNERS) + b"}"
_KEYS = (
    "id", "type", "label", "label_id", "confidence", "bbox", "polygon",
    "is_auto_generated", "is_verified", "model_id", "created_at", "updated_at",
)  # fmt: skip

_POINTED, _POINTED_DOCUMENTS = ("confidence", "rotation"), ("polygon", "points")
_DOCUMENTS = ("mask", "attributes")

_STRING = rb'"(?:[^"\\]|\\.)*"'
_LINE_BEGINS = re.compile(rb'\{"id": (' + _STRING + rb"|[^,]+)")

# A number without a point: alone on a line, or as an item or a member of JSON with spaces after commas and colons.
_POINTLESS = re.compile(rb"^(-?[0-9]+)(?=[eE\n]|\Z)", re.MULTILINE)
_POINTLESS_INSIDE = re.compile(rb"(?:^|(?<=[\[ ]))(-?[0-9]+)(?=[eE,\]}\n]|\Z)", re.MULTILINE)
_STRINGS = re.compile(rb"(" + _STRING + rb")")


class JsonLines(BlockFile):
    """A line for each image, in the order of the tree."""

    file_name = "images.jsonl"

    def block(self, block: Block, project: ProjectNode, dataset: DatasetNode) -> tuple[bytes, int]:
        """The lines of a block."""
        cells = [block.json_cells.get(name) or encoded(block.images[name]) for name in IMAGE_FIELDS]
        above = [node.values[name] for node in (project, dataset) for name in ("id", "name")]
        parents = b", ".join(
            encode(name) + b": " + encode(value) for name, value in zip(_PARENTS, above, strict=True)
        )
        counts = encoded(block.spans)
        heads = map(_HEAD.__mod__, zip(*cells, [parents] * len(counts), counts, strict=True))
        # A list of pieces and one join for the whole block: `bytes` for each annotation would take twice as long.
        parts = _annotation_parts(block.annotations) if any(block.spans) else []
        width = 1 + len(parts)
        pieces = [b""] * (width * sum(block.spans))
        pieces[::width] = [b", "] * sum(block.spans)
        for index, part in enumerate(parts, 1):
            pieces[index::width] = part if isinstance(part, list) else [part] * sum(block.spans)
        first, text = 0, b""
        for head, span in zip(heads, block.spans, strict=True):
            text += head
            if span:
                pieces[first * width] = text
                first += span
                text = b""
            text += b"]}\n"
        return b"".join(pieces) + text, 0

    def image_at(self, body: bytes, offset: int) -> str:
        """The id of the image of this line. A line break is never inside a value."""
        match = _LINE_BEGINS.match(body, body.rfind(b"\n", 0, offset) + 1)
        return match[1].decode("utf-8", "replace") if match else ""

    def rows(self, tree: Tree) -> int:
        """The number of images."""
        return tree.counts.images


def _annotation_parts(columns: dict[str, Sequence[Any]]) -> list[bytes | list[bytes]]:
    """The parts of an annotation in order: texts that all have, and columns of cells."""
    parts: list[bytes | list[bytes]] = []
    text = b"{"
    for name in _KEYS + tuple(name for name in SHAPE_FIELDS if name in columns):
        parts.append(text + encode(name) + b": ")
        if name == "bbox":
            parts.append(_boxes(columns))
        elif name in _POINTED_DOCUMENTS:
            parts.append(_pointed_documents(columns[name]))
        elif name in _DOCUMENTS:
            parts.append([document or b"null" for document in columns[name]])
        else:
            cells = encoded(columns[name])
            parts.append(_pointed(columns[name], cells) if name in _POINTED else cells)
        text = b", "
    return [*parts, b"}"]


def _boxes(columns: dict[str, Sequence[Any]]) -> list[bytes]:
    corners = [_pointed(columns[name], encoded(columns[name])) for name in CORNERS]
    boxes = map(_BOX.__mod__, zip(*corners, strict=True))
    return [box if has_box else b"null" for box, has_box in zip(boxes, columns["boxed"], strict=True)]


def _pointed(column: Sequence[Any], cells: list[bytes]) -> list[bytes]:
    """The cells of a column of numbers, each with a point."""
    lines = b"\n".join(cells)
    if {*map(type, column)} <= {float, type(None)} and b"e" not in lines:
        return cells
    return _POINTLESS.sub(rb"\1.0", lines).split(b"\n")


def _pointed_documents(column: Sequence[bytes | None]) -> list[bytes]:
    """The cells of a column of JSON documents, in which each number has a point."""
    lines = b"\n".join([text or b"null" for text in column])
    if lines.count(b'"') == 2 * (lines.count(b'"x":') + lines.count(b'"y":')):
        # The only strings are names of coordinates, so every number is one.
        return _POINTLESS_INSIDE.sub(rb"\1.0", lines).split(b"\n")
    return [_pointed_document(line) for line in lines.split(b"\n")]


def _pointed_document(text: bytes) -> bytes:
    parts = _STRINGS.split(text)
    # A number never touches a string, so it is whole in its part.
    parts[::2] = [_POINTLESS_INSIDE.sub(rb"\1.0", part) for part in parts[::2]]
    return b"".join(parts)


def _make(options: FormatOptions) -> list[JsonLines]:
    return [JsonLines()]


OUTPUT = Output(
    switch=Option("export_jsonl", default=False),
    options=(),
    file_names=(JsonLines.file_name,),
    make=_make,
)
