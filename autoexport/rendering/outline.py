"""Puts the rows of projects and datasets in publication order, packed, and cuts them into sections.

A section has a digest of its rows. A later export keeps the text and the blocks of a section whose digest it
knows, so that only a change costs time and memory: a database may have as many datasets as images.
"""

from __future__ import annotations

import zlib
from array import array
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any

import xxhash

from autoexport.mapping.keys import SOLE_KEY, not_unique
from autoexport.model import packing
from autoexport.model.catalog import Key
from autoexport.model.mapping import Mapping
from autoexport.model.tree import ParentRows, Parents, Part, SectionKind

LARGE_DATASETS = 64
"""A project with more datasets is cut into sections of its own."""

SECTION_NODES = 64
"""About how many projects and datasets a section has. Each section costs a kept export about 20 microseconds, and
each node of a section that changed about 50."""

ALL = -1
"""Stands for the index of a project where every project lists all labels."""

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class SectionRows:
    """The rows of a section, packed.

    The datasets are those from `begin` to before `end` in publication order. The digest covers everything that the
    text depends on, except for the blocks.
    """

    kind: SectionKind
    begin: int
    end: int
    digest: str
    packed: bytes

    def rows(self) -> list[tuple[Row, list[Row]]]:
        """Each project with its datasets."""
        rows: list[tuple[Row, list[Row]]] = packing.unpack(self.packed)
        return rows


class Outline:
    """The rows above the images. Raises `SourceError` if two rows of a table have the same key.

    `index_of` is the place of each published dataset in publication order. `label_rows` is the number of the
    published labels of a table of labels. `labels_from_names`: the labels of a project are the names that its
    annotations carry.
    """

    def __init__(self, parents: Parents, mapping: Mapping, database: str) -> None:
        self.mapping = mapping
        self.project_fields, self.dataset_fields = parents.projects.fields, parents.datasets.fields
        self.label_fields = parents.labels.fields
        projects = parents.projects.rows
        if mapping.projects is None:
            self.project_fields, projects = ("id", "name"), [(SOLE_KEY, database)]
        self._project_key = self.project_fields.index("id") if self.project_fields else 0
        self._dataset_key = self.dataset_fields.index("id") if self.dataset_fields else 0
        self.sections: list[SectionRows] = []
        self.parts: list[Part] = []
        self.index_of: dict[Key, int] = {}
        by_key = {row[self._project_key]: index for index, row in enumerate(projects)}
        self._refuse_duplicates("projects", by_key, (row[self._project_key] for row in projects), len(projects))
        self.project_count = len(projects)
        below = self._below(parents.datasets, len(projects), by_key)
        self._published(projects, below)
        self._ends = array("L", accumulate(len(datasets) for datasets in below) if below else ())
        self.label_rows, self._labels = self._labels_below(parents.labels, by_key)
        # An empty labels table says no more than none.
        self.labels_from_names = mapping.labels is None or not (parents.labels.rows or parents.deleted_labels.rows)
        self.label_digest = ""
        if mapping.label_joined:
            self.label_digest = hashed((parents.labels.rows, parents.deleted_labels.rows))
        fields = (self.label_fields, self.project_fields, self.dataset_fields)
        common = (fields, self.label_digest, self.labels_from_names)
        self._common = hashed((common, self._labels.get(ALL, b""))).encode()
        self._cut(projects, below)
        self._begins = array("L", [section.begin for section in self.sections])
        self.raw = lru_cache(64)(self._raw)

    def section_of(self, dataset: Key) -> int:
        """The index of the section of a published dataset."""
        return bisect_right(self._begins, self.index_of[dataset]) - 1

    @property
    def all_labels(self) -> bool:
        """Whether every project lists all labels of the table of labels."""
        return ALL in self._labels

    def labels_of(self, project: Key) -> list[Row]:
        """The rows of the labels that a project lists."""
        packed = self._labels.get(ALL) or self._labels.get(project)
        rows: list[Row] = packing.unpack(packed) if packed else []
        return rows

    def _raw(self, section: int) -> list[tuple[Row, Row]]:
        """The rows of each dataset of a section: that of its project, its own."""
        return [(project, row) for project, datasets in self.sections[section].rows() for row in datasets]

    def rows_of(self, dataset: Key) -> tuple[Row, Row]:
        """The rows of a published dataset: that of its project, its own."""
        index = self.index_of[dataset]
        section = bisect_right(self._begins, index) - 1
        return self.raw(section)[index - self.sections[section].begin]

    def keys_of(self, section: int) -> list[Key]:
        """The keys of the datasets of a section."""
        rows = self.raw(section)
        if self.mapping.datasets is None:
            return [self.project_key(project) for project, _ in rows]
        return [self.dataset_key(row) for _, row in rows]

    def project_key(self, row: Row) -> Key:
        """The key of a project."""
        key: Key = row[self._project_key]
        return key

    def dataset_key(self, row: Row) -> Key:
        """The key of a dataset."""
        key: Key = row[self._dataset_key]
        return key

    # --- order ---------------------------------------------------------------------------------------

    def _refuse_duplicates(self, logical: str, known: dict[Key, int], keys: Iterable[Key], count: int) -> None:
        """Raise `SourceError` for a key that two rows have: the rows below them could not be distinguished."""
        mapped = self.mapping.tables().get(logical)
        if len(known) == count or mapped is None:
            return
        seen: set[Key] = set()
        for key in keys:
            if key in seen:
                raise not_unique(logical, mapped, key)
            seen.add(key)

    def _below(self, datasets: ParentRows, projects: int, by_key: dict[Key, int]) -> list[list[Row]] | None:
        """The datasets of each project in order; None if every project is one dataset itself."""
        mapped = self.mapping.datasets
        if mapped is None:
            return None
        below: list[list[Row]] = [[] for _ in range(projects)]
        if mapped.parent_link is None or self.mapping.projects is None:
            below[0] += datasets.rows
            return below
        parent = datasets.fields.index("parent")
        for row in datasets.rows:
            owner = by_key.get(row[parent])
            if owner is not None:
                below[owner].append(row)
        return below

    def _published(self, projects: Sequence[Row], below: list[list[Row]] | None) -> None:
        if below is None:
            keys = [row[self._project_key] for row in projects]
        else:
            keys = [row[self._dataset_key] for datasets in below for row in datasets]
        self.index_of = dict(zip(keys, range(len(keys)), strict=True))
        self._refuse_duplicates("datasets", self.index_of, keys, len(keys))
        self.dataset_count = len(keys)

    def _labels_below(self, labels: ParentRows, by_key: dict[Key, int]) -> tuple[int, dict[Key, bytes]]:
        """The number of published labels, and the rows by the key of their project, packed."""
        mapped = self.mapping.labels
        if mapped is None or not by_key:
            return 0, {}
        by_dataset = self.mapping.labels_by_dataset
        if mapped.parent_link is None or (not by_dataset and self.mapping.projects is None):
            return len(labels.rows), {ALL: packing.pack(list(labels.rows))}
        keys, parent = list(by_key), labels.fields.index("parent")
        below: dict[Key, list[Row]] = defaultdict(list)
        published = 0
        for row in labels.rows:
            owner = row[parent]
            if by_dataset:
                index = self.index_of.get(owner)
                owner = None if index is None else keys[bisect_right(self._ends, index) if self._ends else index]
            if owner in by_key:
                published += 1
                below[keys[by_key[owner]]].append(row)
        return published, {owner: packing.pack(rows) for owner, rows in below.items()}

    # --- sections ------------------------------------------------------------------------------------

    def _cut(self, projects: Sequence[Row], below: list[list[Row]] | None) -> None:
        """Cut where the digest of a key says so: rows that come or go move no cut elsewhere."""
        group: list[tuple[Row, list[Row]]] = []
        begun = place = 0
        for index, project in enumerate(projects):
            datasets = below[index] if below is not None else [()]
            if len(datasets) > LARGE_DATASETS:
                self._small(group, begun, place)
                self._large(project, datasets, place)
            else:
                group.append((project, datasets))
            place += len(datasets)
            if len(datasets) > LARGE_DATASETS or _cut_after(self.project_key(project), 1 + len(datasets)):
                if len(datasets) <= LARGE_DATASETS:
                    self._small(group, begun, place)
                group, begun = [], place
        self._small(group, begun, place)

    def _small(self, group: list[tuple[Row, list[Row]]], begin: int, end: int) -> None:
        """Add the section of small projects, if there are any."""
        if group:
            labels = (
                [self._labels.get(self.project_key(project), b"") for project, _ in group] if self._labels else []
            )
            self.parts.append(self._add("projects", group, begin, end, labels))

    def _large(self, project: Row, datasets: list[Row], place: int) -> None:
        """Add the sections of a large project."""
        labels = [self._labels.get(self.project_key(project), b"")]
        head = self._add("head", [(project, [])], place, place, labels)
        below, begun = [], 0
        for index, row in enumerate(datasets, 1):
            if index == len(datasets) or _cut_after(self.dataset_key(row), 1):
                own = datasets[begun:index]
                below.append(self._add("datasets", [(project, own)], place + begun, place + index, []))
                begun = index
        self.parts.append((head, below))

    def _add(
        self, kind: SectionKind, rows: list[tuple[Row, list[Row]]], begin: int, end: int, labels: Sequence[bytes]
    ) -> int:
        packed = packing.pack(rows)
        digest = xxhash.xxh3_64(self._common + kind.encode() + packed)
        for own in labels:
            digest.update(own)
        self.sections.append(SectionRows(kind, begin, end, digest.hexdigest(), packed))
        return len(self.sections) - 1


def _cut_after(key: Key, nodes: int) -> bool:
    return zlib.crc32(repr(key).encode()) % SECTION_NODES < nodes


def hashed(value: object) -> str:
    """A digest of any value, by its representation."""
    return xxhash.xxh3_64_hexdigest(repr(value).encode("utf-8", "surrogateescape"))
