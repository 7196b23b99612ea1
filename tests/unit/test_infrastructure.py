"""The tests' own tools: databases, servers, the generator and the straight reading."""

from __future__ import annotations

import json
import os
import select
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from tests.applications import CANARY, CANARY_NUMBER, copy_to_postgres, create_sqlite, fill_sqlite
from tests.bench.generate import batches, write_postgres, write_sqlite
from tests.conftest import REPOSITORY, program_environment
from tests.databases import Database, SqliteDatabase
from tests.deadlines import deadline_s
from tests.postgres import READER, PostgresServer
from tests.postgres_connection import PostgresConnection
from tests.processes import started
from tests.straight_reading import expected_csv, expected_csv_text, expected_document

CSV_FILES = ("projects.csv", "datasets.csv", "images.csv")
TABLES = ("projects", "datasets", "images", "annotations", "labels")


@pytest.fixture
def sample() -> Iterator[sqlite3.Connection]:
    """The sample rows in memory."""
    connection = create_sqlite(":memory:", journal_mode="memory")
    fill_sqlite(connection)
    yield connection
    connection.close()


# --- straight reading ----------------------------------------------------------------------------


def test_straight_reading_of_the_real_database(real_database: Path) -> None:
    """Of the real database the totals are known, and that 20 of its polygons are the text null."""
    connection = sqlite3.connect(real_database)
    document = expected_document(connection, "now")
    assert document["export_info"] == {
        "format_version": 2, "timestamp": "now", "total_projects": 6, "total_datasets": 10,
        "total_images": 69, "total_annotations": 347, "total_labels": 11,
    }  # fmt: skip
    datasets = [dataset for project in document["projects"] for dataset in project["datasets"]]
    annotations = [a for dataset in datasets for image in dataset["images"] for a in image["annotations"]]
    assert sum(annotation["polygon"] is None for annotation in annotations) == 20
    assert [len(expected_csv(connection, file)) for file in CSV_FILES] == [7, 11, 70]
    connection.close()


def test_real_database_reads_the_same_in_postgresql(real_database: Path, postgres_server: PostgresServer) -> None:
    """A database that was copied into PostgreSQL reads the same there, with json and with jsonb."""
    source = sqlite3.connect(real_database)
    for json_type in ("json", "jsonb"):
        with postgres_server.database("template0") as url, PostgresConnection(url) as target:
            copy_to_postgres(source, target, json_type)
            assert expected_document(target) == expected_document(source)
            for file in CSV_FILES:
                assert expected_csv_text(target, file) == expected_csv_text(source, file)
    source.close()


def test_sample_reads_the_same_in_every_database(database: Database, sample: sqlite3.Connection) -> None:
    """The sample rows give the same document and CSV text, whichever database holds them."""
    assert expected_document(database) == expected_document(sample)
    for file in CSV_FILES:
        assert expected_csv_text(database, file) == expected_csv_text(sample, file)


def test_straight_reading_counts_rows_and_orders_by_code_point(sample: sqlite3.Connection) -> None:
    """Counts, splits and order of the sample are those that were counted by hand."""
    projects = expected_document(sample)["projects"]
    assert [project["id"] for project in projects] == [1, 2, 7, 10]
    day, night, empty = projects[0]["datasets"]
    assert (day["name"], night["name"], empty["name"]) == ("day", "night", "empty")
    assert day["splits"] == {"train": 3, "val": 3, "test": 2, "unassigned": 1, "holdout": 1}
    assert [dataset["id"] for dataset in projects[1]["datasets"]] == ["B-garden", "b-garden"]
    assert night["labeled_image_count"] == 2
    assert projects[0]["labels"][0]["annotation_count"] == projects[0]["labels"][3]["annotation_count"] == 30
    assert projects[0]["annotation_count"] == 31


def test_straight_csv_to_the_letter(sample: sqlite3.Connection) -> None:
    """Text and dates are quoted, numbers and booleans bare, null is empty, formulas are neutralised."""
    lines = expected_csv_text(sample, "projects.csv").split("\n")
    assert lines[1] == (
        '1,"Vehicles, day",3,15,"2024-12-01 08:00:00","2025-03-01 09:30:00.000001",,"Object Detection",'
        '12,31,4,"car; truck; never used; car"'
    )
    assert lines[3:5] == ['7,"\'=1+1",1,1,,"2024-12-01 08:00:00","two', 'lines",,0,2,1,"\'@sum"']
    assert lines[5].endswith(',0,0,0,""')
    datasets = expected_csv_text(sample, "datasets.csv")
    assert ',"\'- one","' in datasets
    assert ',"-1","' in datasets
    assert '"projects/a/img_300.jpg",2,' in expected_csv_text(sample, "images.csv")


def test_straight_reading_leaves_out_orphans_and_unmapped_columns(sample: sqlite3.Connection) -> None:
    """Rows without parents are nowhere, nor is anything of a column that is not mapped."""
    with_orphans = create_sqlite(":memory:", journal_mode="memory")
    fill_sqlite(with_orphans, orphans=True)
    (count,) = with_orphans.execute("SELECT count(*) FROM images").fetchone()
    document = expected_document(with_orphans)
    assert document == expected_document(sample)
    assert document["export_info"]["total_images"] == count - 2
    said = json.dumps(document) + "".join(expected_csv_text(with_orphans, file) for file in CSV_FILES)
    with_orphans.close()
    assert CANARY not in said
    assert str(CANARY_NUMBER) not in said


# --- databases -----------------------------------------------------------------------------------


def test_sqlite_database_is_in_its_journal_mode(sqlite_database: SqliteDatabase) -> None:
    """The file is in the mode of its kind, and another process sees a commit and can make one."""
    assert sqlite_database.execute("PRAGMA journal_mode") == [(sqlite_database.kind.removeprefix("sqlite-"),)]
    sqlite_database.execute("UPDATE projects SET name = ? WHERE id = ?", "new", 1)
    assert sqlite_database.execute_elsewhere("SELECT name FROM projects WHERE id = ?", 1) == [("new",)]
    sqlite_database.execute_elsewhere("DELETE FROM annotations")
    assert sqlite_database.execute("SELECT count(*) FROM annotations") == [(0,)]


def test_database_takes_the_same_statements_of_every_kind(database: Database) -> None:
    """Parameters, transactions, orphans and a second session work alike on every database."""
    database.execute("BEGIN")
    database.execute("UPDATE images SET updated_at = ?, is_verified = ?", "2025-05-06 07:08:09.1", True)
    database.execute("INSERT INTO labels VALUES (?, 'a ? b', NULL, ?)", 500, 404)
    other = database.connect()
    assert other.execute("SELECT count(*) FROM labels WHERE id = 500") == [(0,)]
    database.execute("COMMIT")
    assert other.execute("SELECT name FROM labels WHERE id = ?", 500) == [("a ? b",)]
    assert {bool(flag) for (flag,) in database.execute_elsewhere("SELECT is_verified FROM images")} == {True}
    other.close()


def test_page_size_and_indexes_are_as_asked(tmp_path: Path) -> None:
    """A SQLite database has the page size that was asked for, and indexes only if they were."""
    connection = create_sqlite(tmp_path / "a.db", "persist", page_size=512, indexes=True)
    assert connection.execute("PRAGMA page_size").fetchone() == (512,)
    assert connection.execute("SELECT count(*) FROM sqlite_schema WHERE name LIKE 'ix%'").fetchone() == (2,)
    connection.close()


def test_no_setting_from_outside_reaches_a_test(tmp_path: Path) -> None:
    """The working directory is the test's own, and settings of the surroundings are gone."""
    assert Path.cwd() == tmp_path
    ambient = ("DB_EXPORT_", "DATABASE_URL", "LOG_", "PGHOST", "NOTIFY_SOCKET")
    os.environ["DB_EXPORT_CHECK_INTERVAL"] = "1"
    try:
        assert not [name for name in program_environment() if name.startswith(ambient)]
        assert program_environment({"LOG_LEVEL": "debug"})["LOG_LEVEL"] == "debug"
    finally:
        del os.environ["DB_EXPORT_CHECK_INTERVAL"]
    assert not [name for name in os.environ if name.startswith(ambient)]


# --- the server ----------------------------------------------------------------------------------


def test_server_asks_for_passwords(postgres_server: PostgresServer, postgres_database: str) -> None:
    """The right password opens, a wrong one does not, and the reading role may not read without a grant."""
    name = postgres_database.rpartition("/")[2]
    with PostgresConnection(postgres_database) as connection:
        assert connection.execute("SELECT count(*) FROM images") == [(0,)]
    with pytest.raises(asyncpg.InvalidPasswordError):
        PostgresConnection(postgres_server.url(name, password="wrong"))
    with (
        PostgresConnection(postgres_server.url(name, user=READER)) as reader,
        pytest.raises(asyncpg.InsufficientPrivilegeError),
    ):
        reader.execute("SELECT * FROM images")


def test_databases_are_separate_and_dropped(postgres_server: PostgresServer) -> None:
    """A database sees nothing of another one and is gone afterwards, even with a session open."""
    with postgres_server.database() as first, postgres_server.database() as second:
        held = PostgresConnection(first)
        held.execute("INSERT INTO alembic_version VALUES ('1')")
        with PostgresConnection(second) as other:
            assert other.execute("SELECT * FROM alembic_version") == []
    held.close()
    left = postgres_server.admin("SELECT datname FROM pg_database WHERE datname = ?", first.rpartition("/")[2])
    assert left == []


def test_server_can_be_stopped_killed_and_started(own_postgres_server: PostgresServer) -> None:
    """Stopping, crashing and restarting keep the data and the port."""
    server = own_postgres_server
    url = server.url(server.create_database())
    with PostgresConnection(url) as connection:
        connection.execute("INSERT INTO alembic_version VALUES ('kept')")
    server.stop("fast")
    with pytest.raises(ConnectionRefusedError):
        PostgresConnection(url)
    server.start()
    held = PostgresConnection(url)
    server.restart("immediate")
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, ConnectionError)):
        held.execute("SELECT 1")
    held.close()
    with PostgresConnection(url) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version") == [("kept",)]


def test_server_goes_with_a_test_process_that_is_killed() -> None:
    """SIGKILL for the test process leaves no server behind, and the next one removes its directory."""
    script = (
        "from tests.postgres import running_server\n"
        "with running_server() as server:\n"
        "    print(server.pid, server.directory, flush=True)\n"
        "    input()\n"
    )
    environment = {**program_environment(), "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", script]
    with started(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as victim:
        assert victim.stdout is not None
        pid, directory = victim.stdout.readline().split()
        server = os.pidfd_open(int(pid))
    ended, _, _ = select.select([server], [], [], deadline_s(30))
    os.close(server)
    assert ended
    assert Path(directory).exists()
    subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        input="\n",
        text=True,
        check=True,
        capture_output=True,
    )
    assert not Path(directory).exists()


# --- the generator -------------------------------------------------------------------------------


def test_generator_is_deterministic() -> None:
    """A seed gives the same rows every time, another seed others, and the totals are exact."""
    first = list(batches(2500, 5.5, seed=1))
    assert first == list(batches(2500, 5.5, seed=1))
    assert first != list(batches(2500, 5.5, seed=2))
    totals = {table: sum(len(rows) for name, rows in first if name == table) for table in TABLES}
    assert totals == {"projects": 5, "datasets": 20, "images": 2500, "annotations": 13750, "labels": 25}


def test_generator_writes_what_it_says(tmp_path: Path, postgres_server: PostgresServer) -> None:
    """Both databases hold the same rows; a fifth are polygons, dates come with and without microseconds."""
    path = tmp_path / "generated.sqlite3"
    write_sqlite(path, 400, 3.25, seed=7, indexes=True, journal="wal")
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    with postgres_server.database("template0") as url:
        write_postgres(url, 400, 3.25, seed=7, indexes=True)
        with PostgresConnection(url) as target:
            for file in CSV_FILES:
                assert expected_csv_text(target, file) == expected_csv_text(connection, file)
            document = expected_document(target)
            assert document == expected_document(connection)
    assert document["export_info"]["total_annotations"] == 1300
    count = "SELECT count(*) FROM annotations WHERE "
    assert 200 < connection.execute(count + "segmentation <> 'null'").fetchone()[0] < 320
    assert 500 < connection.execute(count + "created_at LIKE '%.%'").fetchone()[0] < 800
    connection.close()
