"""The mapped tables as SQL expressions: only mapped columns, links, soft deletion, the chain of parents."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Select, and_, column, func, literal, select, table, true

from autoexport.mapping.keys import SOLE_KEY
from autoexport.model.catalog import Column
from autoexport.model.mapping import Mapping, TableMapping
from autoexport.sources.contract import Snapshot

_ALIASES = {"projects": "p", "datasets": "d", "images": "i", "annotations": "a", "labels": "l"}


class SqlTables:
    """The statements' vocabulary: logical tables and fields as SQL expressions."""

    def __init__(self, snapshot: Snapshot, mapping: Mapping) -> None:
        self.snapshot = snapshot
        self.mapping = mapping
        self.mapped = mapping.tables()
        self.sql = {name: _sql_table(mapped).alias(_ALIASES[name]) for name, mapped in self.mapped.items()}
        self.chain = self._chain()
        self.keyless: set[str] = set()
        """Logical tables of which some rows have no key though it is the primary one; as far as somebody asked."""

    def _chain(self) -> list[str]:
        """Where an annotation belongs, from itself upwards, as far as the database has links."""
        chain = ["annotations"] if "annotations" in self.mapped else []
        chain.append("images")
        if "datasets" in self.mapped and self.mapping.images.parent_link is not None:
            chain.append("datasets")
        if "projects" in self.mapped and self.mapped[chain[-1]].parent_link is not None:
            chain.append("projects")
        return chain

    def at(self, logical: str, mapped_column: Column) -> ColumnElement[Any]:
        """A column of a logical table, as it is stored."""
        return self.sql[logical].c[mapped_column.name]

    def key_column(self, logical: str) -> Column:
        """The column that is the key of a logical table."""
        return self.mapped[logical].fields["id"]

    def key(self, logical: str) -> ColumnElement[Any]:
        """The key of a logical table, as it is stored."""
        return self.at(logical, self.key_column(logical))

    def read(self, logical: str, mapped_column: Column) -> ColumnElement[Any]:
        """A column of a logical table, as it is selected."""
        return self.snapshot.readable(mapped_column, self.at(logical, mapped_column))

    def read_key(self, logical: str) -> ColumnElement[Any]:
        """The key of a logical table, as it is selected."""
        return self.read(logical, self.key_column(logical))

    def is_primary_key(self, logical: str) -> bool:
        """Whether the database sees to it that no two rows of a logical table have the same key."""
        return self.mapped[logical].table.primary_key == (self.key_column(logical).name,)

    def links_by_primary_key(self) -> bool:
        """Whether every link from an annotation upwards names the primary key of its parent, which is its key."""
        return all(
            self.is_primary_key(parent) and self.mapped[child].parent_column == self.key_column(parent)
            for child, parent in pairwise(self.chain)
        )

    def order(self, logical: str) -> ColumnElement[Any]:
        """The order of a logical table's rows: by key."""
        return self.snapshot.ordered(self.key_column(logical), self.key(logical))

    def total_order(self, logical: str) -> list[ColumnElement[Any]]:
        """The order of a parent's rows: by key, and by all that is read where no primary key keeps them apart."""
        mapped, key = self.mapped[logical], self.key_column(logical)
        apart = set(mapped.table.primary_key) - {mapped.parent_link.name if mapped.parent_link else None}
        if apart == {key.name} and logical not in self.keyless:
            return [self.order(logical)]
        others = {item.name: item for item in mapped.fields.values() if item.name != key.name}
        ordered = [self.snapshot.ordered(item, self.at(logical, item)) for _, item in sorted(others.items())]
        return [self.order(logical), *ordered]

    def dataset_key(self) -> ColumnElement[Any]:
        """The key of an image's dataset, as it is selected: its project's where there are no datasets."""
        level = self.dataset_level()
        return self.read_key(level) if level else literal(SOLE_KEY)

    def dataset_level(self) -> str | None:
        """The logical table whose rows are the datasets; None where one dataset holds all images."""
        above = self.chain[self.chain.index("images") + 1 :]
        return above[0] if above else None

    def named_otherwise(self) -> bool:
        """Whether images name their dataset by another column than its key."""
        level, named = self.dataset_level(), self.mapping.images.parent_column
        return level is not None and named is not None and named.name != self.key_column(level).name

    def live(self, logical: str) -> ColumnElement[bool]:
        """That a row is not soft-deleted."""
        conditions: list[ColumnElement[bool]] = []
        for mark in self.mapped[logical].deleted:
            stored = self.at(logical, mark)
            if mark.kind in ("boolean", "integer", "numeric", "real"):
                conditions.append(~self.snapshot.flagged(mark, stored))
            else:
                conditions.append(stored.is_(None))
        return and_(true(), *conditions)

    def link(self, child: str, parent: str) -> ColumnElement[bool]:
        """That a row of `child` names a row of `parent`."""
        mapped = self.mapped[child]
        if mapped.parent_link is None or mapped.parent_column is None:
            raise LookupError(f"{child} has no link to {parent}")
        return self.snapshot.same(
            (mapped.parent_link, self.at(child, mapped.parent_link)),
            (mapped.parent_column, self.at(parent, mapped.parent_column)),
        )

    def reachable(self, lowest: str) -> tuple[FromClause, ColumnElement[bool]]:
        """The rows of `lowest` whose parents are all there and not soft-deleted, as FROM and WHERE."""
        above = self.chain[self.chain.index(lowest) :]
        joined: FromClause = self.sql[lowest]
        condition = self.live(lowest)
        for child, parent in pairwise(above):
            joined = joined.join(self.sql[parent], self.link(child, parent))
            condition = and_(condition, self.live(parent))
        return joined, condition

    def label(self) -> ColumnElement[Any] | None:
        """The label of an annotation: a column of its own, or the name that its `label_id` refers to."""
        annotations = self.mapped["annotations"].fields
        if not self.mapping.label_joined:
            return self.read("annotations", annotations["label"]) if "label" in annotations else None
        named = self.mapped["labels"].fields
        joined = (
            select(func.min(self.read("labels", named["name"])))
            .select_from(self.sql["labels"])
            .where(
                self.snapshot.same(
                    (named["id"], self.key("labels")),
                    (annotations["label_id"], self.at("annotations", annotations["label_id"])),
                )
            )
            .scalar_subquery()
        )
        if "label" in annotations:
            # A stored name stands in where the reference is null or dangling.
            return func.coalesce(joined, self.read("annotations", annotations["label"]))
        return joined

    def fields(self, logical: str) -> dict[str, ColumnElement[Any]]:
        """The logical fields that this database has, as they are selected."""
        found = {name: self.read(logical, mapped) for name, mapped in self.mapped[logical].fields.items()}
        if logical == "annotations":
            label = self.label()
            if label is not None:
                found["label"] = label
        return found

    def count(self, logical: str, *, soft_deleted: bool = False) -> Select[Any]:
        """How many rows a logical table has: those that are live, or those that are soft-deleted."""
        live = self.live(logical)
        return select(func.count()).select_from(self.sql[logical]).where(~live if soft_deleted else live)


def _sql_table(mapped: TableMapping) -> FromClause:
    named = {item.name for item in mapped.fields.values()} | {item.name for item in mapped.deleted}
    if mapped.parent_link is not None:
        named.add(mapped.parent_link.name)
    # A foreign key may refer to another column than the one that is published as the key.
    # What is referred to is decided by the child, so every key-like column is at hand.
    named |= {item.name for item in mapped.table.columns if item.name in _referable(mapped)}
    return table(mapped.table.name, *(column(name) for name in sorted(named)), schema=mapped.table.schema)


def _referable(mapped: TableMapping) -> set[str]:
    return {index[0] for index in mapped.table.indexes if len(index) == 1} | set(mapped.table.primary_key)
