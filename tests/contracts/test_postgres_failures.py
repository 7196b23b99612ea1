"""Failures of PostgreSQL: one line, a hint, no password, and the published files intact."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from urllib.parse import quote

import pytest
from sqlalchemy import column, select, table

from autoexport.config.settings import Settings
from autoexport.errors import SourceError
from autoexport.pipeline.exporter import export_once
from autoexport.pipeline.job import ExportJob
from autoexport.sources.contract import Snapshot, Source
from autoexport.sources.postgres import engine, source
from tests.conftest import run_autoexport
from tests.contracts.postgres_snapshots import snapshot_of, source_of
from tests.daemon import LIMIT_S
from tests.deadlines import deadline_s
from tests.postgres import PASSWORD, PostgresServer
from tests.postgres_connection import PostgresConnection

KILL = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'autoexport'"
MANY = "CREATE TABLE many AS SELECT n, repeat('x', 500) AS s FROM generate_series(1, 50000) n"


class Disturbed:
    """A source with whose snapshot something happens before it is read."""

    def __init__(self, source: Source, disturb: Callable[[], object]) -> None:
        self.database, self.identity = source.database, source.identity
        self._source, self._disturb = source, disturb

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Snapshot]:
        """The snapshot, and the disturbance."""
        async with self._source.snapshot() as snapshot:
            self._disturb()
            yield snapshot

    def is_large(self) -> bool:
        return self._source.is_large()

    def checks(self, interval_s: float, *, hooks: bool, wake: asyncio.Event | None = None) -> AsyncIterator[bool]:
        """No test calls this."""
        raise NotImplementedError

    async def aclose(self) -> None:
        """Release everything."""
        await self._source.aclose()


async def export(url: str, directory: Path, disturb: Callable[[], object] = bool, **settings: object) -> None:
    """One full export."""
    chosen = Settings(database_url=url, export_directory=directory, **settings)  # type: ignore[arg-type]
    source = Disturbed(source_of(url, **settings), disturb)
    await export_once(ExportJob.of(source, chosen), full=True)


def contents(directory: Path) -> dict[str, bytes]:
    """The published files."""
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


def understandable(error: SourceError) -> bool:
    """One line, what to do, exit code 1, no password, nothing of the driver's."""
    text = f"{error} {error.hint}"
    assert "\n" not in text
    assert error.hint
    assert error.exit_code == 1
    assert error.__cause__ is not None
    assert PASSWORD not in text
    assert quote(PASSWORD) not in text
    assert "asyncpg" not in text
    assert "sqlalche" not in text
    return True


async def test_connection_killed(url: str, application: PostgresConnection, tmp_path: Path) -> None:
    """A connection that is killed in mid-export: an error, the old files, and the next export is right."""
    directory = tmp_path / "exports"
    await export(url, directory)
    before = contents(directory)
    application.execute("DELETE FROM annotations")
    with pytest.raises(SourceError, match="was lost") as raised:
        await export(url, directory, lambda: application.execute(KILL))
    assert understandable(raised.value)
    assert contents(directory) == before
    await export(url, directory)
    assert contents(directory)["images.csv"] != before["images.csv"]


async def test_connection_killed_while_streaming(url: str, application: PostgresConnection) -> None:
    """Rows that were received are delivered, and the loss is an error, not an end of the rows."""
    application.execute(MANY)

    async def read() -> None:
        async with snapshot_of(url) as (snapshot, _):
            many = table("many", column("n"), column("s"))
            stream = snapshot.stream(select(many.c.n, many.c.s))
            await anext(stream)
            application.execute(KILL)
            async for _part in stream:
                pass

    with pytest.raises(SourceError) as raised:
        await read()
    assert understandable(raised.value)


async def test_a_server_that_falls_silent(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes what it is sent, and does not answer: the connection is given up without it."""
    monkeypatch.setattr(engine, "CLOSE_TIMEOUT_S", 0.2)
    session = 0
    try:
        async with asyncio.timeout(deadline_s(LIMIT_S)), snapshot_of(url) as (snapshot, _):
            connection = await snapshot.session.connection()
            session = (await connection.exec_driver_sql("SELECT pg_backend_pid()")).scalar_one()
            os.kill(session, signal.SIGSTOP)
    finally:
        os.kill(session, signal.SIGCONT)


async def test_server_stopped_while_streaming(own_postgres_server: PostgresServer) -> None:
    """A server that stops as in a crash, and one that is away, are errors that a retry may mend."""
    with own_postgres_server.database() as url:
        with closing(PostgresConnection(url)) as connection:
            connection.execute(MANY)

        async def read() -> None:
            async with snapshot_of(url) as (snapshot, _):
                many = table("many", column("n"), column("s"))
                stream = snapshot.stream(select(many.c.n, many.c.s))
                await anext(stream)
                own_postgres_server.stop("immediate")
                async for _part in stream:
                    pass

        with closing(PostgresConnection(url)) as connection:
            connection.script("CREATE TABLE IF NOT EXISTS unused (a int)")
        with pytest.raises(SourceError) as raised:
            await read()
        assert understandable(raised.value)
        with pytest.raises(SourceError, match="cannot be reached") as raised:
            await read()
        assert understandable(raised.value)
        looks = source_of(url).checks(1, hooks=True, wake=asyncio.Event())
        with pytest.raises(SourceError, match="cannot be reached"):
            await anext(looks)
        own_postgres_server.start()
        async with snapshot_of(url) as (_, mapping):
            assert mapping.images


async def test_statement_timeout(url: str, application: PostgresConnection, tmp_path: Path) -> None:
    """A statement that takes too long names the setting."""
    application.script(
        "ALTER TABLE annotations RENAME TO slow; CREATE SCHEMA apart; ALTER TABLE slow SET SCHEMA apart;"
        "CREATE VIEW annotations AS SELECT slow.* FROM apart.slow, pg_sleep(100) WHERE pg_sleep IS NOT NULL"
    )
    with pytest.raises(SourceError, match="statement timeout") as raised:
        await export(url, tmp_path / "exports", pg_statement_timeout=1)
    assert understandable(raised.value)
    assert "DB_EXPORT_PG_STATEMENT_TIMEOUT" in raised.value.hint


async def test_locked_table(
    url: str, application: PostgresConnection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table that is locked for long is not waited for without end."""
    monkeypatch.setattr(source, "LOCK_TIMEOUT_S", 0.1)
    application.script("BEGIN; LOCK TABLE images IN ACCESS EXCLUSIVE MODE")
    with pytest.raises(SourceError, match="locked") as raised:
        await export(url, tmp_path / "exports")
    assert understandable(raised.value)


async def test_no_permission_for_one_table(url: str, application: PostgresConnection, tmp_path: Path) -> None:
    """The table is named, and what its owner has to grant."""
    application.script("GRANT SELECT ON projects, datasets, images, labels TO reader")
    with pytest.raises(SourceError, match="permission denied for table annotations") as raised:
        await export(url.replace("application:", "reader:", 1), tmp_path / "exports")
    assert understandable(raised.value)
    assert "GRANT SELECT" in raised.value.hint


def _failing(server: PostgresServer, name: str) -> dict[str, tuple[str, str]]:
    wrong = server.url(name, password=f"not-{PASSWORD}")
    return {
        "unreachable": (f"postgresql://u:{PASSWORD}@127.0.0.1:1/{name}", "cannot be reached"),
        "unknown host": (f"postgresql://u:{PASSWORD}@no-such-host.invalid/{name}", "host"),
        "wrong password": (wrong, "password authentication failed"),
        "no such role": (server.url(name, user="nobody-i-know"), "refused the login"),
        "no such database": (server.url("no_such_database"), "does not exist"),
        "no TLS": (server.url(name) + "?sslmode=require", "sslmode"),
    }


@pytest.mark.parametrize(
    "case", ["unreachable", "unknown host", "wrong password", "no such role", "no such database", "no TLS"]
)
async def test_not_let_in(postgres_server: PostgresServer, postgres_database: str, case: str) -> None:
    """Whatever keeps it out is told, with what to do about it."""
    url, words = _failing(postgres_server, postgres_database.rpartition("/")[2])[case]
    with pytest.raises(SourceError) as raised:
        async with snapshot_of(url):
            pass
    assert understandable(raised.value)
    assert words in f"{raised.value} {raised.value.hint}"


@pytest.mark.parametrize(
    ("query", "option"),
    [
        ("sslmode=verify-full", "sslrootcert"),
        ("target_session_attrs=foo", "target_session_attrs"),
        ("options=-c%20foo%3D1", '"foo"'),
    ],
)
def test_options_that_cannot_be_used(url: str, tmp_path: Path, query: str, option: str) -> None:
    """Found by the driver or by the server, a wrong option is named, and the exit code is 2."""
    done = run_autoexport("--database-url", f"{url}?{query}", cwd=tmp_path, env={"HOME": str(tmp_path)})
    assert done.exit_code == 2, done.stderr
    assert option in done.stderr
    assert "server's log" not in done.stderr
    assert "built-in" not in done.stderr


def test_on_the_screen(url: str, application: PostgresConnection, tmp_path: Path) -> None:
    """The command line prints two lines, exits with 1 and leaves the files as they were."""
    done = run_autoexport("--database-url", url, "--export-dir", "out", cwd=tmp_path)
    assert done.exit_code == 0, done.stderr
    before = contents(tmp_path / "out")
    wrong = url.replace(PASSWORD, f"not-{PASSWORD}")
    done = run_autoexport("--database-url", wrong, "--export-dir", "out", cwd=tmp_path)
    assert done.exit_code == 1
    assert "password authentication failed" in done.stderr
    assert PASSWORD not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert contents(tmp_path / "out") == before
