"""Encodes `database_export.json`: projects, datasets, images and annotations as one tree.

In the `records` style the tree is indented and each record is one line: the head of an image, an annotation, a
list of labels. The fields of a project or a dataset take a few lines. In the `pretty` style everything is indented
by two.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import orjson

from autoexport.config.options import Option
from autoexport.formats.contract import FormatOptions, Output, Owner
from autoexport.formats.json_nodes import nodes_in
from autoexport.formats.json_tree import JsonStyle, TreeText, listed
from autoexport.model.blocks import Block, BlockRef, Guarded, SectionRef
from autoexport.model.mapping import ANNOTATION_FIELDS, IMAGE_FIELDS, SHAPE_FIELDS
from autoexport.model.tree import DatasetNode, Part, ProjectNode, Section, Tree
from autoexport.values.boxes import CORNERS
from autoexport.values.json_columns import parse
from autoexport.values.scalars import encode, encoded

FORMAT_VERSION = 2

_ANNOTATION_KEYS = (
    "id", "type", "label", "label_id", "confidence", "bbox", "polygon",
    "is_auto_generated", "is_verified", "model_id", "created_at", "updated_at",
)  # fmt: skip

_ANNOTATION_COLUMNS = tuple(name for key in _ANNOTATION_KEYS for name in (CORNERS if key == "bbox" else (key,)))

_DOCUMENTS = frozenset({"polygon", "points", "mask", "attributes"})
"""The keys of annotations whose columns hold JSON."""

_IMAGE_BEGINS = re.compile(rb'^ {12}\{\s*"id": ("(?:[^"\\]|\\.)*"|[^,"]+)', re.MULTILINE)


class JsonDocument:
    """The whole database as one JSON document."""

    file_name = "database_export.json"
    has_blocks = True
    separator = b",\n"

    def __init__(self, style: JsonStyle = "records") -> None:
        self.style = style
        self._tree = TreeText(style)
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
        (body,), _ = self.blocks(block, [len(block.spans)], [(project, dataset)])
        return body, 0

    def blocks(
        self, block: Block, lengths: Sequence[int], owners: Sequence[Owner]
    ) -> tuple[list[bytes], list[int]]:
        """The images of each block, with separators between them."""
        between, tails = self._between(block, lengths)
        guarded = [0] * len(lengths)
        if not between:
            return [tail for _, tail in tails], guarded
        parts = [between, *self._annotations(block)]
        # One list and one join for the whole block: one `bytes` for each annotation would take twice as long.
        pieces = [part if isinstance(part, bytes) else b"" for part in parts] * len(between)
        for index, part in enumerate(parts):
            if not isinstance(part, bytes):
                pieces[index :: len(parts)] = part
        bodies, begun = [], 0
        for end, tail in tails:
            bodies.append(b"".join(pieces[begun : end * len(parts)]) + tail)
            begun = end * len(parts)
        return bodies, guarded

    def image_at(self, body: bytes, offset: int) -> str:
        """The id of the last image that begins at or before this byte."""
        matches = [match for match in _IMAGE_BEGINS.finditer(body) if match.start() <= offset]
        return matches[-1][1].decode() if matches else ""

    def _between(self, block: Block, lengths: Sequence[int]) -> tuple[list[bytes], list[tuple[int, bytes]]]:
        """The text before each annotation. For each block, its last annotation's end and the text after that.

        The text between two annotations of an image is a comma. The text before the first annotation of an image
        closes the image before and holds the head of its own, with all images without annotations between them.
        The end of a block is the number of annotations up to it.
        """
        cells = [_cells(block.json_cells, block.images, name) for name in IMAGE_FIELDS]
        heads = map(self._image.__mod__, zip(*cells, encoded(block.spans), strict=True))
        end = b"\n" + b" " * (self._annotation_indent - 2) + b"]" + self._image_ends
        between = [self.separator] * sum(block.spans)
        tails = []
        at, images = 0, zip(heads, block.spans, strict=True)
        for length in lengths:
            text = b""
            for head, span in islice(images, length):
                if span:
                    between[at] = text + head + b"[\n"
                    at += span
                    text = end + self.separator
                else:
                    text += head + b"[]" + self._image_ends + self.separator
            tails.append((at, text[: -len(self.separator)]))
        return between, tails

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

    # --- records -----------------------------------------------------------------------------------

    def images_in(self, body: bytes) -> Iterator[tuple[bytes, bytes]]:
        """The images of a block."""
        begins = [(match.start(), match[1]) for match in _IMAGE_BEGINS.finditer(body)]
        ends = [begin for begin, _ in begins[1:]] + [len(body)]
        for (begin, image), end in zip(begins, ends, strict=True):
            yield image, body[begin:end].rstrip(self.separator)

    def nodes_in(self, text: bytes) -> Iterator[tuple[str, bytes, bytes]]:
        """The nodes of a section."""
        return nodes_in(text)

    # --- the tree ----------------------------------------------------------------------------------

    def assemble(self, tree: Tree) -> Iterator[bytes | BlockRef | SectionRef]:
        """The document in order."""
        info = {
            "format_version": FORMAT_VERSION,
            "timestamp": tree.timestamp,
            "total_projects": len(tree.projects),
            "total_datasets": tree.count_datasets(),
            "total_images": tree.counts.images,
            "total_annotations": tree.counts.annotations,
            "total_labels": tree.total_labels,
        }
        yield b'{\n  "export_info": ' + self._tree.inline(info, 2) + b',\n  "projects": '
        if tree.parts is None:
            yield from listed(([*self._tree.projects([project])] for project in tree.projects), 2)
        else:
            yield from listed(map(self._part, tree.parts), 2)
        yield b"\n}\n"

    def _part(self, part: Part) -> Iterator[bytes | SectionRef]:
        if isinstance(part, int):
            yield SectionRef(part)
            return
        head, below = part
        yield SectionRef(head)
        yield from listed(([SectionRef(section)] for section in below), 6)
        yield b"\n    }"

    def section(self, section: Section) -> Iterator[bytes | BlockRef | Guarded]:
        """Projects or datasets, separated as they are in the file; or a project up to its datasets."""
        if section.kind == "projects":
            yield from self._tree.projects(section.projects)
        elif section.kind == "head":
            for opening in self._tree.heads(section.projects):
                yield from opening
        else:
            datasets = [dataset for project in section.projects for dataset in project.datasets]
            yield from self._tree.datasets(datasets, self._tree.descriptions(datasets))

    def guarded(self, tree: Tree) -> int:
        """None: JSON always has the exact text."""
        return 0

    def rows(self, tree: Tree) -> int:
        """The number of images."""
        return tree.counts.images


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
