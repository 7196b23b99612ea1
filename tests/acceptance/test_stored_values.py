"""Values that SQLite stores in unusual ways are published without loss, and counted where they cannot be."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.databases import SqliteDatabase
from tests.trials import Trial

_TABLES = """
CREATE TABLE images (id INTEGER PRIMARY KEY, filename TEXT, created_at TIMESTAMP);
CREATE TABLE annotations (
  id INTEGER PRIMARY KEY, image_id INTEGER REFERENCES images, label TEXT, bbox JSON, segmentation JSON,
  created_at TIMESTAMP);
INSERT INTO images VALUES (1, 'a.jpg', '2024-01-15 09:00:00');
"""


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[SqliteDatabase]:
    """A database of one image and no annotation."""
    database = SqliteDatabase(tmp_path / "app.sqlite3")
    database.script(_TABLES)
    yield database
    database.close()


@pytest.fixture
def trial(stored: SqliteDatabase, tmp_path: Path) -> Trial:
    """Exports of that database."""
    return Trial(stored.url, tmp_path / "exports")


def image(trial: Trial) -> dict[str, Any]:
    """The only image of the published tree, with its annotations."""
    tree = json.loads((trial.directory / "database_export.json").read_bytes())
    (found,) = tree["projects"][0]["datasets"][0]["images"]
    return dict(found)


def test_a_change_beyond_the_microsecond_is_published(stored: SqliteDatabase, trial: Trial) -> None:
    """A time with seven digits is published as stored, in both files; the next export sees its last digit."""
    for moment in ("2024-01-15T09:00:00.1234567Z", "2024-01-15T09:00:00.1234569Z"):
        stored.execute("UPDATE images SET created_at = ?", moment)
        assert trial.export().manifest.repaired == 0
        assert image(trial)["created_at"] == moment
        assert f'"{moment}"' in (trial.directory / "images.csv").read_text()
    assert trial.differences() == []


def test_json_that_is_stored_as_bytes(stored: SqliteDatabase, trial: Trial) -> None:
    """A BLOB of JSON text, or of SQLite's JSONB, is JSON; other bytes are base64, and counted."""
    box, polygon = '{"x":1,"y":2,"width":3,"height":4}', "[[1,2],[3,4],[5,6]]"
    jsonb = bytes.fromhex("CC1917781331177913325777696474681333676865696768741334")
    for cells in ((box, polygon), (box.encode(), polygon.encode()), (jsonb, bytes.fromhex("4B13311332"))):
        stored.execute(
            "INSERT INTO annotations (image_id, label, bbox, segmentation) VALUES (1, 'car', ?, ?)", *cells
        )
    stored.execute("INSERT INTO annotations (image_id, bbox, segmentation) VALUES (1, x'ff', x'ff00')")
    assert trial.export().manifest.repaired == 2
    annotations = image(trial)["annotations"]
    corners = {"x_min": 1, "y_min": 2, "x_max": 4, "y_max": 6}
    assert [found["bbox"] for found in annotations] == [corners, corners, corners, None]
    points = [[1, 2], [3, 4], [5, 6]]
    assert [found["polygon"] for found in annotations] == [points, points, [1, 2], "/wA="]
    assert trial.differences() == []
