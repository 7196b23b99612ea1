"""Fingerprints of the encoders: another encoder leads to one full export, and never to drift."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from autoexport.incremental.ledger import load_ledger, save_ledger
from autoexport.incremental.position import load_position
from autoexport.rendering import renderer
from autoexport.values.encoders import changed, fingerprints
from tests.applications import create_sqlite, fill_sqlite
from tests.conftest import run_autoexport
from tests.outputs import DEFAULT_OUTPUTS
from tests.trials import Trial

CHANGED = "the JSON encoder changed"
DOCUMENT = "database_export.json"


_REAL = orjson.dumps
_TEXT_OR_EXPONENT = re.compile(rb'"(?:[^"\\]|\\.)*"|[0-9]e')


def other_dumps(value: Any, *more: Any, **named: Any) -> bytes:
    """Another encoder: a capital letter before each exponent."""

    def spelled(found: re.Match[bytes]) -> bytes:
        return found[0] if found[0].startswith(b'"') else found[0].upper()

    return _TEXT_OR_EXPONENT.sub(spelled, _REAL(value, *more, **named))


@pytest.fixture
def other_encoder() -> Iterator[pytest.MonkeyPatch]:
    """The whole program uses another encoder until the patch is undone."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(orjson, "dumps", other_dumps)
        yield patched


@pytest.fixture
def trial(tmp_path: Path, other_encoder: pytest.MonkeyPatch) -> Trial:
    """A database with a number that has an exponent, exported by the real encoder; the other one follows."""
    with closing(create_sqlite(tmp_path / "app.db")) as connection:
        fill_sqlite(connection)
    made = Trial(f"sqlite:///{tmp_path}/app.db", tmp_path / "exports", **DEFAULT_OUTPUTS)
    execute(made, "UPDATE annotations SET confidence = 1e22 WHERE id = (SELECT min(id) FROM annotations)")
    other_encoder.undo()
    made.export()
    other_encoder.setattr(orjson, "dumps", other_dumps)
    return made


def execute(trial: Trial, statement: str, *values: str) -> None:
    """What the application does."""
    with closing(sqlite3.connect(str(trial.settings.database.path))) as connection, connection:
        connection.execute(statement, values)


def rename_an_image(trial: Trial, name: str) -> None:
    """A change that an incremental export renders."""
    execute(trial, "UPDATE images SET filename = ? WHERE id = (SELECT max(id) FROM images)", name)


def test_a_fingerprint_is_of_what_the_encoder_writes(other_encoder: pytest.MonkeyPatch) -> None:
    """The same every time, and another one for an encoder that writes a probe differently."""
    other = fingerprints()
    assert other == fingerprints()
    other_encoder.undo()
    assert changed(other, fingerprints()) == ["JSON"]


def test_the_encoders_that_changed() -> None:
    """One that differs, one that came and one that went, by name."""
    assert changed({"JSON": "1", "Parquet": "2"}, {"JSON": "1", "Parquet": "2"}) == []
    assert changed({"JSON": "1", "Parquet": "2"}, {"JSON": "3", "zstd": "4"}) == ["JSON", "Parquet", "zstd"]


def test_another_encoder_leads_to_one_full_export(trial: Trial, other_encoder: pytest.MonkeyPatch) -> None:
    """With the reason; no byte of the other encoder stays; and the export after that is incremental again."""
    assert trial.export().reason == CHANGED
    assert b"1E" in trial.contents()[DOCUMENT]
    other_encoder.undo()
    rename_an_image(trial, "first.jpg")
    assert trial.export().reason == CHANGED
    assert b"1E" not in trial.contents()[DOCUMENT]
    assert trial.differences() == []
    rename_an_image(trial, "second.jpg")
    outcome = trial.export()
    assert outcome.published
    assert outcome.reason != CHANGED
    assert trial.differences() == []
    assert trial.export().reason != CHANGED


def test_it_is_remembered_where_no_byte_differs(trial: Trial, other_encoder: pytest.MonkeyPatch) -> None:
    """Nothing is published then, and there is one full export all the same."""
    other_encoder.undo()
    execute(trial, "DELETE FROM annotations")  # no number with an exponent is left
    trial.export()
    other_encoder.setattr(orjson, "dumps", other_dumps)
    first, second = trial.export(), trial.export()
    assert (first.published, first.reason) == (False, CHANGED)
    assert second.reason != CHANGED


def test_a_ledger_without_encoders_leads_to_one_full_export(
    trial: Trial, other_encoder: pytest.MonkeyPatch
) -> None:
    """As versions before this one left it."""
    other_encoder.undo()
    ledger = load_ledger(trial.state)
    position = load_position(trial.state, ledger.generation) if ledger is not None else None
    assert ledger is not None
    assert position is not None
    ledger.encoders = {}
    save_ledger(trial.state, ledger, iter([*position]))
    outcome = trial.export()
    assert (outcome.published, outcome.reason) == (False, "an earlier version wrote the ledger")
    assert trial.export().reason == "0 images may have changed"


def test_verify_tells_another_encoder_from_drift(trial: Trial, other_encoder: pytest.MonkeyPatch) -> None:
    """It shows what differs, exits with 1, and after the export that it asks for finds nothing."""
    trial.export()
    where = ("--database-url", trial.settings.database_url, "--export-dir", str(trial.directory))
    done = run_autoexport("verify", *where)
    assert done.exit_code == 1
    assert "the file has 'E" in done.stdout
    assert "The JSON encoder changed since the files were written" in done.stderr
    assert run_autoexport(*where).exit_code == 0
    assert run_autoexport("verify", *where).exit_code == 0


def test_a_rendering_process_with_another_encoder_is_not_used(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after an upgrade beside a daemon that still runs: all is rendered here, and a warning says why."""
    monkeypatch.setattr(renderer, "PROCESS_FROM_ROWS", 0)
    with capture_logs() as logs:
        outcome = trial.export()
    assert (outcome.reason, outcome.worker_cpu_s) == (CHANGED, 0)
    assert [entry["event"] for entry in logs if entry["log_level"] == "warning"] == ["render.other_encoder"]
    assert trial.differences() == []


def test_a_rendering_process_with_the_same_encoder_is_used(
    trial: Trial, other_encoder: pytest.MonkeyPatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the test before this one would show nothing."""
    other_encoder.undo()
    monkeypatch.setattr(renderer, "PROCESS_FROM_ROWS", 0)
    assert trial.export(full=True).worker_cpu_s > 0
