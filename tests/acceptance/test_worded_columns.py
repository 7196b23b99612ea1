"""Flags and numbers in text columns, on both databases: read as elsewhere, or null and counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from autoexport import Settings
from autoexport.pipeline.exporter import run_once
from tests.databases import Connection, SqliteDatabase

TABLES = """
CREATE TABLE images (id INTEGER PRIMARY KEY, filename TEXT, is_labeled {0}, is_verified {1}, width {2},
    file_size {3}, created_at TEXT);
CREATE TABLE annotations (id INTEGER PRIMARY KEY, image_id INTEGER, confidence {2}, x_min {2}, y_min {2},
    x_max {2}, y_max {2}, is_auto_generated {1}, deleted {1});
INSERT INTO images VALUES
    (1, 'a', 'yes', 'true', '640', '1e3', '2024-01-15 09:00:00'), (2, 'b', 'no', 'false', '48.5', '12', NULL),
    (3, 'c', 'odd', NULL, 'wide', '12 MB', 'yesterday');
INSERT INTO annotations VALUES
    (1, 1, '0.5', '1', '2', '3', '4', 'true', 'false'), (2, 1, 'high', '1', 'two', '3', '4', 'false', 'true'),
    (3, 2, 'high', '1', 'two', '3', '4', NULL, NULL);
"""
POSTGRES_TYPES = """
CREATE TYPE answer AS ENUM ('yes', 'no', 'odd');
CREATE DOMAIN truth AS varchar(5);
CREATE DOMAIN truths AS truth;
"""


@pytest.fixture
def application(bare_database: tuple[str, Connection]) -> tuple[str, Connection]:
    """The URL of a database without tables, and a session; PostgreSQL has types of an application."""
    url, session = bare_database
    if url.startswith("postgresql"):
        session.script(POSTGRES_TYPES)
    return url, session


async def exported(url: str, directory: Path, **tables: Any) -> tuple[list[dict[str, Any]], int]:
    """The images of an export, and the number of repaired values."""
    settings = Settings(database_url=url, export_directory=directory, tables=tables)  # type: ignore[call-arg]
    manifest = (await run_once(settings)).manifest
    tree = json.loads((directory / "database_export.json").read_bytes())
    return tree["projects"][0]["datasets"][0]["images"], manifest.repaired


@pytest.mark.parametrize(
    "types",
    [
        ("TEXT", "VARCHAR(5)", "TEXT", "VARCHAR(20)"),
        ("CHAR(3)", "character varying", "VARCHAR(9)", "CHARACTER(7)"),
        ("answer", "truths", "varchar", "text"),
    ],
)
async def test_flags_and_numbers(
    application: tuple[str, Connection], tmp_path: Path, types: tuple[str, ...]
) -> None:
    """Words and numbers are read; what is neither is null and counted, and nothing is derived in its place."""
    url, session = application
    session.script(TABLES.format(*types))
    images, repaired = await exported(url, tmp_path / "exports")
    values = [(i["is_labeled"], i["is_verified"], i["width"], i["file_size"], i["created_at"]) for i in images]
    assert (
        values
        == [
            (True, True, 640, 1000.0, "2024-01-15T09:00:00"),
            (False, False, 48.5, 12, None),
            (None, None, None, None, "yesterday"),
        ]
        or types[0] == "answer"
    )
    first, *others = images[0]["annotations"]
    assert (first["confidence"], first["is_auto_generated"], others) == (0.5, True, [])
    assert first["bbox"] == {"x_min": 1, "y_min": 2, "x_max": 3, "y_max": 4}
    (unreadable,) = images[1]["annotations"]
    assert (unreadable["confidence"], unreadable["bbox"]) == (
        None,
        {"x_min": 1, "y_min": None, "x_max": 3, "y_max": 4},
    )
    assert repaired == 5


async def test_a_named_text_column(application: tuple[str, Connection], tmp_path: Path) -> None:
    """The configuration may name a text column as a flag, a number or the mark of deleted rows."""
    url, session = application
    session.script(
        """CREATE TABLE images (id INTEGER PRIMARY KEY, filename TEXT, done TEXT, pixels TEXT, gone TEXT);
        INSERT INTO images VALUES (1, 'a', 'y', '7', NULL), (2, 'b', 'n', NULL, ''), (3, 'c', NULL, NULL, 'Yes '),
            (4, 'd', NULL, NULL, '2024-05-01'), (5, 'e', NULL, NULL, '0'), (6, 'f', NULL, NULL, 'later')"""
    )
    columns = {"is_labeled": "done", "width": "pixels", "deleted": "gone"}
    images, repaired = await exported(url, tmp_path / "exports", images={"columns": columns})
    assert [(i["id"], i["is_labeled"], i["width"]) for i in images] == [
        (1, True, 7), (2, False, None), (5, None, None), (6, None, None),
    ]  # fmt: skip
    assert repaired == 0


@pytest.mark.parametrize("declared", ["", "STRING", "LOGICAL", "NCHAR(9)", "CLOB"])
async def test_any_declared_type_of_sqlite(tmp_path: Path, declared: str) -> None:
    """SQLite does not bind a column to its declared type, and knows few of the spellings."""
    database = SqliteDatabase(tmp_path / "app.sqlite3")
    database.script(
        f"""CREATE TABLE images
            (id INTEGER PRIMARY KEY, filename {declared}, is_labeled {declared}, width {declared});
        CREATE TABLE annotations (id INTEGER PRIMARY KEY, image_id INTEGER, type {declared}, label TEXT);
        INSERT INTO images VALUES (1, 'a', 'yes', '640'), (2, 'b', 0, 480);
        INSERT INTO annotations VALUES (1, 1, 'bbox', 'car')"""
    )
    database.close()
    images, repaired = await exported(database.url, tmp_path / "exports")
    assert [(i["filename"], i["is_labeled"], i["width"]) for i in images] == [("a", True, 640), ("b", False, 480)]
    assert (images[0]["annotations"][0]["type"], repaired) == ("bbox", 0)
