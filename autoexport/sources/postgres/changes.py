"""Finds the images that changed since an earlier snapshot, by the transaction ids in row versions.

Take a row version that this snapshot sees and the earlier one, P, did not. The transaction that made it was still
running when P was taken, or began later. Its id is therefore not below P's xmin, the oldest id that was running
(PostgreSQL manual, "pg_snapshot components"). The ids of its subtransactions are higher than its own.

Ids are never lost while they can matter. Freezing marks a row version and leaves its xmin (manual, "Preventing
Transaction ID Wraparound Failures"). VACUUM FULL and CLUSTER copy the xmin. Locks and deletions are kept in xmax.
Two things would break this: a value that changes without a new row version, and an id that is used twice. The
position holds every fact that would show them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import FromClause, Select, column, select, table, text
from sqlalchemy.ext.asyncio import AsyncSession

from autoexport.model.blocks import Changes, Everything
from autoexport.model.catalog import Column, Table
from autoexport.model.mapping import Mapping, TableMapping
from autoexport.sources.contract import Snapshot
from autoexport.sources.partitions import ChangedImages
from autoexport.sources.postgres.query_rows import moved_tables, read_by_queries, recent, recent_text
from autoexport.sources.query_changes import QueryChanges, changing, queries_of, split_position
from autoexport.sources.sql import SqlTables

_FORMAT = 1
_OLDEST = 1_000_000_000
"""The most transactions between two snapshots. Ids in rows have 32 bits; `age` is right below 2**31 of them."""

_LOGICAL = ("images", "annotations")
"""The tables whose row versions are compared. The others are small: every export reads them whole."""

# A server that crashed and recovered may lose its last transactions (synchronous_commit = off) and give their ids
# to others. Its postmaster lives on, so its start time does not show the crash. But recovery discards the
# statistics, and every role may read the time of that.
_SERVER = """
SELECT pg_catalog.pg_current_snapshot()::text AS snapshot,
  pg_catalog.pg_postmaster_start_time()::text AS started,
  (SELECT stats_reset::text FROM pg_catalog.pg_stat_archiver) AS recovered,
  pg_catalog.pg_is_in_recovery() AS standby,
  (SELECT oid::bigint FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()) AS database,
  (SELECT pg_catalog.md5(coalesce(pg_catalog.string_agg(
     pg_catalog.concat_ws(':', enumtypid, enumsortorder, enumlabel), ',' ORDER BY enumtypid, enumsortorder), ''))
   FROM pg_catalog.pg_enum) AS enums,
  pg_catalog.current_setting('server_encoding') AS encoding,
  pg_catalog.has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE') AS identified
"""
_SYSTEM = "SELECT system_identifier::text FROM pg_catalog.pg_control_system()"
_RELATION = """
SELECT c.oid::bigint AS oid, c.relkind::text AS relkind, m.amname::text AS method,
  EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhparent = c.oid) AS inherited,
  -- the column xmin; null for a view, which has none
  pg_catalog.has_column_privilege(c.oid, -2::smallint, 'SELECT') IS NOT FALSE AS readable
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_am m ON m.oid = c.relam
WHERE n.nspname = :schema AND c.relname = :name
"""
_ATTRIBUTES = """
SELECT a.attname::text AS name, a.attnum::int AS number, a.atttypid::bigint AS type, a.atttypmod AS modifier,
  a.attcollation::bigint AS collation, a.attgenerated::text AS generated,
  e.typtype::text AS element_kind, e.typname::text AS element,
  e.typnamespace = 'pg_catalog'::regnamespace AS built_in
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
JOIN pg_catalog.pg_type e ON e.oid = CASE WHEN t.typelem <> 0 AND t.typlen = -1 THEN t.typelem ELSE t.oid END
WHERE a.attrelid = CAST(:oid AS oid) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""


_HIDDEN = ".xmin may not be read by this role, which needs GRANT SELECT (xmin) as well"


@dataclass(frozen=True, slots=True)
class RowVersions:
    """The position: a snapshot of transaction ids, and the facts that must stay the same for them to count.

    `snapshot` is `xmin:xmax:` and the running ids between them, of 64 bits each. `unusable` is the reason why the
    tables' row versions cannot show changes; empty if they can.
    """

    snapshot: str
    server: dict[str, Any]
    tables: dict[str, Any]
    unusable: str = ""

    def pieces(self) -> Iterator[bytes]:
        """The position as JSON, in one piece."""
        facts = {"server": self.server, "tables": self.tables}
        yield json.dumps({"format": _FORMAT, "snapshot": self.snapshot, **facts}).encode()

    @property
    def bounds(self) -> tuple[int, int]:
        """xmin and xmax of the snapshot."""
        return _bounds(self.snapshot)


async def take_position(session: AsyncSession, mapping: Mapping) -> RowVersions:
    """The position of the session's snapshot. Raises the driver's errors."""
    server = dict((await session.execute(text(_SERVER))).mappings().one())
    snapshot = server.pop("snapshot")
    # A role without the right to read the system identifier relies on the other facts.
    server["system"] = (await session.execute(text(_SYSTEM))).scalar_one() if server["identified"] else None
    tables: dict[str, Any] = {}
    reasons: list[str] = []
    if word := changing(mapping):
        reasons.append(word)
    for logical in _LOGICAL:
        mapped = mapping.tables().get(logical)
        if mapped is not None and mapped.table.query is None:
            tables[logical], reason = await _table_facts(session, mapped.table, _columns(mapping, logical))
            reasons += [reason] if reason else []
    for stored, used in read_by_queries(mapping).items():
        tables[stored.full_name], reason = await _table_facts(session, stored, used)
        reasons += [reason] if reason else []
    reasons += [
        f"keys of {mapped.table.full_name} are of type {mapped.fields['id'].type_name}"
        for mapped in (mapping.images, mapping.datasets or mapping.projects)
        if mapped is not None and mapped.fields["id"].kind in ("numeric", "real")
    ]
    if server["encoding"] == "SQL_ASCII":
        reasons.append("the encoding SQL_ASCII gives text no order")
    return RowVersions(snapshot, server, tables, reasons[0] if reasons else "")


def _columns(mapping: Mapping, logical: str) -> dict[str, Column]:
    """The columns of a logical table that an export reads, by name."""
    mapped = mapping.tables()[logical]
    columns = [*mapped.fields.values(), *mapped.deleted, mapped.parent_link]
    if logical == "images" and mapping.annotations is not None:
        columns.append(mapping.annotations.parent_column)
    return {item.name: item for item in columns if item is not None}


async def _table_facts(session: AsyncSession, table: Table, used: dict[str, Column]) -> tuple[dict[str, Any], str]:
    """The facts about a table that must not change, and why its row versions cannot show changes, if so."""
    full_name = {"schema": table.schema, "name": table.name}
    found = (await session.execute(text(_RELATION), full_name)).mappings().one_or_none()
    if found is None:
        return {}, f"{table.full_name} is not in the catalog"
    relation: dict[str, Any] = dict(found)
    hidden = "" if relation.pop("readable") else _HIDDEN
    rows = (await session.execute(text(_ATTRIBUTES), {"oid": relation["oid"]})).mappings().all()
    attributes = [dict(row) for row in rows if row["name"] in used]
    reasons = [
        _unusable_table(relation),
        hidden,
        *(_unusable_column(row, used[row["name"]]) for row in attributes),
    ]
    reason = next(filter(None, reasons), "")
    facts = {**relation, "attributes": attributes}
    return facts, f"{table.full_name}{reason}" if reason else ""


def _unusable_table(relation: Any) -> str:
    if relation["relkind"] != "r":
        kinds = {"v": "view", "m": "materialized view", "f": "foreign table", "p": "partitioned table"}
        return f" is a {kinds.get(relation['relkind'], 'relation of an unknown kind')}"
    if relation["inherited"]:
        return " has tables that inherit from it"
    return "" if relation["method"] == "heap" else f" is stored by the access method {relation['method']}"


def _unusable_column(attribute: dict[str, Any], declared: Column) -> str:
    """Why the value that is read from a column may change while its row does not; empty if it cannot."""
    if attribute["generated"] == "v":
        return f".{attribute['name']} is computed when it is read"
    if declared.kind not in ("other", "array", "composite", "range"):
        return ""
    element = attribute["element"]
    by_session = attribute["built_in"] and (element.startswith("reg") or element == "money")
    if attribute["element_kind"] not in ("b", "e") or by_session:
        return f".{attribute['name']} is of type {declared.type_name}, whose text depends on other things"
    return ""


async def changes_since(
    snapshot: Snapshot, mapping: Mapping, since: Iterator[bytes], now: RowVersions, queries: QueryChanges
) -> Changes | Everything:
    """The images whose rows, or whose annotations' rows, the snapshot of the position `since` could not see.

    `now` is the position of `snapshot`. Raises `SourceError`.
    """
    if now.unusable:
        return Everything(now.unusable)
    earlier = split_position(since) if queries_of(mapping) else None
    if earlier is not None:
        since = earlier.inner
    elif queries_of(mapping):
        return Everything("the position of the last export cannot be read")
    try:
        before = json.loads(b"".join(since))
        xmin, xmax = _bounds(before["snapshot"])
    except (ValueError, KeyError, TypeError):
        return Everything("the position of the last export cannot be read")
    if reason := _incomparable(before, xmin, xmax, now):
        return Everything(reason)
    changed = ChangedImages()
    for statement in _statements(snapshot, mapping, xmin):
        if not await changed.gather(snapshot.stream(statement)):
            return changed.answer()
    if earlier is None:
        return changed.answer()
    moved = await moved_tables(snapshot, mapping, xmin, earlier.rows)
    plain = any(mapped.table.query is None for mapped in (mapping.images, mapping.annotations) if mapped)
    if not moved and not plain:
        return queries.unmoved(earlier)
    return await queries.changes(mapping, moved, lambda _: iter([recent_text(xmin)]), earlier.sums, changed)


def _incomparable(before: dict[str, Any], xmin: int, xmax: int, now: RowVersions) -> str:
    """Why the transaction ids of two positions cannot be compared; empty if they can."""
    if before.get("format") != _FORMAT:
        return "the position of the last export is of another version"
    server = before.get("server", {})
    for fact, reason in (
        ("system", "this is another server"),
        ("identified", "this is another server"),
        ("database", "this is another database"),
        ("started", "the server was restarted"),
        ("recovered", "the server recovered from a crash, or its statistics were reset"),
        ("standby", "the standby was promoted"),
        ("enums", "an enum type changed"),
    ):
        if server.get(fact) != now.server[fact]:
            return reason
    if before.get("tables") != json.loads(json.dumps(now.tables)):
        return "the tables changed"
    now_xmin, now_xmax = now.bounds
    if now_xmin < xmin or now_xmax < xmax:
        return "the snapshot is older than the last export's"
    return "too many transactions since the last export" if now_xmax - xmin > _OLDEST else ""


def _bounds(snapshot: str) -> tuple[int, int]:
    xmin, xmax, _ = snapshot.split(":")
    return int(xmin), int(xmax)


def _statements(snapshot: Snapshot, mapping: Mapping, xmin: int) -> Iterator[Select[Any]]:
    """The keys of images with recent rows; then those of recent annotations' images, null for orphans."""
    images = SqlTables(snapshot, mapping).sql["images"]
    if mapping.images.table.query is None:
        images = _sql_table(mapping.images, mapping.annotations).alias("i")
    key_column = mapping.images.fields["id"]
    key = snapshot.readable(key_column, images.c[key_column.name])
    if mapping.images.table.query is None:
        yield select(key).select_from(images).where(recent(images, xmin))
    annotations = mapping.annotations
    if annotations is None or annotations.parent_link is None or annotations.parent_column is None:
        return
    if annotations.table.query is not None:
        return
    rows = _sql_table(annotations, None).alias("a")
    link, referred = annotations.parent_link, annotations.parent_column
    same = snapshot.same((link, rows.c[link.name]), (referred, images.c[referred.name]))
    yield select(key).distinct().select_from(rows.outerjoin(images, same)).where(recent(rows, xmin))


def _sql_table(mapped: TableMapping, child: TableMapping | None) -> FromClause:
    names = {"xmin", mapped.fields["id"].name}
    if mapped.parent_link is not None:
        names.add(mapped.parent_link.name)
    if child is not None and child.parent_column is not None:
        names.add(child.parent_column.name)
    return table(mapped.table.name, *(column(name) for name in sorted(names)), schema=mapped.table.schema)
