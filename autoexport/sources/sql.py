"""The mapped tables as SQL expressions: columns, links, soft deletion and the chain of parents."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from sqlalchemy import (
    Boolean,
    ColumnElement,
    FromClause,
    and_,
    column,
    func,
    literal,
    literal_column,
    select,
    table,
    text,
    true,
)

from autoexport.mapping.keys import SOLE_KEY
from autoexport.mapping.synonyms import is_time_of_deletion
from autoexport.model.catalog import Column
from autoexport.model.mapping import Mapping, TableMapping
from autoexport.sources.contract import Snapshot

_FLAGS = ("boolean", "integer", "numeric", "real")
_KEPT = "kept"
"""The field that says whether an expanded row meets the condition of its table."""

ALIASES = {"projects": "p", "datasets": "d", "images": "i", "annotations": "a", "labels": "l"}


class SqlTables:
    """Logical tables and fields as SQL expressions, from which statements are made. Only mapped columns appear.

    `unfiltered` tables are the stored ones, with all rows and the names of their rowids.
    """

    def __init__(self, snapshot: Snapshot, mapping: Mapping, *, unfiltered: bool = False) -> None:
        self.snapshot = snapshot
        self.mapping = mapping
        self.mapped = mapping.tables()
        stored: dict[str, Any] = {name: _sql_table(mapped) for name, mapped in self.mapped.items()}
        if not unfiltered:
            stored = {name: _filtered(self.mapped[name], each, mapping) for name, each in stored.items()}
        self.sql: dict[str, FromClause] = {name: each.alias(ALIASES[name]) for name, each in stored.items()}
        self.chain = self._chain()
        self.keyless: set[str] = set()
        """Logical tables with rows whose primary key is null. `SnapshotReader.totals` adds them."""

    def _chain(self) -> list[str]:
        """The logical tables from annotations upwards, as far as the database links them."""
        chain = ["annotations"] if "annotations" in self.mapped else []
        chain.append("images")
        if "datasets" in self.mapped and self.mapping.images.parent_link is not None:
            chain.append("datasets")
        if "projects" in self.mapped and self.mapped[chain[-1]].parent_link is not None:
            chain.append("projects")
        return chain

    def at(self, logical: str, mapped_column: Column) -> ColumnElement[Any]:
        """A column of a logical table, as stored."""
        return self.sql[logical].c[mapped_column.name]

    def key_column(self, logical: str) -> Column:
        """The key column of a logical table."""
        return self.mapped[logical].fields["id"]

    def key(self, logical: str) -> ColumnElement[Any]:
        """The key of a logical table, as stored."""
        return self.at(logical, self.key_column(logical))

    def read(self, logical: str, mapped_column: Column) -> ColumnElement[Any]:
        """A column of a logical table, as selected."""
        return self.snapshot.readable(mapped_column, self.at(logical, mapped_column))

    def read_key(self, logical: str) -> ColumnElement[Any]:
        """The key of a logical table, as selected."""
        return self.read(logical, self.key_column(logical))

    def is_primary_key(self, logical: str) -> bool:
        """Whether the primary key keeps any two rows of a logical table from having the same key."""
        return self.mapped[logical].table.primary_key == (self.key_column(logical).name,)

    def links_by_primary_key(self) -> bool:
        """Whether every link from annotations upwards names its parent by key, and that key is the primary one."""
        return all(
            self.is_primary_key(parent) and self.mapped[child].parent_column == self.key_column(parent)
            for child, parent in pairwise(self.chain)
        )

    def order(self, logical: str) -> ColumnElement[Any]:
        """The key of a logical table as an expression to sort by."""
        return self.snapshot.ordered(self.key_column(logical), self.key(logical))

    def total_order(self, logical: str) -> list[ColumnElement[Any]]:
        """Expressions that sort the rows of one parent in a definite order.

        The key is enough if the primary key makes it unique within a parent. Else all other fields follow.
        """
        mapped, key = self.mapped[logical], self.key_column(logical)
        distinct = set(mapped.table.primary_key) - {mapped.parent_link.name if mapped.parent_link else None}
        if distinct == {key.name} and logical not in self.keyless:
            return [self.order(logical)]
        others = {item.name: item for item in mapped.fields.values() if item.name != key.name}
        ordered = [self.snapshot.ordered(item, self.at(logical, item)) for _, item in sorted(others.items())]
        return [self.order(logical), *ordered]

    def dataset_key(self) -> ColumnElement[Any]:
        """The key of an image's dataset, as selected; its project's key if there are no datasets."""
        level = self.dataset_level()
        return self.read_key(level) if level else literal(SOLE_KEY)

    def dataset_level(self) -> str | None:
        """The logical table whose rows are published as datasets; None if one dataset holds all images."""
        above = self.chain[self.chain.index("images") + 1 :]
        return above[0] if above else None

    def named_otherwise(self) -> bool:
        """Whether images name their dataset by a column other than its key."""
        level, named = self.dataset_level(), self.mapping.images.parent_column
        return level is not None and named is not None and named.name != self.key_column(level).name

    def sample(self, logical: str, rows: int) -> ColumnElement[bool] | None:
        """A condition that about so many rows of a logical table meet; None if the database has none."""
        mapped = self.mapped[logical]
        return None if mapped.filtered else self.snapshot.sample(mapped.table, ALIASES[logical], rows)

    def live(self, logical: str) -> ColumnElement[bool]:
        """The condition that a row is not soft-deleted."""
        conditions: list[ColumnElement[bool]] = []
        for mark in self.mapped[logical].deleted:
            stored = self.at(logical, mark)
            if mark.kind in _FLAGS or (mark.kind != "time" and not is_time_of_deletion(mark.name)):
                conditions.append(~self.snapshot.flagged(mark, stored))
            else:
                conditions.append(stored.is_(None))
        return and_(true(), *conditions)

    def link(self, child: str, parent: str) -> ColumnElement[bool]:
        """The condition that a row of `child` names a row of `parent`. Raises `LookupError` as `link_columns`."""
        link, linked = self.link_columns(child, parent)
        return self.snapshot.same((link, self.at(child, link)), (linked, self.at(parent, linked)))

    def link_columns(self, child: str, parent: str) -> tuple[Column, Column]:
        """The column by which `child` names `parent`, and the named column. Raises `LookupError` if not linked."""
        mapped = self.mapped[child]
        if mapped.parent_link is None or mapped.parent_column is None:
            raise LookupError(f"{child} has no link to {parent}")
        return mapped.parent_link, mapped.parent_column

    def reachable(self, lowest: str) -> tuple[FromClause, ColumnElement[bool]]:
        """FROM and WHERE of the live rows of `lowest` whose parents all exist and are live."""
        above = self.chain[self.chain.index(lowest) :]
        joined: FromClause = self.sql[lowest]
        condition = self.live(lowest)
        for child, parent in pairwise(above):
            joined = joined.join(self.sql[parent], self.link(child, parent))
            condition = and_(condition, self.live(parent))
        return joined, condition

    def label(self) -> ColumnElement[Any] | None:
        """The label of an annotation, by its own column or by its `label_id`; None if it has neither."""
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
        """The logical fields that this database has, as selected."""
        fields = {name: self.read(logical, mapped) for name, mapped in self.mapped[logical].fields.items()}
        if logical == "annotations":
            label = self.label()
            if label is not None:
                fields["label"] = label
        if logical == "annotations" and self.mapped[logical].where and self.mapped[logical].expand:
            fields[_KEPT] = self.sql[logical].c[_KEPT]
        return fields


def _filtered(mapped: TableMapping, stored: Any, mapping: Mapping) -> Any:
    """The rows that meet the condition; of rows that are expanded all, with the condition as a column."""
    if not mapped.where:
        return stored
    # Only columns that are used: no others may be read.
    links = (mapped.parent_link, *(child.parent_column for child in mapping.tables().values()))
    used = {item.name for item in (*mapped.fields.values(), *mapped.deleted, *links) if item is not None}
    rows = stored.subquery() if mapped.table.query is not None else stored
    columns = [item for item in rows.c if item.name in used]
    condition: ColumnElement[bool] = literal_column(f"({mapped.where}\n)", Boolean())
    if mapped.filtered:
        return select(*columns).select_from(rows).where(condition)
    return select(*columns, condition.label(_KEPT)).select_from(rows)


def _sql_table(mapped: TableMapping) -> Any:
    named = {item.name for item in mapped.fields.values()} | {item.name for item in mapped.deleted}
    if mapped.parent_link is not None:
        named.add(mapped.parent_link.name)
    # A foreign key may refer to a column other than the published key. The child decides which, so the
    # expression offers every column that could be referred to.
    named |= {item.name for item in mapped.table.columns if item.name in _referable(mapped)}
    if mapped.table.query is not None:
        return subquery(mapped.table.query.sql, sorted(named))
    return table(mapped.table.name, *(column(name) for name in sorted(named)), schema=mapped.table.schema)


def subquery(sql: str, columns: Sequence[str]) -> Any:
    """A query in place of a table, with some of its columns. It has no parameters: its colons are meant as
    such.
    """
    return text(sql.replace(":", r"\:")).columns(*(column(name) for name in columns))


def _referable(mapped: TableMapping) -> set[str]:
    return {index[0] for index in mapped.table.indexes if len(index) == 1} | set(mapped.table.primary_key)
