"""What changed in a SQLite database: from fingerprints of the copy to the images of the changed rows."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Select, and_, literal_column, or_, select

from autoexport.model.blocks import Changes, Everything
from autoexport.model.catalog import Key
from autoexport.model.mapping import Mapping, TableMapping
from autoexport.runtime.threads import in_thread
from autoexport.sources.contract import Snapshot
from autoexport.sources.partitions import MOST_CHANGED_IMAGES, too_many_changed
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
"""When more than this share of the rows' pages changed, looking up whose they are is not worth it."""

RowidRange = tuple[int, int]


class PageChanges:
    """Fingerprints a private copy once and compares it with earlier fingerprints.

    `descriptor` and `connection` are of the copy; `schema` holds name, root page and declaration of
    every table; `notes` are complete if the copy's pages are known already.
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
        self._taken: Fingerprint | None = None

    async def position(self, mapping: Mapping) -> Fingerprint | None:
        """The fingerprint of the tables that are too large to be compared whole; None if one is no table."""
        if self._taken is None:
            large = _large(mapping)
            if any(item.table.kind != "table" for item in large):
                return None
            names = [item.table.name for item in large]
            roots = [TableRoot(name, self._schema[name][0]) for name in names]
            digest = b"".join(self._schema[name][1] for name in names)
            self._taken = await in_thread(fingerprint, self._descriptor, roots, digest, self._notes)
        return self._taken

    async def changes(self, snapshot: Snapshot, mapping: Mapping, since: Iterator[bytes]) -> Changes | Everything:
        """The images of all rows that may be new or different since an earlier fingerprint."""
        taken = await self.position(mapping)
        if taken is None:
            return Everything("images or annotations are a view")
        difference = await in_thread(compare, since, taken)
        if difference.everything is not None:
            return Everything(difference.everything)
        if difference.identical:
            return Changes(frozenset())
        if _share(taken, difference) > _MOST_CHANGED:
            return Everything("most pages changed")
        ranges = await in_thread(changed_ranges, self._connection, self._descriptor, taken, difference)
        if isinstance(ranges, Everything):
            return ranges
        return await self._images(snapshot, mapping, ranges)

    async def _images(
        self, snapshot: Snapshot, mapping: Mapping, ranges: dict[str, Iterator[RowidRange]]
    ) -> Changes | Everything:
        tables = SqlTables(snapshot, mapping)
        images: set[Key] = set()
        orphans_seen = False
        for logical in ("images", "annotations"):
            if logical not in tables.mapped:
                continue
            rowid = _rowid_name(tables.mapped[logical])
            if rowid is None:
                return Everything(f"the rowid of {tables.mapped[logical].table.name} is hidden by columns")
            own = ranges[tables.mapped[logical].table.name]
            while some := await in_thread(_some, own):
                statement = _keys(tables, logical, rowid, some)
                async for part in snapshot.stream(statement):
                    for (key,) in part:
                        if key is None:
                            orphans_seen = True
                        else:
                            images.add(key)  # type: ignore[arg-type]
                    if len(images) > MOST_CHANGED_IMAGES:
                        return too_many_changed()
        return Changes(images, orphans_seen)


def _some(ranges: Iterator[RowidRange]) -> list[RowidRange]:
    return list(islice(ranges, _RANGES_AT_ONCE))


def _large(mapping: Mapping) -> list[TableMapping]:
    return [mapping.images] + ([mapping.annotations] if mapping.annotations is not None else [])


def _share(taken: Fingerprint, difference: Difference) -> float:
    tables = range(1, len(taken.tables) + 1)
    leaves = sum(taken.owners.count(number) for number in tables)
    return sum(map(len, difference.dirty_leaves.values())) / max(leaves, 64)


def _rowid_name(mapped: TableMapping) -> str | None:
    """A name of the rowid that no column has taken (sqlite.org/lang_createtable.html, section 5)."""
    taken = {column.name.lower() for column in mapped.table.columns}
    return next((name for name in ("rowid", "_rowid_", "oid") if name not in taken), None)


def _keys(tables: SqlTables, logical: str, rowid: str, ranges: Sequence[RowidRange]) -> Select[Any]:
    """The images of the rows of these ranges; null for a row that names an image that is not there."""
    name: ColumnElement[Any] = literal_column(f"{tables.sql[logical].name}.{rowid}")
    within = or_(*(and_(name >= first, name <= last) for first, last in ranges))
    joined: FromClause = tables.sql[logical]
    if logical == "annotations":
        joined = joined.outerjoin(tables.sql["images"], tables.link("annotations", "images"))
    return select(tables.read_key("images")).distinct().select_from(joined).where(within)
