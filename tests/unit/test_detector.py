"""Noticing that something may have changed: by stat, by events, by wake-ups; and when to act on it."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
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

from autoexport import detector, watch_engine
from autoexport.detector import Surroundings, detect
from autoexport.errors import AutoexportError, LockedError, PublishError, SourceError
from autoexport.health import Health
from autoexport.ledger import FileIdentity
from autoexport.loop import QUIET_S, Tempo, export_forever
from autoexport.sources.sqlite_watch import YOUNG_S, FileEvents, take_stamp, watch_file
from autoexport.wake import Bell, hearing_commits, pause
from autoexport.workspace import LEADER_LOCK, Lock
from tests.databases import SqliteDatabase

LONG_S = 30.0
"""Longer than any of these tests may take: what arrives, arrived for another reason."""


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
        self.looks: Any = watch_file(path, interval_s, hooks=hooks, wake=self.wake, clock=lambda: self.now)

    async def next(self) -> bool:
        """The answer of the next check."""
        async with asyncio.timeout(LONG_S):
            return bool(await anext(self.looks))

    async def next_yes(self) -> None:
        """Wait for a check that says yes."""
        while not await self.next():
            pass


# --- a SQLite file -----------------------------------------------------------------------------------


async def test_the_first_check_says_yes_and_then_only_changes_do(path: Path) -> None:
    """Of content, of size, of time stamps; the file gone, back, and replaced by another."""
    answers = Answers(path)
    async with aclosing(answers.looks):
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
    async with aclosing(answers.looks):
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
    async with aclosing(answers.looks):
        assert [await answers.next() for _ in range(3)] == [True, False, False]
        answers.now = newest + YOUNG_S
        assert [await answers.next() for _ in range(3)] == [True, False, False]


async def test_a_time_stamp_of_the_future_counts_as_young_once(path: Path) -> None:
    """A clock that is ahead elsewhere must neither hide changes nor make for looks without end."""
    now = time.time()
    os.utime(path, (now + 10_000, now + 10_000))
    answers = Answers(path, now)
    async with aclosing(answers.looks):
        assert [await answers.next() for _ in range(2)] == [True, False]
        answers.now = now + YOUNG_S
        assert [await answers.next() for _ in range(3)] == [True, False, False]


async def test_a_link_is_followed_to_where_the_companions_are(tmp_path: Path, path: Path) -> None:
    """SQLite keeps the WAL beside the real file; a link that is pointed elsewhere is another database."""
    link = tmp_path / "links" / "current.db"
    link.parent.mkdir()
    link.symlink_to(path)
    answers = Answers(link)
    async with aclosing(answers.looks):
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
    answers = Answers(database.path, hooks=True, interval_s=LONG_S * 10)
    async with aclosing(answers.looks):
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
    async with aclosing(answers.looks):
        await answers.next()
        for _ in range(20):
            uri = f"file:{sqlite_database.path}?mode=ro"
            with closing(sqlite3.connect(uri, uri=True)) as connection:
                connection.execute("SELECT count(*) FROM annotations").fetchall()
            (sqlite_database.path.parent / "database_export.json").write_text("{}")
            assert not await answers.next()


async def test_it_stops_at_once(path: Path) -> None:
    """A cancelled watch is gone within a moment, its thread too."""
    answers = Answers(path, hooks=True, interval_s=LONG_S)
    await answers.next()
    waiting = asyncio.ensure_future(answers.next())
    await asyncio.sleep(0)
    began = time.monotonic()
    waiting.cancel()
    await asyncio.wait({waiting})
    await answers.looks.aclose()
    assert time.monotonic() - began < 2


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
    task = asyncio.create_task(detect(looks, queue, Surroundings(tmp_path, lock), health, 1.0))
    async with asyncio.timeout(LONG_S):
        while (health.report.last_check_at or 0) < 5:
            await asyncio.sleep(0)
    assert queue.qsize() == 1
    task.cancel()
    await asyncio.wait({task})


async def test_it_looks_seldom_while_a_look_is_pending(
    tmp_path: Path, lock: Lock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The export to come serves for whatever they would find."""
    monkeypatch.setattr(detector, "PENDING_S", LONG_S)
    queue: asyncio.Queue[None] = asyncio.Queue(maxsize=1)
    health = Health(0.05)
    found: list[int] = []

    async def answers() -> AsyncIterator[bool]:
        while True:
            found.append(queue.qsize())
            yield True

    task = asyncio.create_task(detect(answers(), queue, Surroundings(tmp_path, lock), health, 0.05))
    async with asyncio.timeout(LONG_S / 2):
        while len(found) < 2:
            await asyncio.sleep(0)
    await asyncio.sleep(0.3)
    assert found == [0, 1]
    task.cancel()
    await asyncio.wait({task})


async def test_a_published_file_that_somebody_changed_is_a_look(tmp_path: Path, lock: Lock) -> None:
    """Deleted, edited; but not what the exporter did itself."""
    surroundings = Surroundings(tmp_path, lock)
    published = tmp_path / "projects.csv"
    assert not surroundings.disturbed()
    surroundings.begin_to_change()
    published.write_text("ours")
    assert not surroundings.disturbed()
    surroundings.end_to_change()
    assert not surroundings.disturbed()
    published.write_text("edited")
    assert surroundings.disturbed()
    assert not surroundings.disturbed()
    published.unlink()
    assert surroundings.disturbed()


async def test_a_published_file_that_somebody_edits_during_an_export_is_a_look(tmp_path: Path, lock: Lock) -> None:
    """Whether he writes into it or replaces it: how it was left is known."""
    surroundings = Surroundings(tmp_path, lock)
    names = ("projects.csv", "images.csv")
    for edit in (append, save_anew):
        surroundings.begin_to_change()
        for name in names:
            (tmp_path / name).write_text("ours")
        left = {name: FileIdentity.of(tmp_path / name, 0) for name in names}
        edit(tmp_path / "images.csv")
        surroundings.end_to_change(left)
        assert surroundings.disturbed()
        assert not surroundings.disturbed()
        surroundings.begin_to_change()
        surroundings.end_to_change({name: FileIdentity.of(tmp_path / name, 0) for name in names})
        assert not surroundings.disturbed()


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
        Surroundings(tmp_path, lock).disturbed()


# --- the exporter's side -----------------------------------------------------------------------------


async def test_a_burst_is_one_export(path: Path) -> None:
    """Looks that follow each other within the quiet time are waited for; one export serves them all."""
    queue: asyncio.Queue[None] = asyncio.Queue(maxsize=1)
    exported: list[float] = []

    async def export() -> None:
        exported.append(time.monotonic())

    task = asyncio.create_task(export_forever(queue, export, Tempo()))
    last = 0.0
    for _ in range(4):
        await queue.put(None)
        last = time.monotonic()
        await asyncio.sleep(QUIET_S / 10)
    async with asyncio.timeout(LONG_S):
        while not exported:
            await asyncio.sleep(0.01)
    assert len(exported) == 1
    assert exported[0] - last >= QUIET_S * 0.9
    task.cancel()
    await asyncio.wait({task})


async def test_a_burst_without_end_is_cut(path: Path) -> None:
    """After two seconds it is exported, however many looks still come."""
    now = 0.0
    tempo = Tempo(clock=lambda: now)
    queue: asyncio.Queue[None] = asyncio.Queue(maxsize=1)
    settling = asyncio.create_task(tempo.settle(queue))
    looks = 0
    async with asyncio.timeout(LONG_S):
        while not settling.done():
            now += 0.3
            looks += 1
            await queue.put(None)
            await asyncio.sleep(0)
    assert 6 <= looks <= 10


async def test_a_costly_export_is_rested_from() -> None:
    """The next one may begin when four times its duration has passed, or when somebody asks."""
    now = 100.0
    tempo = Tempo(clock=lambda: now)
    ticks: list[None] = []
    await tempo.rest(lambda: ticks.append(None))
    tempo.exported(10.0)
    now += 39.9
    resting = asyncio.create_task(tempo.rest(lambda: ticks.append(None)))
    done, _ = await asyncio.wait({resting}, timeout=0.02)
    assert not done
    now += 0.2
    async with asyncio.timeout(LONG_S):
        await resting
    assert ticks
    tempo.exported(10.0)
    now += 200
    await tempo.rest(lambda: None)
    tempo.exported(10.0)
    tempo.hurry.set()
    async with asyncio.timeout(LONG_S):
        await tempo.rest(lambda: None)
    assert not tempo.hurry.is_set()


@pytest.mark.parametrize(
    ("error", "rests"),
    [(PublishError("full"), True), (SourceError("down"), False), (LockedError("another"), False)],
    ids=["it worked", "it waited for the server", "it waited for another exporter"],
)
async def test_what_failed_while_it_waited_is_not_rested_from(error: AutoexportError, rests: bool) -> None:
    """How long to wait after a failure is decided elsewhere; a rest on top is for what kept a core busy."""
    queue: asyncio.Queue[None] = asyncio.Queue()
    tempo, told = Tempo(), []
    tempo.exported = told.append  # type: ignore[method-assign]

    async def export() -> float:
        raise error

    queue.put_nowait(None)
    tempo.hurry.set()
    with pytest.raises(type(error)):
        async with asyncio.timeout(LONG_S):
            await export_forever(queue, export, tempo)
    assert bool(told) == rests


async def test_a_database_that_changes_all_the_time_is_exported_less_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nine times as long, once a change had to wait for the rest to end; four times again after a quiet time."""
    monkeypatch.setattr("autoexport.loop._TICK_S", 0.01)
    now = 100.0
    tempo = Tempo(clock=lambda: now)

    async def rests_for(expected_s: float) -> None:
        nonlocal now
        began = now
        resting = asyncio.create_task(tempo.rest(lambda: None))
        await asyncio.sleep(0)
        now = began + expected_s - 0.001
        done, _ = await asyncio.wait({resting}, timeout=0.02)
        assert not done
        now = began + expected_s + 0.001
        async with asyncio.timeout(LONG_S):
            await resting

    tempo.exported(1.0)
    await rests_for(4.0)
    for _ in range(3):
        tempo.exported(1.0)
        await rests_for(9.0)
    tempo.exported(1.0)
    now += 9.5
    await tempo.rest(lambda: None)
    tempo.exported(1.0)
    await rests_for(4.0)


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
        assert await pause(wake, LONG_S)
        assert await pause(wake, LONG_S), "once more, for the event comes before the commit itself"
        async with asynchronous.begin() as session:
            await session.execute(text("CREATE TABLE t (a)"))
        assert await pause(wake, LONG_S)
    plain.dispose()
    await asynchronous.dispose()
