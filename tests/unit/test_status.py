"""What `status` makes of a report and a manifest that need not be of the same exporter."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from autoexport import Settings, run_exporter
from autoexport.commands.demo import make_database
from autoexport.commands.options import duration
from autoexport.commands.status import StatusFindings
from autoexport.daemon.report import Report
from autoexport.publishing.manifest import Manifest
from tests.conftest import OtherUser, run_autoexport
from tests.daemon import Daemon

CHANGED_AT = 1_705_746_600.5  # 2024-01-20T10:30:00.5Z


@pytest.mark.parametrize(
    ("read_at", "running", "told"),
    [
        ("2024-01-20T10:30:01Z", False, None),
        ("2024-01-20T10:30:00Z", False, CHANGED_AT),  # whole seconds: it may have been read before
        ("2024-01-20T10:30:01Z", True, CHANGED_AT),  # who is running knows better
        ("yesterday", False, CHANGED_AT),
        (None, False, CHANGED_AT),
    ],
)
def test_a_change_that_another_exporter_published(read_at: str | None, running: bool, told: float | None) -> None:
    """It is told by an exporter that was killed, and is in the files all the same."""
    report = Report(1, "watching", 5.0, CHANGED_AT, oldest_change_at=CHANGED_AT)
    manifest = None if read_at is None else Manifest(1, read_at, "app.db", {})
    assert StatusFindings(CHANGED_AT + 9, running, running, report, manifest).oldest_change_at == told


# --- one export without a daemon ---------------------------------------------------------------------


def state_of(code: int, *arguments: str) -> dict[str, object]:
    """What `status --json` says, with its exit code checked."""
    done = run_autoexport("status", "--json", *arguments)
    assert done.exit_code == code, done.stdout + done.stderr
    record: dict[str, object] = json.loads(done.stdout)
    return record


def test_a_finished_export_is_fresh(tmp_path: Path) -> None:
    """For ever, unless a greatest age is given."""
    make_database(tmp_path / "app.db")
    assert run_autoexport("app.db").exit_code == 0
    told = state_of(0)
    assert (told["state"], told["running"], told["generation"], told["healthy"]) == ("finished", False, 1, True)
    state_of(0, "--max-age", "1d")
    state_of(1, "--max-age", "0")
    text = run_autoexport("status").stdout
    assert text.splitlines()[-1].startswith("fresh: exported once, ")
    assert not [line for line in text.splitlines() if not line.strip()]
    assert "--max-age is 0 s" in run_autoexport("status", "--max-age", "0").stdout
    assert run_autoexport("app.db").exit_code == 0, "nothing changed"
    assert state_of(0)["last_check"] >= told["last_check"]  # type: ignore[operator]


def test_an_export_that_failed_is_failing_until_one_succeeds(tmp_path: Path) -> None:
    """The last check stays that of the last success."""
    make_database(tmp_path / "app.db")
    assert run_autoexport("app.db").exit_code == 0
    checked = state_of(0)["last_check"]
    (tmp_path / "app.db").rename(tmp_path / "away.db")
    for count in (1, 2):
        assert run_autoexport("app.db").exit_code == 1
        told = state_of(1)
        assert (told["failing"], told["failures"], told["last_check"]) == (True, count, checked)
    assert "app.db" in str(told["last_error"])
    (tmp_path / "away.db").rename(tmp_path / "app.db")
    assert run_autoexport("app.db").exit_code == 0
    assert state_of(0)["last_error"] is None


def test_the_wrong_directory_is_not_told_of_an_error(tmp_path: Path) -> None:
    """An export of another database into it is a slip of that export."""
    make_database(tmp_path / "app.db")
    make_database(tmp_path / "other.db")
    assert run_autoexport("app.db").exit_code == 0
    assert run_autoexport("other.db").exit_code == 2
    assert state_of(0)["last_error"] is None


def test_a_daemon_reports_for_itself(tmp_path: Path) -> None:
    """One export beside it leaves its report alone; an embedded export is recorded as well."""
    make_database(tmp_path / "app.db")
    with Daemon("sqlite:///app.db", tmp_path / "database_exports", interval_s=0.2) as daemon:
        daemon.wait_until_idle()
        assert run_autoexport("app.db", "--full").exit_code == 0
        assert state_of(0)["state"] in ("watching", "exporting")
        assert daemon.stop() == 0
    assert state_of(0, "--max-age", "1h")["state"] == "stopped"
    settings = Settings(database_url="app.db", export_directory="embedded")
    asyncio.run(run_exporter(settings, monitor=False))
    assert state_of(0, "--export-dir", "embedded")["state"] == "finished"


@pytest.mark.parametrize("text", ["", "soon", "-1", "1w"])
def test_a_greatest_age_that_is_none(text: str) -> None:
    """Exit code 2."""
    done = run_autoexport("status", f"--max-age={text}")
    assert done.exit_code == 2
    assert "is not a time" in done.stderr


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("1.5s", 1.5), ("30m", 1800), ("2H", 7200), ("1d", 86400)]
)
def test_units_of_a_greatest_age(text: str, seconds: float) -> None:
    """Seconds, minutes, hours and days."""
    assert duration(None, None, text) == seconds  # type: ignore[arg-type]


# --- a user who may only read ------------------------------------------------------------------------


def test_a_user_who_may_only_read(other_user: OtherUser) -> None:
    """`status` shows the last publish, `verify` compares; neither leaves anything behind."""
    database, exports = other_user.place / "app.db", other_user.place / "exports"
    make_database(database)
    database.chmod(0o644)
    names = ("--database-url", str(database), "--export-dir", str(exports))
    assert run_autoexport(*names).exit_code == 0
    before = sorted(other_user.place.rglob("*"))
    told = other_user.runs("status", "--export-dir", exports)
    assert told.returncode == 0, told.stderr
    assert "unknown: the state directory is private" in told.stdout
    assert other_user.runs("status", "--export-dir", exports, "--max-age", "1h").returncode == 0
    assert other_user.runs("status", "--export-dir", exports, "--max-age", "0").returncode == 1
    done = other_user.runs("verify", *names)
    assert done.returncode == 0, done.stderr
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE projects SET name = 'renamed' WHERE id = 1")
    found = other_user.runs("verify", *names, "--interval", "0.1")
    assert found.returncode == 3, found.stderr
    assert "renamed" in found.stdout
    assert sorted(other_user.place.rglob("*")) == before
