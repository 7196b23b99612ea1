"""annotations.csv and annotations.parquet have columns for more shapes where the mapping has them."""

from __future__ import annotations

import csv
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from autoexport.formats.annotations_csv import COLUMNS
from autoexport.model.mapping import SHAPE_FIELDS
from autoexport.rendering import row_process
from tests import label_studio
from tests.applications import create_sqlite, fill_sqlite
from tests.databases import SqliteConnection
from tests.trials import Trial

STORED = {
    "rotation": "turned", "points": "spots", "mask": "painted", "attributes": "answers", "track_id": "track",
    "frame": "shot", "keyframe": "drawn",
}  # fmt: skip
MAPPED = {"annotations": {"columns": STORED}}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A database whose annotations have columns for all shapes, some of them null."""
    with closing(create_sqlite(tmp_path / "app.db")) as connection:
        fill_sqlite(connection)
        for name in STORED.values():
            connection.execute(f"ALTER TABLE annotations ADD {name}")
        connection.execute(
            "UPDATE annotations SET turned = 0, spots = '[[1, 2], [3, 4.5]]', painted = '{\"format\": \"rle\"}', "
            'answers = \'{"=x": "a,\\"b\\""}\', track = \'é 7\', shot = rowid, drawn = rowid % 2 '
            "WHERE rowid % 3 > 0"
        )
        yield connection


def tree_of(directory: Path) -> list[dict[str, Any]]:
    """All annotations of the JSON file, in order."""
    tree = json.loads((directory / "database_export.json").read_bytes())
    images = (
        image for project in tree["projects"] for dataset in project["datasets"] for image in dataset["images"]
    )
    return [annotation for image in images for annotation in image["annotations"]]


def check(directory: Path, fields: list[str]) -> None:
    """Both files have these fields as their last columns, with the values of the JSON file."""
    annotations = tree_of(directory)
    assert annotations
    table = pyarrow.parquet.read_table(directory / "annotations.parquet")
    with (directory / "annotations.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [*COLUMNS, *fields]
    assert table.column_names == list(rows[0])
    for annotation, row, other in zip(annotations, rows, table.to_pylist(), strict=True):
        assert [name for name in SHAPE_FIELDS if name in annotation] == fields
        for name in fields:
            value = annotation[name]
            if name in ("points", "mask", "attributes"):
                assert (json.loads(row[name]) if row[name] else None) == value
                assert (json.loads(other[name]) if other[name] is not None else None) == value
            else:
                assert row[name] == ("" if value is None else json.dumps(value, ensure_ascii=False).strip('"'))
                assert other[name] == value


@pytest.mark.parametrize("apart", [False, True], ids=["in this process", "in a process"])
def test_mapped_columns(
    apart: bool, database: sqlite3.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a full and after an incremental export; a mapping that changes is exported in full."""
    monkeypatch.setattr(row_process, "PROCESS_FROM_ROWS", 0 if apart else 1_000_000)
    trial = Trial(str(tmp_path / "app.db"), tmp_path / "exports", export_coco=False, tables=MAPPED)
    trial.export()
    check(trial.directory, list(SHAPE_FIELDS))
    for statement in (
        "UPDATE annotations SET shot = 1000 WHERE rowid = 2",
        "DELETE FROM annotations WHERE rowid = 4",
    ):
        database.execute(statement)
        assert trial.export().published
        check(trial.directory, list(SHAPE_FIELDS))
        assert trial.differences() == []
    some = {"annotations": {"columns": {name: STORED[name] for name in ("track_id", "frame")}}}
    for tables, fields in ((some, ["track_id", "frame"]), ({}, [])):
        other = Trial(str(tmp_path / "app.db"), trial.directory, export_coco=False, tables=tables)
        assert other.export().full
        check(trial.directory, fields)
        assert other.differences() == []


def test_documents_give_columns(tmp_path: Path) -> None:
    """Those that the dialect gives to every annotation."""
    with closing(SqliteConnection(tmp_path / "studio.db")) as connection:
        label_studio.create(connection, "sqlite")
        label_studio.fill(connection)
    trial = Trial(str(tmp_path / "studio.db"), tmp_path / "exports", export_coco=False)
    trial.export()
    check(trial.directory, ["rotation", "points", "mask", "attributes"])
    assert trial.differences() == []
