"""Readers open annotations.parquet while it is replaced: they read one state of the database, and never fail."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import duckdb
import pandas  # type: ignore[import-untyped]
import polars
import pyarrow.parquet
import pytest

from autoexport.formats import row_groups
from tests.bench.generate import write_sqlite
from tests.parquet_rows import expected_parquet, parquet_rows
from tests.trials import Trial

REPLACEMENTS = 100
STATES = "UPDATE annotations SET model_id = 'state ' || ?"


def by_duckdb(path: Path) -> set[str]:
    """The states that the rows tell. Given a path, duckdb may open it twice, so it is given an open file."""
    with path.open("rb") as file, duckdb.connect() as connection:
        opened = f"/proc/self/fd/{file.fileno()}"
        return {row[0] for row in connection.execute("SELECT model_id FROM read_parquet(?)", [opened]).fetchall()}


def by_polars(path: Path) -> set[str]:
    """The states that the rows tell. Given a path, polars opens it twice: for the metadata, and for the rows."""
    with path.open("rb") as file:
        return set(polars.read_parquet(file)["model_id"])


def by_pandas(path: Path) -> set[str]:
    """The states that the rows tell. Given a path, pandas and pyarrow open it twice, too."""
    with path.open("rb") as file:
        return set(pandas.read_parquet(file)["model_id"])


def by_pyarrow(path: Path) -> set[str]:
    """The states that the rows tell."""
    with path.open("rb") as file:
        return set(pyarrow.parquet.read_table(file)["model_id"].to_pylist())


READERS: dict[str, Callable[[Path], set[str]]] = {
    "duckdb": by_duckdb,
    "polars": by_polars,
    "pandas": by_pandas,
    "pyarrow": by_pyarrow,
}


@pytest.mark.timeout(300)
def test_readers_never_meet_a_torn_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a hundred replacements each reader reads the rows of one commit, all of them, at every moment."""
    for name, value in (("SPACING_ROWS", 40), ("LEAST_ROWS", 30), ("MOST_ROWS", 90)):
        monkeypatch.setattr(row_groups, name, value)
    database = tmp_path / "application.sqlite3"
    write_sqlite(database, images=150, annotations_per_image=6, seed=1, indexes=True, journal="delete")
    trial = Trial(f"sqlite:///{database}", tmp_path / "exports", export_coco=False)
    path = trial.directory / "annotations.parquet"

    def replace_again_and_again() -> int:
        inodes = set()
        with closing(sqlite3.connect(database, isolation_level=None)) as application:
            for number in range(REPLACEMENTS):
                application.execute(STATES, (number,))
                trial.export()
                inodes.add(path.stat().st_ino)
        return len(inodes)

    with closing(sqlite3.connect(database, isolation_level=None)) as application:
        application.execute(STATES, (-1,))
    trial.export()
    assert pyarrow.parquet.ParquetFile(path).num_row_groups > 5
    reads: Counter[str] = Counter()
    with ThreadPoolExecutor(1) as pool:
        replacing = pool.submit(replace_again_and_again)
        while not replacing.done():
            for name, read in READERS.items():
                assert len(read(path)) == 1, f"{name} read a mixture"
                reads[name] += 1
    assert replacing.result() > 1
    assert all(reads[name] > 3 for name in READERS), reads
    assert READERS["duckdb"](path) == {f"state {REPLACEMENTS - 1}"}


def test_the_real_database(real_database: Path, tmp_path: Path) -> None:
    """Both files have the rows of the JSON tree of a real database of the application."""
    trial = Trial(f"sqlite:///{real_database}", tmp_path / "exports")
    trial.export()
    document = json.loads((trial.directory / "database_export.json").read_bytes())
    for name in ("images.parquet", "annotations.parquet"):
        rows = parquet_rows(trial.directory / name)
        assert rows == expected_parquet(document, name)
        assert rows
    assert not trial.differences()
