"""Exporters with a lake of small data files, and the rows of its tables as independent readers see them."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

from autoexport.formats import row_groups
from tests.bench.generate import write_sqlite
from tests.outputs import ALL_OUTPUTS
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


def small_database(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Some images with annotations, and small row groups: a data file has at least one."""
    for name, value in (("SPACING_ROWS", 40), ("LEAST_ROWS", 30), ("MOST_ROWS", 90)):
        monkeypatch.setattr(row_groups, name, value)
    path = folder / "application.sqlite3"
    write_sqlite(path, images=150, annotations_per_image=6, seed=1, indexes=True, journal="delete")
    return path


def lake_trial(database: Path, exports: Path, lake: Path | str, **more: Any) -> Trial:
    """An exporter with a lake of small data files."""
    others = dict.fromkeys([*ALL_OUTPUTS, "export_page", "export_history"], False)
    chosen = others | {"export_json": True, "lake": str(lake), "lake_file_rows": 1} | more
    return Trial(f"sqlite:///{database}", exports, **chosen)


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


def data_files(lake: Path, name: str) -> set[str]:
    """The names of the data files that a table has now."""
    return {Path(uri).name for uri in DeltaTable(lake / name).file_uris()}


def rows_now(lake: Path, name: str) -> list[str]:
    """The rows of a table as it is, in an order of their own."""
    return sorted_rows(rows_at(lake / name, DeltaTable(lake / name).version()))


def expected_rows(trial: Trial, name: str) -> list[str]:
    """The rows that the published tree gives a table, in an order of their own."""
    return sorted_rows(expected_parquet(document(trial), f"{name}.parquet"))
