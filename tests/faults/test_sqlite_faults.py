"""Checks faults of a SQLite file: an error with a hint, unchanged files, and a correct next export."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from autoexport.errors import SourceError
from autoexport.sources.sqlite import private_copy
from tests.applications import create_sqlite, fill_sqlite
from tests.conftest import OtherUser, program_environment
from tests.daemon import wait_until
from tests.databases import SqliteDatabase
from tests.deadlines import deadline_s
from tests.outputs import ALL_OUTPUT_VARIABLES
from tests.processes import started
from tests.trials import Trial, open_descriptors

RENAME = "UPDATE projects SET name = ? WHERE id = 1"
PAGE_BYTES = 4096

# Takes a lock, or writes, and then waits until it is killed.
_HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.executescript(sys.argv[2])
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def holding(path: Path, script: str) -> Iterator[subprocess.Popen[str]]:
    """Let another process run a script on the file and keep its connection, until SIGKILL ends it."""
    with started(
        [sys.executable, "-I", "-c", _HOLD, str(path), script],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process


def check_failure(trial: Trial, says: str) -> None:
    """Check that an export fails with these words and a hint, and changes no published file."""
    before = {path: path.stat().st_mtime_ns for path in trial.directory.iterdir() if path.is_file()}
    descriptors = open_descriptors()
    with pytest.raises(SourceError) as raised:
        trial.export()
    assert says in str(raised.value)
    assert trial.settings.database_url.rpartition("/")[2] in str(raised.value), "it says which file"
    assert raised.value.hint
    assert raised.value.exit_code == 1
    del raised
    assert {path: path.stat().st_mtime_ns for path in trial.directory.iterdir() if path.is_file()} == before
    assert not trial.leftovers()
    assert open_descriptors() == descriptors


def check_recovery(trial: Trial, database: SqliteDatabase) -> None:
    """Check that the next export equals the database."""
    database.execute(RENAME, "well again")
    assert trial.export().published
    trial.check_equals(database.path)
    assert not trial.leftovers()


@pytest.fixture
def trial(sqlite_database: SqliteDatabase, tmp_path: Path) -> Trial:
    """An exporter of the sample that has exported once."""
    made = Trial(sqlite_database.url, tmp_path / "exports")
    made.export()
    return made


# --- locked ----------------------------------------------------------------------------------------


def test_locked_for_long(trial: Trial, sqlite_database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process keeps the file locked for longer than a copy waits."""
    monkeypatch.setattr(private_copy, "DEADLINE_S", 0.3)
    sqlite_database.close()
    with holding(sqlite_database.path, "PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; DELETE FROM labels"):
        check_failure(trial, "stayed locked")
    check_recovery(trial, sqlite_database)


def test_a_lock_that_ends_is_waited_for(trial: Trial, sqlite_database: SqliteDatabase) -> None:
    """A transaction shorter than the deadline costs time and causes no error."""
    script = f"BEGIN EXCLUSIVE; {RENAME.replace('?', chr(39) + 'first' + chr(39))}"
    with holding(sqlite_database.path, script) as process:
        command = [sys.executable, "-m", "autoexport", "--database-url", sqlite_database.url,
                   "--export-dir", str(trial.directory)]  # fmt: skip
        environment = program_environment(ALL_OUTPUT_VARIABLES)
        with started(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as export:
            if sqlite_database.kind == "sqlite-delete":
                wait_until(lambda: list(trial.state.glob("copy-*")), "it is about to copy")
            process.kill()
            _, errors = export.communicate(timeout=deadline_s(60))
            assert export.returncode == 0, errors
    check_recovery(trial, sqlite_database)


# --- damaged ---------------------------------------------------------------------------------------


def overwrite_pages(path: Path) -> None:
    """Overwrite every page but the first."""
    with path.open("r+b") as file:
        file.seek(PAGE_BYTES)
        file.write(b"\xa5" * (path.stat().st_size - PAGE_BYTES))


def cut(path: Path) -> None:
    """Cut the file to half its size."""
    os.truncate(path, path.stat().st_size // 2)


def spoil_header(path: Path) -> None:
    """Overwrite the first bytes of the header."""
    with path.open("r+b") as file:
        file.write(b"no database")


def all_zero(path: Path) -> None:
    """Fill the file with zeros, as some file systems do after a crash."""
    path.write_bytes(bytes(path.stat().st_size))


def garbage(path: Path) -> None:
    """Replace the file by something that is no database."""
    path.write_bytes(b"PK\x03\x04 an archive " * 500)


@pytest.mark.parametrize(
    ("damage", "says"),
    [(overwrite_pages, "is damaged"), (cut, "is damaged"), (spoil_header, "is not a SQLite database"),
     (all_zero, "is not a SQLite database"), (garbage, "is not a SQLite database")],
    ids=lambda value: getattr(value, "__name__", ""),
)  # fmt: skip
def test_a_damaged_file(
    trial: Trial, sqlite_database: SqliteDatabase, damage: Callable[[Path], None], says: str
) -> None:
    """A damaged file is an error until a backup replaces it."""
    sqlite_database.close()
    backup = shutil.copy(sqlite_database.path, sqlite_database.path.with_name("backup"))
    damage(sqlite_database.path)
    check_failure(trial, says)
    Path(backup).replace(sqlite_database.path)
    check_recovery(trial, sqlite_database)


def test_one_damaged_page_of_a_table(trial: Trial, sqlite_database: SqliteDatabase) -> None:
    """A single damaged page of the annotations is an error, although all others can be read."""
    (root,) = sqlite_database.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'annotations'")[0]
    sqlite_database.close()
    backup = shutil.copy(sqlite_database.path, sqlite_database.path.with_name("backup"))
    with sqlite_database.path.open("r+b") as file:
        file.seek((root - 1) * PAGE_BYTES)
        file.write(b"\xa5" * PAGE_BYTES)
    check_failure(trial, "is damaged")
    Path(backup).replace(sqlite_database.path)
    check_recovery(trial, sqlite_database)


def test_a_file_that_is_replaced(trial: Trial, sqlite_database: SqliteDatabase, tmp_path: Path) -> None:
    """Another file under the same name is exported from then on."""
    sqlite_database.close()
    other = create_sqlite(tmp_path / "other.sqlite3")
    fill_sqlite(other, orphans=True)
    other.execute(RENAME, ("of the other file",))
    other.close()
    (tmp_path / "other.sqlite3").replace(sqlite_database.path)
    assert trial.export().published
    assert "of the other file" in (trial.directory / "projects.csv").read_text()
    assert not trial.differences()


def test_a_file_that_goes_away(trial: Trial, sqlite_database: SqliteDatabase) -> None:
    """A missing file is an error, not an empty export; nothing is created in its place."""
    sqlite_database.close()
    aside = sqlite_database.path.rename(sqlite_database.path.with_name("aside"))
    check_failure(trial, "There is no database file")
    assert not sqlite_database.path.exists()
    aside.rename(sqlite_database.path)
    check_recovery(trial, sqlite_database)


# --- WAL -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.1, 0.35, 0.5, 0.77, 0.99])
def test_a_truncated_wal(tmp_path: Path, share: float) -> None:
    """From a WAL that was cut, those commits are published that SQLite itself recovers."""
    path = tmp_path / "application.sqlite3"
    with closing(create_sqlite(path, journal_mode="wal")) as connection:
        fill_sqlite(connection)
    trial = Trial(f"sqlite:///{path}", tmp_path / "exports")
    trial.export()
    commits = "".join(f"UPDATE images SET file_size = {n}; UPDATE labels SET color = '{n}';" for n in range(20))
    with holding(path, f"PRAGMA wal_autocheckpoint = 0; {commits}"):
        pass
    wal = path.with_name(path.name + "-wal")
    assert wal.stat().st_size > 40 * PAGE_BYTES, "it was killed before a checkpoint"
    os.truncate(wal, int(wal.stat().st_size * share))
    path.with_name(path.name + "-shm").unlink()
    trial.export()
    trial.check_equals(path)


@pytest.mark.parametrize("command", [(), ("check",), ("verify",)], ids=lambda words: " ".join(words) or "export")
def test_an_export_directory_that_cannot_be_looked_into(other_user: OtherUser, command: tuple[str, ...]) -> None:
    """A closed folder above it is reported in one line by every command."""
    (other_user.place / "closed" / "open").mkdir(parents=True)
    (other_user.place / "closed").chmod(0o700)
    path = other_user.place / "app.db"
    with closing(create_sqlite(path)) as connection:
        fill_sqlite(connection)
    path.chmod(0o644)
    exports = other_user.place / "closed" / "open" / "exports"
    done = other_user.runs(*command, "--database-url", path, "--export-dir", exports)
    assert done.returncode == 1
    assert "ermission" in done.stderr
    assert re.search("hint: (Let|Grant) this user", done.stderr)


@pytest.mark.parametrize(("owned", "said"), [(False, "no program has it open"), (True, "write to its folder")])
def test_a_wal_database_in_a_directory_without_permission(other_user: OtherUser, owned: bool, said: str) -> None:
    """Without permission to write beside it, it is refused and no file is created; once open, it is read."""
    exports = other_user.place / "exports"
    exports.mkdir()
    other_user.owns(exports)
    folder = other_user.place / "application"
    folder.mkdir(mode=0o755)
    path = folder / "application.sqlite3"
    with closing(create_sqlite(path, journal_mode="wal")) as connection:
        fill_sqlite(connection)
    path.chmod(0o644)
    if owned:
        other_user.owns(path)
    failed = other_user.runs("--database-url", path, "--export-dir", exports)
    assert failed.returncode == 1
    assert "WAL" in failed.stderr
    assert said in failed.stderr
    assert "hint: " in failed.stderr
    assert [child.name for child in folder.iterdir()] == ["application.sqlite3"]
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(RENAME, ("open now",))
        for companion in folder.glob("*-*"):
            companion.chmod(0o644)
        done = other_user.runs("--database-url", path, "--export-dir", exports)
        assert done.returncode == 0, done.stderr
    assert "open now" in (exports / "projects.csv").read_text()


@pytest.mark.parametrize(
    ("mode", "path", "said"),
    [
        ("delete", None, ""),
        ("wal", None, "no program has it open"),
        ("delete", "/nonexistent", "journal mode of"),
    ],
    ids=["rollback journal", "wal", "no program can read it"],
)
def test_the_database_of_another_user_in_a_frozen_program(
    other_user: OtherUser, mode: str, path: str | None, said: str
) -> None:
    """The application is not started again to look into the file, and the error is the right one."""
    database, exports = other_user.place / "app.db", other_user.place / "exports"
    exports.mkdir()
    other_user.owns(exports)
    with closing(create_sqlite(database, journal_mode=mode)) as connection:
        fill_sqlite(connection)
    database.chmod(0o644)
    started, application = exports / "started", other_user.place / "python3"
    application.write_text(f"#!/bin/sh\ntouch {started}\n")
    application.chmod(0o755)
    program = (
        f"import os, sys; sys.frozen, sys.executable = True, {str(application)!r};"
        f"os.environ['PATH'] = {path!r} or os.environ['PATH'];"
        "from autoexport.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    arguments = ["--database-url", str(database), "--export-dir", str(exports)]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], env=program_environment(), cwd=other_user.place,
        user=other_user.user.pw_uid, group=other_user.user.pw_gid, extra_groups=[], capture_output=True,
        text=True, check=False, timeout=deadline_s(60),
    )  # fmt: skip
    assert not started.exists()
    assert said in done.stderr
    assert done.returncode == (1 if said else 0), done.stderr
