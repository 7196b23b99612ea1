"""The process that encodes row groups writes what a thread writes, and its end is an error with a hint."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from autoexport.errors import RenderError
from autoexport.formats import parquet_codec
from autoexport.formats.contract import RowFormat
from autoexport.rendering import row_process
from tests.bench.generate import write_sqlite
from tests.databases import SqliteDatabase
from tests.trials import Trial


@pytest.fixture
def database(tmp_path: Path) -> SqliteDatabase:
    """Some images with annotations."""
    path = tmp_path / "application.sqlite3"
    write_sqlite(path, images=2_000, annotations_per_image=4, seed=1, indexes=True, journal="delete")
    return SqliteDatabase(path)


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes work for any number of rows."""
    monkeypatch.setattr(row_process, "PROCESS_FROM_ROWS", 1)


def change(database: SqliteDatabase, name: str) -> None:
    """Change a row."""
    database.execute("UPDATE images SET filename = ? WHERE id = (SELECT max(id) FROM images)", name)


@pytest.mark.usefixtures("apart")
def test_a_process_writes_what_a_thread_writes(database: SqliteDatabase, tmp_path: Path) -> None:
    """The same bytes, in full and in incremental exports, and nothing is left behind."""
    trial, beside = (Trial(database.url, tmp_path / name) for name in ("exports", "beside"))
    trial.export()
    change(database, "another.jpg")
    outcome = trial.export()
    assert outcome.manifest.mode == "incremental"
    assert not trial.differences()
    assert not trial.leftovers()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_process, "PROCESS_FROM_ROWS", 1 << 40)
        beside.export()
    assert beside.contents() == trial.contents()
    trial.check_equals(database.path)


def test_one_row_of_a_large_file_is_encoded_apart(
    database: SqliteDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the exporter's own process never has the encoder in its memory; a small file is not worth a process."""
    trial = Trial(database.url, tmp_path / "exports")
    trial.export()
    made: list[str] = []
    write_apart = row_process.write_groups_apart

    def noted(output: RowFormat, *arguments: Any) -> Any:
        made.append(output.file_name)
        return write_apart(output, *arguments)

    monkeypatch.setattr(row_process, "write_groups_apart", noted)
    database.execute("UPDATE annotations SET confidence = 0.125 WHERE id = (SELECT max(id) FROM annotations)")
    assert trial.export().manifest.mode == "incremental"
    assert made == ["annotations.parquet"]
    change(database, "another.jpg")
    trial.export()
    assert set(made) == {"annotations.parquet"}
    trial.check_equals(database.path)


@pytest.mark.usefixtures("apart")
@pytest.mark.parametrize(
    "program",
    ["import os; os.kill(os.getpid(), 9)", "raise SystemExit(3)", "print('no answer')", "raise MemoryError"],
)
def test_a_process_that_ends_is_an_error(
    database: SqliteDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    """The old files stay, the hint says what to look at, and the next export is right."""
    trial = Trial(database.url, tmp_path / "exports")
    trial.export()
    old = trial.contents()
    change(database, "another.jpg")
    with monkeypatch.context() as patch:
        patch.setattr(row_process, "CODE", program)
        with pytest.raises(RenderError, match=r"encodes \w+\.parquet failed") as raised:
            trial.export()
    assert "short of memory" in raised.value.hint
    assert trial.contents() == old
    assert not trial.leftovers()
    trial.export()
    trial.check_equals(database.path)


@pytest.fixture
def other_encoder(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process compresses in another way than a new process, as after an upgrade of the package."""
    monkeypatch.setattr(parquet_codec, "_COMPRESSION", "zstd(9)")
    parquet_codec.fingerprint.cache_clear()
    yield
    parquet_codec.fingerprint.cache_clear()


def test_another_encoder_leads_to_one_full_export(
    database: SqliteDatabase, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """With the reason; and the export after that is incremental again."""
    trial = Trial(database.url, tmp_path / "exports")
    trial.export()
    request.getfixturevalue("other_encoder")
    change(database, "another.jpg")
    assert trial.export().reason == "the Parquet encoder changed"
    change(database, "third.jpg")
    assert trial.export().manifest.mode == "incremental"
    assert not trial.differences()


@pytest.mark.usefixtures("apart", "other_encoder")
def test_a_process_with_another_encoder_is_not_used(database: SqliteDatabase, tmp_path: Path) -> None:
    """All groups are encoded here, and a warning says why."""
    trial = Trial(database.url, tmp_path / "exports", export_json=False)
    with capture_logs() as logs:
        trial.export()
    warnings = [entry["event"] for entry in logs if entry["log_level"] == "warning"]
    assert warnings.count("render.other_encoder") == 2
    assert not trial.differences()


@pytest.mark.usefixtures("apart")
def test_without_processes_threads_encode(
    database: SqliteDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If Python cannot be started, this process does the work."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "none" / "python3"))
    trial = Trial(database.url, tmp_path / "exports")
    trial.export()
    trial.check_equals(database.path)
