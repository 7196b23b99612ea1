"""Encodes the nodes above the images for `database_export.json`: projects, datasets, labels and their counts."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any, Literal

import orjson

from autoexport.model.blocks import BlockRef, Counts
from autoexport.model.mapping import DATASET_FIELDS, LABEL_FIELDS, PROJECT_FIELDS
from autoexport.model.tree import SPLITS, DatasetNode, LabelNode, ProjectNode, in_order
from autoexport.values.json_columns import spaced
from autoexport.values.scalars import encode, encoded

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
_SPLITS_FRAME = b"{" + b", ".join(encode(word) + b": %d" for word in SPLITS) + b"}"
_LABEL_FRAME = b"{" + b", ".join(encode(name) + b": %b" for name in (*LABEL_FIELDS, "annotation_count")) + b"}"
_LABELS_TOGETHER = 500
"""Labels that are encoded at once: a project may have hundreds of thousands."""


JsonStyle = Literal["records", "pretty"]


class TreeText:
    """Encodes projects and datasets, many at once, and refers to their blocks."""

    separator = b",\n"

    def __init__(self, style: JsonStyle) -> None:
        self.style = style
        pretty = style == "pretty"
        # How a list of labels goes on, and how it and the counts by label end.
        self._list_between = b"," if pretty else b", "
        self._list_ends = b"\n      ]" if pretty else b"]"
        self._counts_end = b"\n          }" if pretty else b"}"

    def projects(self, projects: Sequence[ProjectNode]) -> Iterator[bytes | BlockRef]:
        """Whole projects, with separators between them."""
        text = b""
        datasets = [list(project.datasets) for project in projects]
        descriptions = self.descriptions(list(chain.from_iterable(datasets)))
        for own, opening in zip(datasets, self.heads(projects), strict=True):
            for index, piece in enumerate(opening):
                if index:
                    yield text
                    text = b""
                text += piece
            if own:
                yield text + b"[\n"
                yield from self.datasets(own, descriptions)
                text = b"\n      ]\n    },\n"
            else:
                text += b"[]\n    },\n"
        yield text[: -len(self.separator)]

    def heads(self, projects: Sequence[ProjectNode]) -> Iterator[Iterable[bytes]]:
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
            text = self.inline([{**label.values, "annotation_count": label.annotation_count} for label in some], 6)
            some = list(islice(remaining, _LABELS_TOGETHER))
            # Without its own brackets: the list goes on.
            ends = self._list_ends if not some else b""
            yield between + text[1 : -len(self._list_ends)] + ends
            between = self._list_between

    def descriptions(self, datasets: Sequence[DatasetNode]) -> Iterator[tuple[bytes, bytes | None]]:
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

    def datasets(
        self, datasets: Sequence[DatasetNode], descriptions: Iterator[tuple[bytes, bytes | None]]
    ) -> Iterator[bytes | BlockRef]:
        """Whole datasets, with separators between them, from their `descriptions`."""
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
        counts = tuple(counted.get(word, 0) for word in SPLITS)
        if self.style != "pretty" and len(counted) == sum(map(bool, counts)):
            return _SPLITS_FRAME % counts
        splits = dict(zip(SPLITS, counts, strict=True))
        splits |= {word: number for word, number in sorted(counted.items()) if word not in splits}
        return self.inline(splits, 10)

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
            text = self.inline(some, 10)
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

    def inline(self, value: Any, indent: int) -> bytes:
        """A small value, on one line, or indented in the pretty style."""
        if self.style == "pretty":
            return orjson.dumps(value, option=_STANDARD | orjson.OPT_INDENT_2).replace(
                b"\n", b"\n" + b" " * indent
            )
        return spaced(orjson.dumps(value, option=_STANDARD))


def _count_columns(counts: Sequence[Counts]) -> dict[str, list[int]]:
    return {
        "image_count": [own.images for own in counts],
        "labeled_image_count": [own.labeled for own in counts],
        "annotation_count": [own.annotations for own in counts],
    }


def listed(items: Iterator[Any], indent: int) -> Iterator[Any]:
    """The text of a list. Its items are already indented."""
    first = True
    for item in items:
        yield b"[\n" if first else b",\n"
        first = False
        yield from item
    yield b"[]" if first else b"\n" + b" " * indent + b"]"
