"""`database_export.json`: projects, datasets, images and annotations as one tree.

In the `records` style the tree is indented and a record is a line: an image's head, an annotation, a
label list; what a project or a dataset says of itself is a few. In the `pretty` style everything is
indented by two.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any, Literal

import orjson

from autoexport.config.options import Option
from autoexport.formats.contract import FormatOptions, Output, Owner
from autoexport.model.blocks import Block, BlockRef, Counts, Guarded, SectionRef
from autoexport.model.mapping import ANNOTATION_FIELDS, IMAGE_FIELDS
from autoexport.model.tree import DatasetNode, LabelNode, Part, ProjectNode, Section, Tree, in_order
from autoexport.values.boxes import CORNERS
from autoexport.values.json_columns import parse, spaced
from autoexport.values.scalars import encode, encoded

FORMAT_VERSION = 1
_SPLITS = ("train", "val", "test", "unassigned")

_ANNOTATION_KEYS = (
    "id", "type", "label", "label_id", "confidence", "bbox", "polygon",
    "is_auto_generated", "is_verified", "model_id", "created_at", "updated_at",
)  # fmt: skip

_ANNOTATION_COLUMNS = tuple(name for key in _ANNOTATION_KEYS for name in (CORNERS if key == "bbox" else (key,)))

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

_DATASETS_FOLLOW = b',\n      "datasets": '
_LABELS_TOGETHER = 500
"""Labels that are encoded at once: a project may have hundreds of thousands."""

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
        # How a list of labels goes on, and how it and the counts by label end.
        self._list_between = b"," if pretty else b", "
        self._list_ends = b"\n      ]" if pretty else b"]"
        self._counts_end = b"\n          }" if pretty else b"}"
        self._image_ends = b"\n            }" if pretty else b"}"
        self._annotation_indent = 16 if pretty else 14
        self._annotation_frame = _frame(_ANNOTATION_KEYS, self._annotation_indent, pretty)
        self._box_frame = _frame(CORNERS, self._annotation_indent + 2, pretty).lstrip()

    # --- blocks ------------------------------------------------------------------------------------

    def block(self, block: Block, project: ProjectNode, dataset: DatasetNode) -> tuple[bytes, int]:
        """The images of a block, separated as they are in the file."""
        (body,), _ = self.blocks(block, [len(block.spans)], [(project, dataset)])
        return body, 0

    def blocks(
        self, block: Block, lengths: Sequence[int], owners: Sequence[Owner]
    ) -> tuple[list[bytes], list[int]]:
        """The images of each block, separated as they are in the file."""
        between, tails = self._between(block, lengths)
        guarded = [0] * len(lengths)
        if not between:
            return [tail for _, tail in tails], guarded
        parts = [between, *self._annotations(block)]
        # One list and one join for the whole block: a `bytes` for each annotation would take twice as long.
        pieces = [part if isinstance(part, bytes) else b"" for part in parts] * len(between)
        for place, part in enumerate(parts):
            if not isinstance(part, bytes):
                pieces[place :: len(parts)] = part
        bodies, begun = [], 0
        for end, tail in tails:
            bodies.append(b"".join(pieces[begun : end * len(parts)]) + tail)
            begun = end * len(parts)
        return bodies, guarded

    def image_at(self, body: bytes, offset: int) -> str:
        """The id of the image that begins last before this byte."""
        begun = [found for found in _IMAGE_BEGINS.finditer(body) if found.start() <= offset]
        return begun[-1][1].decode() if begun else ""

    def _between(self, block: Block, lengths: Sequence[int]) -> tuple[list[bytes], list[tuple[int, bytes]]]:
        """The text before each annotation: a comma, or all from the annotation before to the one that is the
        first of its image. Also, for each block, the number of annotations up to its end, and the text after its
        last one."""
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
        """What annotations are put together from, in order: text that all of them have, and columns of cells."""
        columns = block.annotations
        parts: list[bytes | list[bytes]] = []
        frame = iter(self._annotation_frame.split(b"%b"))
        for name in _ANNOTATION_KEYS:
            parts.append(next(frame))
            if name == "bbox":
                parts += self._boxes(columns)
            elif name == "polygon":
                parts.append(self._polygons(columns["polygon"]))
            else:
                parts.append(encoded(columns[name]))
        return _joined([*parts, next(frame)])

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
        return [[box if there else b"null" for box, there in zip(boxes, boxed, strict=True)]]

    def _polygons(self, column: Sequence[bytes | None]) -> bytes | list[bytes]:
        if column.count(None) == len(column):
            return b"null"
        if self.style != "pretty":
            return [polygon or b"null" for polygon in column]
        indent = b"\n" + b" " * (self._annotation_indent + 2)
        parsed = [parse(polygon.decode())[0] if polygon else None for polygon in column]
        return [orjson.dumps(value, option=orjson.OPT_INDENT_2).replace(b"\n", indent) for value in parsed]

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
        yield b'{\n  "export_info": ' + self._inline(info, 2) + b',\n  "projects": '
        if tree.parts is None:
            yield from _list(([*self._projects([project])] for project in tree.projects), 2)
        else:
            yield from _list(map(self._part, tree.parts), 2)
        yield b"\n}\n"

    def _part(self, part: Part) -> Iterator[bytes | SectionRef]:
        if isinstance(part, int):
            yield SectionRef(part)
            return
        head, below = part
        yield SectionRef(head)
        yield from _list(([SectionRef(section)] for section in below), 6)
        yield b"\n    }"

    def section(self, section: Section) -> Iterator[bytes | BlockRef | Guarded]:
        """Projects or datasets, separated as they are in the file; or a project up to its datasets."""
        if section.kind == "projects":
            yield from self._projects(section.projects)
        elif section.kind == "head":
            (opening,) = self._project_openings(section.projects)
            yield from opening
        else:
            yield from self._datasets([dataset for project in section.projects for dataset in project.datasets])

    def _projects(self, projects: Sequence[ProjectNode]) -> Iterator[bytes | BlockRef]:
        between = b""
        for project, opening in zip(projects, self._project_openings(projects), strict=True):
            yield between
            yield from opening
            if project.datasets:
                yield b"[\n"
                yield from self._datasets(list(project.datasets))
                yield b"\n      ]\n    }"
            else:
                yield b"[]\n    }"
            between = b",\n"

    def _project_openings(self, projects: Sequence[ProjectNode]) -> Iterator[Iterator[bytes]]:
        """The text of each project up to the list of its datasets."""
        counts = [_count_fields(project.counts) for project in projects]
        values = [
            {**project.values, "dataset_count": len(project.datasets), **own}
            for project, own in zip(projects, counts, strict=True)
        ]
        for project, members in zip(projects, self._members(values, _PROJECT_LINES, 6), strict=True):
            yield chain(
                [b"    {\n" + members + b',\n      "labels": '], self._labels(project.labels), [_DATASETS_FOLLOW]
            )

    def _labels(self, labels: Collection[LabelNode]) -> Iterator[bytes]:
        remaining = iter(labels)
        some = list(islice(remaining, _LABELS_TOGETHER))
        if not some:
            yield b"[]"
        between = b"["
        while some:
            listed = [{**label.values, "annotation_count": label.annotation_count} for label in some]
            text = self._inline(listed, 6)
            some = list(islice(remaining, _LABELS_TOGETHER))
            # Without its own brackets: the list goes on.
            ends = self._list_ends if not some else b""
            yield between + text[1 : -len(self._list_ends)] + ends
            between = self._list_between

    def _datasets(self, datasets: Sequence[DatasetNode]) -> Iterator[bytes | BlockRef]:
        values = [dataset.values | _count_fields(dataset.counts) for dataset in datasets]
        between = b"        {\n"
        for dataset, members in zip(datasets, self._members(values, _DATASET_LINES, 10), strict=True):
            yield between + members + b',\n          "splits": ' + self._splits(dataset.counts.splits)
            yield b',\n          "label_counts": '
            yield from self._label_counts(dataset.counts.labels)
            yield b',\n          "images": '
            yield from _list(([BlockRef(block)] for block in dataset.blocks), 10)
            yield b"\n        }"
            between = b",\n        {\n"

    def _splits(self, counted: Mapping[str, int]) -> bytes:
        splits = {word: counted.get(word, 0) for word in _SPLITS}
        if len(counted) > sum(map(bool, splits.values())):
            splits |= {word: number for word, number in sorted(counted.items()) if word not in splits}
        return self._inline(splits, 10)

    def _label_counts(self, counted: Mapping[str, int]) -> Iterator[bytes]:
        remaining = iter(in_order(counted))
        some = dict(islice(remaining, _LABELS_TOGETHER))
        if not some:
            yield b"{}"
        between = b"{"
        while some:
            text = self._inline(some, 10)
            some = dict(islice(remaining, _LABELS_TOGETHER))
            ends = self._counts_end if not some else b""
            yield between + text[1 : -len(self._counts_end)] + ends
            between = self._list_between

    def _members(
        self, nodes: Sequence[Mapping[str, Any]], lines: Sequence[Sequence[str]], indent: int
    ) -> Iterator[bytes]:
        """What each node says of itself: several members a line, or one in the pretty style."""
        if not nodes:
            return iter(())
        if self.style == "pretty":
            lines = [(name,) for line in lines for name in line]
        margin = b" " * indent
        frame = b",\n".join(margin + b", ".join(encode(name) + b": %b" for name in line) for line in lines)
        columns = [encoded([values[name] for values in nodes]) for line in lines for name in line]
        return map(frame.__mod__, zip(*columns, strict=True))

    def _inline(self, value: Any, indent: int) -> bytes:
        """A small value: on one line, or indented in the pretty style."""
        if self.style == "pretty":
            return orjson.dumps(value, option=_STANDARD | orjson.OPT_INDENT_2).replace(
                b"\n", b"\n" + b" " * indent
            )
        return spaced(orjson.dumps(value, option=_STANDARD))

    def guarded(self, tree: Tree) -> int:
        """JSON always has the exact text."""
        return 0

    def rows(self, tree: Tree) -> int:
        """The images of the tree."""
        return tree.counts.images


def _count_fields(counts: Counts) -> dict[str, int]:
    return {
        "image_count": counts.images,
        "labeled_image_count": counts.labeled,
        "annotation_count": counts.annotations,
    }


def _list(items: Iterator[Any], indent: int) -> Iterator[Any]:
    """A list whose items bring their own indentation."""
    first = True
    for item in items:
        yield b"[\n" if first else b",\n"
        first = False
        yield from item
    yield b"[]" if first else b"\n" + b" " * indent + b"]"


def _frame(names: Sequence[str], indent: int, pretty: bool, *, opened: bool = False) -> bytes:
    """A bytes template of an object with these members, at this indentation; `opened`: more will follow."""
    margin = b" " * indent
    if not pretty:
        return margin + b"{" + b", ".join(encode(name) + b": %b" for name in names) + (b"" if opened else b"}")
    inner = b",\n".join(margin + b"  " + encode(name) + b": %b" for name in names)
    return margin + b"{\n" + inner + (b"" if opened else b"\n" + margin + b"}")


def _joined(parts: Sequence[bytes | list[bytes]]) -> list[bytes | list[bytes]]:
    """The same parts, with no text beside another text."""
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
