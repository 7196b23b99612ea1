"""Faults of a PostgreSQL server or session: error with a hint, intact old files, recovery by the next export."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog
from structlog.typing import EventDict, WrappedLogger

from autoexport.errors import SourceError
from tests.applications import fill_postgres
from tests.postgres import APPLICATION, PASSWORD, PostgresServer, running_server
from tests.postgres_connection import PostgresConnection
from tests.trials import RowsHook, Trial, open_descriptors

STATIONS = ("snapshot.opened", "plan.made", "a block", "render.done", "splice.staged")
WITH_SNAPSHOT = STATIONS[:4]
RENAME = "UPDATE projects SET name = ? WHERE id = 1"


class AtStation(RowsHook):
    """Does something once, when the line comes to a station: as a log processor and as its progress."""

    def __init__(self, station: str, act: Callable[[], object]) -> None:
        super().__init__(lambda: self.passed("a block"))  # and its portals are open
        self.station = station
        self.act = act
        self.acted = False

    def __call__(self, _: WrappedLogger, __: str, event: EventDict) -> EventDict:
        self.passed(str(event["event"]))
        raise structlog.DropEvent

    def passed(self, station: str) -> None:
        """The line came here."""
        if station == self.station and not self.acted:
            self.acted = True
            self.act()


@pytest.fixture(scope="module")
def mortal_server(pytestconfig: pytest.Config) -> Iterator[PostgresServer]:
    """A server of this module, to be killed."""
    with running_server(major=pytestconfig.getoption("postgres")) as server:
        yield server


@pytest.fixture
def logged() -> Iterator[None]:
    """The configuration of structlog is put back."""
    yield
    structlog.reset_defaults()


def exported(url: str, trial: Trial) -> Trial:
    """The sample rows, exported once."""
    with PostgresConnection(url) as connection:
        fill_postgres(connection)
    trial.export()
    return trial


def change(url: str, name: str) -> None:
    """Something that has to be published."""
    with PostgresConnection(url) as connection:
        connection.execute(RENAME, name)
        connection.execute("UPDATE images SET file_size = file_size + 1")


def check_failure(trial: Trial, progress: AtStation | None = None, *, full: bool = False) -> SourceError:
    """An export fails with a hint and without the password; the published files are those that were there."""
    before = {path: path.stat().st_mtime_ns for path in trial.directory.iterdir() if path.is_file()}
    descriptors = open_descriptors()
    with pytest.raises(SourceError) as raised:
        trial.export(progress=progress, full=full)
    error = raised.value.with_traceback(None)
    error.__cause__ = error.__context__ = None
    del raised
    assert error.hint
    assert error.exit_code == 1
    assert PASSWORD not in f"{error} {error.hint}"
    assert {path: path.stat().st_mtime_ns for path in trial.directory.iterdir() if path.is_file()} == before
    assert not trial.leftovers()
    assert open_descriptors() == descriptors
    return error


def check_recovery(trial: Trial) -> None:
    """The next export is what the database says."""
    assert trial.export().published
    assert not trial.differences()
    assert not trial.leftovers()


@pytest.mark.parametrize(
    ("station", "full"), [*((station, False) for station in STATIONS), ("plan.made", True), ("a block", True)]
)
def test_killed_at_a_station(
    mortal_server: PostgresServer, tmp_path: Path, logged: None, station: str, full: bool
) -> None:
    """An immediate shutdown at each station: an error as long as rows may be missing, else the export is made."""
    with mortal_server.database() as url:
        trial = exported(url, Trial(url, tmp_path / "exports"))
        change(url, "before the crash")
        killer = AtStation(station, lambda: mortal_server.stop("immediate"))
        structlog.configure(processors=[killer])
        if station == "splice.staged":
            assert trial.export(progress=killer, full=full).published, "everything was read by then"
        elif station in ("a block", "render.done"):
            try_to_export(trial, killer, full=full)
        else:
            check_failure(trial, killer, full=full)
        assert killer.acted
        structlog.reset_defaults()
        check_failure(trial)
        mortal_server.start()
        change(url, "after the crash")
        check_recovery(trial)


def try_to_export(trial: Trial, killer: AtStation, *, full: bool) -> None:
    """The rows of so small a sample may have arrived: then the export is whole, else nothing is published."""
    with contextlib.suppress(SourceError):
        trial.export(progress=killer, full=full)
    assert trial.fits_manifest()
    assert not trial.leftovers()


@pytest.mark.parametrize("station", WITH_SNAPSHOT[:2])
def test_a_terminated_backend(
    postgres_server: PostgresServer, postgres_database: str, tmp_path: Path, logged: None, station: str
) -> None:
    """An administrator ends the session."""
    trial = exported(postgres_database, Trial(postgres_database, tmp_path / "exports"))
    change(postgres_database, "before it was ended")
    end = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = ? AND usename = ?"
    name = postgres_database.rpartition("/")[2]
    killer = AtStation(station, lambda: postgres_server.admin(end, name, APPLICATION))
    structlog.configure(processors=[killer])
    error = check_failure(trial, killer)
    assert "connection" in str(error)
    structlog.reset_defaults()
    check_recovery(trial)


def test_out_of_connections(postgres_server: PostgresServer, postgres_database: str, tmp_path: Path) -> None:
    """The database takes one connection more, and the application has it."""
    trial = exported(postgres_database, Trial(postgres_database, tmp_path / "exports"))
    name = postgres_database.rpartition("/")[2]
    postgres_server.admin(f"ALTER DATABASE {name} CONNECTION LIMIT 1")
    with PostgresConnection(postgres_database) as connection:
        connection.execute(RENAME, "the only one")
        error = check_failure(trial)
        assert "too many connections" in str(error)
    postgres_server.admin(f"ALTER DATABASE {name} CONNECTION LIMIT -1")
    check_recovery(trial)


def test_statement_timeout(postgres_database: str, tmp_path: Path) -> None:
    """A statement that takes longer than it may: here, because a migration holds the table."""
    exported(postgres_database, Trial(postgres_database, tmp_path / "exports"))
    trial = Trial(postgres_database, tmp_path / "exports", pg_statement_timeout=0.2)
    with PostgresConnection(postgres_database) as migration:
        migration.script("BEGIN; LOCK TABLE images IN ACCESS EXCLUSIVE MODE")
        error = check_failure(trial)
        assert "statement timeout" in str(error)
        assert "DB_EXPORT_PG_STATEMENT_TIMEOUT" in error.hint
        migration.script("UPDATE images SET file_size = 1; COMMIT")
    check_recovery(Trial(postgres_database, tmp_path / "exports"))


def test_a_password_that_was_changed(
    postgres_server: PostgresServer, postgres_database: str, tmp_path: Path
) -> None:
    """Refused until the old password is valid again; neither password is shown."""
    trial = exported(postgres_database, Trial(postgres_database, tmp_path / "exports"))
    change(postgres_database, "before it was changed")
    postgres_server.admin(f"ALTER ROLE {APPLICATION} PASSWORD 'another'")
    try:
        error = check_failure(trial)
        assert "refused the login" in str(error)
        assert "password" in error.hint
    finally:
        postgres_server.admin(f"ALTER ROLE {APPLICATION} PASSWORD '{PASSWORD}'")
    check_recovery(trial)
