"""The advice of `check` works as it is printed, whatever the names of tables and columns."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from autoexport.cli import main
from tests.databases import Connection, PostgresDatabase, SqliteDatabase
from tests.postgres import PostgresServer


@pytest.fixture(params=["sqlite", "postgresql"])
def application(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Connection]]:
    """The URL of a database without tables, and a session."""
    if request.param == "sqlite":
        database = SqliteDatabase(tmp_path / "app.sqlite3")
        with closing(database.connect()) as connection:
            yield database.url, connection
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    with server.database("template0") as url, closing(PostgresDatabase(url).connect()) as session:
        yield url, session


@pytest.mark.parametrize(
    "column", ["dataset_id", "datasetId", "dataset Id", 'dataset"  id', "order", "group", "ümlaut"]
)
def test_the_suggested_index(
    application: tuple[str, Connection], capsys: pytest.CaptureFixture[str], column: str
) -> None:
    """The statement can be executed; then `check` has nothing more to suggest."""
    url, session = application
    quoted = column.replace('"', '""')
    session.script(
        f"""CREATE TABLE "Dataset" (id INTEGER PRIMARY KEY, name TEXT);
        CREATE TABLE "Image"
            (id INTEGER PRIMARY KEY, filename TEXT, "{quoted}" INTEGER REFERENCES "Dataset" (id))"""
    )
    options = ["--database-url", url, "--export-dir", "out"]
    assert main(["check", *options]) == 0
    (statement,) = [line for line in capsys.readouterr().out.splitlines() if "CREATE INDEX" in line]
    session.execute(statement.strip())
    assert main(["check", *options]) == 0
    assert "CREATE INDEX" not in capsys.readouterr().out


def test_an_empty_table_of_labels(application: tuple[str, Connection]) -> None:
    """It says no more than none: the labels come from the annotations' names, until the table has a row."""
    url, session = application
    session.script(
        """CREATE TABLE projects (id INTEGER PRIMARY KEY, name TEXT);
        CREATE TABLE images (id INTEGER PRIMARY KEY, filename TEXT, project_id INTEGER);
        CREATE TABLE labels (id INTEGER PRIMARY KEY, name TEXT, project_id INTEGER);
        CREATE TABLE annotations (id INTEGER PRIMARY KEY, image_id INTEGER, label TEXT);
        INSERT INTO projects VALUES (1, 'p');
        INSERT INTO images VALUES (1, 'a', 1);
        INSERT INTO annotations VALUES (1, 1, 'car'), (2, 1, 'bus'), (3, 1, 'car')"""
    )
    options = ["--database-url", url, "--export-dir", "out", "--log-level", "error"]

    def labels() -> list[tuple[object, ...]]:
        assert main(options) == 0
        tree = json.loads(Path("out/database_export.json").read_bytes())
        shown = tree["projects"][0]["labels"]
        assert tree["export_info"]["total_labels"] == len(shown)
        return [tuple(label.values()) for label in shown]

    assert labels() == [(None, "bus", None, 1), (None, "car", None, 2)]
    session.execute("INSERT INTO labels VALUES (7, 'car', 1)")
    assert labels() == [(7, "car", None, 2)]
    session.execute("DELETE FROM labels")
    assert labels() == [(None, "bus", None, 1), (None, "car", None, 2)]
