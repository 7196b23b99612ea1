"""Reads the declarations of a PostgreSQL database again only if a row of its catalogs changed."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from autoexport.sources.postgres.schema import Declarations, read_catalog

_CATALOGS = (
    "pg_class", "pg_attribute", "pg_index", "pg_constraint", "pg_type", "pg_namespace", "pg_inherits", "pg_policy",
    "pg_auth_members",
)  # fmt: skip
"""The catalogs that decide about tables, columns, keys, types and rights (manual, chapter "System Catalogs")."""

_VERSIONS = ", ".join(
    f"(SELECT sum(pg_catalog.hashtextextended(xmin::text || ctid::text, 0))::text FROM pg_catalog.{name})"  # noqa: S608
    for name in _CATALOGS
)

# Each update writes another version of a row, with another xmin or ctid (manual, "System Columns").
STATE = f"""
SELECT current_user::text, current_setting('search_path'), current_setting('row_security'),
  (SELECT r.rolsuper OR r.rolbypassrls FROM pg_catalog.pg_roles r WHERE r.rolname = current_user), {_VERSIONS}
"""  # noqa: S608 - put together from constants of this module


class KnownCatalog:
    """The declarations that were read last. A database of thousands of tables takes 0.4 s to read."""

    def __init__(self, schemas: Sequence[str]) -> None:
        self._schemas = schemas
        self._state: tuple[object, ...] = ()
        self._declared: Declarations | None = None

    async def read(self, connection: AsyncConnection) -> Declarations:
        """The declarations as this transaction sees them. Raises the driver's errors."""
        state = tuple((await connection.exec_driver_sql(STATE)).one())
        if self._declared is None or state != self._state:
            self._declared = await read_catalog(connection, self._schemas)
            self._state = state
        return self._declared
