"""Encodes `database_export.json`: projects, datasets, images and annotations as one tree.

In the `records` style the tree is indented and each record is one line: the head of an image, an annotation, a
list of labels. The fields of a project or a dataset take a few lines. In the `pretty` style everything is indented
by two.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any, Literal

import orjson

from autoexport.config.options import Option
from autoexport.formats.contract import FormatOptions, Output, Owner
from autoexport.model.blocks import Block, BlockRef, Counts, Guarded, SectionRef
from autoexport.model.mapping import ANNOTATION_FIELDS, DATASET_FIELDS, IMAGE_FIELDS, LABEL_FIELDS, PROJECT_FIELDS
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
_NEXT_DATASET = b",\n        {\n"
_IMAGES_END = b"\n          ]\n        }" + _NEXT_DATASET
_NO_IMAGES_END = b"]\n        }" + _NEXT_DATASET
_SPLITS_FRAME = b"{" + b", ".join(encode(word) + b": %d" for word in _SPLITS) + b"}"
_LABEL_FRAME = b"{" + b", ".join(encode(name) + b": %b" for name in (*LABEL_FIELDS, "annotation_count")) + b"}"
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
        return [[box if has_box else b"null" for box, has_box in zip(boxes, boxed, strict=True)]]

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
            for opening in self._project_openings(section.projects):
                yield from opening
        else:
            datasets = [dataset for project in section.projects for dataset in project.datasets]
            yield from self._datasets(datasets, self._descriptions(datasets))

    def _projects(self, projects: Sequence[ProjectNode]) -> Iterator[bytes | BlockRef]:
        text = b""
        datasets = [list(project.datasets) for project in projects]
        descriptions = self._descriptions(list(chain.from_iterable(datasets)))
        for own, opening in zip(datasets, self._project_openings(projects), strict=True):
            for index, piece in enumerate(opening):
                if index:
                    yield text
                    text = b""
                text += piece
            if own:
                yield text + b"[\n"
                yield from self._datasets(own, descriptions)
                text = b"\n      ]\n    },\n"
            else:
                text += b"[]\n    },\n"
        yield text[: -len(self.separator)]

    def _project_openings(self, projects: Sequence[ProjectNode]) -> Iterator[Iterable[bytes]]:
        """The text of each project up to the list of its datasets."""
        columns: dict[str, list[Any]] = {
            name: [project.values[name] for project in projects] for name in PROJECT_FIELDS
        }
        columns["dataset_count"] = [len(project.datasets) for project in projects]
        columns |= _count_columns([project.counts for project in projects])
        members = self._members(columns, _PROJECT_LINES, 6)
        labels = self._few_labels([project.labels for project in projects])
        for project, own, few in zip(projects, members, labels, strict=True):
            text = b"    {\n" + own + b',\n      "labels": '
            if few is not None:
                yield (text + few + _DATASETS_FOLLOW,)
            else:
                yield chain((text,), self._many_labels(project.labels), (_DATASETS_FOLLOW,))

    def _few_labels(self, lists: Sequence[Collection[LabelNode]]) -> Iterable[bytes | None]:
        """The labels of each project; None if they are many, or in the pretty style."""
        if self.style == "pretty":
            return [None] * len(lists)
        short = [len(labels) if len(labels) <= _LABELS_TOGETHER else 0 for labels in lists]
        nodes = [label for labels, length in zip(lists, short, strict=True) if length for label in labels]
        columns = [encoded([label.values[name] for label in nodes]) for name in LABEL_FIELDS]
        counts = encoded([label.annotation_count for label in nodes])
        cells = map(_LABEL_FRAME.__mod__, zip(*columns, counts, strict=True))
        return [
            b"[" + b", ".join(islice(cells, length)) + b"]" if length or not labels else None
            for labels, length in zip(lists, short, strict=True)
        ]

    def _many_labels(self, labels: Collection[LabelNode]) -> Iterator[bytes]:
        remaining = iter(labels)
        some = list(islice(remaining, _LABELS_TOGETHER))
        if not some:
            yield b"[]"
        between = b"["
        while some:
            text = self._inline(
                [{**label.values, "annotation_count": label.annotation_count} for label in some], 6
            )
            some = list(islice(remaining, _LABELS_TOGETHER))
            # Without its own brackets: the list goes on.
            ends = self._list_ends if not some else b""
            yield between + text[1 : -len(self._list_ends)] + ends
            between = self._list_between

    def _descriptions(self, datasets: Sequence[DatasetNode]) -> Iterator[tuple[bytes, bytes | None]]:
        """For each dataset, the text before its counts by label, and these unless they are many."""
        columns: dict[str, list[Any]] = {
            name: [dataset.values[name] for dataset in datasets] for name in DATASET_FIELDS
        }
        columns |= _count_columns([dataset.counts for dataset in datasets])
        members = self._members(columns, _DATASET_LINES, 10)
        counted = self._few_counts([dataset.counts.labels for dataset in datasets])
        splits = (self._splits(dataset.counts.splits) for dataset in datasets)
        frame = b'%b,\n          "splits": %b,\n          "label_counts": '
        return zip(map(frame.__mod__, zip(members, splits, strict=True)), counted, strict=True)

    def _datasets(
        self, datasets: Sequence[DatasetNode], descriptions: Iterator[tuple[bytes, bytes | None]]
    ) -> Iterator[bytes | BlockRef]:
        text = b"        {\n"
        for dataset, (own, few) in zip(datasets, descriptions, strict=False):
            text += own
            if few is not None:
                text += few
            else:
                yield text
                yield from self._many_counts(dataset.counts.labels)
                text = b""
            text += b',\n          "images": [\n'
            for block in dataset.blocks:
                yield text
                yield BlockRef(block)
                text = b",\n"
            text = _IMAGES_END if dataset.blocks else text[:-1] + _NO_IMAGES_END
        yield text[: -len(_NEXT_DATASET)]

    def _splits(self, counted: Mapping[str, int]) -> bytes:
        counts = tuple(counted.get(word, 0) for word in _SPLITS)
        if self.style != "pretty" and len(counted) == sum(map(bool, counts)):
            return _SPLITS_FRAME % counts
        splits = dict(zip(_SPLITS, counts, strict=True))
        splits |= {word: number for word, number in sorted(counted.items()) if word not in splits}
        return self._inline(splits, 10)

    def _few_counts(self, counted: Sequence[Mapping[str, int]]) -> Iterable[bytes | None]:
        """The counts by label of each dataset; None if they are many, or in the pretty style."""
        if self.style == "pretty":
            return [None] * len(counted)
        short = [len(own) if len(own) <= _LABELS_TOGETHER else 0 for own in counted]
        items = [item for own, length in zip(counted, short, strict=True) if length for item in in_order(own)]
        names = encoded([name for name, _ in items])
        cells = map(b"%b: %d".__mod__, zip(names, [count for _, count in items], strict=True))
        return [
            b"{" + b", ".join(islice(cells, length)) + b"}" if length or not own else None
            for own, length in zip(counted, short, strict=True)
        ]

    def _many_counts(self, counted: Mapping[str, int]) -> Iterator[bytes]:
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
        self, columns: Mapping[str, Sequence[Any]], lines: Sequence[Sequence[str]], indent: int
    ) -> Iterable[bytes]:
        """The fields of each node: several on a line, or one in the pretty style."""
        if self.style == "pretty":
            lines = [(name,) for line in lines for name in line]
        margin = b" " * indent
        frame = b",\n".join(margin + b", ".join(encode(name) + b": %b" for name in line) for line in lines)
        cells = [encoded(columns[name]) for line in lines for name in line]
        return map(frame.__mod__, zip(*cells, strict=True))

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


def _count_columns(counts: Sequence[Counts]) -> dict[str, list[int]]:
    return {
        "image_count": [own.images for own in counts],
        "labeled_image_count": [own.labeled for own in counts],
        "annotation_count": [own.annotations for own in counts],
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
