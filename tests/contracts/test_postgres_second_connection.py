"""The second connection sees the same rows as the first, waits for no lock and leaves no session behind."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import column, func, select, table

from autoexport.errors import SourceError
from autoexport.sources import reader
from autoexport.sources.postgres import second_connection, session_limits
from tests.contracts.postgres_snapshots import all_rows, rows_of, snapshot_of
from tests.daemon import LIMIT_S
from tests.deadlines import deadline_s
from tests.postgres import APPLICATION, PostgresServer
from tests.postgres_connection import PostgresConnection
from tests.trials import RowsHook, Trial

IDS = select(column("id")).select_from(table("annotations")).order_by(column("id"))
MANY = select(func.repeat("x", 1000)).select_from(func.generate_series(1, 100_000).alias("n"))
SESSIONS = """
SELECT count(*) FROM pg_stat_activity WHERE application_name = 'autoexport' AND datname = current_database()
"""


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second connection may take as long as this slow a machine needs."""
    monkeypatch.setattr(second_connection, "OPEN_TIMEOUT_S", deadline_s(second_connection.OPEN_TIMEOUT_S))


@pytest.fixture
def in_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    """The few annotations of these databases are read as many are."""
    monkeypatch.setattr(reader, "READ_IN_HALVES", range(1, 10**9))


class Watching(RowsHook):
    """A progress display that counts the exporter's sessions while rows are being read."""

    def __init__(self, connection: PostgresConnection) -> None:
        super().__init__(self._count)
        self._connection = connection
        self.sessions = 0

    def _count(self) -> None:
        self.sessions = max(self.sessions, self._connection.execute(SESSIONS)[0][0])


async def gone(url: str) -> None:
    """Wait until no session of the exporter is left."""
    async with asyncio.timeout(deadline_s(LIMIT_S)):
        while True:
            with PostgresConnection(url) as connection:
                if connection.execute(SESSIONS)[0][0] == 0:
                    return
            await asyncio.sleep(0.02)


def test_the_same_bytes(url: str, tmp_path: Path, in_halves: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read in halves, by two sessions or more, or in one piece, by one."""
    halves, whole = Trial(url, tmp_path / "halves"), Trial(url, tmp_path / "whole")
    with PostgresConnection(url) as connection:
        two, one = Watching(connection), Watching(connection)
        assert halves.export(progress=two).published
        monkeypatch.setattr(reader, "READ_IN_HALVES", range(0))
        assert whole.export(progress=one).published
    assert two.sessions >= 2
    assert one.sessions == 1
    assert halves.contents() == whole.contents()
    assert halves.differences() == []


def test_no_second_connection(url: str, tmp_path: Path, in_halves: None, postgres_server: PostgresServer) -> None:
    """The role may have one more session than we have to watch it: that has to do."""
    trial = Trial(url, tmp_path / "exports")
    with PostgresConnection(url) as connection:
        watching = Watching(connection)
        postgres_server.admin(f"ALTER ROLE {APPLICATION} CONNECTION LIMIT 2")
        try:
            assert trial.export(progress=watching).published
        finally:
            postgres_server.admin(f"ALTER ROLE {APPLICATION} CONNECTION LIMIT -1")
    assert watching.sessions == 1
    assert trial.differences() == []


async def test_the_same_snapshot(url: str) -> None:
    """Commits after the snapshot are not visible on the second connection either."""
    async with snapshot_of(url) as (snapshot, _):
        with PostgresConnection(url) as application:
            assert application.execute("SELECT count(*) FROM annotations")[0][0] > 1
            application.execute("DELETE FROM annotations WHERE id > (SELECT min(id) FROM annotations)")
        beside = await all_rows(await snapshot.stream_in_parallel(IDS))
        assert len(beside) > 1
        assert beside == await rows_of(snapshot, IDS)
    await gone(url)


async def test_a_migration_waits_for_the_snapshot(url: str) -> None:
    """A second transaction queued behind the migration would wait for the first: so there is none, and no wait."""
    async with snapshot_of(url) as (snapshot, _):
        pass
    async with snapshot_of(url) as (snapshot, _):
        with PostgresConnection(url) as migration, PostgresConnection(url) as watching:
            waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'"
            locking = asyncio.create_task(
                asyncio.to_thread(migration.script, "BEGIN; LOCK TABLE images IN ACCESS EXCLUSIVE MODE; COMMIT")
            )
            async with asyncio.timeout(deadline_s(LIMIT_S)):
                while watching.execute(waiting) == [(0,)]:
                    await asyncio.sleep(0.02)
                assert await snapshot.stream_in_parallel(IDS) is None
            assert await rows_of(snapshot, IDS)
            assert not locking.done()
            await snapshot.session.rollback()
            await locking


async def test_what_is_not_wanted_any_more(url: str) -> None:
    """Most of the rows were never asked for: both sessions end with the snapshot."""
    async with snapshot_of(url) as (snapshot, _):
        parts = await snapshot.stream_in_parallel(MANY)
        assert parts is not None
        assert len(await anext(parts)) < 100_000
    await gone(url)


async def test_a_terminated_backend(url: str, postgres_server: PostgresServer) -> None:
    """An administrator ends the second session: an error with a hint, not an end of the rows."""
    async with snapshot_of(url) as (snapshot, _):
        parts = await snapshot.stream_in_parallel(MANY)
        assert parts is not None
        await anext(parts)
        here = (await snapshot.session.connection()).exec_driver_sql("SELECT pg_backend_pid()")
        process = (await here).scalar_one()
        end = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = ? AND usename = ?"
        postgres_server.admin(f"{end} AND pid <> ?", url.rpartition("/")[2], APPLICATION, process)
        with pytest.raises(SourceError, match="connection") as raised:
            await all_rows(parts)
        assert raised.value.hint


async def test_no_views(url: str) -> None:
    """A view may ask what time it is, which two transactions do not agree on."""
    with PostgresConnection(url) as application:
        application.execute("CREATE VIEW current_projects AS SELECT * FROM projects WHERE created_at < now()")
    tables = {"projects": {"table": "current_projects"}, "datasets": {"columns": {"project_id": "project_id"}}}
    async with snapshot_of(url, tables=tables) as (snapshot, mapping):
        assert mapping.tables()["projects"].table.kind == "view"
        assert await snapshot.stream_in_parallel(IDS) is None
        assert await rows_of(snapshot, IDS)


async def test_neither_connection_is_idle_for_long(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the rows of one are read, the server would end the transaction of the other."""
    idle_limit_s = deadline_s(0.5)
    monkeypatch.setattr(session_limits, "IDLE_LIMIT_S", idle_limit_s)
    monkeypatch.setattr(second_connection, "KEEP_S", 0.05)
    async with snapshot_of(url) as (snapshot, _):
        parts = await snapshot.stream_in_parallel(MANY)
        with PostgresConnection(url) as application:
            await asyncio.to_thread(application.execute, f"SELECT pg_sleep({3 * idle_limit_s})")
        assert len(await all_rows(parts)) == 100_000
        assert await rows_of(snapshot, IDS)
