"""Puts the rows of projects and datasets in publication order, packed, and cuts them into sections.

A section has a digest of its rows. A later export keeps the text and the blocks of a section whose digest it
knows, so that only a change costs time and memory: a database may have as many datasets as images.
"""

from __future__ import annotations

import zlib
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import accumulate, chain
from typing import Any

import xxhash

from autoexport.mapping.keys import SOLE_KEY, not_unique
from autoexport.model import packing
from autoexport.model.catalog import Key
from autoexport.model.mapping import Mapping
from autoexport.model.scratch import Scratch, Stored
from autoexport.model.tree import PackedRows, ParentRows, Parents, Part, Row, SectionKind
from autoexport.rendering.label_rows import LabelRows

LARGE_DATASETS = 64
"""A project with more datasets is cut into sections of its own."""

SECTION_NODES = 64
"""About how many projects and datasets a section has. Each section costs a kept export about 20 microseconds, and
each node of a section that changed about 50."""


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
    packed: Stored

    def rows(self) -> list[tuple[Row, list[Row]]]:
        """Each project with its datasets."""
        return [
            (packing.unpack(project), list(map(packing.unpack, datasets)))
            for project, datasets in packing.unpack(self.packed.read())
        ]


class Outline:
    """The rows above the images. Raises `SourceError` if two rows of a table have the same key.

    `index_of` is the place of each published dataset in publication order. `labels` are the rows of
    the labels table. `labels_from_names`: the labels of a project are the names that its annotations carry.
    """

    def __init__(self, parents: Parents, mapping: Mapping, database: str, scratch: Scratch) -> None:
        self.mapping = mapping
        self._scratch = scratch
        self.project_fields, self.dataset_fields = parents.projects.fields, parents.datasets.fields
        self.label_fields = parents.labels.fields
        projects = parents.projects.rows
        if mapping.projects is None:
            self.project_fields, projects = ("id", "name"), PackedRows([(SOLE_KEY, database)])
        self._project_key = self.project_fields.index("id") if self.project_fields else 0
        self._dataset_key = self.dataset_fields.index("id") if self.dataset_fields else 0
        self.sections: list[SectionRows] = []
        self.parts: list[Part] = []
        self.index_of: dict[Key, int] = {}
        keys = [self.project_key(row) for row in projects]
        by_key = dict(zip(keys, range(len(keys)), strict=True))
        self._refuse_duplicates("projects", by_key, keys, len(keys))
        self.project_count = len(projects)
        below = self._below(parents.datasets, len(projects), by_key)
        self._published(keys, below)
        self._ends = array("L", accumulate(len(datasets) for datasets in below) if below else ())
        self.labels = self._labels_below(parents.labels, keys)
        # An empty labels table says no more than none.
        self.labels_from_names = mapping.labels is None or not (parents.labels.rows or parents.deleted_labels.rows)
        self.label_digest = ""
        if mapping.label_joined:
            labels, deleted = parents.labels.rows.packed, parents.deleted_labels.rows.packed
            self.label_digest = _digest(chain(labels, [b""], deleted))
        fields = (self.label_fields, self.project_fields, self.dataset_fields)
        common = _digest(self.labels.packed(None))
        self._common = hashed((fields, self.label_digest, self.labels_from_names, common)).encode()
        self._cut(projects, below)
        self._begins = array("L", [section.begin for section in self.sections])
        self.raw = lru_cache(64)(self._raw)

    def section_of(self, dataset: Key) -> int:
        """The index of the section of a published dataset."""
        return bisect_right(self._begins, self.index_of[dataset]) - 1

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

    def _below(self, datasets: ParentRows, projects: int, by_key: dict[Key, int]) -> list[list[bytes]] | None:
        """The packed datasets of each project in order; None if every project is one dataset itself."""
        mapped = self.mapping.datasets
        if mapped is None:
            return None
        below: list[list[bytes]] = [[] for _ in range(projects)]
        if mapped.parent_link is None or self.mapping.projects is None:
            below[0] += map(packing.pack, datasets.rows)
            return below
        parent = datasets.fields.index("parent")
        for row in datasets.rows:
            owner = by_key.get(row[parent])
            if owner is not None:
                below[owner].append(packing.pack(row))
        return below

    def _published(self, projects: Sequence[Key], below: list[list[bytes]] | None) -> None:
        keys = projects
        if below is not None:
            keys = [self.dataset_key(packing.unpack(packed)) for datasets in below for packed in datasets]
        self.index_of = dict(zip(keys, range(len(keys)), strict=True))
        self._refuse_duplicates("datasets", self.index_of, keys, len(keys))
        self.dataset_count = len(keys)

    def _labels_below(self, labels: ParentRows, keys: list[Key]) -> LabelRows:
        mapped = self.mapping.labels
        if mapped is None or not keys:
            return LabelRows(ParentRows(), self._scratch, lambda _: None)
        if self.mapping.labels_by_dataset:
            return LabelRows(labels, self._scratch, partial(self._project_of, keys))
        if mapped.parent_link is None or self.mapping.projects is None:
            return LabelRows(labels, self._scratch, None)
        # The key as the table of projects has it: a link may have another type.
        return LabelRows(labels, self._scratch, dict(zip(keys, keys, strict=True)).get)

    def _project_of(self, keys: Sequence[Key], dataset: Any) -> Key | None:
        index = self.index_of.get(dataset)
        if index is None:
            return None
        return keys[bisect_right(self._ends, index) if self._ends else index]

    # --- sections ------------------------------------------------------------------------------------

    def _cut(self, projects: PackedRows, below: list[list[bytes]] | None) -> None:
        """Cut where the digest of a key says so: rows that come or go move no cut elsewhere."""
        group: list[tuple[bytes, list[bytes]]] = []
        begun = place = 0
        for index, project in enumerate(map(packing.pack, projects)):
            datasets = below[index] if below is not None else [packing.pack(())]
            if len(datasets) > LARGE_DATASETS:
                self._small(group, begun, place)
                self._large(project, datasets, place)
            else:
                group.append((project, datasets))
            place += len(datasets)
            if len(datasets) > LARGE_DATASETS or _cut_after(
                self.project_key(packing.unpack(project)), 1 + len(datasets)
            ):
                if len(datasets) <= LARGE_DATASETS:
                    self._small(group, begun, place)
                group, begun = [], place
        self._small(group, begun, place)

    def _small(self, group: list[tuple[bytes, list[bytes]]], begin: int, end: int) -> None:
        """Add the section of small projects, if there are any."""
        if group:
            keys = (self.project_key(packing.unpack(project)) for project, _ in group)
            labels = chain.from_iterable(map(self._own_labels, keys))
            self.parts.append(self._add("projects", group, begin, end, labels))

    def _own_labels(self, project: Key) -> Iterator[bytes]:
        return iter(()) if self.labels.common else self.labels.packed(project)

    def _large(self, project: bytes, datasets: list[bytes], place: int) -> None:
        """Add the sections of a large project."""
        labels = self._own_labels(self.project_key(packing.unpack(project)))
        head = self._add("head", [(project, [])], place, place, labels)
        below, begun = [], 0
        for index, row in enumerate(datasets, 1):
            if index == len(datasets) or _cut_after(self.dataset_key(packing.unpack(row)), 1):
                own = datasets[begun:index]
                below.append(self._add("datasets", [(project, own)], place + begun, place + index, []))
                begun = index
        self.parts.append((head, below))

    def _add(
        self,
        kind: SectionKind,
        rows: list[tuple[bytes, list[bytes]]],
        begin: int,
        end: int,
        labels: Iterable[bytes],
    ) -> int:
        packed = packing.pack(rows)
        digest = xxhash.xxh3_64(self._common + kind.encode() + packed)
        for own in labels:
            digest.update(own)
        stored = Stored(self._scratch, self._scratch.append(packed), len(packed))
        self.sections.append(SectionRows(kind, begin, end, digest.hexdigest(), stored))
        return len(self.sections) - 1


def _cut_after(key: Key, nodes: int) -> bool:
    return zlib.crc32(repr(key).encode()) % SECTION_NODES < nodes


def _digest(pieces: Iterable[bytes]) -> str:
    digest = xxhash.xxh3_64()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def hashed(value: object) -> str:
    """A digest of any value, by its representation."""
    return xxhash.xxh3_64_hexdigest(repr(value).encode("utf-8", "surrogateescape"))
