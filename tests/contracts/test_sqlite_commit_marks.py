"""The marks of a SQLite file differ after each commit, and reading changes none."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing, closing
from pathlib import Path
from typing import cast

import pytest

from autoexport.sources.sqlite.commit_marks import CommitMarks, read_marks
from autoexport.sources.sqlite.watch import YOUNG_S, take_stamp, watch_file
from tests.daemon import LIMIT_S
from tests.deadlines import deadline_s

JOURNALS = ("delete", "truncate", "persist", "wal")


@pytest.fixture(params=JOURNALS)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A database in each journal mode."""
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA journal_mode = {request.param}")
        connection.execute("CREATE TABLE t (a)")
    return path


def opened(path: Path) -> sqlite3.Connection:
    """A connection of the application. A checkpoint comes after a few pages, so that the log starts over."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA wal_autocheckpoint = 3")
    return connection


@pytest.mark.parametrize("stays_open", [True, False], ids=["kept open", "opened for each commit"])
def test_each_commit_changes_the_marks(path: Path, stays_open: bool) -> None:
    """Also where the log starts over in place, and where the last connection removes it."""
    seen = [read_marks(path)]
    application = opened(path)
    for number in range(12):
        if not stays_open:
            application.close()
            application = opened(path)
        application.execute("INSERT INTO t VALUES (?)", (number,))
        seen.append(read_marks(path))
    application.close()
    assert None not in seen
    assert len(set(seen)) == len(seen)


def test_reading_and_rolling_back_change_no_marks(path: Path) -> None:
    """A read-only connection, as ours is, and a transaction that is rolled back before it is written."""
    with closing(opened(path)) as application:
        application.execute("INSERT INTO t VALUES (1)")
        before = read_marks(path)
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as reader:
            reader.execute("SELECT * FROM t").fetchall()
        application.execute("BEGIN IMMEDIATE")
        application.execute("INSERT INTO t VALUES (2)")
        application.execute("ROLLBACK")
        assert read_marks(path) == before


def test_marks_that_cannot_be_read_prove_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is gone, a snapshot that failed, and a program that is no interpreter."""
    marks = CommitMarks(path)
    marks.remember()
    assert not marks.unchanged(), "they are not used"
    marks.used = True
    marks.remember()
    assert marks.unchanged()
    monkeypatch.setattr("autoexport.sources.sqlite.commit_marks.is_interpreter", lambda: False)
    assert not marks.unchanged()
    monkeypatch.undo()
    away = path.rename(path.with_name("away"))
    assert not marks.unchanged()
    away.rename(path)
    assert marks.unchanged()
    marks.forget()
    assert not marks.unchanged()


@pytest.mark.parametrize("commits", [False, True], ids=["nothing", "a commit"])
async def test_the_second_look_at_a_young_file_asks_the_marks(path: Path, commits: bool) -> None:
    """A snapshot is only asked for if something was committed since the last one began."""
    marks, now = CommitMarks(path), [take_stamp(path).newest_s]
    marks.used = True
    checks = watch_file(
        path, 0.01, hooks=False, wake=asyncio.Event(), clock=lambda: now[0], unchanged=marks.unchanged
    )
    async with asyncio.timeout(deadline_s(LIMIT_S)), aclosing(cast(AsyncGenerator[bool], checks)):
        assert await anext(checks)
        marks.remember()
        if commits:
            with closing(opened(path)) as application:
                application.execute("INSERT INTO t VALUES (1)")
                assert await anext(checks), "the stamp shows it"
                now[0] = take_stamp(path).newest_s
        now[0] += YOUNG_S
        assert [await anext(checks) for _ in range(3)] == [commits, False, False]


def test_the_worker_reads_only(path: Path) -> None:
    """Run as it is, the program prints three lines and leaves nothing beside the file."""
    from autoexport.sources.sqlite import mark_worker

    names = sorted(child.name for child in path.parent.iterdir())
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(mark_worker.__file__), str(path)],
        capture_output=True, check=True, timeout=deadline_s(LIMIT_S),
    )  # fmt: skip
    assert done.stdout.count(b"\n") == 3
    assert sorted(child.name for child in path.parent.iterdir()) == names
