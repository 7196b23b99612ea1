"""Keeps the tables that `LOCK TABLE` refuses as they were when the snapshot was taken.

`LOCK TABLE` needs the right to read the whole table, so it refuses a role with rights on some columns. It also
refuses materialized views. Without the lock, a TRUNCATE or a REFRESH may commit between the snapshot and the first
SELECT. The snapshot would then find the table empty (manual, "Caveats" of concurrency control).

A SELECT locks the tables that it names until its transaction ends, but only after the snapshot was taken. So these
tables are selected from at once. Then each file number that the snapshot sees is compared with the present one:
TRUNCATE, REFRESH and ALTER TABLE change it. If none has changed, no later one can, because of the lock.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from autoexport.model.catalog import Table

# A name may lead to another table by now: migrations rename a new table to the name of the old one.
_RENAMED = """
SELECT count(*) FROM unnest($1::text[], $2::text[]) AS named(schema, name)
LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = named.schema
LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = named.name
WHERE c.oid IS DISTINCT FROM
  pg_catalog.to_regclass(pg_catalog.format('%I.%I', named.schema, named.name))::oid
"""

# The relations below: partitions, tables that inherit, and the tables that a view reads.
# `pg_relation_filenode` and `to_regclass` read the catalog as it is now, everything else as the snapshot sees it.
_REWRITTEN = """
WITH RECURSIVE relations AS (
  SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  JOIN unnest($1::text[], $2::text[]) AS named(schema, name) ON named.schema = n.nspname AND named.name = c.relname
  UNION
  SELECT below.oid FROM relations r CROSS JOIN LATERAL (
    SELECT i.inhrelid AS oid FROM pg_catalog.pg_inherits i WHERE i.inhparent = r.oid
    UNION ALL
    SELECT d.refobjid FROM pg_catalog.pg_rewrite w JOIN pg_catalog.pg_depend d ON d.objid = w.oid
      AND d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass
    WHERE w.ev_class = r.oid
  ) AS below
)
SELECT count(*) FROM relations JOIN pg_catalog.pg_class c ON c.oid = relations.oid
WHERE c.relkind IN ('r', 'm') AND c.relfilenode <> 0
  AND c.relfilenode IS DISTINCT FROM pg_catalog.pg_relation_filenode(c.oid)
"""


def unlocked(tables: Sequence[Table], lockable: frozenset[str]) -> list[Table]:
    """Those of these tables that `LOCK TABLE` refuses and that are stored here."""
    return [table for table in tables if table.kind != "foreign table" and table.full_name not in lockable]


async def pin(
    connection: AsyncConnection, driver: Any, tables: Sequence[Table], try_s: float, limit_s: float
) -> bool:
    """Lock these tables by reading nothing; whether they are still as the snapshot sees them.

    Waits `try_s` seconds for a lock, and leaves a limit of `limit_s`. Raises the driver's errors.
    """
    if not tables:
        return True
    reading = [f"SELECT FROM {quoted(table)} LIMIT 0" for table in tables]
    commands = [f"SET LOCAL lock_timeout = {round(try_s * 1000)}", *reading]
    await driver.execute("; ".join([*commands, f"SET LOCAL lock_timeout = {round(limit_s * 1000)}"]))
    names = [table.schema for table in tables], [table.name for table in tables]
    for question in (_REWRITTEN, _RENAMED):
        if (await connection.exec_driver_sql(question, names)).scalar_one():
            return False
    return True


def quoted(table: Table) -> str:
    """The quoted name of a table, with its schema."""
    return ".".join('"' + name.replace('"', '""') + '"' for name in (table.schema or "", table.name))
