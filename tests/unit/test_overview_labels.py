"""A project with free text as labels costs the page nothing: its labels are named as left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoexport.overview import survey
from tests.databases import SqliteDatabase
from tests.trials import Trial


def test_labels_of_a_project_with_too_many_are_not_shown(
    sqlite_database: SqliteDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page says how many projects have more, and shows the classes of the others."""
    trial = Trial(sqlite_database.url, tmp_path / "exports")
    trial.export()
    assert "are not shown" not in (trial.directory / "index.html").read_text(encoding="utf-8")
    monkeypatch.setattr(survey, "MOST_LABELS", 2)
    trial.export(full=True)
    sqlite_database.execute("UPDATE images SET width = 3")
    trial.export()
    shown = (trial.directory / "index.html").read_text(encoding="utf-8")
    assert "Labels of 1 project with more than" in shown
    assert "花" in shown
