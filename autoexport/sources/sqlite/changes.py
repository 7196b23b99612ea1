"""Finds the images whose rows changed, from two fingerprints of a SQLite database."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Select, and_, literal_column, or_, select

from autoexport.model.blocks import Changes, Everything
from autoexport.model.catalog import Table
from autoexport.model.mapping import Mapping
from autoexport.runtime.threads import in_thread
from autoexport.sources.contract import Snapshot
from autoexport.sources.partitions import ChangedImages
from autoexport.sources.query_changes import (
    QueryChanges,
    changing,
    queries_of,
    split_position,
    stored_tables,
)
from autoexport.sources.sql import ALIASES, SqlTables
from autoexport.sources.sqlite.fingerprint import (
    Difference,
    Fingerprint,
    TableRoot,
    changed_ranges,
    compare,
    fingerprint,
)
from autoexport.sources.sqlite.page_scan import PageNotes

MOST_TABLES = 253
"""The most tables of which a fingerprint tells the pages apart."""

_RANGES_AT_ONCE = 200
_MOST_RANGES = 20_000
"""The most places of a table that are followed through queries."""

_MOST_CHANGED = 0.4
"""If more than this share of the rows' pages changed, a full export is cheaper than finding their images."""

RowidRange = tuple[int, int]


class PageChanges:
    """Fingerprints a private copy once and compares it with earlier fingerprints.

    `descriptor` and `connection` are of the copy. `schema` has, by table, the root page and a digest of the
    declaration, as `read_roots` returns them. `notes` are complete if the pages were scanned during the copy.
    Both methods raise `SourceError`.
    """

    def __init__(
        self,
        descriptor: int,
        connection: sqlite3.Connection,
        schema: dict[str, tuple[int, bytes]],
        notes: PageNotes,
    ) -> None:
        self._descriptor = descriptor
        self._connection = connection
        self._schema = schema
        self._notes = notes
        self._fingerprint: Fingerprint | None = None

    async def position(self, mapping: Mapping) -> Fingerprint | None:
        """The fingerprint of the tables of images and annotations; None if one of them is a view.

        For a query, the tables are those that it reads.
        """
        if self._fingerprint is None:
            stored = stored_tables(mapping)
            if any(table.kind != "table" for table in stored) or len(stored) > MOST_TABLES:
                return None
            names = [table.name for table in stored]
            roots = [TableRoot(name, self._schema[name][0]) for name in names]
            digest = b"".join(self._schema[name][1] for name in names)
            self._fingerprint = await in_thread(fingerprint, self._descriptor, roots, digest, self._notes)
        return self._fingerprint

    async def obstacle(self, mapping: Mapping) -> str:
        """Why the pages cannot show which rows changed; empty if they can."""
        if word := changing(mapping):
            return word
        stored = stored_tables(mapping)
        views = [table.name for table in stored if table.kind != "table"]
        if queries_of(mapping) and views:
            return f"a query reads the view {views[0]}"
        if len(stored) > MOST_TABLES:
            return "queries read too many tables"
        current = await self.position(mapping)
        if current is None:
            return "images or annotations are a view"
        if current.without_rowid:
            return f"{current.without_rowid[0]} is a WITHOUT ROWID table"
        hidden = [table.name for table in stored if rowid_name(table) is None]
        return f"the rowid of {hidden[0]} is hidden by columns" if hidden else ""

    async def changes(
        self, snapshot: Snapshot, queries: QueryChanges, mapping: Mapping, since: Iterator[bytes]
    ) -> Changes | Everything:
        """The images of all rows that may be new or different since an earlier position, given in pieces."""
        reason = await self.obstacle(mapping)
        current = await self.position(mapping)
        if reason or current is None:
            return Everything(reason)
        before = split_position(since) if queries_of(mapping) else None
        if before is not None:
            since = before.inner
        elif queries_of(mapping):
            return Everything("the position of the last export cannot be read")
        difference = await in_thread(compare, since, current)
        if difference.everything is not None:
            return Everything(difference.everything)
        if difference.identical:
            return queries.unmoved(before)
        if _changed_share(current, difference) > _MOST_CHANGED:
            return Everything("most pages changed")
        ranges = await in_thread(changed_ranges, self._connection, self._descriptor, current, difference)
        if isinstance(ranges, Everything):
            return ranges
        if not difference.moved:
            return queries.unmoved(before)
        changed = ChangedImages()
        reason = await self._gather(snapshot, mapping, ranges, changed)
        if reason or before is None:
            return Everything(reason) if reason else changed.answer()
        by_table = await in_thread(_listed, ranges, difference.moved)
        if by_table is None:
            return Everything("the tables of the queries changed in too many places")
        return await queries.changes(
            mapping, difference.moved, partial(_conditions, by_table), before.sums, changed
        )

    async def _gather(
        self, snapshot: Snapshot, mapping: Mapping, ranges: dict[str, Iterator[RowidRange]], changed: ChangedImages
    ) -> str:
        """Gather the images of the rows of tables, not of queries. Returns why that is not possible, or
        nothing.
        """
        tables = SqlTables(snapshot, mapping, unfiltered=True)  # A row that no longer meets a condition changed.
        for logical in ("images", "annotations"):
            if logical not in tables.mapped or tables.mapped[logical].table.query is not None:
                continue
            rowid = rowid_name(tables.mapped[logical].table)
            if rowid is None:
                return await self.obstacle(tables.mapping)
            name = tables.mapped[logical].table.name
            if queries_of(mapping):
                ranges[name] = iter(listed := await in_thread(list, ranges[name]))
                of_table = iter(listed)
            else:
                of_table = ranges[name]
            while group := await in_thread(_next_group, of_table):
                statement = _image_keys(tables, logical, rowid, group)
                if not await changed.gather(snapshot.stream(statement)):
                    return ""
        return ""


def _listed(ranges: dict[str, Iterator[RowidRange]], moved: Iterable[str]) -> dict[str, list[RowidRange]] | None:
    """The ranges of each table as a list; None if there are more than `_MOST_RANGES`."""
    listed = {name: list(islice(ranges[name], _MOST_RANGES + 1)) for name in moved}
    return None if any(len(found) > _MOST_RANGES for found in listed.values()) else listed


def _conditions(ranges: dict[str, list[RowidRange]], table: Table) -> Iterator[str]:
    """Conditions on the rows of a table, of which at least one holds for each row in its ranges."""
    rowid, found = rowid_name(table), ranges[table.name]
    for start in range(0, len(found), _RANGES_AT_ONCE):
        group = found[start : start + _RANGES_AT_ONCE]
        yield " OR ".join(f"{rowid} BETWEEN {first} AND {last}" for first, last in group)


def _next_group(ranges: Iterator[RowidRange]) -> list[RowidRange]:
    return list(islice(ranges, _RANGES_AT_ONCE))


def _changed_share(current: Fingerprint, difference: Difference) -> float:
    """The share of the leaves that changed. A small table counts as one of 64 leaves."""
    owners = range(1, len(current.tables) + 1)
    leaves = sum(map(current.owners.count, owners))
    return sum(map(len, difference.dirty_leaves.values())) / max(leaves, 64)


def rowid_name(table: Table) -> str | None:
    """A name of the rowid that no column hides (sqlite.org/lang_createtable.html, section 5); None if all are."""
    hidden = {column.name.lower() for column in table.columns}
    return next((name for name in ("rowid", "_rowid_", "oid") if name not in hidden), None)


def _image_keys(tables: SqlTables, logical: str, rowid: str, ranges: Sequence[RowidRange]) -> Select[Any]:
    """The keys of the images of the rows in these ranges; null for a row whose image does not exist."""
    name: ColumnElement[Any] = literal_column(f"{ALIASES[logical]}.{rowid}")
    within = or_(*(and_(name >= first, name <= last) for first, last in ranges))
    joined: FromClause = tables.sql[logical]
    if logical == "annotations":
        joined = joined.outerjoin(tables.sql["images"], tables.link("annotations", "images"))
    return select(tables.read_key("images")).distinct().select_from(joined).where(within)
