"""An exporter embedded in another program: its public names, and everything that it must not do there."""

from __future__ import annotations

import asyncio
import logging
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from structlog.testing import capture_logs

import autoexport
from autoexport import AutoexportError, Settings, export_once, exporting, run_exporter, watch_engine
from autoexport.errors import ConfigurationError, SourceError
from tests.bench.generate import write_sqlite
from tests.conftest import program_environment
from tests.daemon import LIMIT_S, generation, leftovers, project_names, wait_until
from tests.databases import Database, SqliteDatabase
from tests.deadlines import deadline_s
from tests.processes import started

RENAME = "UPDATE projects SET name = ? WHERE id = 1"


@pytest.fixture
def exports(tmp_path: Path) -> Path:
    """The directory for the files, which does not exist yet."""
    return tmp_path / "exports"


async def eventually(condition: Callable[[], object], what: str) -> None:
    """Let the event loop run until the condition is true. Raises AssertionError after a long while."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < deadline_s(LIMIT_S), f"never: {what}"
        await asyncio.sleep(0.01)


# --- run_exporter ------------------------------------------------------------------------------------


async def test_it_runs_until_it_is_told_to_stop(database: Database, exports: Path) -> None:
    """It exports, follows the database, and returns soon after the event is set, without leftovers."""
    stop = asyncio.Event()
    settings = Settings(database_url=database.url, export_directory=exports, check_interval=0.2)
    task = asyncio.create_task(run_exporter(settings, stop=stop))
    await eventually(lambda: generation(exports) == 1, "the first export")
    database.execute(RENAME, "in an embedding")
    await eventually(lambda: "in an embedding" in project_names(exports), "the change is published")
    stop.set()
    async with asyncio.timeout(deadline_s(LIMIT_S)):
        await task
    assert leftovers(exports) == []


async def test_cancelling_it_cleans_up(tmp_path: Path, exports: Path) -> None:
    """Cancelled during an export, it publishes no part of a file and leaves no working file."""
    path = tmp_path / "larger.sqlite3"
    write_sqlite(path, 10_000, 4, seed=1, indexes=True, journal="wal")
    settings = Settings(database_url=str(path), export_directory=exports)
    with capture_logs() as logs:
        task = asyncio.create_task(run_exporter(settings))
        await eventually(lambda: any(line["event"] == "plan.made" for line in logs), "an export is in hand")
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert generation(exports) == 0
    assert leftovers(exports) == []


@pytest.mark.parametrize(
    ("monitoring", "environment"), [(False, "development"), (True, "production")], ids=["off", "production"]
)
async def test_without_monitoring_it_is_one_export(
    sqlite_database: SqliteDatabase, exports: Path, monitoring: bool, environment: str
) -> None:
    """It exports once and returns."""
    settings = Settings(
        database_url=sqlite_database.url, export_directory=exports, enable_monitoring=monitoring,
        environment=environment,
    )  # fmt: skip
    async with asyncio.timeout(deadline_s(LIMIT_S)):
        await run_exporter(settings)
    assert generation(exports) == 1


async def test_switched_off_it_returns_at_once(sqlite_database: SqliteDatabase, exports: Path) -> None:
    """Switched off, it creates nothing, and `export_now` raises an error that says so."""
    settings = Settings(database_url=sqlite_database.url, export_directory=exports, enable_auto_export=False)
    async with asyncio.timeout(deadline_s(LIMIT_S)):
        await run_exporter(settings)
    async with exporting(settings) as exporter:
        exporter.wake()
        with pytest.raises(ConfigurationError, match="switched off"):
            await exporter.export_now()
    assert not exports.exists()


async def test_settings_come_from_the_environment(
    sqlite_database: SqliteDatabase, exports: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without settings, those of the environment apply."""
    monkeypatch.setenv("DB_EXPORT_DATABASE_URL", sqlite_database.url)
    monkeypatch.setenv("DB_EXPORT_EXPORT_DIRECTORY", str(exports))
    async with asyncio.timeout(deadline_s(LIMIT_S)):
        await run_exporter(monitor=False)
    assert generation(exports) == 1


async def test_what_trying_again_cannot_help_is_raised(tmp_path: Path, exports: Path) -> None:
    """A configuration error is raised as it is, not as a group, and no directory is created."""
    from tests.databases import SqliteConnection

    path = tmp_path / "strange.sqlite3"
    connection = SqliteConnection(path)
    connection.execute("CREATE TABLE strange (a)")
    connection.close()
    async with asyncio.timeout(deadline_s(LIMIT_S)):
        with pytest.raises(ConfigurationError):
            await run_exporter(Settings(database_url=str(path), export_directory=exports))
    assert not exports.exists()


# --- export_once -------------------------------------------------------------------------------------


async def test_one_export_returns_its_manifest(database: Database, exports: Path) -> None:
    """Each call exports what is committed by then; `full` renders everything, and a cancelled one nothing."""
    settings = Settings(database_url=database.url, export_directory=exports)
    assert (await export_once(settings)).generation == 1
    database.execute(RENAME, "once more")
    manifest = await export_once(settings)
    assert (manifest.generation, manifest.mode) == (2, "incremental")
    assert "once more" in project_names(exports)
    database.execute(RENAME, "from scratch")
    cancelled = asyncio.create_task(export_once(settings))
    await asyncio.sleep(0)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    assert generation(exports) == 2
    assert (await export_once(settings, full=True)).mode == "full"
    assert leftovers(exports) == []


async def test_one_export_raises_what_goes_wrong(tmp_path: Path, exports: Path) -> None:
    """A database that is not there, and an export that is switched off, are errors; nothing is created."""
    settings = Settings(database_url=str(tmp_path / "missing.db"), export_directory=exports)
    with pytest.raises(SourceError, match="no database file"):
        await export_once(settings)
    with pytest.raises(ConfigurationError, match="switched off"):
        await export_once(Settings(database_url=str(tmp_path / "missing.db"), enable_auto_export=False))
    assert not exports.exists()


# --- exporting ---------------------------------------------------------------------------------------


async def test_export_now_returns_what_then_stands(database: Database, exports: Path) -> None:
    """The export has everything that was committed before, without waiting for a check or the cooldown."""
    settings = Settings(database_url=database.url, export_directory=exports, check_interval=3600)
    async with exporting(settings) as exporter:
        for turn in range(3):
            database.execute(RENAME, f"turn {turn}")
            manifest = await exporter.export_now()
            assert f"turn {turn}" in project_names(exports)
            assert manifest.generation == generation(exports)
        again = await exporter.export_now()
        assert again.generation == manifest.generation
    assert leftovers(exports) == []


async def test_export_now_raises_what_goes_wrong(sqlite_database: SqliteDatabase, exports: Path) -> None:
    """The caller of `export_now` gets the error, and the background goes on."""
    settings = Settings(database_url=sqlite_database.url, export_directory=exports, check_interval=0.1)
    sqlite_database.close()
    async with exporting(settings) as exporter:
        await exporter.export_now()
        away = sqlite_database.path.rename(sqlite_database.path.with_name("away"))
        with pytest.raises(SourceError, match="no database file"):
            await exporter.export_now()
        away.rename(sqlite_database.path)
        assert (await exporter.export_now()).generation == 1


async def test_export_now_without_monitoring(sqlite_database: SqliteDatabase, exports: Path) -> None:
    """After its one export, an application may still ask for as many as it likes."""
    settings = Settings(database_url=sqlite_database.url, export_directory=exports, environment="production")
    async with exporting(settings) as exporter:
        await eventually(lambda: generation(exports) == 1, "the one export")
        sqlite_database.execute(RENAME, "asked for")
        await exporter.export_now()
        assert "asked for" in project_names(exports)


async def test_export_now_after_the_end_says_so(sqlite_database: SqliteDatabase, exports: Path) -> None:
    """It neither waits for ever nor exports for an application that has closed its database."""
    settings = Settings(database_url=sqlite_database.url, export_directory=exports)
    async with exporting(settings) as exporter:
        await exporter.export_now()
    async with asyncio.timeout(deadline_s(LIMIT_S)):
        with pytest.raises(AutoexportError, match="was stopped"):
            await exporter.export_now()


async def test_wake_makes_it_look(sqlite_database: SqliteDatabase, exports: Path) -> None:
    """Called from any thread, `wake` causes a check at once, without waiting for the interval."""
    settings = Settings(
        database_url=sqlite_database.url, export_directory=exports, check_interval=3600, enable_hooks=False
    )
    async with exporting(settings) as exporter:
        await eventually(lambda: generation(exports) == 1, "the first export")
        await eventually(lambda: exporter.health.report.state == "watching", "it is over")
        sqlite_database.execute(RENAME, "woken")
        await asyncio.to_thread(exporter.wake)
        await eventually(lambda: "woken" in project_names(exports), "the change is published")


async def test_a_commit_of_the_application_s_engine_wakes_it(postgres_database: str, exports: Path) -> None:
    """A commit causes a check long before the next one is due; nothing else would on PostgreSQL."""
    from tests.applications import fill_postgres
    from tests.postgres_connection import PostgresConnection

    with PostgresConnection(postgres_database) as connection:
        fill_postgres(connection)
    engine = create_async_engine(postgres_database.replace("postgresql://", "postgresql+asyncpg://"))
    watch_engine(engine)
    settings = Settings(database_url=postgres_database, export_directory=exports, check_interval=3600)
    async with exporting(settings) as exporter:
        await eventually(lambda: generation(exports) == 1, "the first export")
        await eventually(lambda: exporter.health.report.state == "watching", "it is over")
        async with engine.begin() as connection_:
            await connection_.execute(text("UPDATE projects SET name = 'committed here' WHERE id = 1"))
        await eventually(lambda: "committed here" in project_names(exports), "the change is published")
    await engine.dispose()


async def test_two_in_one_process_do_not_both_export(sqlite_database: SqliteDatabase, exports: Path) -> None:
    """The locks hold between tasks as they do between processes; either can be asked to export."""
    settings = Settings(database_url=sqlite_database.url, export_directory=exports, check_interval=0.1)
    async with exporting(settings) as first, exporting(settings) as second:
        await eventually(lambda: generation(exports) == 1, "the first export")
        states = {first.health.report.state, second.health.report.state}
        await eventually(
            lambda: {first.health.report.state, second.health.report.state} == {"watching", "standing by"},
            f"one waits: {states}",
        )
        assert (await first.export_now()).generation == (await second.export_now()).generation == 1


async def test_a_configuration_error_is_logged_and_does_not_end_the_application(
    sqlite_database: SqliteDatabase, exports: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With the export directory of another database, the lifespan goes on and `export_now` raises the error."""
    await run_exporter(Settings(database_url=sqlite_database.url, export_directory=exports), monitor=False)
    other = sqlite_database.path.with_name("other.sqlite3")
    sqlite_database.execute(f"VACUUM INTO '{other}'")
    with caplog.at_level(logging.ERROR, logger="autoexport"):
        async with exporting(Settings(database_url=str(other), export_directory=exports)) as exporter:
            with pytest.raises(AutoexportError, match="another database"):
                await exporter.export_now()
            await eventually(lambda: "exporter.ended" in caplog.text, "the end is logged")


# --- manners -----------------------------------------------------------------------------------------

_QUIET = """
import asyncio, logging, signal, sys
from autoexport import Settings, exporting

async def main():
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    async with exporting(Settings(database_url=sys.argv[1], export_directory=sys.argv[2])) as exporter:
        await exporter.export_now()
        assert {number: signal.getsignal(number) for number in signal.valid_signals()} == handlers
        assert not logging.root.handlers and not logging.getLogger("autoexport").handlers
asyncio.run(main())
"""


def test_it_has_the_manners_of_a_guest(sqlite_database: SqliteDatabase, exports: Path) -> None:
    """It installs no signal handler, sets up no logging, and prints nothing to standard output or error."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _QUIET, sqlite_database.url, str(exports)],
        env=program_environment(), capture_output=True, text=True, timeout=deadline_s(60), check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_importing_the_package_is_cheap() -> None:
    """The import loads no driver, database library or settings library, and all public names are there."""
    probe = (
        "import sys, autoexport; heavy = {'sqlalchemy', 'pydantic', 'structlog', 'watchfiles', 'asyncio'};"
        "print(sorted(heavy & set(sys.modules)), all(hasattr(autoexport, name) for name in autoexport.__all__))"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe], env=program_environment(), capture_output=True, text=True,
        timeout=deadline_s(60), check=True,
    )  # fmt: skip
    assert done.stdout == "[] True\n"
    with pytest.raises(AttributeError):
        _ = autoexport.no_such_name  # type: ignore[attr-defined]


async def test_the_application_s_loop_is_not_held_up(
    tmp_path: Path, exports: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """During a first export no step of the loop takes long: one percent of the export's processor time at most.

    Both are measured on the same machine, so its speed does not matter. `tests.bench.loop_lag` measures how late
    the loop is.
    """
    path = tmp_path / "larger.sqlite3"
    write_sqlite(path, 15_000, 5, seed=1, indexes=True, journal="wal")
    steps_s: list[float] = []
    run = asyncio.Handle._run

    def step(handle: asyncio.Handle) -> None:
        began = time.thread_time()
        run(handle)
        steps_s.append(time.thread_time() - began)

    monkeypatch.setattr(asyncio.Handle, "_run", step)
    began = time.process_time()
    async with exporting(Settings(database_url=str(path), export_directory=exports)):
        await eventually(lambda: generation(exports) == 1, "the first export")
        export_s = time.process_time() - began
    monkeypatch.undo()
    steps_s.sort()
    print(f"of {export_s * 1000:.0f} ms, the longest steps took {[round(s * 1000, 1) for s in steps_s[-5:]]} ms")
    assert steps_s[int(len(steps_s) * 0.99)] <= 0.01 * export_s


def test_a_signal_of_the_host_is_the_host_s(sqlite_database: SqliteDatabase, exports: Path) -> None:
    """SIGINT ends an asyncio program as it always does, without leftovers."""
    program = (
        "import asyncio, sys\nfrom autoexport import Settings, run_exporter\n"
        "asyncio.run(run_exporter(Settings(database_url=sys.argv[1], export_directory=sys.argv[2])))"
    )
    with started(
        [sys.executable, "-c", program, sqlite_database.url, str(exports)], env=program_environment(),
        stderr=subprocess.PIPE, text=True,
    ) as host:  # fmt: skip
        wait_until(lambda: generation(exports) == 1, "the first export")
        host.send_signal(signal.SIGINT)
        _, complaint = host.communicate(timeout=deadline_s(LIMIT_S))
    assert complaint.rstrip().endswith("KeyboardInterrupt")
    assert leftovers(exports) == []
