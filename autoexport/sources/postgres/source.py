"""Opens PostgreSQL databases: takes snapshots in REPEATABLE READ transactions and checks for new commits.

The exporter installs nothing and writes no row. The server does not even assign ids to its transactions.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from functools import partial

import xxhash
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from autoexport.config.address import DatabaseURL
from autoexport.config.database_url import published_name
from autoexport.errors import MappingError, SourceError
from autoexport.mapping.mapper import map_catalog, read_by_queries
from autoexport.model.catalog import Table
from autoexport.runtime.interruption import interruptible
from autoexport.runtime.waits import waiting
from autoexport.sources.contract import SourceOptions
from autoexport.sources.postgres.adopting import adopted
from autoexport.sources.postgres.check_notes import ONLY_ONE_CONNECTION, check_notes
from autoexport.sources.postgres.engine import (
    OPEN_TIMEOUT_S,
    close_in_time,
    decode_leniently,
    driver_of,
    make_engine,
    unique_name,
)
from autoexport.sources.postgres.errors import DRIVER_ERRORS, explained, sqlstate
from autoexport.sources.postgres.known_catalog import KnownCatalog
from autoexport.sources.postgres.pinning import pin, quoted, unlocked
from autoexport.sources.postgres.portal import Portals
from autoexport.sources.postgres.query_tables import KnownQueries
from autoexport.sources.postgres.schema import Declarations, configured_schemas
from autoexport.sources.postgres.second_connection import SecondConnection
from autoexport.sources.postgres.session_limits import LOCK_TIMEOUT_S, lift_limits, transaction_parameters
from autoexport.sources.postgres.shared import SharedTransaction
from autoexport.sources.postgres.snapshot import PostgresSnapshot
from autoexport.sources.postgres.watch import CommitWatch

OLDEST_VERSION = 13
LOCK_TRY_S = 0.25
"""How long each try waits: less than the server's deadlock_timeout (1 s). In a deadlock with the application the
server therefore never ends the application's transaction."""

_READ_ONLY = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}

_ATTEMPTS = 4
_UNDEFINED_TABLE = "42P01"
_LOCK_NOT_AVAILABLE = "55P03"


class PostgresSource:
    """A database of a PostgreSQL server, primary or hot standby, version 13 or newer."""

    in_process = False

    def __init__(self, url: DatabaseURL, options: SourceOptions) -> None:
        self._url, self._options = url, options
        self.database = published_name(url, os.environ)
        self.identity = xxhash.xxh3_64_hexdigest(f"postgresql:{self.database}".encode())
        self._queries = KnownQueries(options.tables)
        self._catalog = KnownCatalog(configured_schemas(options.tables))
        self._engine = make_engine(url, prepared_statements=options.prepared_statements)
        if options.prepared_statements:
            event.listen(self._engine.sync_engine, "connect", lift_limits, insert=True)
        self._watch = CommitWatch(self._connected, self.database, prepared_statements=options.prepared_statements)
        self._locked: tuple[str, ...] = ()
        self._hidden: dict[str, list[str]] = {}
        self._major = OLDEST_VERSION
        self._statement_name = (lambda: None) if options.prepared_statements else unique_name

    @contextlib.asynccontextmanager
    async def snapshot(self) -> AsyncIterator[PostgresSnapshot]:
        """Lock the mapped tables, then take a snapshot. Raises `SourceError`.

        The order matters: a snapshot older than a TRUNCATE finds the table empty (manual, "Caveats" of concurrency
        control). A locked table cannot be truncated any more. `pinning` protects the tables that cannot be locked.
        """
        async with self._watch.connection_for_snapshot() as connection:
            with explained(self.database):
                driver = await driver_of(connection)
                session, declared, tables = await self._begin(connection)
                self._hidden = declared.hidden
                taken_at = datetime.now(UTC)
                encoding = await _setting(connection, "server_encoding")
                if encoding == "SQL_ASCII":
                    await decode_leniently(connection)
            portals = Portals(session, self._statement_name)
            second = None
            if self._may_read_in_parallel(tables, declared):
                second = SecondConnection(session, portals.turn, partial(self.begin_beside, encoding))
            try:
                with self._watch.reading(portals), interruptible(portals.cancel):
                    catalog, here = declared.catalog, (self._url, self._options, self._locked)
                    shared = partial(SharedTransaction, *here, catalog, taken_at, self.database, encoding)
                    yield PostgresSnapshot(
                        session, portals, second, shared, catalog, taken_at, self.database, encoding
                    )
            finally:
                if second is not None:
                    await second.aclose()
                await portals.aclose()
                await close_in_time(session.close, driver)

    @contextlib.asynccontextmanager
    async def begin_beside(
        self, encoding: str, snapshot: str, locked: Sequence[str] | None = None
    ) -> AsyncIterator[AsyncConnection]:
        """Another transaction with the same snapshot; `locked` are the tables that the first one has locked.

        It locks without waiting: a migration may be queued behind the first transaction, and this one behind it.
        """
        async with self._connected() as opened:
            connection = await opened.execution_options(**_READ_ONLY)
            adopt, tables = f"SET TRANSACTION SNAPSHOT '{snapshot}'", self._locked if locked is None else locked
            await self._set_and_lock(connection, tables, first=adopt, wait="NOWAIT")
            if encoding == "SQL_ASCII":
                await decode_leniently(connection)
            yield connection

    def adopted(self, name: str, server: str, taken_at: datetime) -> AbstractAsyncContextManager[PostgresSnapshot]:
        """Open an exported snapshot by its name, as `AdoptingSource.adopted` says.

        It locks no table: the transaction that exported the snapshot has locked them.
        """
        return adopted(self.database, self.begin_beside, self._catalog, name, server, taken_at)

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[AsyncConnection]:
        """A new connection. Errors while it is closed are ignored."""
        with explained(self.database):
            opened = await self._engine.connect()
            driver = await driver_of(opened)
            self._major = driver.get_server_version().major
            if self._major < OLDEST_VERSION:
                await opened.close()
                raise SourceError(
                    f"{self.database} runs PostgreSQL {self._major}, which is too old.",
                    hint=f"Use version {OLDEST_VERSION} or newer.",
                )
        try:
            yield opened
        finally:
            await close_in_time(opened.close, driver)

    async def _begin(self, opened: AsyncConnection) -> tuple[AsyncSession, Declarations, Sequence[Table]]:
        """Begin the transaction, again until the locked tables are those that the snapshot's catalog maps."""
        connection = await opened.execution_options(**_READ_ONLY)
        driver = await driver_of(opened)
        deadline = asyncio.get_running_loop().time() + LOCK_TIMEOUT_S
        remapped = 0
        while remapped < _ATTEMPTS:
            with waiting():
                if not await self._lock_in_time(connection):
                    self._locked = ()
            declared = await self._catalog.read(connection)
            declared = await self._queries.describe(connection, declared)
            tables, left_out = self._mapped(declared)
            needed = _lockable([*tables, *left_out], declared)
            late = asyncio.get_running_loop().time() > deadline
            if needed != self._locked:
                self._locked = needed
                remapped += 1
            else:
                try:
                    others = unlocked([*tables, *left_out], declared.lockable)
                    with waiting():
                        pinned = await pin(connection, driver, others, LOCK_TRY_S, LOCK_TIMEOUT_S)
                    if pinned:
                        return AsyncSession(connection), declared, tables
                    if late:
                        break
                except DRIVER_ERRORS as error:
                    if late or sqlstate(error) != _LOCK_NOT_AVAILABLE:
                        raise
            await connection.rollback()
        raise SourceError(
            f"The tables of {self.database} keep changing.",
            hint="A migration may be running; the exporter tries again.",
        )

    async def _lock_in_time(self, connection: AsyncConnection) -> bool:
        """Lock the tables that were mapped last time; if one of them is gone, lock none and return false."""
        deadline = asyncio.get_running_loop().time() + LOCK_TIMEOUT_S
        while True:
            try:
                await self._set_and_lock(connection, self._locked)
                return True
            except DRIVER_ERRORS as error:
                gone = sqlstate(error) == _UNDEFINED_TABLE
                late = asyncio.get_running_loop().time() > deadline
                if not gone and (late or sqlstate(error) != _LOCK_NOT_AVAILABLE):
                    raise
            await connection.rollback()
            if gone:
                await self._set_and_lock(connection, ())
                return False

    async def _set_and_lock(
        self, connection: AsyncConnection, tables: Sequence[str], *, first: str = "", wait: str = ""
    ) -> None:
        """Set the transaction's parameters and lock the tables; `first` is a command that goes before them.

        All are utility commands, so none of them takes the transaction's snapshot.
        """
        await connection.exec_driver_sql("SET LOCAL TimeZone = 'UTC'")
        commands = [first] if first else []
        parameters = transaction_parameters(self._major, self._options.statement_timeout_s)
        commands += [f"SET LOCAL {name} = '{value}'" for name, value in parameters.items()]
        if tables:
            commands += [
                f"SET LOCAL lock_timeout = '{round(LOCK_TRY_S * 1000)}ms'",
                f"LOCK TABLE {', '.join(tables)} IN ACCESS SHARE MODE {wait}",
                f"SET LOCAL lock_timeout = '{round(LOCK_TIMEOUT_S * 1000)}ms'",
            ]
        await (await driver_of(connection)).execute("; ".join(commands))

    def _may_read_in_parallel(self, tables: Sequence[Table], declared: Declarations) -> bool:
        """Whether a second connection may be used: not if it might wait for the first, in a pool or for a lock.

        Nor may it read views: two transactions share a snapshot but not `now()`.
        """
        plain = all(table.kind == "table" and table.full_name in declared.lockable for table in tables)
        return plain and not declared.catalog.queries and self._options.prepared_statements

    def _mapped(self, declared: Declarations) -> tuple[list[Table], list[Table]]:
        """The mapped tables, and those that are only asked whether they have rows.

        None if the catalog cannot be mapped, which the reader of the snapshot reports.
        """
        try:
            mapping = map_catalog(declared.catalog, self._options.tables or None)
        except MappingError:
            return [], []
        mapped = [item.table for item in mapping.tables().values()]
        stored = [table for table in mapped if table.query is None]
        stored += [table for table in read_by_queries(mapped) if table not in stored]
        return stored, [item.table for item in mapping.left_out]

    def checks(self, interval_s: float, *, hooks: bool, wake: asyncio.Event | None = None) -> AsyncIterator[bool]:
        """As `Source.checks`: yields whether a transaction of the server has ended since the last check.

        It keeps one connection, without an open transaction. `hooks` changes nothing: a notification would need a
        trigger in the database. Raises `SourceError`.
        """
        return self._watch.checks(interval_s, wake or asyncio.Event())

    async def check_notes(self) -> list[str]:
        """The lines that `check` shows about this database. Raises `SourceError` and `MappingError`."""
        async with self.snapshot() as snapshot:
            mapping = map_catalog(snapshot.catalog, self._options.tables or None)
            prepared = self._options.prepared_statements
            with explained(self.database):
                notes = await check_notes(snapshot, mapping, self._hidden, prepared_statements=prepared)
            return notes if await self._has_second_connection() else [*notes, ONLY_ONE_CONNECTION]

    async def _has_second_connection(self) -> bool:
        """Whether a second connection can be opened now."""
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S), self._connected():
                return True
        except (SourceError, TimeoutError):
            return False

    async def aclose(self) -> None:
        """Dispose of the engine, which holds no connection between snapshots."""
        await self._engine.dispose()


def _lockable(tables: Sequence[Table], declared: Declarations) -> tuple[str, ...]:
    """The quoted names of those of these tables that can be locked."""
    return tuple(quoted(table) for table in tables if table.full_name in declared.lockable)


async def _setting(connection: AsyncConnection, name: str) -> str:
    return str((await connection.exec_driver_sql(f"SHOW {name}")).scalar_one())
