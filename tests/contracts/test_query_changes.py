"""How the changes of a query are found: nothing is read, changed rows are followed, or everything is rendered."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from autoexport.sources.postgres.snapshot import PostgresSnapshot
from autoexport.sources.sqlite.snapshot import SqliteSnapshot
from tests.databases import Connection
from tests.trials import Trial

TABLES = """
CREATE TABLE album (id integer PRIMARY KEY, title text);
CREATE TABLE picture (id integer PRIMARY KEY, src text NOT NULL, album integer, seen integer);
CREATE TABLE review (id integer PRIMARY KEY, picture integer NOT NULL);
CREATE TABLE box (id integer PRIMARY KEY, picture integer NOT NULL, x float, y float, w float, h float, name text);
CREATE TABLE visit (id integer PRIMARY KEY, at text)
"""
ALBUMS = {"query": "SELECT id, title AS name FROM album"}
IMAGES = {
    "query": "SELECT p.id, p.album AS dataset_id, p.src AS file_path, "
    "EXISTS (SELECT 1 FROM review r WHERE r.picture = p.id) AS is_verified FROM picture p",
    "beside": ["SELECT picture AS image_id FROM review"],
}
BOXES = "SELECT id, picture AS image_id, x, y, w, h, name AS label FROM box"
WAYS = {"followed": BOXES, "whole": BOXES.replace("SELECT id", "SELECT DISTINCT id")}


@pytest.fixture
def albums(bare_database: tuple[str, Connection]) -> tuple[str, Connection]:
    """A database with 20 albums of 20 pictures, each with a box, and a session."""
    url, connection = bare_database
    if url.startswith("sqlite"):
        connection.execute("PRAGMA page_size = 512")  # A changed row marks all rows of its page.
    connection.script(TABLES)
    connection.execute("INSERT INTO visit VALUES (1, 'today')")
    for album in range(20):
        connection.execute("INSERT INTO album VALUES (?, ?)", album, f"album {album}")
        for number in range(album * 20, album * 20 + 20):
            connection.execute("INSERT INTO picture VALUES (?, ?, ?, 0)", number, f"{number}.jpg", album)
            connection.execute("INSERT INTO box VALUES (?, ?, 1, 2, 3, 4, 'car')", number, number)
            connection.execute("INSERT INTO review VALUES (?, ?)", number, number)
    return url, connection


def trial(url: str, directory: Path, boxes: str) -> Trial:
    """An exporter of this database that has exported once."""
    tables = {"projects": {"table": False}, "datasets": ALBUMS, "images": IMAGES, "labels": {"table": False}}
    # The ids of COCO and the paths of YOLO depend on all keys.
    chosen: dict[str, object] = {"export_coco": False, "export_yolo": False}
    made = Trial(url, directory, tables={**tables, "annotations": {"query": boxes}}, **chosen)
    made.export()
    return made


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements that read rows of a snapshot, as they are sent."""
    sent: list[str] = []
    for kind in (SqliteSnapshot, PostgresSnapshot):
        original = kind.stream

        def stream(self: Any, statement: Any, original: Any = original, **options: Any) -> AsyncIterator[Any]:
            sent.append(str(statement))
            rows: AsyncIterator[Any] = original(self, statement, **options)
            return rows

        monkeypatch.setattr(kind, "stream", stream)
    return sent


@pytest.mark.parametrize("way", WAYS)
def test_a_write_to_another_table(
    way: str, albums: tuple[str, Connection], tmp_path: Path, statements: list[str]
) -> None:
    """No image and no annotation is read, whether or not the query can be followed. The log says so."""
    url, connection = albums
    made = trial(url, tmp_path / "exports", WAYS[way])
    connection.execute("UPDATE visit SET at = 'later'")
    statements.clear()
    with capture_logs() as logs:
        outcome = made.export()
    assert not outcome.published
    assert outcome.reason == "no table that the queries read changed"
    assert [log["way"] for log in logs if log["event"] == "queries.changed"] == ["nothing is read"]
    assert not [sent for sent in statements if "FROM (SELECT" in sent and "album" not in sent]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "change",
    [
        "UPDATE box SET x = 9 WHERE id = 45",
        "UPDATE box SET picture = 45 WHERE id = 390",
        "DELETE FROM box WHERE id = 45",
        "INSERT INTO box VALUES (1000, 45, 1, 1, 1, 1, 'car')",
    ],
)
def test_a_changed_annotation(way: str, change: str, albums: tuple[str, Connection], tmp_path: Path) -> None:
    """Blocks are rendered if the query can be followed, and everything if not. The log says which and why."""
    url, connection = albums
    made = trial(url, tmp_path / "exports", WAYS[way])
    connection.execute(change)
    with capture_logs() as logs:
        outcome = made.export()
    assert outcome.published
    assert made.differences() == []
    [log] = [log for log in logs if log["event"] == "queries.changed"]
    if way == "whole":
        assert log["way"] == "everything is rendered"
        assert log["reason"].endswith(
            "box changed, and tables.annotations.query cannot be followed: it has DISTINCT"
        )
        assert outcome.manifest.mode == "full"
    else:
        assert log["way"] == "changed rows are followed"
        assert outcome.manifest.mode == "incremental"
        assert outcome.manifest.rendered_images < 400


@pytest.mark.parametrize(
    "change", ["DELETE FROM review WHERE id = 45", "UPDATE review SET picture = 3 WHERE id = 45"]
)
def test_a_row_that_only_a_subquery_reads(change: str, albums: tuple[str, Connection], tmp_path: Path) -> None:
    """The query beside finds the image of a row that came, changed or is gone."""
    url, connection = albums
    made = trial(url, tmp_path / "exports", BOXES)
    connection.execute(change)
    outcome = made.export()
    assert (outcome.published, outcome.manifest.mode) == (True, "incremental")
    assert made.differences() == []


def test_a_query_that_changes_by_itself(albums: tuple[str, Connection], tmp_path: Path) -> None:
    """A random number is read again at each export."""
    url, connection = albums
    made = trial(url, tmp_path / "exports", BOXES.replace("x, y", "x + 0 * random() AS x, y"))
    connection.execute("UPDATE visit SET at = 'later'")
    assert "uses random" in made.export().reason or made.export().manifest.mode == "full"
