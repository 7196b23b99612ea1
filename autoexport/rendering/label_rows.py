"""Keeps the rows of the labels table by the project that lists them, outside memory if they are many."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from autoexport.model import packing
from autoexport.model.catalog import Key
from autoexport.model.scratch import Scratch, Stored
from autoexport.model.tree import ParentRows, Row

LABELS_TOGETHER = 500
"""Labels that are held in memory at once: a project may have hundreds of thousands."""


class LabelRows:
    """The labels of each project, in the order of the table.

    `owner_of` gives the project for the value of `parent` of a label, None if there is none. Without `owner_of`,
    every project lists all labels. `published` is the number of labels that some project lists.
    """

    def __init__(self, labels: ParentRows, scratch: Scratch, owner_of: Callable[[Any], Key | None] | None) -> None:
        self.published = len(labels.rows)
        self.fields = labels.fields
        self._scratch = scratch
        self._of_all: list[Stored] | None = None
        self._by_project: dict[Key, list[Stored]] = defaultdict(list)
        if owner_of is None:
            self._of_all = list(map(self._append, labels.rows.packed))
        else:
            self.published = self._sort_out(labels, owner_of)

    def _sort_out(self, labels: ParentRows, owner_of: Callable[[Any], Key | None]) -> int:
        held: dict[Key, list[Row]] = defaultdict(list)
        published, parent = 0, labels.fields.index("parent") if labels.rows else 0
        for row in labels.rows:
            owner = owner_of(row[parent])
            if owner is not None:
                published += 1
                own = held[owner]
                own.append(row)
                if len(own) >= LABELS_TOGETHER:
                    self._by_project[owner].append(self._append(packing.pack(own)))
                    own.clear()
        for owner, rows in held.items():
            if rows:
                self._by_project[owner].append(self._append(packing.pack(rows)))
        return published

    def _append(self, data: bytes) -> Stored:
        return Stored(self._scratch, self._scratch.append(data), len(data))

    @property
    def common(self) -> bool:
        """Whether every project lists all labels."""
        return self._of_all is not None

    def of(self, project: Key | None) -> Iterator[list[Row]]:
        """The rows of the labels that a project lists, some at a time; None asks for those that all list."""
        for data in self.packed(project) if self._of_all is None else self.packed(None):
            yield packing.unpack(data)

    def count(self, project: Key) -> int:
        """The number of labels that a project lists."""
        return self.published if self.common else sum(map(len, self.of(project)))

    def packed(self, project: Key | None) -> Iterator[bytes]:
        """The packed rows of a project's own labels; those that all projects list for None."""
        stored: Sequence[Stored] = (
            self._of_all or () if project is None or self.common else self._by_project.get(project, ())
        )
        return (some.read() for some in stored)
