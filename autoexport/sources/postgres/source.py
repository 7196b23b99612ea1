"""PostgreSQL: a snapshot is a REPEATABLE READ transaction; row versions tell what changed.

Nothing is installed and no row is written; a read-only transaction is not even given a transaction id.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import xxhash
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from autoexport.config.database_url import DatabaseURL
from autoexport.config.settings import Settings
from autoexport.errors import MappingError, SourceError
from autoexport.mapping.mapper import map_catalog
from autoexport.model.catalog import Table
from autoexport.runtime.wake import pause
from autoexport.sources.postgres.check_notes import _ABOUT, _UNREADABLE
from autoexport.sources.postgres.engine import close_in_time, decode_leniently, driver_of, make_engine, unique_name
from autoexport.sources.postgres.errors import DRIVER_ERRORS, explained, sqlstate
from autoexport.sources.postgres.portal import Portals
from autoexport.sources.postgres.schema import Declarations, configured_schemas, read_catalog
from autoexport.sources.postgres.second_connection import SecondConnection
from autoexport.sources.postgres.snapshot import PostgresSnapshot

OLDEST_VERSION = 13
LOOK_TIMEOUT_S = 30.0
LOCK_TIMEOUT_S = 30.0
"""How long a snapshot tries to get behind a migration or a TRUNCATE."""

LOCK_TRY_S = 0.25
"""How long it waits each time: less than the server's deadlock_timeout (1 s), so that in a deadlock with
the application it is never the application's transaction that is ended."""

IDLE_LIMIT_S = 900.0
"""After so long without a statement the server ends the transaction: a snapshot holds back its vacuum."""

WORK_MEMORY_KB = 32 * 1024
"""For sorting, in the server; beyond it, sorting goes through the server's disk."""

_READ_ONLY = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}

_ATTEMPTS = 4
_UNDEFINED_TABLE = "42P01"
_LOCK_NOT_AVAILABLE = "55P03"
_SNAPSHOT = "SELECT pg_catalog.pg_current_snapshot()::text, NULL"

_SNAPSHOT_OF_STANDBY = "SELECT pg_catalog.pg_current_snapshot()::text, pg_catalog.pg_last_wal_replay_lsn()::text"


class PostgresSource:
    """A database of a PostgreSQL server, primary or hot standby, 13 or newer."""

    def __init__(self, url: DatabaseURL, settings: Settings) -> None:
        self._settings = settings
        self.database = _server_and_name(url)
        self.identity = xxhash.xxh3_64_hexdigest(f"postgresql:{self.database}".encode())
        self._schemas = configured_schemas(settings.tables)
        self._engine = make_engine(url, settings)
        self._locked: tuple[str, ...] = ()
        self._statement_name = (lambda: None) if settings.pg_prepared_statements else unique_name

    @contextlib.asynccontextmanager
    async def snapshot(self) -> AsyncIterator[PostgresSnapshot]:
        """Lock the mapped tables, then take a snapshot.

        The order matters: a snapshot that is older than a TRUNCATE finds the table empty (manual,
        "Caveats" of concurrency control), and what is locked cannot be truncated any more.
        """
        async with self._connected() as connection:
            with explained(self.database):
                driver = await driver_of(connection)
                session, declared, tables = await self._begin(connection)
                taken_at = datetime.now(UTC)
                encoding = await _setting(connection, "server_encoding")
                if encoding == "SQL_ASCII":
                    await decode_leniently(connection)
            portals = Portals(session, self._statement_name)
            second = None
            if self._may_read_in_parallel(tables, declared):
                second = SecondConnection(session, portals.turn, partial(self._begin_second, encoding))
            try:
                yield PostgresSnapshot(
                    session, portals, second, declared.catalog, taken_at, self.database, encoding
                )
            finally:
                if second is not None:
                    await second.aclose()
                await portals.aclose()
                await close_in_time(session.close, driver)

    @contextlib.asynccontextmanager
    async def _begin_second(self, encoding: str, snapshot: str) -> AsyncIterator[AsyncConnection]:
        """A second transaction with the same snapshot. It does not wait behind those who wait for the first."""
        async with self._connected() as opened:
            connection = await opened.execution_options(**_READ_ONLY)
            first = f"SET TRANSACTION SNAPSHOT '{snapshot}'"
            await self._lock(connection, self._locked, first=first, wait="NOWAIT")
            if encoding == "SQL_ASCII":
                await decode_leniently(connection)
            yield connection

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[AsyncConnection]:
        """A connection of its own. What goes wrong when it is closed has no consequence."""
        with explained(self.database):
            opened = await self._engine.connect()
            driver = await driver_of(opened)
            major = driver.get_server_version().major
            if major < OLDEST_VERSION:
                await opened.close()
                raise SourceError(
                    f"{self.database} runs PostgreSQL {major}, which is too old.",
                    hint=f"Version {OLDEST_VERSION} or newer is needed.",
                )
        try:
            yield opened
        finally:
            await close_in_time(opened.close, driver)

    async def _begin(self, opened: AsyncConnection) -> tuple[AsyncSession, Declarations, Sequence[Table]]:
        """Begin again until the tables that were locked are those that the snapshot's catalog maps."""
        connection = await opened.execution_options(**_READ_ONLY)
        for _ in range(_ATTEMPTS):
            if not await self._locked_in_time(connection):
                self._locked = ()
            declared = await read_catalog(connection, self._schemas)
            tables = self._mapped(declared)
            wanted = _lockable(tables, declared)
            if wanted == self._locked:
                return AsyncSession(connection), declared, tables
            self._locked = wanted
            await connection.rollback()
        raise SourceError(
            f"The tables of {self.database} keep changing.", hint="A migration may be running; it is tried again."
        )

    async def _locked_in_time(self, connection: AsyncConnection) -> bool:
        """Lock what was mapped the last time; false, and nothing is locked, if a table of it is gone."""
        deadline = asyncio.get_running_loop().time() + LOCK_TIMEOUT_S
        while True:
            try:
                await self._lock(connection, self._locked)
                return True
            except DRIVER_ERRORS as error:
                gone = sqlstate(error) == _UNDEFINED_TABLE
                late = asyncio.get_running_loop().time() > deadline
                if not gone and (late or sqlstate(error) != _LOCK_NOT_AVAILABLE):
                    raise
            await connection.rollback()
            if gone:
                await self._lock(connection, ())
                return False

    async def _lock(
        self, connection: AsyncConnection, tables: Sequence[str], *, first: str = "", wait: str = ""
    ) -> None:
        """None of these statements takes a snapshot of its own: they are utility commands."""
        await connection.exec_driver_sql("SET LOCAL TimeZone = 'UTC'")
        commands = [first] if first else []
        commands += [f"SET LOCAL {name} = '{value}'" for name, value in self._parameters().items()]
        if tables:
            commands += [
                f"SET LOCAL lock_timeout = '{round(LOCK_TRY_S * 1000)}ms'",
                f"LOCK TABLE {', '.join(tables)} IN ACCESS SHARE MODE {wait}",
                f"SET LOCAL lock_timeout = '{round(LOCK_TIMEOUT_S * 1000)}ms'",
            ]
        await (await driver_of(connection)).execute("; ".join(commands))

    def _parameters(self) -> dict[str, str]:
        """Set inside the transaction: pgbouncer refuses most of them at the start of a session."""
        timeout_s = self._settings.pg_statement_timeout
        return {
            "DateStyle": "ISO, YMD",
            "IntervalStyle": "postgres",
            "extra_float_digits": "1",
            "bytea_output": "hex",
            "row_security": "off",  # fail rather than export a part
            "jit": "off",
            "work_mem": f"{WORK_MEMORY_KB}kB",
            "idle_in_transaction_session_timeout": f"{round(IDLE_LIMIT_S * 1000)}ms",
            **({"statement_timeout": f"{max(1, round(timeout_s * 1000))}ms"} if timeout_s else {}),
        }

    def _may_read_in_parallel(self, tables: Sequence[Table], declared: Declarations) -> bool:
        """Not where a second connection may have to wait for the first one, in a pool or for a lock; nor of views:
        two transactions have the same snapshot but not the same `now()`."""
        plain = all(table.kind == "table" and table.full_name in declared.lockable for table in tables)
        return plain and self._settings.pg_prepared_statements

    def _mapped(self, declared: Declarations) -> list[Table]:
        """The mapped tables. None where they cannot be mapped: whoever asked will say so."""
        try:
            mapping = map_catalog(declared.catalog, self._settings.tables or None)
        except MappingError:
            return []
        return [mapped.table for mapped in mapping.tables().values()]

    async def checks(
        self, interval_s: float, *, hooks: bool, wake: asyncio.Event | None = None
    ) -> AsyncIterator[bool]:
        """By whether a transaction of the server has ended since the last check.

        One connection without an open transaction is kept. `hooks` changes nothing: being notified
        would need a trigger in the database.
        """
        seen: Any = None
        woken = wake or asyncio.Event()
        async with self._connected() as opened:
            with explained(self.database):
                # Only within a transaction does pgbouncer execute a statement where it was prepared.
                level = "AUTOCOMMIT" if self._settings.pg_prepared_statements else "READ COMMITTED"
                connection = await opened.execution_options(isolation_level=level)
                question = _SNAPSHOT_OF_STANDBY if await _is_standby(connection) else _SNAPSHOT
            while True:
                with explained(self.database):
                    async with asyncio.timeout(LOOK_TIMEOUT_S):
                        found = (await connection.exec_driver_sql(question)).one()
                        await connection.rollback()
                yield found != seen
                seen = found
                await pause(woken, interval_s)

    async def check_notes(self) -> list[str]:
        """What `check` says: version, size, rights, and whether exports can be incremental."""
        async with self.snapshot() as snapshot:
            with explained(self.database):
                connection = await snapshot.session.connection()
                about: Sequence[Any] = (await connection.exec_driver_sql(_ABOUT)).one()
                version, size_bytes, standby, feedback = about
                denied = (await connection.exec_driver_sql(_UNREADABLE)).scalars().all()
                mapping = map_catalog(snapshot.catalog, self._settings.tables or None)
                position = await snapshot.row_versions(mapping)
        kind = "hot standby" if standby else "server"
        found = [f"PostgreSQL {version}, {kind}, {size_bytes / 1e6:,.1f} MB."]
        if standby and feedback != "on":
            found.append(
                "hot_standby_feedback is off at this standby: a long export may be cancelled by its recovery."
            )
        if position.unusable:
            found.append(f"Every export is a full one: {position.unusable}.")
        if denied:
            found.append(f"This role may not read {', '.join(denied)}; none of them is exported.")
        if not self._settings.pg_prepared_statements:
            found.append("Prepared statements are off, as pgbouncer in transaction mode needs it.")
        return found

    async def aclose(self) -> None:
        """Nothing is held between snapshots."""
        await self._engine.dispose()


def _server_and_name(url: DatabaseURL) -> str:
    hosts = url.hosts or ((os.environ.get("PGHOST", ""), None),)
    shown = []
    for host, port in hosts:
        plain = "localhost" if not host or host.startswith("/") else f"[{host}]" if ":" in host else host
        shown.append(f"{plain}:{port}" if port not in (None, 5432) else plain)
    name = url.database or os.environ.get("PGDATABASE") or url.user or os.environ.get("PGUSER", "")
    return f"{','.join(shown)}/{name}"


def _lockable(tables: Sequence[Table], declared: Declarations) -> tuple[str, ...]:
    """Those of these tables that can be locked, quoted."""
    return tuple(
        f"{_quoted(table.schema or '')}.{_quoted(table.name)}"
        for table in tables
        if table.full_name in declared.lockable
    )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


async def _setting(connection: AsyncConnection, name: str) -> str:
    return str((await connection.exec_driver_sql(f"SHOW {name}")).scalar_one())


async def _is_standby(connection: AsyncConnection) -> bool:
    return bool((await connection.exec_driver_sql("SELECT pg_catalog.pg_is_in_recovery()")).scalar_one())
