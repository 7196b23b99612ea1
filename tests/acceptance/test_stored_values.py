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
