"""Noticing that something may have changed: by stat, by events, by wake-ups; and when to act on it."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine
from structlog.testing import capture_logs

from autoexport import watch_engine
from autoexport.daemon import detector
from autoexport.daemon import schedule as loop
from autoexport.daemon.budget import Budget
from autoexport.daemon.detector import detect
from autoexport.daemon.health import Health
from autoexport.daemon.schedule import QUIET_S, ExportSchedule, Work, export_forever
from autoexport.errors import AutoexportError, LockedError, PublishError, SourceError
from autoexport.publishing.file_watch import PublishedFilesWatch
from autoexport.publishing.identity import FileIdentity
from autoexport.publishing.locks import LEADER_LOCK, Lock
from autoexport.runtime.wake import Bell, hearing_commits, pause
from autoexport.sources.sqlite.watch import YOUNG_S, FileEvents, take_stamp, watch_file
from tests.databases import SqliteDatabase
from tests.deadlines import deadline_s

LONG_S = 30.0
"""Seconds on the reference machine that nothing here takes."""

NEVER_S = 1e6
"""Longer than any deadline: what arrives, arrived for another reason than this time."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file that stands for a database; for `stat` any will do."""
    path = tmp_path / "app.db"
    path.write_bytes(b"some bytes")
    return path


def old_enough(path: Path) -> float:
    """A moment at which none of the file's time stamps is young any more."""
    return take_stamp(path).newest_s + YOUNG_S + 1


class Answers:
    """The checks of a watched file, one at a time."""

    def __init__(
        self, path: Path, now: float | None = None, *, hooks: bool = False, interval_s: float = 0.01
    ) -> None:
        self.now = old_enough(path) if now is None else now
        self.wake = asyncio.Event()
        self.checks: Any = watch_file(path, interval_s, hooks=hooks, wake=self.wake, clock=lambda: self.now)

    async def next(self) -> bool:
        """The answer of the next check."""
        async with asyncio.timeout(deadline_s(LONG_S)):
            return bool(await anext(self.checks))

    async def next_yes(self) -> None:
        """Wait for a check that says yes."""
        while not await self.next():
            pass


# --- a SQLite file -----------------------------------------------------------------------------------


async def test_the_first_check_says_yes_and_then_only_changes_do(path: Path) -> None:
    """Of content, of size, of time stamps; the file gone, back, and replaced by another."""
    answers = Answers(path)
    async with aclosing(answers.checks):
        assert [await answers.next() for _ in range(3)] == [True, False, False]
        changes = [
            lambda: path.write_bytes(b"other bytes"),
            lambda: os.utime(path, (1, 1)),
            lambda: path.rename(path.with_name("away")),
            lambda: path.with_name("away").rename(path),
            lambda: Path(f"{path}-wal").write_bytes(b"frames"),
            lambda: Path(f"{path}-wal").unlink(),
            lambda: Path(f"{path}-journal").write_bytes(b"pages"),
            lambda: Path(f"{path}-journal").unlink(),
            lambda: (path.with_name("new").write_bytes(b"other bytes"), path.with_name("new").replace(path)),
        ]
        for number, change in enumerate(changes):
            change()
            answers.now = time.time() + LONG_S
            assert await answers.next(), number
            assert not await answers.next(), number


async def test_our_own_traces_are_no_change(path: Path) -> None:
    """The empty `-wal` and the `-shm` that opening a WAL database makes, and an empty journal."""
    answers = Answers(path)
    async with aclosing(answers.checks):
        await answers.next()
        for suffix in ("-wal", "-journal"):
            Path(path.name + suffix)
            Path(f"{path}{suffix}").touch()
        Path(f"{path}-shm").write_bytes(b"index")
        (path.parent / "database_export.json").write_text("{}")
        assert not await answers.next()


async def test_a_young_change_is_looked_at_once_more(path: Path) -> None:
    """Two commits may share a time stamp: once it is old, one more yes, and then no more."""
    newest = take_stamp(path).newest_s
    answers = Answers(path, newest + YOUNG_S / 2)
    async with aclosing(answers.checks):
        assert [await answers.next() for _ in range(3)] == [True, False, False]
        answers.now = newest + YOUNG_S
        assert [await answers.next() for _ in range(3)] == [True, False, False]


async def test_a_time_stamp_of_the_future_counts_as_young_once(path: Path) -> None:
    """A clock that is ahead elsewhere must neither hide changes nor make for looks without end."""
    now = time.time()
    os.utime(path, (now + 10_000, now + 10_000))
    answers = Answers(path, now)
    async with aclosing(answers.checks):
        assert [await answers.next() for _ in range(2)] == [True, False]
        answers.now = now + YOUNG_S
        assert [await answers.next() for _ in range(3)] == [True, False, False]


async def test_a_link_is_followed_to_where_the_companions_are(tmp_path: Path, path: Path) -> None:
    """SQLite keeps the WAL beside the real file; a link that is pointed elsewhere is another database."""
    link = tmp_path / "links" / "current.db"
    link.parent.mkdir()
    link.symlink_to(path)
    answers = Answers(link)
    async with aclosing(answers.checks):
        await answers.next()
        Path(f"{path}-wal").write_bytes(b"frames")
        answers.now = old_enough(path)
        assert await answers.next()
        other = tmp_path / "other.db"
        other.write_bytes(b"some bytes")
        link.unlink()
        link.symlink_to(other)
        assert await answers.next()


async def test_a_file_event_ends_the_waiting(sqlite_database: SqliteDatabase) -> None:
    """A commit is seen long before the interval is over; so it is after the directory was replaced."""
    directory = sqlite_database.path.parent / "moving"
    directory.mkdir()
    database = SqliteDatabase(directory / "app.db", sqlite_database.kind)
    database.execute(f"PRAGMA journal_mode = {database.kind.removeprefix('sqlite-')}")
    database.execute("CREATE TABLE t (a)")
    answers = Answers(database.path, hooks=True, interval_s=NEVER_S)
    async with aclosing(answers.checks):
        await answers.next()
        for turn in range(2):
            # Either the commit comes before the thread listens, then beginning to listen rings; or after it.
            database.execute("INSERT INTO t VALUES (?)", turn)
            await answers.next_yes()
        database.close()
        moved = directory.with_name("moved")
        directory.rename(moved)
        answers.wake.set()
        await answers.next_yes()
        moved.rename(directory)
        (directory / "other").touch()
        answers.wake.set()
        await answers.next_yes()
        database.execute("INSERT INTO t VALUES (3)")
        await answers.next_yes()
        database.close()


@pytest.mark.parametrize("module", [None, SimpleNamespace(RustNotify=dict, WatchfilesRustInternalError=OSError)])
async def test_other_file_events_than_expected_leave_polling(
    path: Path, module: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A release of watchfiles without the private class, or with other parameters: one line says so."""
    monkeypatch.setitem(sys.modules, "watchfiles._rust_notify", module)  # type: ignore[arg-type]
    events = FileEvents(path, Bell(asyncio.Event(), asyncio.get_running_loop()))
    with capture_logs() as logs:
        events.follow()
        events.close()
    assert [entry["event"] for entry in logs] == ["hooks.unavailable"]


async def test_reading_the_database_is_no_change(sqlite_database: SqliteDatabase) -> None:
    """Opening and reading it, and writing other files beside it, may make for a check but for no look."""
    sqlite_database.execute("SELECT 1 FROM projects")
    answers = Answers(sqlite_database.path, hooks=True, interval_s=0.02)
    async with aclosing(answers.checks):
        await answers.next()
        for _ in range(20):
            uri = f"file:{sqlite_database.path}?mode=ro"
            with closing(sqlite3.connect(uri, uri=True)) as connection:
                connection.execute("SELECT count(*) FROM annotations").fetchall()
            (sqlite_database.path.parent / "database_export.json").write_text("{}")
            assert not await answers.next()


async def test_it_stops_at_once(path: Path) -> None:
    """A cancelled watch does not wait for the next check, and its thread is gone too."""
    threads = set(threading.enumerate())
    answers = Answers(path, hooks=True, interval_s=NEVER_S)
    await answers.next()
    waiting = asyncio.ensure_future(answers.next())
    await asyncio.sleep(0)
    waiting.cancel()
    async with asyncio.timeout(deadline_s(LONG_S)):
        await asyncio.wait({waiting})
        await answers.checks.aclose()
    assert not [one for one in set(threading.enumerate()) - threads if "file events" in one.name]


# --- the detector ------------------------------------------------------------------------------------


async def scripted(*answers: bool) -> AsyncIterator[bool]:
    """A source that gives these answers, then none."""
    for answer in answers:
        yield answer
    await asyncio.Event().wait()


@pytest.fixture
def lock(tmp_path: Path) -> Lock:
    """The leader lock, taken."""
    lock = Lock(tmp_path, LEADER_LOCK)
    assert lock.try_take()
    return lock


async def test_looks_merge_on_the_queue(tmp_path: Path, lock: Lock) -> None:
    """However many there are, one is waiting; each check is a sign of life."""
    queue: asyncio.Queue[None] = asyncio.Queue(maxsize=1)
    checks: list[float] = []
    health = Health(1.0, clock=lambda: checks.append(0.0) or float(len(checks)))
    looks = scripted(True, False, True, True)
    task = asyncio.create_task(detect(looks, queue, PublishedFilesWatch(tmp_path, lock), health, 1.0))
    async with asyncio.timeout(deadline_s(LONG_S)):
        while (health.report.last_check_at or 0) < 5:
            await asyncio.sleep(0)
    assert queue.qsize() == 1
    task.cancel()
    await asyncio.wait({task})


async def test_it_looks_seldom_while_a_look_is_pending(
    tmp_path: Path, lock: Lock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The export to come serves for whatever they would find."""
    monkeypatch.setattr(detector, "PENDING_S", NEVER_S)
    queue: asyncio.Queue[None] = asyncio.Queue(maxsize=1)
    health = Health(0.05)
    found: list[int] = []

    async def answers() -> AsyncIterator[bool]:
        while True:
            found.append(queue.qsize())
            yield True

    task = asyncio.create_task(detect(answers(), queue, PublishedFilesWatch(tmp_path, lock), health, 0.05))
    async with asyncio.timeout(deadline_s(LONG_S)):
        while len(found) < 2:
            await asyncio.sleep(0)
    await asyncio.sleep(0.3)
    assert found == [0, 1]
    task.cancel()
    await asyncio.wait({task})


async def test_a_published_file_that_somebody_changed_is_a_look(tmp_path: Path, lock: Lock) -> None:
    """Deleted, edited; but not what the exporter did itself."""
    published_files = PublishedFilesWatch(tmp_path, lock)
    published = tmp_path / "projects.csv"
    assert not published_files.tampered()
    published_files.begin_own_changes()
    published.write_text("ours")
    assert not published_files.tampered()
    published_files.end_own_changes()
    assert not published_files.tampered()
    published.write_text("edited")
    assert published_files.tampered()
    assert not published_files.tampered()
    published.unlink()
    assert published_files.tampered()


async def test_a_published_file_that_somebody_edits_during_an_export_is_a_look(tmp_path: Path, lock: Lock) -> None:
    """Whether he writes into it or replaces it: how it was left is known."""
    published_files = PublishedFilesWatch(tmp_path, lock)
    names = ("projects.csv", "images.csv")
    for edit in (append, save_anew):
        published_files.begin_own_changes()
        for name in names:
            (tmp_path / name).write_text("ours")
        left = {name: FileIdentity.of(tmp_path / name, 0) for name in names}
        edit(tmp_path / "images.csv")
        published_files.end_own_changes(left)
        assert published_files.tampered()
        assert not published_files.tampered()
        published_files.begin_own_changes()
        published_files.end_own_changes({name: FileIdentity.of(tmp_path / name, 0) for name in names})
        assert not published_files.tampered()


def append(path: Path) -> None:
    """As a program that adds to a file."""
    with path.open("a") as file:
        file.write("and more")


def save_anew(path: Path) -> None:
    """As an editor that replaces it."""
    path.with_name("new").write_text("his")
    path.with_name("new").replace(path)


def test_a_lock_that_was_taken_away_ends_the_cycle(tmp_path: Path, lock: Lock) -> None:
    """The state directory was removed: another process may have it by now."""
    (tmp_path / LEADER_LOCK).unlink()
    with pytest.raises(PublishError, match="removed or replaced"):
        PublishedFilesWatch(tmp_path, lock).tampered()


# --- the exporter's side -----------------------------------------------------------------------------


async def test_a_burst_is_one_export(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks that follow each other within the quiet time are waited for; one export serves them all."""
    quiet_s = deadline_s(QUIET_S)
    monkeypatch.setattr(loop, "QUIET_S", quiet_s)
    monkeypatch.setattr(loop, "LONGEST_BURST_S", NEVER_S)
    queue: asyncio.Queue[None] = asyncio.Queue(maxsize=1)
    exported: list[float] = []

    async def export() -> Work:
        exported.append(time.monotonic())
        return Work()

    task = asyncio.create_task(export_forever(queue, export, ExportSchedule(Budget(0.1))))
    last = 0.0
    for _ in range(4):
        await queue.put(None)
        last = time.monotonic()
        await asyncio.sleep(quiet_s / 10)
    async with asyncio.timeout(deadline_s(LONG_S)):
        while not exported:
            await asyncio.sleep(0.01)
    assert len(exported) == 1
    assert exported[0] - last >= quiet_s * 0.9
    task.cancel()
    await asyncio.wait({task})


async def test_a_burst_without_end_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the longest burst it is exported, however many looks still come."""
    monkeypatch.setattr(loop, "QUIET_S", NEVER_S)
    monkeypatch.setattr(loop, "LONGEST_BURST_S", 2 * NEVER_S)
    now = 0.0
    schedule = ExportSchedule(Budget(0.1), clock=lambda: now)
    queue: asyncio.Queue[None] = asyncio.Queue(maxsize=1)
    settling = asyncio.create_task(schedule.settle(queue))
    looks = 0
    async with asyncio.timeout(deadline_s(LONG_S)):
        while not settling.done():
            now += 0.3 * NEVER_S
            looks += 1
            await queue.put(None)
            await asyncio.sleep(0)
    assert 6 <= looks <= 10


@pytest.mark.parametrize(
    ("error", "counts"),
    [(PublishError("full"), True), (SourceError("down"), False), (LockedError("another"), False)],
    ids=["it worked", "it waited for the server", "it waited for another exporter"],
)
async def test_what_failed_while_it_waited_is_no_work(error: AutoexportError, counts: bool) -> None:
    """How long to wait after a failure is decided elsewhere; only work counts against the budget."""
    queue: asyncio.Queue[None] = asyncio.Queue()
    budget, told = Budget(0.1), []
    schedule = ExportSchedule(budget)
    budget.fail = told.append  # type: ignore[method-assign]

    async def export() -> Work:
        raise error

    queue.put_nowait(None)
    schedule.export_soon.set()
    with pytest.raises(type(error)):
        async with asyncio.timeout(deadline_s(LONG_S)):
            await export_forever(queue, export, schedule)
    assert bool(told) == counts


# --- wake-ups ----------------------------------------------------------------------------------------


async def test_a_commit_of_a_watched_engine_wakes(tmp_path: Path) -> None:
    """Of a plain engine in another thread, and of an asynchronous one; a rollback does not."""
    wake = asyncio.Event()
    plain = create_engine(f"sqlite:///{tmp_path / 'plain.db'}")
    watch_engine(plain)
    watch_engine(plain)
    asynchronous = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'asynchronous.db'}")
    watch_engine(asynchronous)

    def commit() -> None:
        with plain.begin() as connection:
            connection.execute(text("CREATE TABLE t (a)"))

    with hearing_commits(wake):
        with plain.connect() as connection:
            connection.execute(text("SELECT 1"))
            connection.rollback()
        assert not await pause(wake, 0.05)
        await asyncio.to_thread(commit)
        assert await pause(wake, deadline_s(LONG_S))
        assert await pause(wake, deadline_s(LONG_S)), "once more, for the event comes before the commit itself"
        async with asynchronous.begin() as session:
            await session.execute(text("CREATE TABLE t (a)"))
        assert await pause(wake, deadline_s(LONG_S))
    plain.dispose()
    await asynchronous.dispose()
