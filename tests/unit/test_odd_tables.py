"""Checks exports of unusual tables: null and shared keys, soft-deleted labels, missing modules."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from autoexport.errors import SourceError
from autoexport.incremental import plan
from autoexport.sources import block_size
from autoexport.sources.sqlite import snapshot
from tests.conftest import run_autoexport
from tests.databases import Database, SqliteDatabase
from tests.properties.comparison import Compared, Exporting, without_waiting_for_the_disk

TABLES = """
CREATE TABLE projects (id INTEGER PRIMARY KEY, name TEXT);
CREATE TABLE datasets ({dataset_key}, name TEXT, project_id INTEGER REFERENCES projects (id));
CREATE TABLE images ({image_key}, filename TEXT, dataset_id {dataset_type} REFERENCES datasets (id){constraint});
CREATE TABLE labels (id INTEGER PRIMARY KEY, name TEXT, project_id INTEGER, deleted_at DATETIME);
CREATE TABLE annotations (id INTEGER PRIMARY KEY, image_id, label_id INTEGER, confidence REAL);
INSERT INTO projects VALUES (1, 'p');
INSERT INTO datasets VALUES (1, 'a', 1), (2, 'b', 1);
INSERT INTO labels VALUES (5, 'car', 1, NULL), (6, 'bus', 1, NULL);
"""


class Application:
    """A database of such tables and its exporter. Each export is compared with a full one of the same snapshot."""

    def __init__(self, directory: Path, **declared: str) -> None:
        usual = {
            "dataset_key": "id INTEGER PRIMARY KEY",
            "dataset_type": "INTEGER",
            "image_key": "id TEXT PRIMARY KEY",
            "constraint": "",
        }
        self.database = SqliteDatabase(directory / "app.sqlite3")
        self.database.script(TABLES.format(**usual | declared))
        self.exporting = Exporting(self.database.url, directory)

    def images(self, dataset: object, numbers: range, *, text: bool = True) -> None:
        """Insert images into a dataset, with an annotation each, on separate pages."""
        for number in numbers:
            key = f"{number:04}" if text else number
            self.database.execute("INSERT INTO images VALUES (?, ?, ?)", key, "x" * 900, dataset)
            self.database.execute("INSERT INTO annotations VALUES (NULL, ?, 5, 0.5)", key)

    def export(self) -> Compared:
        """Export once more."""
        return asyncio.run(self.exporting.export())

    def after(self, sql: str) -> Compared:
        """Execute a statement, then export."""
        self.database.execute(sql)
        return self.export()


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make blocks of eight images, in pieces, so that few rows fill many blocks."""
    monkeypatch.setattr(block_size, "BLOCK_IMAGES", 8)
    monkeypatch.setattr(block_size, "PIECE_BYTES", 1000)
    monkeypatch.setattr(plan, "SMALL_IMAGES", 2)
    monkeypatch.setattr(os, "fsync", without_waiting_for_the_disk)


def test_datasets_that_number_their_images_alike(tmp_path: Path) -> None:
    """Dataset and image are the key together, so a range of one dataset is not one of another."""
    application = Application(
        tmp_path, image_key="id INTEGER NOT NULL", constraint=", PRIMARY KEY (dataset_id, id)"
    )
    application.images(1, range(100), text=False)
    application.images(2, range(50, 80), text=False)
    application.export()
    for statement in (
        "UPDATE images SET filename = 'other' WHERE id = 60 AND dataset_id = 1",
        "UPDATE images SET filename = 'other' WHERE id = 60 AND dataset_id = 2",
        "UPDATE annotations SET confidence = 0.7 WHERE image_id = 75",
        "DELETE FROM images WHERE id = 60 AND dataset_id = 1",
        "UPDATE images SET dataset_id = 2 WHERE id = 3",
    ):
        application.after(statement)


def test_neighbours_that_share_a_key_keep_their_annotations(tmp_path: Path) -> None:
    """The last image of a dataset and the first of the next have the same key, again and again."""
    application = Application(
        tmp_path,
        image_key="id INTEGER NOT NULL",
        constraint=", uid INTEGER UNIQUE, PRIMARY KEY (dataset_id, id)",
    )
    application.database.script(
        """INSERT INTO datasets VALUES (3, 'c', 1), (4, 'd', 1);
        DROP TABLE annotations;
        CREATE TABLE annotations (id INTEGER PRIMARY KEY, image_uid REFERENCES images (uid), label_id INTEGER);
        INSERT INTO images SELECT 1, 'x', id, 10 + id FROM datasets;
        INSERT INTO annotations SELECT id, 10 + id, 5 FROM datasets WHERE id <> 3;"""
    )
    application.export()
    rows = (tmp_path / "exports" / "images.csv").read_text().splitlines()
    assert [line.split(",")[11] for line in rows] == ["annotation_count", "1", "1", "0", "1"]
    application.after("INSERT INTO annotations VALUES (9, 13, 6)")


@pytest.mark.parametrize(("table", "level"), [("datasets", "datasets"), ("projects", "projects")])
def test_parents_that_share_a_key(tmp_path: Path, table: str, level: str) -> None:
    """Shared keys are refused: the children of both rows would be published under one of them."""
    application = Application(tmp_path)
    columns = {"datasets": "(id INTEGER, name TEXT, project_id INTEGER)", "projects": "(id INTEGER, name TEXT)"}
    application.database.script(
        f"""CREATE TABLE former AS SELECT * FROM {table};
        DROP TABLE {table};
        CREATE TABLE {table} {columns[table]};
        INSERT INTO {table} SELECT * FROM former;
        INSERT INTO {table} SELECT * FROM former WHERE id = 1;
        DROP TABLE former;"""
    )
    with pytest.raises(SourceError, match=rf"^{table}\.id is not unique: two rows have the key 1") as raised:
        application.export()
    assert f"tables.{level}" in raised.value.hint


def test_a_deletion_that_a_renamed_parent_hides(tmp_path: Path) -> None:
    """Annotations name images by file name: renaming an image makes one an orphan, and another is deleted."""
    application = Application(tmp_path, image_key="id INTEGER PRIMARY KEY")
    application.database.script(
        """DROP TABLE annotations; DROP TABLE images;
        CREATE TABLE images (id INTEGER PRIMARY KEY, filename TEXT UNIQUE, dataset_id INTEGER, filler TEXT);
        CREATE TABLE annotations (id INTEGER PRIMARY KEY, label, image_id TEXT REFERENCES images(filename));"""
    )
    for number in range(300):
        image = f"i{number * 37 % 300}"  # So that those beside a row on its page are of images elsewhere.
        application.database.execute("INSERT INTO images VALUES (?, ?, 1, ?)", number, f"i{number}", "x" * 900)
        application.database.execute("INSERT INTO annotations VALUES (?, ?, ?)", number, "x" * 900, image)
    application.export()
    application.database.execute("UPDATE images SET filename = 'renamed' WHERE id = 10")
    done = application.after("DELETE FROM annotations WHERE id = 200")
    assert (done.manifest["mode"], done.manifest["counts"]["annotations"]) == ("incremental", 298)  # type: ignore[index]


@pytest.mark.parametrize("dataset", [1, 3])
def test_an_image_without_a_key(tmp_path: Path, dataset: int) -> None:
    """SQLite allows a null in a primary key. One comes after an export, in a dataset with blocks or without."""
    application = Application(tmp_path)
    application.images(1, range(60))
    application.export()
    application.database.execute("INSERT OR IGNORE INTO datasets VALUES (?, 'c', 1)", dataset)
    done = application.after(f"INSERT INTO images VALUES (NULL, 'nameless', {dataset})")
    assert done.manifest["counts"]["images"] == 61  # type: ignore[index]
    application.after("UPDATE images SET filename = 'named' WHERE id IS NULL")
    application.after("UPDATE images SET filename = 'named' WHERE id = '0030'")
    application.after("DELETE FROM images WHERE id IS NULL")
    assert application.after("DELETE FROM images WHERE id = '0031'").outcome.published


@pytest.mark.parametrize("before", range(6, 10))
def test_a_key_that_is_there_twice(tmp_path: Path, before: int) -> None:
    """A key that two images share is refused, even if a block ends between them."""
    application = Application(tmp_path, image_key="id TEXT")
    application.images(1, range(before))
    application.images(1, range(before - 1, before + 5))
    with pytest.raises(SourceError, match=f"two rows have the key '{before - 1:04}'"):
        application.export()


def test_a_dataset_with_a_key_of_another_type(tmp_path: Path) -> None:
    """An empty dataset with such a key is sorted among the others as the database sorts it."""
    application = Application(tmp_path, dataset_key="id PRIMARY KEY", dataset_type="")
    application.images(1, range(30))
    application.export()
    application.after("INSERT INTO datasets VALUES ('three', 'c', 1)")
    application.after("UPDATE images SET filename = 'other' WHERE id = '0003'")


@pytest.mark.parametrize(
    "change",
    ["UPDATE labels SET name = 'van' WHERE id = 5", "DELETE FROM labels WHERE id = 5"],
)
def test_a_soft_deleted_label_that_changes(tmp_path: Path, change: str) -> None:
    """Annotations keep its name, although no list of labels has it."""
    application = Application(tmp_path)
    application.images(1, range(30))
    application.export()
    application.after("UPDATE labels SET deleted_at = '2024-01-01 00:00:00' WHERE id = 5")
    assert application.after(change).outcome.published


@pytest.mark.parametrize("declared", ["BOOLEAN", "TINYINT", "INTEGER"])
def test_soft_deletion_in_words(tmp_path: Path, declared: str) -> None:
    """SQLite has no booleans: some libraries wrote 't' and 'f', others write 1 and 0."""
    application = Application(tmp_path)
    application.database.execute(f"ALTER TABLE images ADD COLUMN is_deleted {declared}")
    flags = (None, 0, "f", "false", "0", "", 1, "t", "True", "1", 2, -1)
    for number, flag in enumerate(flags):
        application.database.execute("INSERT INTO images VALUES (?, 'x', 1, ?)", f"{number:02}", flag)
    manifest = application.export().manifest
    assert manifest["counts"]["images"] == 6  # type: ignore[index]
    assert manifest["soft_deleted"] == {"images": 6}
    application.after("UPDATE images SET is_deleted = 'f' WHERE id = '07'")


@pytest.mark.parametrize(
    ("box", "ambiguous"), [("[10, 20, 30, 40]", True), ('{"x": 10, "y": 20, "width": 30, "height": 40}', False)]
)
def test_boxes_that_are_lists_of_four(tmp_path: Path, box: str, ambiguous: bool) -> None:
    """Lists of four are ambiguous: they become null, with a warning, until the format is configured."""
    application = Application(tmp_path)
    application.images(1, range(3))
    application.database.execute("ALTER TABLE annotations ADD COLUMN bbox JSON")
    application.database.execute("UPDATE annotations SET bbox = ?", box)
    arguments = ("--database-url", application.database.url, "--export-dir", str(tmp_path / "exports"))
    assert ("lists of four" in run_autoexport("check", *arguments).stdout) is ambiguous
    done = run_autoexport(*arguments)
    assert (done.exit_code, "lists of four numbers" in done.stderr) == (0, ambiguous)
    assert ('"bbox": null' in (tmp_path / "exports" / "database_export.json").read_text()) is ambiguous


def test_boxes_of_no_known_form(tmp_path: Path) -> None:
    """`check` counts them, as far as it looks; boxes that can be read, and nulls, are none of them."""
    application = Application(tmp_path)
    application.images(1, range(5))
    application.database.execute("ALTER TABLE annotations ADD COLUMN bbox JSON")
    boxes = ('{"a": 1, "b": 2}', "[1, 2]", '{"x": 1, "y": 2, "w": 3, "h": 4}', "null", "[1, 2, 3, 4]")
    for key, box in enumerate(boxes, start=1):
        application.database.execute("UPDATE annotations SET bbox = ? WHERE id = ?", box, key)
    arguments = ("--database-url", application.database.url, "--export-dir", str(tmp_path / "exports"))
    checked = " ".join(run_autoexport("check", *arguments).stdout.split())
    assert "annotations.bbox holds boxes that cannot be read (2 of the first 1,000)" in checked
    assert "annotations.bbox holds lists of four numbers" in checked


@pytest.mark.parametrize(("length", "noted"), [(32_767, False), (32_768, True)])
def test_values_longer_than_a_cell(database: Database, tmp_path: Path, length: int, noted: bool) -> None:
    """The cell is whole, and `check` names its column."""
    database.execute("UPDATE projects SET description = ? WHERE id = 1", "ä" * length)
    arguments = ("--database-url", database.url, "--export-dir", str(tmp_path / "exports"))
    checked = " ".join(run_autoexport("check", *arguments).stdout.split())
    assert (f"projects.description has values of up to {length:,} characters" in checked) is noted
    assert run_autoexport(*arguments).exit_code == 0
    assert "ä" * length in (tmp_path / "exports" / "projects.csv").read_text(encoding="utf-8")


def test_annotations_whose_keys_are_null(tmp_path: Path) -> None:
    """Annotations without a key have a definite order, whatever the order of insertion."""
    application = Application(tmp_path)
    application.database.script(
        """DROP TABLE annotations;
        CREATE TABLE annotations (id TEXT PRIMARY KEY, image_id TEXT, class_name TEXT, confidence REAL);"""
    )
    for image in ("a", "b"):
        application.database.execute("INSERT INTO images VALUES (?, 'x', 1)", image)
        for name in ("bus", "car") if image == "a" else ("car", "bus"):
            application.database.execute("INSERT INTO annotations VALUES (NULL, ?, ?, 0.5)", image, name)
    application.export()
    lines = (tmp_path / "exports" / "database_export.json").read_text().splitlines()
    labels = [line.partition('"label": ')[2].split(",")[0] for line in lines if '"label": ' in line]
    assert labels == ['"bus"', '"car"'] * 2


def test_a_virtual_table_whose_module_is_not_here(tmp_path: Path) -> None:
    """Such a table is ignored, and so is a virtual table whose module exists."""
    application = Application(tmp_path)
    application.images(1, range(3))
    application.database.script(
        """CREATE VIRTUAL TABLE searched USING fts5 (filename);
        PRAGMA writable_schema = ON;
        INSERT INTO sqlite_master (type, name, tbl_name, rootpage, sql)
        VALUES ('table', 'vectors', 'vectors', 0, 'CREATE VIRTUAL TABLE vectors USING vec0 (embedding)');"""
    )
    application.database.close()
    assert application.export().manifest["counts"]["images"] == 3  # type: ignore[index]


@pytest.mark.parametrize("every", [1, 5])
def test_keys_with_nul_characters(tmp_path: Path, every: int) -> None:
    """Such keys are exported whole, although SQLite's JSON would end them early."""
    application = Application(tmp_path)
    for number in range(100):
        key = f"k\0{number:04}" if number % every == 0 else f"k{number:04}"
        application.database.execute("INSERT INTO images VALUES (?, ?, 1)", key, "x" * 900)
        application.database.execute("INSERT INTO annotations VALUES (?, ?, 5, 0.5)", number, key)
    application.export()
    compared = application.after("UPDATE images SET filename = 'other' WHERE rowid = 6")
    assert compared.outcome.manifest.mode == "incremental"
    for statement in (
        "UPDATE annotations SET confidence = 0.7 WHERE id = 51",
        "DELETE FROM annotations WHERE id = 70",
        "DELETE FROM images WHERE rowid = 11",
    ):
        application.after(statement)


def test_too_many_keys_with_nul_characters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If there are more such keys than parameters in a statement, everything is rendered."""
    monkeypatch.setattr(snapshot, "_MOST_PARAMETERS", 3)
    application = Application(tmp_path)
    for number in range(100):
        application.database.execute("INSERT INTO images VALUES (?, ?, 1)", f"k\0{number:04}", "x" * 900)
    application.export()
    compared = application.after("UPDATE images SET filename = 'other' WHERE rowid = 6")
    assert compared.outcome.manifest.mode == "full"


def test_keys_that_only_the_collation_of_their_column_makes_equal(tmp_path: Path) -> None:
    """The primary key distinguishes such keys, so no image is published a second time."""
    application = Application(
        tmp_path, image_key="id TEXT COLLATE NOCASE", constraint=", PRIMARY KEY (id COLLATE BINARY)"
    )
    for number in range(60):
        for name in ("a", "A"):
            key = f"{name}{number:04}"
            application.database.execute("INSERT INTO images VALUES (?, ?, 1)", key, "x" * 900)
    application.export()
    compared = application.after("UPDATE images SET filename = 'other' WHERE id = 'a0030' COLLATE BINARY")
    assert compared.outcome.manifest.mode == "incremental"


def test_a_collation_of_the_application(tmp_path: Path) -> None:
    """Only the application can compare such keys. The hint names the collation, not a check of the file."""
    application = Application(tmp_path)
    with closing(sqlite3.connect(application.database.path)) as connection:
        connection.create_collation("by_nature", lambda left, right: (left > right) - (left < right))
        connection.executescript(
            """DROP TABLE images;
            CREATE TABLE images (id TEXT COLLATE by_nature PRIMARY KEY, filename TEXT, dataset_id INTEGER);
            INSERT INTO images VALUES ('a', 'a.jpg', 1), ('b', 'b.jpg', 1);
            INSERT INTO annotations VALUES (NULL, 'a', 5, 0.5);"""
        )
    with pytest.raises(SourceError, match="by_nature") as raised:
        application.export()
    assert "collation" in raised.value.hint


def with_function(application: Application, script: str) -> None:
    """Run a script in the application's session, which has the function `ext_of`."""
    connection = application.database.own.raw  # type: ignore[attr-defined]
    connection.create_function("ext_of", 1, lambda name: name and name.rpartition(".")[2], deterministic=True)
    connection.executescript(script)


def test_a_column_computed_by_the_application(tmp_path: Path) -> None:
    """It counts as missing and `check` names it; columns that SQLite computes are exported."""
    application = Application(tmp_path)
    with_function(
        application,
        "ALTER TABLE images ADD COLUMN format TEXT AS (ext_of(filename)) VIRTUAL;"
        "ALTER TABLE images ADD COLUMN status TEXT AS ('is ' || filename) VIRTUAL;",
    )
    application.database.execute("INSERT INTO images (id, filename, dataset_id) VALUES (99, 'z.jpg', 1)")
    application.export()
    assert '"is z.jpg"' in (tmp_path / "exports" / "images.csv").read_text()
    compared = application.after("UPDATE images SET filename = 'other.jpg' WHERE id = 99")
    assert compared.outcome.published
    done = run_autoexport("--database-url", application.database.url, "check", cwd=tmp_path)
    assert done.exit_code == 0
    said = " ".join(done.stdout.split())
    assert "images.format is computed by a function that only the application has" in said
    assert "images.format" in said.partition("Not found")[2].partition("note:")[0]
