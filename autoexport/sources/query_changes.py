"""Finds the images whose rows changed in the queries that stand in place of tables.

A row of such a query comes from at most one row of each table that it joins (`mapping.query_shape`). So the query
is run once for each table with changed rows, and a common table expression of the table's name holds only these
rows. The result has at least the rows that are new or different. Rows that are gone leave no trace: the counts of
the blocks show them, as those of tables.

The tables of subqueries and outer joins change values, not rows. For each of them the configuration has a query
beside, which names the image of each row. It is run in the same way. Its rows that are gone show in sums of hashes
of the images, which are kept with the position.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

import orjson
import xxhash
from sqlalchemy import ColumnElement, Select, func, select

from autoexport.mapping.sql_names import quoted, quoted_table
from autoexport.model.blocks import Changes, Everything
from autoexport.model.catalog import Key, Query, QueryBeside, Scalar, Table
from autoexport.model.mapping import Mapping
from autoexport.runtime.logs import get_logger
from autoexport.sources.contract import Position, Snapshot
from autoexport.sources.partitions import ChangedImages
from autoexport.sources.pieces import Pieces
from autoexport.sources.sql import SqlTables, subquery

BUCKETS = 1 << 18
"""Sums of hashes are kept for so many groups of images: a change marks all images of its group."""

_MAGIC = b"autoexport queries 1\n"
_SUM = struct.Struct(">IQ")
_UNMOVED = "no table that the queries read changed"
_FOLLOWED = ("images", "annotations")

Sums = dict[int, int]
"""By group of images, the sum of the hashes of the keys of the rows, modulo 2^64."""

log = get_logger()


def queries_of(mapping: Mapping) -> dict[str, Query]:
    """The queries in place of images and annotations. The other tables are small: every export reads them
    whole.
    """
    tables = mapping.tables()
    found = {name: tables[name].table.query for name in _FOLLOWED if name in tables}
    return {name: query for name, query in found.items() if query is not None}


def stored_tables(mapping: Mapping) -> list[Table]:
    """The stored tables of images and annotations, or those that their queries read; each once."""
    tables = [mapping.tables()[name].table for name in _FOLLOWED if name in mapping.tables()]
    return list(
        dict.fromkeys(stored for table in tables for stored in (table.query.stored if table.query else [table]))
    )


def changing(mapping: Mapping) -> str:
    """Why the results of queries may change although no table does; empty if they may not."""
    named = ((name, query.changing) for name, query in queries_of(mapping).items())
    return next((f"tables.{name}.query uses {word}" for name, word in named if word), "")


@dataclass(frozen=True, slots=True)
class QueryPosition:
    """The position of a database with queries.

    `inner` is that of its tables. `rows` counts the rows of tables, by full name. `live` counts those of queries,
    by logical table. `sums` are those of the queries beside.
    """

    inner: Position
    rows: dict[str, int]
    live: dict[str, int]
    sums: dict[str, Sums]

    def pieces(self) -> Iterator[bytes]:
        """The own part, then the pieces of the inner position."""
        lengths = {name: len(sums) for name, sums in self.sums.items()}
        head = orjson.dumps({"rows": self.rows, "live": self.live, "sums": lengths})
        yield _MAGIC + len(head).to_bytes(4, "big") + head
        for sums in self.sums.values():
            yield b"".join(_SUM.pack(group, total) for group, total in sorted(sums.items()))
        yield from self.inner.pieces()


@dataclass(frozen=True, slots=True)
class Before:
    """An earlier `QueryPosition`, as it was read. `inner` are the pieces of the inner position."""

    rows: dict[str, int]
    live: dict[str, int]
    sums: dict[str, Sums]
    inner: Iterator[bytes]


def split_position(since: Iterator[bytes]) -> Before | None:
    """The parts of a `QueryPosition`; None if it is none."""
    reader = Pieces(since)
    if reader.take(len(_MAGIC)) != _MAGIC:
        return None
    try:
        head = orjson.loads(reader.take(int.from_bytes(reader.take(4), "big")))
        sums = {
            name: dict(_SUM.iter_unpack(reader.take(_SUM.size * count))) for name, count in head["sums"].items()
        }
        return Before(head["rows"], head["live"], sums, reader.rest())
    except (ValueError, KeyError, TypeError, struct.error):
        return None


class QueryChanges:
    """Follows the changes of the queries of one snapshot.

    `conditions` gives SQL conditions on the rows of a table of which at least one holds for each changed row.
    Every method raises `SourceError`.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._sums: dict[str, Sums] = {}
        self.live: dict[str, int] = {}
        """The number of rows of each query, by logical table, as far as it is known."""

    async def position(self, mapping: Mapping, inner: Position, rows: dict[str, int]) -> QueryPosition:
        """The position with the sums of the queries beside."""
        tables = SqlTables(self._snapshot, mapping)
        sums = {}
        for beside in _besides(mapping):
            name = _name(beside)
            if name not in self._sums:
                self._sums[name] = await self._sum(tables, beside)
            sums[name] = self._sums[name]
        live = {name: count for name, count in self.live.items() if name in queries_of(mapping)}
        return QueryPosition(inner, rows, live, sums)

    def unmoved(self, before: Before | None) -> Changes:
        """The answer that no table changed since an earlier position; None: the database has no queries."""
        if before is None:
            return Changes(frozenset(), unmoved=True)
        self._sums |= before.sums
        self.live |= before.live
        log.info("queries.changed", way="nothing is read", reason=_UNMOVED)
        return Changes(frozenset(), unmoved=True, reason=_UNMOVED)

    async def changes(
        self,
        mapping: Mapping,
        moved: Collection[str],
        conditions: Callable[[Table], Iterator[str]],
        sums: dict[str, Sums],
        changed: ChangedImages,
    ) -> Changes | Everything:
        """The changes if these tables moved, given by full name, since a position with these sums.

        `changed` holds the images of other tables' rows already.
        """
        for logical, query in queries_of(mapping).items():
            touched = sorted(table.full_name for table in query.stored if table.full_name in moved)
            if touched and query.obstacle:
                reason = f"{touched[0]} changed, and tables.{logical}.query cannot be followed: {query.obstacle}"
                log.info("queries.changed", way="everything is rendered", reason=reason)
                return Everything(reason)
        tables = SqlTables(self._snapshot, mapping)
        for statement in self._statements(tables, mapping, moved, conditions):
            if not await changed.gather(self._snapshot.stream(statement)):
                return changed.answer()
        for beside in _besides(mapping):
            if not await self._gone(tables, beside, moved, sums, changed):
                return changed.answer()
        found = changed.answer()
        if isinstance(found, Everything):
            return found
        reason = f"rows of {', '.join(sorted(moved))} changed: {len(found.images)} images"
        log.info("queries.changed", way="changed rows are followed", reason=reason)
        return Changes(found.images, found.orphans_seen, reason=reason)

    def _statements(
        self,
        tables: SqlTables,
        mapping: Mapping,
        moved: Collection[str],
        conditions: Callable[[Table], Iterator[str]],
    ) -> Iterator[Select[Any]]:
        for logical, query in queries_of(mapping).items():
            parts = [
                (query.traces, query.stored, None),
                *((item.traces, item.stored, item) for item in query.beside),
            ]
            for traces, stored, beside in parts:
                for table in (table for table in stored if table.full_name in moved and table.full_name in traces):
                    for condition in conditions(table):
                        columns = query.columns.get(table.full_name, ())
                        traced = only_changed(traces[table.full_name], table, columns, condition)
                        yield _image_keys(tables, logical, traced, beside)

    # --- rows that are gone from queries beside ---------------------------------------------------

    async def _gone(
        self,
        tables: SqlTables,
        beside: QueryBeside,
        moved: Collection[str],
        sums: dict[str, Sums],
        changed: ChangedImages,
    ) -> bool:
        """Gather all images of the groups whose sum changed; false if they are too many."""
        name = _name(beside)
        before = sums.get(name, {})
        if not any(table.full_name in moved for table in beside.stored):
            self._sums[name] = before
            return True
        after = self._sums[name] = await self._sum(tables, beside)
        groups = {group for group in before.keys() | after.keys() if before.get(group) != after.get(group)}
        if not groups:
            return True
        keys = select(tables.read_key("images")).select_from(tables.sql["images"])

        async def of_groups() -> Any:
            async for part in self._snapshot.stream(keys):
                yield [(key,) for (key,) in part if key is not None and _group(_hash(key)) in groups]

        return await changed.gather(of_groups())

    async def _sum(self, tables: SqlTables, beside: QueryBeside) -> Sums:
        sums: dict[int, int] = defaultdict(int)
        rows = subquery(beside.sql, [beside.key.name]).alias("b")
        key = tables.snapshot.readable(beside.key, rows.c[beside.key.name])
        async for part in self._snapshot.stream(select(key, func.count()).select_from(rows).group_by(key)):
            for image, count in part:
                if image is not None:
                    hashed = _hash(image)
                    sums[_group(hashed)] = (sums[_group(hashed)] + hashed * int(count)) % 2**64  # type: ignore[arg-type]
        return dict(sums)


def only_changed(sql: str, table: Table, columns: Collection[str], condition: str) -> str:
    """A query of which a table has only the rows that meet a condition, and only these columns.

    The full name in the expression is that of the table itself, also in SQLite.
    """
    stored = quoted_table(table, table.name) if table.schema else f"main.{quoted(table.name)}"
    # A table of which no column is read still multiplies the rows.
    read = ", ".join(map(quoted, columns)) or "1 AS unread"
    # Names come from the catalog, and the condition from the source.
    return f"WITH {quoted(table.name)} AS (SELECT {read} FROM {stored} WHERE {condition}) {sql}"  # noqa: S608


def _image_keys(tables: SqlTables, logical: str, traced: str, beside: QueryBeside | None) -> Select[Any]:
    """The keys of the images of the rows of a query; null for a row whose image does not exist."""
    if beside is None and logical == "images":
        key = tables.key_column("images")
        rows = subquery(traced, [key.name]).alias("t")
        return select(tables.snapshot.readable(key, rows.c[key.name])).distinct()
    if beside is not None:
        rows = subquery(traced, [beside.key.name]).alias("t")
        same = _same_image(tables, beside, rows.c[beside.key.name])
    else:
        link, linked = tables.link_columns(logical, "images")
        rows = subquery(traced, [link.name]).alias("t")
        same = tables.snapshot.same((link, rows.c[link.name]), (linked, tables.at("images", linked)))
    joined = rows.outerjoin(tables.sql["images"], same)
    return select(tables.read_key("images")).distinct().select_from(joined)


def _same_image(tables: SqlTables, beside: QueryBeside, named: ColumnElement[Any]) -> ColumnElement[bool]:
    return tables.snapshot.same((beside.key, named), (tables.key_column("images"), tables.key("images")))


def _besides(mapping: Mapping) -> list[QueryBeside]:
    return [beside for query in queries_of(mapping).values() for beside in query.beside]


def _name(beside: QueryBeside) -> str:
    return xxhash.xxh3_64_hexdigest(beside.sql.encode())


def _hash(key: Key | Scalar) -> int:
    """A hash that is the same for all keys that a database may find equal, whatever their types and collations."""
    if isinstance(key, float) and key.is_integer():
        key = int(key)
    elif isinstance(key, str):
        key = key.casefold().rstrip()
        key = key.rstrip("0").removesuffix(".") if "." in key else key
    return xxhash.xxh3_64_intdigest(str(key).encode("utf-8", "surrogateescape"))


def _group(hashed: int) -> int:
    return hashed % BUCKETS
