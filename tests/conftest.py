"""Fixtures that every test may use: clean surroundings, the databases, the program as a process."""

from __future__ import annotations

import logging
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_timeout
import structlog
from hypothesis import HealthCheck, settings

import autoexport
from tests import processes
from tests.applications import create_sqlite, fill_postgres, fill_sqlite
from tests.databases import Connection, Database, PostgresDatabase, SqliteDatabase
from tests.deadlines import deadline_s, slowness
from tests.postgres import NEWEST, PostgresServer, running_server
from tests.postgres_connection import PostgresConnection

REPOSITORY = Path(__file__).resolve().parent.parent
REAL_DATABASE = REPOSITORY.parent / "shared" / "data" / "auto_labeling_tool.sqlite3"
KINDS = ("sqlite-delete", "sqlite-wal", "postgresql")
AMBIENT_PREFIXES = ("AWS_", "DB_EXPORT_", "LOG_", "PG")
AMBIENT_NAMES = {"DATABASE_URL", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}

_ALLOWED = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture)
settings.register_profile(
    "ci", max_examples=50, stateful_step_count=20, deadline=None, derandomize=False, database=None,
    print_blob=True, suppress_health_check=_ALLOWED,
)  # fmt: skip
settings.register_profile(
    "soak", max_examples=1000, stateful_step_count=50, deadline=None, derandomize=False, database=None,
    print_blob=True, suppress_health_check=_ALLOWED,
)  # fmt: skip
settings.load_profile("ci")


def _go_on(number: int, frame: object) -> None:
    """Do nothing about a signal."""


# Started by `nohup`, or in the background of a script, a program ignores a signal, and so does each program that
# it starts. A handler that does nothing is not inherited.
for _number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _go_on)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--postgres MAJOR`: the server to test on, from the test extra (16, 18) or installed."""
    parser.addoption("--postgres", type=int, default=NEWEST, help="major version")


# --- time limits ---------------------------------------------------------------------------------


def pytest_report_header() -> str:
    """Say how slow the machine is at the start."""
    return f"deadlines: {slowness():.1f} times as long as on the reference machine, measured again during the run"


@pytest.hookimpl(tryfirst=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: pytest_timeout.Settings) -> object:
    """Scale the time limit of a test, which is a deadline as well."""
    scaled = settings._replace(timeout=deadline_s(settings.timeout))
    return pytest_timeout.pytest_timeout_set_timer(item, scaled)


# --- processes -----------------------------------------------------------------------------------


def pytest_configure(config: pytest.Config) -> None:
    """Guard the processes of the tests until pytest ends, also those of its workers."""
    # A shell that starts pytest in the background lets it ignore SIGINT, and its children inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    stack = ExitStack()
    stack.enter_context(processes.guarded())
    config.add_cleanup(stack.close)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    """Kill each process that the test left running, after all its fixtures, and report it as an error."""
    try:
        yield
    finally:
        left = processes.end_left_behind(deadline_s(processes.GRACE_S))
        assert not left, f"{item.nodeid} left processes running, which were killed now:\n" + "\n".join(left)


# --- surroundings --------------------------------------------------------------------------------


def _is_ambient(name: str) -> bool:
    return name.startswith(AMBIENT_PREFIXES) or name in AMBIENT_NAMES


@pytest.fixture(autouse=True)
def log_setup_put_back() -> Iterator[None]:
    """Undo after the test the logging that the command line set up."""
    handlers = list(logging.root.handlers)
    yield
    structlog.reset_defaults()
    logging.root.handlers[:] = handlers


@pytest.fixture(autouse=True)
def clean_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide the settings of the environment from the test, and run it in a directory of its own."""
    for name in list(os.environ):
        if _is_ambient(name):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


# --- the program as a process --------------------------------------------------------------------


@dataclass(frozen=True)
class Finished:
    """The exit code and the output of a process that has ended."""

    exit_code: int
    stdout: str
    stderr: str


def program_environment(env: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment for `python -m autoexport` in any directory: this package, no settings but `env`."""
    package_root = str(Path(autoexport.__file__).resolve().parent.parent)
    ambient = {name: value for name, value in os.environ.items() if not _is_ambient(name)}
    return {**ambient, "PYTHONPATH": package_root, "PYTHONDONTWRITEBYTECODE": "1", **(env or {})}


def run_autoexport(
    *args: str, cwd: Path | None = None, env: Mapping[str, str] | None = None, timeout_s: float = 60
) -> Finished:
    """Run `python -m autoexport` to its end in a process of its own, with `env` added to a clean environment.

    Raises `subprocess.TimeoutExpired` after the deadline of `timeout_s` seconds, with the process killed.
    """
    done = subprocess.run(
        [sys.executable, "-m", "autoexport", *args], cwd=cwd, env=program_environment(env),
        stdin=subprocess.DEVNULL, capture_output=True, text=True, encoding="utf-8",
        timeout=deadline_s(timeout_s), check=False,
    )  # fmt: skip
    return Finished(done.returncode, done.stdout, done.stderr)


# --- another user --------------------------------------------------------------------------------


class OtherUser:
    """A user whom permissions bind, and a directory that everybody may look into."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.user = pwd.getpwnam("nobody")

    def owns(self, path: Path) -> None:
        """Give a file or a directory to this user."""
        os.chown(path, self.user.pw_uid, self.user.pw_gid)

    def runs(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """The program as this user."""
        return subprocess.run(
            [sys.executable, "-m", "autoexport", *map(str, arguments)], env=program_environment(), cwd=self.place,
            user=self.user.pw_uid, group=self.user.pw_gid, extra_groups=[], capture_output=True, text=True,
            check=False, timeout=deadline_s(60),
        )  # fmt: skip


@pytest.fixture
def other_user() -> Iterator[OtherUser]:
    """Another user; skips where there can be none, or where it could not start the program."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to have a user whom permissions bind")
    needed = (Path(sys.executable).resolve(), Path(sys.prefix), Path(__file__))
    if not all(parent.stat().st_mode & 0o001 for path in needed for parent in path.parents):
        pytest.skip("another user cannot reach the interpreter or the package")
    with tempfile.TemporaryDirectory(prefix="autoexport-test-") as name:
        place = Path(name)
        place.chmod(0o755)
        yield OtherUser(place)


# --- databases -----------------------------------------------------------------------------------


def _sample_sqlite(path: Path, kind: str) -> SqliteDatabase:
    connection = create_sqlite(path, journal_mode=kind.removeprefix("sqlite-"))
    fill_sqlite(connection)
    connection.close()
    return SqliteDatabase(path, kind)


@pytest.fixture(params=["delete", "wal"])
def sqlite_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqliteDatabase]:
    """The application's database with the sample rows, in a SQLite file, in both journal modes."""
    database = _sample_sqlite(tmp_path / "application.sqlite3", f"sqlite-{request.param}")
    yield database
    database.close()


@pytest.fixture(scope="session")
def postgres_server(pytestconfig: pytest.Config) -> Iterator[PostgresServer]:
    """The server of this run. A test that stops it takes `own_postgres_server` instead."""
    with running_server(major=pytestconfig.getoption("postgres")) as server:
        yield server


@pytest.fixture
def own_postgres_server(pytestconfig: pytest.Config) -> Iterator[PostgresServer]:
    """A server for one test, to stop, kill and start at will."""
    with running_server(major=pytestconfig.getoption("postgres")) as server:
        yield server


@pytest.fixture
def postgres_database(postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of a new PostgreSQL database with the application's empty tables."""
    with postgres_server.database() as url:
        yield url


@pytest.fixture(params=KINDS)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """The application's database with the sample rows, of every kind."""
    made: Database
    if request.param == "postgresql":
        made = PostgresDatabase(request.getfixturevalue("postgres_database"))
        with PostgresConnection(made.url) as connection:
            fill_postgres(connection)
    else:
        made = _sample_sqlite(tmp_path / "application.sqlite3", request.param)
    yield made
    made.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def bare_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Connection]]:
    """The URL of a database without tables, and a session."""
    if request.param == "sqlite":
        database = SqliteDatabase(tmp_path / "app.sqlite3")
        with closing(database.connect()) as connection:
            yield database.url, connection
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    with server.database("template0") as url, closing(PostgresDatabase(url).connect()) as session:
        yield url, session


@pytest.fixture
def real_database(tmp_path: Path) -> Path:
    """A copy of a real database of the application, where there is one."""
    if not REAL_DATABASE.exists():
        pytest.skip(f"the real database is kept outside of the repository: {REAL_DATABASE} is not there")
    return Path(shutil.copy(REAL_DATABASE, tmp_path / "real.sqlite3"))
