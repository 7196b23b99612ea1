"""The advice of `check` works as it is printed, whatever the names of tables and columns."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from autoexport import Settings
from autoexport.cli import main
from autoexport.commands import check as check_command
from autoexport.commands.check_sizes import size_notes
from autoexport.errors import MappingError
from autoexport.pipeline.exporter import run_once
from tests.databases import Connection


@pytest.mark.parametrize(
    "column", ["dataset_id", "datasetId", "dataset Id", 'dataset"  id', "order", "group", "ümlaut"]
)
def test_the_suggested_index(
    bare_database: tuple[str, Connection],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    column: str,
) -> None:
    """The statement can be executed; then `check` has nothing more to suggest."""
    monkeypatch.setattr(check_command, "_SCAN_ROWS_PER_S", 1)
    url, session = bare_database
    quoted = column.replace('"', '""')
    session.script(
        f"""CREATE TABLE "Dataset" (id INTEGER PRIMARY KEY, name TEXT);
        CREATE TABLE "Image"
            (id INTEGER PRIMARY KEY, filename TEXT, "{quoted}" INTEGER REFERENCES "Dataset" (id));
        INSERT INTO "Image" (id) VALUES (1)"""
    )
    options = ["--database-url", url, "--export-dir", "out"]
    assert main(["check", *options]) == 0
    (statement,) = [line for line in capsys.readouterr().out.splitlines() if "CREATE INDEX" in line]
    session.execute(statement.strip())
    assert main(["check", *options]) == 0
    assert "CREATE INDEX" not in capsys.readouterr().out


def test_an_empty_table_of_labels(bare_database: tuple[str, Connection]) -> None:
    """It says no more than none: the labels come from the annotations' names, until the table has a row."""
    url, session = bare_database
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


@pytest.mark.parametrize("declared", [True, False])
def test_images_that_a_table_joins_to_datasets(bare_database: tuple[str, Connection], declared: bool) -> None:
    """The hint's view and settings are all that is needed, and the annotations are kept."""
    url, session = bare_database
    to_images, to_datasets = ("REFERENCES images", 'REFERENCES "Dataset"') if declared else ("", "")
    session.script(
        f"""CREATE TABLE "Dataset" (id INTEGER PRIMARY KEY, name TEXT);
        CREATE TABLE images (image_id INTEGER PRIMARY KEY, filename TEXT);
        CREATE TABLE "order" (image_id INTEGER {to_images}, "datasetId" INTEGER {to_datasets});
        CREATE TABLE annotations (id INTEGER PRIMARY KEY, image_id INTEGER {to_images}, label TEXT);
        INSERT INTO "Dataset" VALUES (1, 'a'), (2, 'b');
        INSERT INTO images VALUES (1, 'one'), (2, 'two'), (3, 'none');
        INSERT INTO "order" VALUES (1, 2), (1, 1), (2, 2);
        INSERT INTO annotations VALUES (1, 2, 'car')"""
    )
    settings = Settings(database_url=url, export_directory=Path("out"))
    with pytest.raises(MappingError, match=r"images has no column that names .*Dataset") as caught:
        asyncio.run(run_once(settings))
    introduction, statement, lines = caught.value.hint.split("\n", 2)
    assert "order joins them" in introduction
    session.execute(statement)
    Path("autoexport.toml").write_text(lines.partition("\n")[2])
    counts = asyncio.run(run_once(Settings(database_url=url, export_directory=Path("out")))).manifest.counts
    assert (counts["datasets"], counts["images"], counts["annotations"]) == (2, 2, 1)


@pytest.mark.parametrize(
    ("rows", "lake", "words"),
    [
        (1_900_000, False, []),
        (2_000_000, False, ["1.0 GB"]),
        (60_000_000, False, ["30.0 GB", "--lake"]),
        (60_000_000, True, ["30.0 GB"]),
    ],
)
def test_check_names_the_outputs_for_many_rows(rows: int, lake: bool, words: list[str]) -> None:
    """The JSON tree from a gigabyte on, the lake from 50 million rows on, if it is not there yet."""
    notes = size_notes({"images": rows // 2, "annotations": rows // 2}, {"export_json": True}, lake=lake)
    assert len(notes) == len(words)
    assert all(word in note for word, note in zip(words, notes, strict=True))
    assert len(size_notes({"images": rows}, {"export_json": False}, lake=True)) == 0
