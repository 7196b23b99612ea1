"""The lake has the rows of the JSON tree at every generation, as readers without this program see them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas  # type: ignore[import-untyped]
import polars
import pytest
from deltalake import DeltaTable

from autoexport.formats import row_groups
from tests.bench.generate import write_sqlite
from tests.parquet_rows import expected_parquet, parquet_rows
from tests.trials import Trial

TABLES = ("images", "annotations")
ONE = "(SELECT max(id) FROM annotations)"
CHANGES = (
    f"UPDATE annotations SET confidence = 0.125 WHERE id = {ONE}",
    f"UPDATE annotations SET confidence = confidence WHERE id = {ONE}",
    "DELETE FROM images WHERE id = (SELECT min(id) FROM images)",
    "DELETE FROM annotations WHERE rowid % 3 = 0",
    "UPDATE projects SET name = 'renamed', description = 'other' WHERE id = 1",
    "UPDATE projects SET description = 'no column of a table' WHERE id = 1",
    "DELETE FROM annotations",
)
"""Changes, of which the second changes no value and the last but one no row of a table."""


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Some images with annotations, and small row groups: a data file has at least one."""
    for name, value in (("SPACING_ROWS", 40), ("LEAST_ROWS", 30), ("MOST_ROWS", 90)):
        monkeypatch.setattr(row_groups, name, value)
    path = tmp_path / "application.sqlite3"
    write_sqlite(path, images=150, annotations_per_image=6, seed=1, indexes=True, journal="delete")
    return path


@pytest.fixture
def trial(database: Path, tmp_path: Path) -> Trial:
    """An exporter with a lake of small data files."""
    return lake_trial(database, tmp_path / "exports", tmp_path / "lake")


def lake_trial(database: Path, exports: Path, lake: Path | str, **more: Any) -> Trial:
    """An exporter with a lake of small data files."""
    off = {"export_coco": False, "export_yolo": False, "export_jsonl": False, "export_annotations_csv": False}
    return Trial(f"sqlite:///{database}", exports, lake=str(lake), lake_file_rows=1, **off, **more)


def execute(database: Path, statement: str, *parameters: object) -> None:
    """Change the database."""
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(statement, parameters)


def document(trial: Trial) -> dict[str, Any]:
    """The published tree."""
    tree: dict[str, Any] = json.loads((trial.directory / "database_export.json").read_bytes())
    return tree


def generations(path: Path) -> dict[int, int]:
    """The last version of each generation in the history of a table."""
    commits = [commit for commit in DeltaTable(path).history() if "userMetadata" in commit]
    return {json.loads(it["userMetadata"])["generation"]: it["version"] for it in reversed(commits)}


def rows_at(path: Path, version: int) -> list[dict[str, Any]]:
    """The rows of a version in any order, as pyarrow reads the data files."""
    uris = DeltaTable(path, version=version).file_uris()
    return [row for uri in uris for row in parquet_rows(Path(uri))]


def sorted_rows(rows: list[dict[str, Any]]) -> list[str]:
    """The rows in an order of their own."""
    return sorted(json.dumps(row, sort_keys=True) for row in rows)


def by_polars(path: Path, version: int) -> tuple[int, float]:
    """The number of annotations and the sum of their confidences."""
    frame = polars.scan_delta(str(path), version=version)
    found = frame.select(polars.len(), polars.col("confidence").sum()).collect().row(0)
    return int(found[0]), float(found[1])


def by_pandas(path: Path, version: int) -> tuple[int, float]:
    """The number of annotations and the sum of their confidences."""
    frame = DeltaTable(path, version=version).to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    return len(frame), float(frame["confidence"].sum())


def by_pyarrow(path: Path, version: int) -> tuple[int, float]:
    """The number of annotations and the sum of their confidences."""
    table = DeltaTable(path, version=version).to_pyarrow_dataset().to_table(["confidence"])
    return table.num_rows, sum(filter(None, table["confidence"].to_pylist()))


READERS: dict[str, Callable[[Path, int], tuple[int, float]]] = {
    "polars": by_polars,
    "pandas": by_pandas,
    "pyarrow": by_pyarrow,
}


def test_every_generation_can_be_read(database: Path, trial: Trial, tmp_path: Path) -> None:
    """Both tables hold the rows of the tree after each change, and still do when others followed."""
    expected = {}
    for change in ("SELECT 1", *CHANGES):
        execute(database, change)
        outcome = trial.export()
        expected[outcome.manifest.generation] = document(trial)
    assert len(expected) == len(CHANGES)  # one change changed nothing
    for name in TABLES:
        path = tmp_path / "lake" / name
        versions = generations(path)
        assert versions.keys() == expected.keys()
        for generation, version in versions.items():
            wanted = expected_parquet(expected[generation], f"{name}.parquet")
            assert sorted_rows(rows_at(path, version)) == sorted_rows(wanted)
            assert DeltaTable(path, version=version).transaction_version("autoexport") == generation
    path = tmp_path / "lake" / "annotations"
    for generation, version in generations(path).items():
        rows = expected_parquet(expected[generation], "annotations.parquet")
        total = sum(row["confidence"] or 0 for row in rows)
        for name, read in READERS.items():
            assert read(path, version) == (len(rows), pytest.approx(total)), name
    assert not trial.differences()


def data_files(lake: Path, name: str) -> set[str]:
    """The names of the data files that a table has now."""
    return {Path(uri).name for uri in DeltaTable(lake / name).file_uris()}


def test_one_changed_row_replaces_one_data_file(database: Path, trial: Trial, tmp_path: Path) -> None:
    """The other data files of the table stay, and all of the other table; its commit has no files."""
    trial.export()
    lake = tmp_path / "lake"
    before = {name: data_files(lake, name) for name in TABLES}
    assert min(map(len, before.values())) > 2
    execute(database, CHANGES[0])
    trial.export()
    assert len(before["annotations"] - data_files(lake, "annotations")) == 1
    assert len(data_files(lake, "annotations") - before["annotations"]) == 1
    assert data_files(lake, "images") == before["images"]
    assert [DeltaTable(lake / name).version() for name in TABLES] == [1, 1]


def test_an_unchanged_database_commits_nothing(database: Path, trial: Trial, tmp_path: Path) -> None:
    """Neither a second export nor one that lost its records adds a version or a file."""
    trial.export()
    lake = tmp_path / "lake"
    before = sorted(lake.rglob("*"))
    assert not trial.export().published
    (trial.state / "lake.json").unlink()
    assert not trial.export().published
    assert sorted(lake.rglob("*")) == before


def test_a_lost_ledger_costs_no_data_file(database: Path, trial: Trial, tmp_path: Path) -> None:
    """The table itself says which rows it has: a full export commits and keeps all data files."""
    trial.export()
    before = {name: data_files(tmp_path / "lake", name) for name in TABLES}
    for path in (trial.state / "ledger.json", trial.state / "lake.json", trial.directory / "manifest.json"):
        path.unlink()
    trial.export(full=True)
    assert {name: data_files(tmp_path / "lake", name) for name in TABLES} == before
    assert not trial.differences()
