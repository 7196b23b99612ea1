"""The application's locks survive an exporter in the same process (sqlite.org/howtocorrupt.html, section 2.2)."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from autoexport.incremental import plan
from autoexport.sources.sqlite import private_copy
from tests.databases import SqliteDatabase
from tests.deadlines import deadline_s
from tests.properties.comparison import Exporting

_WRITE = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None)
try:
    connection.execute("BEGIN IMMEDIATE")
except sqlite3.OperationalError as error:
    print(error)
else:
    connection.execute("ROLLBACK")
    print("no lock")
"""


def another_process_writes(path: Path) -> str:
    """The result of a write lock in another process: SQLite's error, or "no lock"."""
    command = [sys.executable, "-I", "-c", _WRITE, str(path)]
    return subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=deadline_s(60)
    ).stdout.strip()


def change(database: SqliteDatabase) -> None:
    """Change a row, and leave the transaction open."""
    database.execute("UPDATE annotations SET x_min = x_min + 1 WHERE id = (SELECT min(id) FROM annotations)")


@pytest.fixture
def writing(sqlite_database: SqliteDatabase) -> SqliteDatabase:
    """The application, in this process, with an open write transaction that has changed a row."""
    sqlite_database.execute("BEGIN IMMEDIATE")
    change(sqlite_database)
    return sqlite_database


def test_the_danger_is_real(writing: SqliteDatabase) -> None:
    """A process that opens and closes the application's file loses its lock on it.

    This proves that the tests below would notice a lost lock.
    """
    assert another_process_writes(writing.path) == "database is locked"
    wal = writing.kind == "sqlite-wal"
    Path(f"{writing.path}-shm" if wal else writing.path).open("rb").close()
    assert another_process_writes(writing.path) == "no lock"


@pytest.mark.parametrize("apart", [False, True], ids=["by the backup API", "by a process"])
def test_whole_cycles_leave_the_lock(
    writing: SqliteDatabase, apart: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A first, idle, incremental and full export in the application's process leave its write lock."""
    monkeypatch.setattr(private_copy, "PROCESS_FROM_BYTES", 0 if apart else 1 << 40)
    monkeypatch.setattr(plan, "MOST_DIRTY", 1.0)
    exporting = Exporting(writing.url, tmp_path)

    def cycle(*, full: bool = False) -> str:
        done = asyncio.run(exporting.export(locked, full=full))
        locked()
        return done.outcome.manifest.mode if done.outcome.published else "idle"

    def locked() -> None:
        assert another_process_writes(writing.path) == "database is locked"

    assert cycle() == "full"
    assert cycle() == "idle"
    writing.execute("COMMIT")
    writing.execute("BEGIN IMMEDIATE")
    change(writing)
    assert cycle() == "incremental"
    assert cycle() == "idle"
    writing.execute("COMMIT")
    writing.execute("BEGIN IMMEDIATE")
    assert cycle(full=True) == "full"
    writing.execute("ROLLBACK")
    assert another_process_writes(writing.path) == "no lock"


async def test_looking_leaves_the_lock(writing: SqliteDatabase, tmp_path: Path) -> None:
    """Waiting for changes in the application's process touches its files only by stat."""
    from autoexport.config.settings import Settings
    from autoexport.sources import open_source

    source = open_source(Settings(database_url=writing.url, export_directory=tmp_path / "exports"))
    looks = source.checks(0.05, hooks=True)
    try:
        await anext(looks)
        assert another_process_writes(writing.path) == "database is locked"
        writing.execute("COMMIT")
        writing.execute("BEGIN IMMEDIATE")
        await anext(looks)
        assert another_process_writes(writing.path) == "database is locked"
    finally:
        await looks.aclose()  # type: ignore[attr-defined]
        await source.aclose()
    assert another_process_writes(writing.path) == "database is locked"
