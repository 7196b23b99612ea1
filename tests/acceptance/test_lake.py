"""The lake has the rows of the JSON tree at every generation, as readers without this program see them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas  # type: ignore[import-untyped]
import polars
import pytest
from deltalake import DeltaTable

from tests.lakes import (
    CHANGES,
    TABLES,
    data_files,
    document,
    execute,
    generations,
    lake_trial,
    rows_at,
    small_database,
    sorted_rows,
)
from tests.parquet_rows import expected_parquet
from tests.trials import Trial


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Some images with annotations."""
    return small_database(tmp_path, monkeypatch)


@pytest.fixture
def trial(database: Path, tmp_path: Path) -> Trial:
    """An exporter with a lake of small data files."""
    return lake_trial(database, tmp_path / "exports", tmp_path / "lake")


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
    assert [DeltaTable(lake / name).version() for name in TABLES] == [2, 2]


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
