"""Finds the images whose rows changed, from two fingerprints of a SQLite database."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Select, and_, literal_column, or_, select

from autoexport.model.blocks import Changes, Everything
from autoexport.model.mapping import Mapping, TableMapping
from autoexport.runtime.threads import in_thread
from autoexport.sources.contract import Snapshot
from autoexport.sources.partitions import ChangedImages
from autoexport.sources.sql import SqlTables
from autoexport.sources.sqlite.fingerprint import (
    Difference,
    Fingerprint,
    TableRoot,
    changed_ranges,
    compare,
    fingerprint,
)
from autoexport.sources.sqlite.page_scan import PageNotes

_RANGES_AT_ONCE = 200
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
        """The fingerprint of the tables of images and annotations; None if one of them is a view."""
        if self._fingerprint is None:
            mapped = [mapping.images] + ([mapping.annotations] if mapping.annotations is not None else [])
            if any(item.table.kind != "table" for item in mapped):
                return None
            names = [item.table.name for item in mapped]
            roots = [TableRoot(name, self._schema[name][0]) for name in names]
            digest = b"".join(self._schema[name][1] for name in names)
            self._fingerprint = await in_thread(fingerprint, self._descriptor, roots, digest, self._notes)
        return self._fingerprint

    async def obstacle(self, mapping: Mapping) -> str:
        """Why the pages cannot show which rows changed; empty if they can."""
        current = await self.position(mapping)
        if current is None:
            return "images or annotations are a view"
        if current.without_rowid:
            return f"{current.without_rowid[0]} is a WITHOUT ROWID table"
        mapped = [mapping.images] + ([mapping.annotations] if mapping.annotations is not None else [])
        hidden = [item.table.name for item in mapped if _rowid_name(item) is None]
        return f"the rowid of {hidden[0]} is hidden by columns" if hidden else ""

    async def changes(self, snapshot: Snapshot, mapping: Mapping, since: Iterator[bytes]) -> Changes | Everything:
        """The images of all rows that may be new or different since an earlier fingerprint, given in pieces."""
        reason = await self.obstacle(mapping)
        current = await self.position(mapping)
        if reason or current is None:
            return Everything(reason)
        difference = await in_thread(compare, since, current)
        if difference.everything is not None:
            return Everything(difference.everything)
        if difference.identical:
            return Changes(frozenset())
        if _changed_share(current, difference) > _MOST_CHANGED:
            return Everything("most pages changed")
        ranges = await in_thread(changed_ranges, self._connection, self._descriptor, current, difference)
        if isinstance(ranges, Everything):
            return ranges
        return await self._images(snapshot, mapping, ranges)

    async def _images(
        self, snapshot: Snapshot, mapping: Mapping, ranges: dict[str, Iterator[RowidRange]]
    ) -> Changes | Everything:
        tables = SqlTables(snapshot, mapping, unfiltered=True)  # A row that no longer meets a condition changed.
        changed = ChangedImages()
        for logical in ("images", "annotations"):
            if logical not in tables.mapped:
                continue
            rowid = _rowid_name(tables.mapped[logical])
            if rowid is None:
                return Everything(await self.obstacle(tables.mapping))
            of_table = ranges[tables.mapped[logical].table.name]
            while group := await in_thread(_next_group, of_table):
                statement = _image_keys(tables, logical, rowid, group)
                if not await changed.gather(snapshot.stream(statement)):
                    return changed.answer()
        return changed.answer()


def _next_group(ranges: Iterator[RowidRange]) -> list[RowidRange]:
    return list(islice(ranges, _RANGES_AT_ONCE))


def _changed_share(current: Fingerprint, difference: Difference) -> float:
    """The share of the leaves that changed. A small table counts as one of 64 leaves."""
    owners = range(1, len(current.tables) + 1)
    leaves = sum(map(current.owners.count, owners))
    return sum(map(len, difference.dirty_leaves.values())) / max(leaves, 64)


def _rowid_name(mapped: TableMapping) -> str | None:
    """A name of the rowid that no column hides (sqlite.org/lang_createtable.html, section 5); None if all are."""
    hidden = {column.name.lower() for column in mapped.table.columns}
    return next((name for name in ("rowid", "_rowid_", "oid") if name not in hidden), None)


def _image_keys(tables: SqlTables, logical: str, rowid: str, ranges: Sequence[RowidRange]) -> Select[Any]:
    """The keys of the images of the rows in these ranges; null for a row whose image does not exist."""
    name: ColumnElement[Any] = literal_column(f"{tables.sql[logical].name}.{rowid}")
    within = or_(*(and_(name >= first, name <= last) for first, last in ranges))
    joined: FromClause = tables.sql[logical]
    if logical == "annotations":
        joined = joined.outerjoin(tables.sql["images"], tables.link("annotations", "images"))
    return select(tables.read_key("images")).distinct().select_from(joined).where(within)
