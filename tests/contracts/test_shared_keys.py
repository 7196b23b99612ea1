"""Rows that share a key: `check` refuses what an export refuses, and orphans are counted right."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from autoexport.errors import SourceError
from tests.conftest import run_autoexport
from tests.databases import Connection
from tests.postgres_connection import PostgresConnection
from tests.trials import Trial

TABLES = """
CREATE TABLE projects (id INTEGER, name TEXT);
CREATE TABLE datasets (id INTEGER, project_id INTEGER, name TEXT);
CREATE TABLE images (id INTEGER, dataset_id INTEGER, filename TEXT);
CREATE TABLE annotations (id INTEGER PRIMARY KEY, image_id INTEGER, label TEXT);
INSERT INTO projects VALUES (1, 'p');
INSERT INTO datasets VALUES (1, 1, 'd'), (2, 1, 'e');
INSERT INTO images VALUES (1, 1, 'a'), (2, 1, 'c');
INSERT INTO annotations VALUES (1, 1, 'car'), (2, 1, 'bus'), (3, 9, 'orphan');
"""


def manifest(trial: Trial) -> dict[str, dict[str, int]]:
    """The manifest of the last export."""
    found: dict[str, dict[str, int]] = json.loads((trial.directory / "manifest.json").read_bytes())
    return found


@pytest.mark.parametrize(
    ("table", "row"),
    [("projects", "1, 'again'"), ("datasets", "2, 1, 'again'"), ("images", "1, 1, 'again'")],
)
def test_check_refuses_what_an_export_refuses(
    bare_database: tuple[str, Connection], tmp_path: Path, table: str, row: str
) -> None:
    """Two rows of one key, in a table that declares no primary key: the same error, and exit code 1."""
    url, session = bare_database
    session.script(TABLES)
    session.script(f"INSERT INTO {table} VALUES ({row})")
    with pytest.raises(SourceError, match=f"{table}.id is not unique: two rows have the key") as raised:
        Trial(url, tmp_path / "exports").export()
    done = run_autoexport("--database-url", url, "check", cwd=tmp_path)
    assert done.exit_code == 1
    assert str(raised.value) in " ".join(done.stderr.split())


def test_a_child_table_repeats_a_key(empty_url: str, tmp_path: Path) -> None:
    """The primary key of a PostgreSQL table does not bind the tables that inherit from it."""
    with PostgresConnection(empty_url) as connection:
        connection.script(TABLES.replace("images (id INTEGER,", "images (id INTEGER PRIMARY KEY,"))
        connection.script("CREATE TABLE special_images () INHERITS (images)")
        connection.script("INSERT INTO special_images VALUES (1, 1, 'same')")
    done = run_autoexport("--database-url", empty_url, "check", cwd=tmp_path)
    assert done.exit_code == 1
    assert "images.id is not unique: two rows have the key 1" in done.stderr


def test_images_of_two_datasets_that_share_a_key(bare_database: tuple[str, Connection], tmp_path: Path) -> None:
    """The annotations that name it come twice; orphans are counted all the same, by the export and by `check`."""
    url, session = bare_database
    session.script(TABLES)
    trial = Trial(url, tmp_path / "exports")
    trial.export()
    assert manifest(trial)["orphans"] == {"datasets": 0, "images": 0, "annotations": 1}
    session.script("INSERT INTO images VALUES (1, 2, 'b')")
    trial.export()
    assert manifest(trial)["counts"]["annotations"] == 4
    assert manifest(trial)["orphans"] == {"datasets": 0, "images": 0, "annotations": 1}
    assert trial.differences() == []
    said = " ".join(run_autoexport("--database-url", url, "check", cwd=tmp_path).stdout.split())
    assert "1 annotation is an orphan" in said
