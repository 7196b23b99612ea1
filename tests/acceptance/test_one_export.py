"""One export by the real command is right to the last value, tears nothing and reports every error."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.applications import CANARY, CANARY_NUMBER, create_sqlite, fill_sqlite
from tests.conftest import Finished, program_environment, run_autoexport
from tests.databases import SqliteDatabase
from tests.deadlines import deadline_s
from tests.straight_reading import expected_csv_text, expected_document

CSV_FILES = ("projects.csv", "datasets.csv", "images.csv")
PASSWORD = "hunter2-must-not-be-shown"
PUBLISHES = 5


def export(database: Path, *more: str) -> Finished:
    """Export into `exports` beside the database, with logs at debug level."""
    done = run_autoexport(
        "--database-url", str(database), "--export-dir", "exports", "--log-level", "debug", *more,
        cwd=database.parent,
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    return done


def document_of(exports: Path) -> dict[str, Any]:
    """The published tree."""
    document: dict[str, Any] = json.loads((exports / "database_export.json").read_bytes())
    return document


def assert_equals_a_straight_reading(database: Path, exports: Path) -> None:
    """Check that every value, key and order of the files is that of a plain reading of the tables."""
    document = document_of(exports)
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        expected = expected_document(connection, document["export_info"]["timestamp"])
        # As text: so that 1 and 1.0, true and 1, and the order of keys are told apart.
        assert json.dumps(document, indent=1) == json.dumps(expected, indent=1)
        for name in CSV_FILES:
            assert (exports / name).read_bytes().decode() == expected_csv_text(connection, name)


def everything_in(directory: Path) -> bytes:
    """All bytes and names under a directory, private files included."""
    paths = sorted(directory.rglob("*"))
    return b"\n".join(str(path).encode() + b"\n" + path.read_bytes() for path in paths if path.is_file())


# --- the real database ---------------------------------------------------------------------------


def test_the_real_database_is_exported_to_the_last_value(real_database: Path) -> None:
    """Its known totals, every value as in a plain reading, and 20 null polygons are exported.

    The text `null` in the column of the polygons is null too.
    """
    export(real_database)
    exports = real_database.parent / "exports"
    document = document_of(exports)
    totals = ("total_projects", "total_datasets", "total_images", "total_annotations", "total_labels")
    assert [document["export_info"][name] for name in totals] == [6, 10, 69, 347, 11]
    annotations = [
        annotation
        for project in document["projects"]
        for dataset in project["datasets"]
        for image in dataset["images"]
        for annotation in image["annotations"]
    ]
    assert sum(annotation["polygon"] is None for annotation in annotations) == 20
    assert_equals_a_straight_reading(real_database, exports)


def test_no_secret_of_the_real_database_gets_out(real_database: Path) -> None:
    """Nothing of `dev_mode_settings` is in any file, public or private, on the screen or in the log."""
    with closing(sqlite3.connect(real_database)) as connection:
        cursor = connection.execute(
            "SELECT password_hash, master_password_hash, updated_at FROM dev_mode_settings"
        )
        secrets = [str(value) for row in cursor for value in row if value]
    assert len(secrets) >= 3
    done = export(real_database)
    more = run_autoexport("check", "--database-url", str(real_database), "--export-dir", "exports")
    told = everything_in(real_database.parent / "exports")
    told += "".join([done.stdout, done.stderr, more.stdout, more.stderr]).encode()
    for secret in (*secrets, *(secret[:16] for secret in secrets), "dev_mode_settings", "password_hash"):
        assert secret.encode() not in told


# --- any database --------------------------------------------------------------------------------


def test_the_sample_is_exported_to_the_last_value(sqlite_database: SqliteDatabase) -> None:
    """While the application has the database open, the files equal a plain reading, in both journal modes."""
    sqlite_database.execute("SELECT 1")
    export(sqlite_database.path)
    assert_equals_a_straight_reading(sqlite_database.path, sqlite_database.path.parent / "exports")


def test_no_column_gets_out_that_is_not_mapped(sqlite_database: SqliteDatabase) -> None:
    """The sample's values in all other columns and tables are in no file and in no log."""
    done = export(sqlite_database.path)
    told = everything_in(sqlite_database.path.parent / "exports") + (done.stdout + done.stderr).encode()
    assert b"Vehicles, day" in told, "what is mapped is there"
    assert CANARY.encode() not in told
    assert str(CANARY_NUMBER).encode() not in told


def states(directory: Path) -> dict[str, tuple[bytes, int, int]]:
    """Bytes, time of modification in nanoseconds, and inode of every file."""
    files = [path for path in directory.rglob("*") if path.is_file()]
    return {
        str(path.relative_to(directory)): (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ino)
        for path in files
    }


def published(found: dict[str, tuple[bytes, int, int]]) -> dict[str, tuple[bytes, int, int]]:
    """The states of the published files alone."""
    return {name: state for name, state in found.items() if not name.startswith(".autoexport/")}


@pytest.mark.parametrize("more", [(), ("--full",)], ids=["incremental", "full"])
def test_a_second_run_on_an_unchanged_database_changes_no_file(
    sqlite_database: SqliteDatabase, more: tuple[str, ...]
) -> None:
    """All published files, the manifest included, keep their bytes, modification times and inodes."""
    exports = sqlite_database.path.parent / "exports"
    export(sqlite_database.path)
    before = states(exports)
    done = export(sqlite_database.path, *more)
    assert "Nothing has changed" in done.stdout
    assert published(states(exports)) == published(before)


def test_a_second_run_on_the_unchanged_real_database_changes_no_file(real_database: Path) -> None:
    """All published files of the real database keep their bytes, modification times and inodes."""
    export(real_database)
    before = states(real_database.parent / "exports")
    export(real_database)
    assert published(states(real_database.parent / "exports")) == published(before)


# --- a reader ------------------------------------------------------------------------------------


@dataclass(eq=False)
class Reader(threading.Thread):
    """Opens and parses database_export.json again and again; keeps the errors."""

    path: Path
    times: int = 0
    totals: set[int] = field(default_factory=set)
    torn: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self.enough = threading.Event()

    def run(self) -> None:
        """Read until `enough` is set."""
        while not self.enough.wait(0.001):
            text = self.path.read_bytes()
            try:
                self.totals.add(json.loads(text)["export_info"]["total_images"])
            except ValueError as error:
                self.torn.append(f"{len(text)} bytes: {error}")
            self.times += 1


@pytest.mark.timeout(240)
def test_a_reader_never_sees_a_torn_file(tmp_path: Path) -> None:
    """While full and incremental exports follow one another, every reading parses."""
    database = tmp_path / "application.sqlite3"
    connection = create_sqlite(database)
    fill_sqlite(connection)
    export(database)
    reader = Reader(tmp_path / "exports" / "database_export.json")
    reader.start()
    try:
        for number in range(PUBLISHES):
            connection.execute("DELETE FROM images WHERE id IN (SELECT id FROM images LIMIT 1)")
            export(database, *(("--full",) if number % 2 else ()))
    finally:
        reader.enough.set()
        reader.join()
        connection.close()
    assert not reader.torn
    assert reader.times > 100
    assert len(reader.totals) >= PUBLISHES - 1, f"it saw the publishes change: {sorted(reader.totals)}"


# --- bad input -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bad:
    """A request that must fail: the preparation, the command, and the expected exit code and message."""

    name: str
    exit_code: int
    says: str
    arguments: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    prepare: Callable[[Path], object] = lambda directory: None
    database: str = "good.db"


def _make_garbage(directory: Path) -> None:
    (directory / "bad.db").write_bytes(b"no database at all\n" * 1000)


def _make_other_tables(directory: Path) -> None:
    with closing(sqlite3.connect(directory / "bad.db")) as connection:
        connection.execute("CREATE TABLE recipes (id INTEGER PRIMARY KEY, title TEXT)")


def _unwritable(directory: Path) -> str:
    """A directory in which this user may not write; for root there is only /proc."""
    if os.geteuid() == 0:
        return "/proc/exports"
    (directory / "closed").mkdir(mode=0o555)
    return str(directory / "closed" / "exports")


def _shout(directory: Path) -> None:
    (directory / "autoexport.toml").write_text('export_dirctory = "exports"\n')


BAD = [
    Bad("a missing file", 1, "missing.db", database="missing.db"),
    Bad("a missing file by URL", 1, "missing.db", database="sqlite:///missing.db"),
    Bad("a directory in place of a file", 1, "bad.db", prepare=lambda d: (d / "bad.db").mkdir(),
        database="bad.db"),
    Bad("a garbage file", 1, "bad.db", prepare=_make_garbage, database="bad.db"),
    Bad("an empty file", 2, "empty", prepare=lambda d: (d / "bad.db").touch(), database="bad.db"),
    Bad("a database without a known table", 2, "images", prepare=_make_other_tables, database="bad.db"),
    Bad("a wrong scheme", 2, "mysql", database=f"mysql://user:{PASSWORD}@host/name"),
    Bad("a server that is not there", 1, "127.0.0.1", database=f"postgresql://user:{PASSWORD}@127.0.0.1:1/name"),
    Bad("an unwritable export directory", 1, "exports", ("--export-dir", "UNWRITABLE")),
    Bad("an export directory that is a file", 1, "taken", ("--export-dir", "taken"),
        prepare=lambda d: (d / "taken").touch()),
    Bad("a negative interval", 2, "--interval", ("--interval", "-5")),
    Bad("an interval that is no number", 2, "--interval", ("--interval", "often")),
    Bad("an unknown key in the file", 2, "export_dirctory", prepare=_shout),
    Bad("a misspelt environment", 2, "environment", env={"DB_EXPORT_ENVIRONMENT": "prodution"}),
    Bad("an unknown flag", 2, "--moniter", ("--moniter",)),
    Bad("a password in a URL that is wrong", 2, "port", database=f"postgresql://user:{PASSWORD}@host:port/name"),
]  # fmt: skip


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """A working directory with a good database."""
    place = tmp_path / "place"
    place.mkdir()
    connection = create_sqlite(place / "good.db")
    fill_sqlite(connection)
    connection.close()
    yield place
    for path in place.glob("closed"):
        path.chmod(0o755)


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name.replace(" ", "-"))
def test_bad_input_is_told_in_one_line_and_a_hint(bad: Bad, directory: Path) -> None:
    """Bad input gives an exit code, an error and a hint, without traceback, password or a new file."""
    bad.prepare(directory)
    unwritable = _unwritable(directory) if "UNWRITABLE" in bad.arguments else ""
    arguments = [unwritable if word == "UNWRITABLE" else word for word in bad.arguments]
    before = {path: path.stat().st_mtime_ns for path in directory.rglob("*")}
    done = run_autoexport("--database-url", bad.database, *arguments, cwd=directory, env=bad.env)
    assert done.exit_code == bad.exit_code, done.stderr
    logged = re.compile(r"\d{4}-\d\d-\d\dT\S+ \[")
    error, hint, *rest = [line for line in done.stderr.splitlines() if not logged.match(line)]
    assert error.startswith("error: ")
    assert bad.says in error
    assert hint.startswith("hint: ")
    assert len(hint) > len("hint: ") + 10
    assert not rest or hint.endswith(":"), "only a hint that shows lines of configuration goes on"
    assert not done.stdout
    assert "Traceback" not in done.stderr
    assert PASSWORD not in done.stderr
    assert {path: path.stat().st_mtime_ns for path in directory.rglob("*")} == before


# --- names and streams ---------------------------------------------------------------------------


def test_a_name_that_is_no_text(sqlite_database: SqliteDatabase, tmp_path: Path) -> None:
    """The names of the database and of its folder may be bytes that are not UTF-8."""
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/f\xff"))
    folder.mkdir()
    database = folder / os.fsdecode(b"n\xfe.db")
    with closing(sqlite3.connect(sqlite_database.path)) as source:
        source.execute("PRAGMA journal_mode=DELETE")
    database.write_bytes(sqlite_database.path.read_bytes())
    export(database)
    assert document_of(folder / "exports")["projects"]
    for command in ("check", "verify"):
        done = run_autoexport(command, "--database-url", str(database), "--export-dir", "exports", cwd=folder)
        assert done.exit_code == 0, done.stderr


def test_the_database_by_another_name(sqlite_database: SqliteDatabase, tmp_path: Path) -> None:
    """A link to the database names the same database, and its export goes on."""
    export(sqlite_database.path)
    link = tmp_path / "latest.db"
    link.symlink_to(sqlite_database.path)
    export(link)
    done = run_autoexport("verify", "--database-url", str(link), "--export-dir", "exports", cwd=tmp_path)
    assert done.exit_code == 0, done.stderr
    with closing(sqlite_database.connect()) as connection:
        connection.execute("UPDATE projects SET name = 'by another name'")
    export(link)
    assert document_of(tmp_path / "exports")["projects"][0]["name"] == "by another name"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_standard_streams_that_are_closed(sqlite_database: SqliteDatabase, tmp_path: Path, closed: str) -> None:
    """An export with closed standard streams succeeds, and no output ends up in a file."""
    command = f'"$0" -m autoexport --database-url "$1" --export-dir exports {closed}'
    done = subprocess.run(
        ["/bin/sh", "-c", command, sys.executable, str(sqlite_database.path)],
        cwd=tmp_path, env=program_environment(), capture_output=True, check=False, timeout=deadline_s(60),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert run_autoexport("verify", "--database-url", str(sqlite_database.path), "--export-dir", "exports",
                          cwd=tmp_path).exit_code == 0  # fmt: skip
