"""The error for a database of an unknown application: which tables look right, and queries to begin with."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from autoexport.errors import MappingError
from tests.databases import SqliteDatabase
from tests.trials import Trial

LINKED = """
CREATE TABLE login (id INTEGER PRIMARY KEY, file TEXT, password TEXT);
CREATE TABLE album (id INTEGER PRIMARY KEY, title TEXT);
CREATE TABLE picture (id INTEGER PRIMARY KEY, src TEXT, w INTEGER, h INTEGER, album INTEGER REFERENCES album (id));
CREATE TABLE kind (id INTEGER PRIMARY KEY, name TEXT, colour TEXT);
CREATE TABLE region (id INTEGER PRIMARY KEY, pic INTEGER REFERENCES picture (id), x REAL, y REAL, w REAL, h REAL,
  "order" INTEGER REFERENCES kind (id));
INSERT INTO album VALUES (1, 'summer');
INSERT INTO picture VALUES (1, 'a.jpg', 640, 480, 1);
INSERT INTO kind VALUES (1, 'car', '#ff0000');
INSERT INTO region VALUES (1, 1, 10, 20, 30, 40, 1)
"""
LOOSE = """
CREATE TABLE frame (frame_no INTEGER PRIMARY KEY, storage_url TEXT);
CREATE TABLE detection (id INTEGER PRIMARY KEY, frame_no INTEGER, coords TEXT, class TEXT);
INSERT INTO frame VALUES (1, 's3://bucket/a.jpg?token=x');
INSERT INTO detection VALUES (1, 1, '[[1, 2], [3, 4], [5, 6]]', 'car')
"""


def pasted(error: MappingError) -> dict[str, object]:
    """The `[tables]` of the hint, as they are pasted into the configuration file."""
    first, _, lines = error.hint.partition("\n")
    assert first == "Complete these queries in autoexport.toml:"
    tables: dict[str, object] = tomllib.loads(lines)["tables"]
    return tables


@pytest.mark.parametrize(
    ("script", "named", "expected"),
    [
        (LINKED, "picture (src) looks like images, region (pic, x, y, w) like annotations", b'"car"'),
        (LOOSE, "frame (storage_url) looks like images, detection (frame_no, coords, class) like", b"[[1, 2], [3"),
    ],
)
def test_queries_to_begin_with(script: str, named: str, expected: bytes, tmp_path: Path) -> None:
    """The error names the tables, and its queries export the rows as they are."""
    database = SqliteDatabase(tmp_path / "app.sqlite3")
    database.script(script)
    database.close()
    with pytest.raises(MappingError, match="No table of images was found") as caught:
        Trial(database.url, tmp_path / "exports").export()
    assert named in str(caught.value)
    assert "login" not in str(caught.value) + caught.value.hint
    trial = Trial(database.url, tmp_path / "exports", tables=pasted(caught.value))
    manifest = trial.export().manifest
    assert manifest.counts["images"] == manifest.counts["annotations"] == 1
    assert expected in trial.contents()["database_export.json"]
    assert b"token" not in trial.contents()["database_export.json"]


def test_no_table_that_looks_like_images(tmp_path: Path) -> None:
    """Nothing is guessed from names that say nothing."""
    database = SqliteDatabase(tmp_path / "app.sqlite3")
    database.script("CREATE TABLE thing (id INTEGER PRIMARY KEY, name TEXT, amount REAL)")
    database.close()
    with pytest.raises(MappingError) as caught:
        Trial(database.url, tmp_path / "exports").export()
    assert caught.value.hint.startswith("Decide in autoexport.toml:")
