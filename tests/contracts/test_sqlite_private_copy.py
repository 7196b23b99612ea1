"""The private copy of a SQLite file is of one committed state, however it is made and whatever a writer does."""

from __future__ import annotations

import os
import random
import resource
import sqlite3
import stat
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from autoexport.errors import PublishError, SourceError
from autoexport.sources.sqlite import copy_process, copy_worker, private_copy
from autoexport.sources.sqlite.page_scan import PageNotes, PageScan
from autoexport.sources.sqlite.private_copy import copy_database
from tests.daemon import LIMIT_S, wait_until
from tests.deadlines import deadline_s
from tests.processes import end_left_behind, started

Known = tuple[bytes, bytes]
JOURNALS = ("delete", "truncate", "persist", "wal")
ROWS = 400
NEVER_S = 1e6
"""Longer than any deadline."""

# The writer: every row of every commit has the number of that commit, on pages all over the file. Now and then
# a large transaction that spills, one that is taken back, a checkpoint of some kind, a file that grows or shrinks.
_WRITER = """
import random, sqlite3, sys, time
path, seed, timeout_s = sys.argv[1:]
chosen = random.Random(seed)
connection = sqlite3.connect(path, isolation_level=None, timeout=float(timeout_s))
connection.execute("PRAGMA cache_size = 20")
connection.execute("PRAGMA cache_spill = 1")
connection.execute("PRAGMA synchronous = " + chosen.choice(["OFF", "NORMAL", "FULL"]))
number = connection.execute("SELECT number FROM rows LIMIT 1").fetchone()[0]
print("ready", flush=True)
while True:
    number += 1
    connection.execute("BEGIN IMMEDIATE")
    size = chosen.choice([20, 300, 900])
    connection.execute("UPDATE rows SET number = ?, filler = randomblob(?)", (number, size))
    if chosen.random() < 0.2:
        connection.execute("DELETE FROM ballast")
        connection.execute("INSERT INTO ballast SELECT ?, randomblob(3000) FROM rows LIMIT ?",
                           (number, chosen.randrange(200)))
    if chosen.random() < 0.1:
        connection.execute("UPDATE rows SET number = -1")
        connection.execute("ROLLBACK")
        number -= 1
        continue
    connection.execute("UPDATE latest SET number = ?", (number,))
    connection.execute("COMMIT")
    if chosen.random() < 0.3:
        kind = chosen.choice(["PASSIVE", "FULL", "RESTART", "TRUNCATE"])
        connection.execute(f"PRAGMA wal_checkpoint({kind})")
    if chosen.random() < 0.05:
        connection.execute("PRAGMA incremental_vacuum")
    time.sleep(chosen.random() * 0.004)
"""


@pytest.fixture(autouse=True)
def by_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """As large files are copied, with the limits of an exporter on a machine as slow as this one."""
    monkeypatch.setattr(private_copy, "PROCESS_FROM_BYTES", 0)
    for limit in ("DEADLINE_S", "HOLD_S", "START_S"):
        monkeypatch.setattr(private_copy, limit, deadline_s(getattr(private_copy, limit)))


def create(path: Path, journal: str, page_bytes: int = 4096) -> sqlite3.Connection:
    """The writer's database."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(f"PRAGMA page_size = {page_bytes}")
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.execute(f"PRAGMA journal_mode = {journal}")
    connection.executescript(
        "CREATE TABLE rows (id INTEGER PRIMARY KEY, number INTEGER, filler BLOB);"
        "CREATE TABLE latest (number INTEGER); CREATE TABLE ballast (number INTEGER, filler BLOB);"
        "INSERT INTO latest VALUES (0)"
    )
    connection.executemany("INSERT INTO rows VALUES (?, 0, randomblob(300))", [(row,) for row in range(ROWS)])
    return connection


@pytest.fixture(params=JOURNALS)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A file that no process has open, in each journal mode."""
    path = tmp_path / "application.sqlite3"
    create(path, request.param).close()
    return path


@contextmanager
def writing(path: Path, seed: int) -> Iterator[None]:
    """The writer, committing all the time in another process."""
    command = [sys.executable, "-I", "-c", _WRITER, str(path), str(seed), str(deadline_s(30))]
    with started(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield
        assert process.poll() is None, "the writer gave up"


def copied(path: Path, directory: Path) -> tuple[Path, Known | None]:
    """A copy in this directory, with nothing beside it, and what is known of its pages if that is complete."""
    copy = directory / "copy.sqlite3"
    copy.unlink(missing_ok=True)
    before = set(directory.iterdir())
    with closing(PageNotes(directory)) as notes:
        copy_database(path, path.stat(), copy, notes, threading.Event())
        known = noted(notes) if notes.complete else None
    assert set(directory.iterdir()) == before | {copy}
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    return copy, known


def check(copy: Path, known: Known | None) -> int:
    """SQLite finds the copy in order, it is of one commit, and the notes are on its pages; the commit's number."""
    with closing(sqlite3.connect(f"file:{copy}?mode=ro&immutable=1", uri=True)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert copy.read_bytes()[18:20] == b"\1\1"  # no log: file format, section 1.3.3
        (latest,) = connection.execute("SELECT number FROM latest").fetchone()
        found = connection.execute("SELECT number, count(*) FROM rows GROUP BY number").fetchall()
        assert found == [(latest, ROWS)]
        assert connection.execute("SELECT count(*) FROM ballast WHERE number > ?", (latest,)).fetchone() == (0,)
    descriptor = os.open(copy, os.O_RDONLY)
    try:
        with closing(PageNotes(copy.parent)) as fresh:
            PageScan(descriptor, fresh).finish()
            assert known == noted(fresh)
    finally:
        os.close(descriptor)
    return int(latest)


def noted(notes: PageNotes) -> Known:
    """The first bytes and the hashes of all pages but page 1, whose counters are the copy's own."""
    return b"".join(notes.heads())[8:], notes.hashes(1, notes.count)


def committed(path: Path) -> int:
    """The number of the last commit."""
    with closing(sqlite3.connect(path, timeout=deadline_s(30))) as connection:
        (number,) = connection.execute("SELECT number FROM latest").fetchone()
        return int(number)


# --- one committed state -------------------------------------------------------------------------------------


def test_at_rest(database: Path, tmp_path: Path) -> None:
    """Every journal mode, the application gone."""
    (tmp_path / "private").mkdir()
    assert check(*copied(database, tmp_path / "private")) == 0


@pytest.mark.parametrize("page_bytes", [512, 1024, 65536])
@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_other_page_sizes_with_the_application_there(journal: str, page_bytes: int, tmp_path: Path) -> None:
    """In WAL mode, what was committed is in the log only."""
    (tmp_path / "private").mkdir()
    with closing(create(tmp_path / "application.sqlite3", journal, page_bytes)) as application:
        application.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        application.executescript("BEGIN; UPDATE rows SET number = 7; UPDATE latest SET number = 7; COMMIT")
        application.executescript("BEGIN; UPDATE rows SET number = 8")
        application.execute("PRAGMA cache_spill")
        assert check(*copied(tmp_path / "application.sqlite3", tmp_path / "private")) == 7


def race(database: Path, directory: Path, copies: int, seed: int) -> None:
    """Copy again and again while the writer commits; each copy is as new as what was committed before it."""
    directory.mkdir()
    with writing(database, seed):
        for _ in range(copies):
            before = committed(database)
            assert check(*copied(database, directory)) >= before
    assert committed(database) > 0


def test_while_a_writer_commits(database: Path, tmp_path: Path) -> None:
    """Spills, rollbacks, checkpoints of every kind, logs that start over, files that grow and shrink."""
    race(database, tmp_path / "private", 10, random.randrange(10**6))


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_while_a_writer_commits_for_long(database: Path, tmp_path: Path) -> None:
    """The same, for longer."""
    for seed in range(10):
        race(database, tmp_path / f"private-{seed}", 150, seed)


def test_a_log_that_ends_in_the_middle(tmp_path: Path) -> None:
    """What a crash left of a commit is left out, as SQLite itself does."""
    path = tmp_path / "application.sqlite3"
    (tmp_path / "private").mkdir()
    with closing(create(path, "wal")) as application:
        application.execute("PRAGMA wal_autocheckpoint = 0")
        application.executescript("BEGIN; UPDATE rows SET number = 1; UPDATE latest SET number = 1; COMMIT")
        log, base = Path(f"{path}-wal").read_bytes(), path.read_bytes()
        application.executescript("BEGIN; UPDATE rows SET number = 2; UPDATE latest SET number = 2; COMMIT")
        longer = Path(f"{path}-wal").read_bytes()
    crashed = tmp_path / "crashed.sqlite3"
    with closing(create(crashed, "wal")) as application:
        application.execute("PRAGMA wal_autocheckpoint = 0")
    crashed.write_bytes(base)
    Path(f"{crashed}-wal").write_bytes(longer[: len(log) + 5000])
    assert check(*copied(crashed, tmp_path / "private")) == 1
    assert committed(crashed) == 1


def test_room_that_is_reserved_at_the_end(database: Path, tmp_path: Path) -> None:
    """A file may be longer than its header says; the rest does not count."""
    (tmp_path / "private").mkdir()
    size = database.stat().st_size
    with database.open("ab") as file:
        file.write(bytes(10_000))
    copy, known = copied(database, tmp_path / "private")
    assert copy.stat().st_size == size
    assert check(copy, known) == 0


def test_a_log_that_starts_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the file is complete the log may start over while it is copied: an old beginning is not kept."""
    log, target = tmp_path / "source-wal", tmp_path / "target"
    old, new = b"old header" * 4 + b"a" * 5000, b"new header" * 4 + b"b" * 3000
    log.write_bytes(old)
    copy_bytes = copy_worker.copy_bytes
    begun: list[bool] = []

    def interrupted(source: int, into: int, size: int) -> Iterator[int]:
        if begun:
            yield from copy_bytes(source, into, size)
            return
        begun.append(True)
        yield from copy_bytes(source, into, 100)
        log.write_bytes(new)
        yield from copy_bytes(source, into, size)

    monkeypatch.setattr(copy_worker, "copy_bytes", interrupted)
    monkeypatch.setattr(copy_worker, "_write_line", lambda line: None)
    descriptor = os.open(target, os.O_RDWR | os.O_CREAT)
    copy_worker.copy_log(str(log), descriptor)
    os.close(descriptor)
    assert begun
    assert target.read_bytes() == new


def test_a_shared_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An application in this process shares its cache, and has written what it has not committed."""
    monkeypatch.setattr(private_copy, "DEADLINE_S", 0.3)
    path = tmp_path / "application.sqlite3"
    (tmp_path / "private").mkdir()
    create(path, "delete").close()
    with closing(sqlite3.connect(f"file:{path}?cache=shared", uri=True, isolation_level=None)) as application:
        application.execute("PRAGMA cache_size = 5")
        application.execute("BEGIN")
        application.execute("UPDATE rows SET number = 1, filler = randomblob(900)")
        with pytest.raises(SourceError, match="stayed locked"):
            copied(path, tmp_path / "private")


def meanwhile(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], object]) -> None:
    """Let something happen as soon as the read transaction has begun."""
    begin = private_copy._Copying._begin

    def begun(self: Any, source: sqlite3.Connection) -> str:
        mode = begin(self, source)
        happens()
        return mode

    monkeypatch.setattr(private_copy._Copying, "_begin", begun)


def test_a_file_that_takes_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another file is renamed over it while the lock is held: what is copied is what was locked."""
    path, other = tmp_path / "application.sqlite3", tmp_path / "other.sqlite3"
    (tmp_path / "private").mkdir()
    for place, number in ((path, 5), (other, 6)):
        with closing(create(place, "delete")) as connection:
            connection.executescript(f"UPDATE rows SET number = {number}; UPDATE latest SET number = {number}")
    meanwhile(monkeypatch, lambda: other.replace(path))
    copy, known = copied(path, tmp_path / "private")
    assert known is None
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("SELECT DISTINCT number FROM rows").fetchall() == [(5,)]


def test_a_log_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program removes the log: the file alone lacks commits, and is not copied."""
    path = tmp_path / "application.sqlite3"
    (tmp_path / "private").mkdir()
    with closing(create(path, "wal")) as application:
        application.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        application.executescript("BEGIN; UPDATE rows SET number = 3; UPDATE latest SET number = 3; COMMIT")
        meanwhile(monkeypatch, Path(f"{path}-wal").unlink)
        copy, known = copied(path, tmp_path / "private")
    assert known is None
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("SELECT DISTINCT number FROM rows").fetchall() == [(3,)]


# --- the worker ----------------------------------------------------------------------------------------------


def worker_that(script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put another program in the place of the copying process."""
    place = tmp_path / "worker.py"
    place.write_text(
        f"import os, signal, sqlite3, sys, time\nprint('ready', flush=True)\nsys.stdin.readline()\n{script}"
    )
    monkeypatch.setattr(copy_process, "_PROGRAM", place)


@pytest.mark.parametrize("in_log", [False, True])
def test_nothing_is_written_meanwhile(
    database: Path, in_log: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the process copies, a writer of a rollback journal is kept out, and a log that would be moved on
    into the file, or start over though there are frames that only it has (`in_log`)."""
    (tmp_path / "private").mkdir()
    script = f"""
connection = sqlite3.connect({str(database)!r}, isolation_level=None, timeout=0)
try:
    if connection.execute("PRAGMA journal_mode").fetchone() == ("wal",):
        connection.execute("UPDATE latest SET number = 1")
        if {in_log}:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        (busy, *_) = connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
        print("failed busy" if busy else "failed not")
    else:
        connection.execute("BEGIN EXCLUSIVE")
        print("failed not")
except sqlite3.OperationalError as error:
    print("failed busy" if "locked" in str(error) else error)
"""
    worker_that(script, tmp_path, monkeypatch)
    with closing(sqlite3.connect(database)) as application:
        application.execute("PRAGMA wal_autocheckpoint = 0")
        if in_log:
            application.execute("UPDATE latest SET number = 0")
            application.commit()
        heard: list[str] = []
        monkeypatch.setattr(private_copy.log, "debug", lambda event, **said: heard.append(str(said.get("reason"))))
        assert copied(database, tmp_path / "private")[1] is None
    assert heard == ["busy"]


@pytest.mark.parametrize(
    "script", ["os.kill(os.getpid(), signal.SIGKILL)", "print('nonsense')", "print('copied 0'); sys.exit()"]
)
def test_a_process_that_ends_is_done_without(
    script: str, database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The backup API does it then."""
    (tmp_path / "private").mkdir()
    worker_that(script, tmp_path, monkeypatch)
    copy, known = copied(database, tmp_path / "private")
    assert known is None
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("SELECT count(*) FROM rows").fetchone() == (ROWS,)


def test_a_process_that_cannot_start_is_done_without(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No interpreter, or one that does not know the program."""
    (tmp_path / "private").mkdir()
    for interpreter in ("/nowhere/python", "/bin/false", "", None):
        monkeypatch.setattr(sys, "executable", interpreter)
        assert copied(database, tmp_path / "private")[1] is None


def test_a_process_that_stands_still(database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is ended, with the process that it has started, and the lock with it."""
    (tmp_path / "private").mkdir()
    monkeypatch.setattr(copy_process, "_STILL_S", 0.3)
    worker_that(f"os.fork(); time.sleep({NEVER_S})", tmp_path, monkeypatch)
    assert copied(database, tmp_path / "private")[1] is None
    assert end_left_behind(deadline_s(LIMIT_S)) == []


@pytest.mark.parametrize("journal", ["DELETE", "TRUNCATE"])
def test_a_process_that_is_too_slow(journal: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer is kept out no longer than was promised; what it commits then is in the copy."""
    path = tmp_path / "application.sqlite3"
    create(path, journal).close()
    (tmp_path / "private").mkdir()
    monkeypatch.setattr(private_copy, "HOLD_S", 0.3)
    monkeypatch.setattr(private_copy, "_STEP_PAGES", 1)
    started = tmp_path / "started"
    worker_that(
        f"open({str(started)!r}, 'x')\nwhile True: print('copied 0', flush=True); time.sleep(0.1)",
        tmp_path,
        monkeypatch,
    )
    with ThreadPoolExecutor(1) as pool:
        copying = pool.submit(copied, path, tmp_path / "private")
        wait_until(started.exists, "the lock is held")
        with closing(sqlite3.connect(path, timeout=deadline_s(10))) as connection, connection:
            connection.execute("UPDATE latest SET number = 1")
            connection.execute("UPDATE rows SET number = 1")
        copy, known = copying.result()
    assert known is None
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("SELECT number FROM latest").fetchone() == (1,)
        assert connection.execute("SELECT DISTINCT number FROM rows").fetchall() == [(1,)]
    monkeypatch.setattr(private_copy, "SLOW_DEADLINE_S", 0)
    started.unlink()
    with pytest.raises(SourceError, match="changes faster than it can be copied") as raised:
        copied(path, tmp_path / "private")
    assert "STATE_DIRECTORY" in raised.value.hint


def test_no_room(database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said whose room it is, and nothing is left."""
    (tmp_path / "private").mkdir()
    worker_that("print('full')", tmp_path, monkeypatch)
    with pytest.raises(SourceError, match="No room for the working copy") as raised:
        copied(database, tmp_path / "private")
    assert str(tmp_path / "private") in raised.value.hint
    assert not list((tmp_path / "private").iterdir())


def test_many_pages_in_a_log(tmp_path: Path) -> None:
    """Their numbers take a byte each, come once and in order; one that the file cannot have does not count."""
    numbers = [*range(60_000, 0, -2), *range(60_000, 0, -2), 2**32 - 1]
    with (tmp_path / "log").open("w+b", buffering=0) as file:
        file.write(bytes(8) + (512).to_bytes(4, "big"))
        for frame, number in enumerate(numbers):
            os.pwrite(file.fileno(), number.to_bytes(4, "big"), 32 + frame * (24 + 512))
        file.truncate(32 + len(numbers) * (24 + 512))
        tracemalloc.start()
        try:
            found = private_copy._pages_of_log(file.fileno(), 0)
            total = sum(found)
            peak_bytes = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert total == sum(range(2, 60_001, 2))
        assert peak_bytes < 100_000
        assert list(private_copy._pages_of_log(file.fileno(), 512))[:3] == [2, 4, 6]


@pytest.mark.parametrize("apart", [False, True])
def test_no_directory(database: Path, apart: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the operating system says of the private directory is said in plain words."""
    monkeypatch.setattr(private_copy, "PROCESS_FROM_BYTES", 0 if apart else 1 << 40)
    (tmp_path / "file").touch()
    copy, notes = tmp_path / "file" / "copy.sqlite3", PageNotes(tmp_path / "file")
    with pytest.raises(PublishError, match="a part of the path is a file"):
        copy_database(database, database.stat(), copy, notes, threading.Event())


def test_many_open_files(database: Path, tmp_path: Path) -> None:
    """An application that holds more than a thousand of them."""
    (tmp_path / "private").mkdir()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    held: list[int] = []
    try:
        while not held or held[-1] < 1100:
            held.append(os.open(os.devnull, os.O_RDONLY))
        copy, known = copied(database, tmp_path / "private")
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert check(copy, known) == 0


def test_given_up(database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An export that is cancelled does not wait for a process that hangs."""
    (tmp_path / "private").mkdir()
    started, given_up = tmp_path / "started", threading.Event()
    monkeypatch.setattr(copy_process, "_STILL_S", NEVER_S)
    worker_that(f"open({str(started)!r}, 'x')\ntime.sleep({NEVER_S})", tmp_path, monkeypatch)

    def copy() -> None:
        with closing(PageNotes(tmp_path / "private")) as notes, pytest.raises(SourceError):
            copy_database(database, database.stat(), tmp_path / "private" / "copy.sqlite3", notes, given_up)

    with ThreadPoolExecutor(1) as pool:
        copying = pool.submit(copy)
        try:
            wait_until(started.exists, "it copies")
        finally:
            given_up.set()
        copying.result(deadline_s(LIMIT_S))
    assert not list((tmp_path / "private").iterdir())


def test_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that keeps the file is waited for, not for ever, and what comes after is copied."""
    monkeypatch.setattr(private_copy, "DEADLINE_S", 0.3)
    path = tmp_path / "application.sqlite3"
    (tmp_path / "private").mkdir()
    with closing(create(path, "delete")) as application:
        application.execute("BEGIN EXCLUSIVE")
        with pytest.raises(SourceError, match="stayed locked"):
            copied(path, tmp_path / "private")
        application.execute("ROLLBACK")
    assert check(*copied(path, tmp_path / "private")) == 0
