"""`verify` finds every changed byte of a file and every changed row of the database, and says where."""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.applications import COLUMNS, create_sqlite, fill_sqlite, key
from tests.bench.generate import write_sqlite
from tests.conftest import program_environment, run_autoexport
from tests.daemon import Daemon, wait_until
from tests.databases import Database, SqliteDatabase
from tests.deadlines import deadline_s
from tests.outputs import ALL_OUTPUT_VARIABLES, SINGLE_FILES, published_names, recorded_as
from tests.trials import Trial

CI_BYTES, SOAK_BYTES = 12, 150
"""The number of changed bytes in each file."""

CI_ROWS = 16
MEMORY_LIMIT_KB = 100 * 1024

PUBLISHED_COLUMNS = {
    "projects": ("name", "description", "created_at", "updated_at", "project_type"),
    "datasets": ("name", "description", "project_id", "created_at", "updated_at"),
    "images": ("filename", "original_filename", "file_path", "file_size", "width", "height", "format",
               "dataset_id", "is_labeled", "is_auto_labeled", "is_verified", "split_type", "created_at",
               "updated_at", "split_section"),
    "annotations": ("image_id", "class_name", "class_id", "confidence", "x_min", "y_min", "x_max", "y_max",
                    "segmentation", "is_auto_generated", "is_verified", "model_id", "created_at", "updated_at"),
    "labels": ("name", "color", "project_id"),
}  # fmt: skip


@pytest.fixture
def verified(tmp_path: Path) -> tuple[SqliteDatabase, Trial]:
    """A database with the sample rows, and its export."""
    connection = create_sqlite(tmp_path / "application.sqlite3")
    fill_sqlite(connection)
    connection.close()
    database = SqliteDatabase(tmp_path / "application.sqlite3")
    trial = Trial(database.url, tmp_path / "exports")
    trial.export()
    return database, trial


# --- every byte --------------------------------------------------------------------------------------


def check_bytes(trial: Trial, count: int, draw: random.Random) -> int:
    """Change up to `count` bytes of each file, one at a time, and check that each is found and named.

    Of the many files in folders, one byte each is enough. Returns how many were changed.
    """
    assert not trial.differences()
    changed = 0
    names = published_names(trial.directory)
    for name in names:
        path = trial.directory / name
        right = path.read_bytes()
        places = draw.sample(range(len(right)), min(count if name in SINGLE_FILES else 1, len(right)))
        for place in places:
            other = draw.choice([byte for byte in range(256) if byte != right[place]])
            path.write_bytes(right[:place] + bytes([other]) + right[place + 1 :])
            found = trial.differences()
            if name.endswith("/classes.json") or recorded_as(name) != name:
                # An input, of which the manifest has the digest; or a label file, which is compared as a whole.
                assert any(name in line for line in found), f"{name}, byte {place}: {found}"
            else:
                assert any(f"{name}, byte {place:,}" in line for line in found), f"{name}, byte {place}: {found}"
                assert not any(line.startswith(wrong) for line in found for wrong in names if wrong != name)
            changed += 1
        path.write_bytes(right)
    assert not trial.differences()
    return changed


def test_a_changed_byte_is_found(verified: tuple[SqliteDatabase, Trial]) -> None:
    """A changed byte is found wherever it is, and no other file is blamed."""
    changed = check_bytes(verified[1], CI_BYTES, random.Random())
    assert changed > len(SINGLE_FILES) * CI_BYTES


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_every_changed_byte_is_found(verified: tuple[SqliteDatabase, Trial]) -> None:
    """A sample of 600 changed bytes is found."""
    print(f"{check_bytes(verified[1], SOAK_BYTES, random.Random())} changed bytes, missed 0")


def test_a_changed_byte_of_the_manifest_is_found(verified: tuple[SqliteDatabase, Trial]) -> None:
    """Any changed byte of the manifest is found."""
    path, draw = verified[1].directory / "manifest.json", random.Random()
    right = path.read_bytes()
    for place in draw.sample(range(len(right)), CI_BYTES):
        path.write_bytes(right[:place] + bytes([right[place] ^ (1 << draw.randrange(7))]) + right[place + 1 :])
        found = verified[1].differences()
        assert any("manifest.json" in line for line in found), f"byte {place}"
    path.write_bytes(right)
    assert not verified[1].differences()


@pytest.mark.parametrize("name", SINGLE_FILES)
def test_a_missing_or_longer_file_is_found(verified: tuple[SqliteDatabase, Trial], name: str) -> None:
    """A file that is missing, has a line more, is cut or is empty is found."""
    trial = verified[1]
    path = trial.directory / name
    right = path.read_bytes()
    for content in (None, right + b"\n", right[:-1], b""):
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
        assert any(line.startswith(name) for line in trial.differences())


# --- every row ---------------------------------------------------------------------------------------


def rows_of(database: SqliteDatabase) -> list[tuple[str, object, str]]:
    """Table, key and column of every published value."""
    return [
        (table, row[0], column)
        for table, columns in PUBLISHED_COLUMNS.items()
        for row in database.execute(f"SELECT id FROM {table}")
        for column in columns
    ]


def change(database: SqliteDatabase, table: str, row: object, column: str) -> str | None:
    """Change one value to another that is published differently. Returns the old value as text."""
    (old,) = database.execute(f"SELECT {column} FROM {table} WHERE id = ?", row)[0]  # type: ignore[arg-type]
    if column in ("project_id", "dataset_id", "image_id"):
        parent = f"{column.removesuffix('_id')}s"
        new = database.execute(f"SELECT id FROM {parent} WHERE id <> ? ORDER BY id", old)[0][0]
    elif column == "segmentation":
        new = "[[9, 9], [8, 8], [7, 7.5]]"
    elif isinstance(old, int | float):
        new = (
            old + 1
            if column not in ("is_labeled", "is_verified", "is_auto_labeled", "is_auto_generated")
            else 1 - old
        )
    elif column.endswith("_at"):
        new = "2031-01-02 03:04:05"
    else:
        new = f"{old}~" if isinstance(old, str) else 1
    database.execute(f"UPDATE {table} SET {column} = ? WHERE id = ?", new, row)  # type: ignore[arg-type]
    return None if old is None else str(old)


def check_rows(verified: tuple[SqliteDatabase, Trial], count: int, draw: random.Random) -> int:
    """Change up to `count` values, one at a time, and check that each is found. Returns how many were changed."""
    database, trial = verified
    database.close()
    kept = shutil.copy(database.path, database.path.with_name("kept"))
    every = rows_of(database)
    for table, row, column in draw.sample(every, min(count, len(every))):
        change(database, table, row, column)
        assert trial.differences(), f"{table}.{column} of {row}"
        database.close()
        shutil.copy(kept, database.path)
    assert not trial.differences()
    return min(count, len(every))


def test_a_changed_row_is_found(verified: tuple[SqliteDatabase, Trial]) -> None:
    """A changed value is found in any published column of any table."""
    assert check_rows(verified, CI_ROWS, random.Random()) == CI_ROWS


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_every_changed_row_is_found(verified: tuple[SqliteDatabase, Trial]) -> None:
    """A change is found in every published value of every row."""
    print(f"{check_rows(verified, 1 << 30, random.Random())} changed values, missed 0")


def test_rows_that_come_and_go_are_found(database: Database, tmp_path: Path) -> None:
    """An insertion and a deletion are found in each table, on every kind of database."""
    trial = Trial(database.url, tmp_path / "exports")
    trial.export()
    assert not trial.differences()
    for table in ("annotations", "images", "labels", "datasets", "projects"):
        names = ", ".join(COLUMNS[table])
        (row,) = database.execute(f"SELECT {names} FROM {table} ORDER BY id LIMIT 1")
        database.execute(f"DELETE FROM {table} WHERE id = ?", row[0])
        assert trial.differences(), f"a row of {table} is gone"
        database.execute(f"INSERT INTO {table} ({names}) VALUES ({', '.join('?' * len(row))})", *row)
        assert not trial.differences(), f"a row of {table} is back"


def test_what_shows_in_no_file_is_no_drift(verified: tuple[SqliteDatabase, Trial]) -> None:
    """A change that no file shows is not reported, because no export could repair it."""
    database, trial = verified
    database.script("ALTER TABLE images ADD COLUMN deleted_at DATETIME")
    trial.export()
    for statement in (
        "UPDATE annotations SET confidence = 9e999 WHERE confidence IS NULL",
        "INSERT INTO images (id, filename, original_filename, file_path, file_size, width, height, format,"
        " dataset_id, is_labeled, is_auto_labeled, is_verified, deleted_at)"
        f" SELECT 'gone', 'x', 'x', 'x', 1, 1, 1, 'x', '{key(0x10)}', 0, 0, 0, '2024-01-01 00:00:00'",
        "DELETE FROM images WHERE id = 'gone'",
    ):
        database.execute(statement)
        assert trial.differences() == [], statement
        assert not trial.export().published
        assert trial.differences() == [], statement


# --- the words, the exit code, the repair ------------------------------------------------------------


def verify(trial: Trial, *more: str) -> tuple[int, str]:
    """Run the command. Returns its exit code and standard output."""
    done = run_autoexport("verify", "--database-url", trial.settings.database_url, "--export-dir",
                          str(trial.directory), *more, env=ALL_OUTPUT_VARIABLES)  # fmt: skip
    return done.exit_code, done.stdout


def test_the_command_says_where_and_repairs(verified: tuple[SqliteDatabase, Trial]) -> None:
    """It exits with 0 when all is equal, and with 3 when not, naming file, project, dataset and image.

    `--full` repairs, and then the exit code is 0 again.
    """
    database, trial = verified
    code, said = verify(trial)
    assert (code, "byte for byte" in said) == (0, True)
    before = {path: path.stat() for path in trial.directory.iterdir() if path.is_file()}
    database.execute("UPDATE images SET filename = 'other.jpg' WHERE id = ?", key(104))
    code, said = verify(trial)
    assert code == 3
    (line,) = [line for line in said.splitlines() if line.startswith("images.csv, byte")]
    assert "project 1 (Vehicles, day)" in line
    assert f"dataset {key(0x10)} (day)" in line
    assert key(104) in line.partition(" image ")[2].partition(":")[0]
    assert "img_104.jpg" in line
    assert any(line.startswith("database_export.json, byte") for line in said.splitlines())
    assert "--full" in said
    assert {path: path.stat() for path in before} == before, "it changes no file"
    assert not trial.leftovers()
    assert verify(trial, "--full")[0] == 0
    assert verify(trial)[0] == 0
    trial.check_equals(database.path)


def test_a_publish_that_is_due_is_no_drift(verified: tuple[SqliteDatabase, Trial], tmp_path: Path) -> None:
    """Beside a daemon that has not yet seen a change, `verify` waits for its export before it compares."""
    database, trial = verified
    with Daemon(
        database.url, trial.directory, "--disable-hooks", interval_s=3, env=ALL_OUTPUT_VARIABLES
    ) as daemon:
        daemon.wait_until_idle()
        generation = json.loads((trial.directory / "manifest.json").read_bytes())["generation"]
        database.execute("UPDATE projects SET name = 'not seen yet' WHERE id = 1")
        assert verify(trial)[0] == 0
        assert json.loads((trial.directory / "manifest.json").read_bytes())["generation"] == generation + 1


def test_drift_beside_a_daemon_is_still_drift(verified: tuple[SqliteDatabase, Trial]) -> None:
    """A file that was changed by hand is found, or repaired by the daemon in the meantime."""
    database, trial = verified
    options = {"interval_s": 0.5, "env": ALL_OUTPUT_VARIABLES}
    with Daemon(database.url, trial.directory, "--disable-hooks", **options) as daemon:
        daemon.wait_until_idle()
        with (trial.directory / "images.csv").open("ab") as file:
            file.write(b"by hand\n")
        code, said = verify(trial)
        assert code in (0, 3), said
        wait_until(lambda: b"by hand" not in (trial.directory / "images.csv").read_bytes(), "it is repaired")
        daemon.wait_until_idle()
        assert verify(trial)[0] == 0


# --- what it costs -----------------------------------------------------------------------------------

# Not `ru_maxrss`: it is handed down from the process that started this one (VmHWM: proc(5)).
_PEAK = """
import runpy, sys
sys.argv = ["autoexport", *sys.argv[1:]]
try:
    runpy.run_module("autoexport", run_name="__main__")
except SystemExit as end:
    code = end.code
with open("/proc/self/status") as status:
    print(next(line.split()[1] for line in status if line.startswith("VmHWM")), file=sys.stderr)
sys.exit(code)
"""


def peak_kb(*arguments: str) -> int:
    """The largest resident memory of a run of the command, in kB."""
    done = subprocess.run(
        [sys.executable, "-c", _PEAK, *arguments], env=program_environment(), capture_output=True, text=True,
        check=True, timeout=deadline_s(110),
    )  # fmt: skip
    return int(done.stderr.splitlines()[-1])


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc, to read the peak memory")
def test_memory_is_flat(tmp_path: Path) -> None:
    """Memory stays the same for six times the rows, and below 100 MB."""
    peaks = []
    for images in (2_000, 12_000):
        path = tmp_path / f"{images}.sqlite3"
        write_sqlite(path, images=images, annotations_per_image=3, seed=1, indexes=False, journal="delete")
        where = ("--database-url", str(path), "--export-dir", str(tmp_path / f"exports-{images}"))
        run_autoexport(*where, timeout_s=110)
        peaks.append(peak_kb("verify", *where))
        os.unlink(path)
    assert max(peaks) < MEMORY_LIMIT_KB, peaks
    assert peaks[1] - peaks[0] < 16 * 1024, peaks


def test_a_database_that_cannot_be_read_is_no_drift(verified: tuple[SqliteDatabase, Trial]) -> None:
    """It exits with 1, because nothing is then known about the files."""
    database, trial = verified
    database.path.rename(database.path.with_name("aside"))
    assert verify(trial)[0] == 1


def test_a_reader_may_verify_in_the_middle_of_writing(verified: tuple[SqliteDatabase, Trial]) -> None:
    """A transaction of the application that is not committed is not seen."""
    database, trial = verified
    with sqlite3.connect(database.path, isolation_level=None) as writing:
        writing.execute("BEGIN")
        writing.execute("UPDATE projects SET name = 'uncommitted'")
        assert not trial.differences()
        writing.execute("ROLLBACK")
    writing.close()
