"""Describes a PostgreSQL database for `check`: version, size, rights, and whether exports can be incremental."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autoexport.model.mapping import Mapping
from autoexport.sources.postgres.snapshot import PostgresSnapshot

ONLY_ONE_CONNECTION = (
    "Only one connection is available now: while it exports, the exporter does not check for changes, and a large "
    "export is sorted on one processor."
)

_ABOUT = """
SELECT pg_catalog.current_setting('server_version'),
  pg_catalog.pg_database_size(pg_catalog.current_database()),
  pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('hot_standby_feedback', true)
"""

_UNREADABLE = """
SELECT c.oid::regclass::text FROM pg_catalog.pg_class c
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND pg_catalog.pg_table_is_visible(c.oid) AND NOT c.relispartition
  AND NOT pg_catalog.has_any_column_privilege(c.oid, 'SELECT') AND c.relnamespace <> 'pg_catalog'::regnamespace
ORDER BY 1
"""


async def check_notes(
    snapshot: PostgresSnapshot, mapping: Mapping, hidden: dict[str, list[str]], *, prepared_statements: bool
) -> list[str]:
    """One line a note, the version first. `hidden` is as in `Declarations`. Raises the driver's errors."""
    connection = await snapshot.session.connection()
    about: Sequence[Any] = (await connection.exec_driver_sql(_ABOUT)).one()
    version, size_bytes, standby, feedback = about
    unreadable = (await connection.exec_driver_sql(_UNREADABLE)).scalars().all()
    kind = "hot standby" if standby else "server"
    notes = [f"PostgreSQL {version}, {kind}, {size_bytes / 1e6:,.1f} MB."]
    if standby and feedback != "on":
        notes.append("hot_standby_feedback is off at this standby: its recovery may cancel a long export.")
    if unreadable:
        notes.append(f"This role may not read {', '.join(unreadable)}; none of them is exported.")
    tables = dict.fromkeys(mapped.table.full_name for mapped in mapping.tables().values())
    notes += [
        f"This role may not read these columns of {table}: {', '.join(hidden[table])}."
        for table in tables
        if table in hidden
    ]
    if not prepared_statements:
        notes.append("Prepared statements are off, as pgbouncer in transaction mode requires.")
    return notes
