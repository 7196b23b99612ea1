"""`python -m autoexport --monitor` keeps the files equal to the database, whatever happens to either."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import psutil
import pytest

from autoexport.publishing.locks import PUBLISH_LOCK, Lock
from tests.applications import create_sqlite, fill_sqlite
from tests.conftest import run_autoexport
from tests.daemon import (
    LIMIT_S,
    PUBLISHED,
    Daemon,
    generation,
    leftovers,
    project_names,
    wait_until,
)
from tests.databases import Database, SqliteDatabase
from tests.deadlines import deadline_s
from tests.postgres import PostgresServer

RENAME = "UPDATE projects SET name = ? WHERE id = 1"

# One journal mode is enough if it makes no difference.
in_delete_mode = pytest.mark.parametrize("sqlite_database", ["delete"], indirect=True, ids=["sqlite"])
in_wal_mode = pytest.mark.parametrize("sqlite_database", ["wal"], indirect=True, ids=["sqlite"])


@pytest.fixture
def exports(tmp_path: Path) -> Path:
    """The directory for the files, which does not exist yet."""
    return tmp_path / "exports"


def status(directory: Path) -> tuple[int, dict[str, object]]:
    """The exit code of the command, and its answer."""
    done = run_autoexport("status", "--json", "--export-dir", str(directory), "--log-level", "warning")
    assert done.stdout, done.stderr
    return done.exit_code, json.loads(done.stdout)


# --- changes -----------------------------------------------------------------------------------------


def test_commits_of_other_processes_arrive_without_a_poll(sqlite_database: SqliteDatabase, exports: Path) -> None:
    """File events show a commit; the next poll would be due in an hour."""
    with Daemon(sqlite_database.url, exports, interval_s=3600) as daemon:
        daemon.wait_for("export.published")
        daemon.wait_until_idle()
        for turn in range(4):
            name = f"renamed {turn}"
            sqlite_database.execute_elsewhere(RENAME, name)
            wait_until(lambda name=name: name in project_names(exports), "the new name is published")  # type: ignore[misc]


def test_without_hooks_only_time_is_lost(database: Database, exports: Path) -> None:
    """Inserts, updates, deletes and bulk SQL of other processes are in the files soon after the next poll."""
    with Daemon(database.url, exports, "--disable-hooks", interval_s=0.3) as daemon:
        daemon.wait_for("export.published")
        for statement in (
            "INSERT INTO projects (id, name) VALUES (90, 'one more')",
            "UPDATE projects SET name = 'renamed by another process' WHERE id = 90",
            "UPDATE annotations SET confidence = 0.5",
            "DELETE FROM annotations WHERE id = (SELECT max(id) FROM annotations)",
        ):
            before = generation(exports)
            database.execute_elsewhere(statement)
            wait_until(lambda before=before: generation(exports) > before, statement)  # type: ignore[misc]
        daemon.wait_until_idle()
        assert "renamed by another process" in project_names(exports)
        assert daemon.stop() == 0
    verified = run_autoexport("verify", "--database-url", database.url, "--export-dir", str(exports))
    assert verified.exit_code == 0, verified.stdout + verified.stderr


def test_what_changes_no_exported_data_publishes_nothing(database: Database, exports: Path) -> None:
    """A rollback, a commit in an unexported table, VACUUM and an update to the same value publish nothing."""
    with Daemon(database.url, exports) as daemon:
        daemon.wait_for("export.published")
        daemon.wait_until_idle()
        before = {name: os.stat(exports / name).st_mtime_ns for name in PUBLISHED}
        session = database.connect()
        session.execute("BEGIN")
        session.execute(RENAME, "never committed")
        session.execute("ROLLBACK")
        session.execute("UPDATE alembic_version SET version_num = 'another'")
        session.execute("UPDATE projects SET name = name")
        session.execute("VACUUM")
        session.close()
        assert not daemon.export_now()
        daemon.wait_until_idle()
        assert {name: os.stat(exports / name).st_mtime_ns for name in PUBLISHED} == before


@in_delete_mode
def test_a_file_that_is_replaced_is_another_database_state(
    sqlite_database: SqliteDatabase, exports: Path, tmp_path: Path
) -> None:
    """A backup that is renamed over the database is exported, even if it is older than the files."""
    with Daemon(sqlite_database.url, exports, interval_s=3600) as daemon:
        daemon.wait_until_idle()
        sqlite_database.close()
        backup = tmp_path / "backup.sqlite3"
        with closing(create_sqlite(backup)) as connection:
            fill_sqlite(connection)
            connection.execute(RENAME, ("from the backup",))
        os.utime(backup, (1, 1))
        os.replace(backup, sqlite_database.path)
        wait_until(lambda: "from the backup" in project_names(exports), "the backup's state is published")


@in_wal_mode
def test_the_export_directory_may_be_the_database_s_own(sqlite_database: SqliteDatabase, tmp_path: Path) -> None:
    """The exporter's own files there do not cause another export."""
    with Daemon(sqlite_database.url, tmp_path, interval_s=0.2) as daemon:
        sqlite_database.execute(RENAME, "beside the database")
        wait_until(lambda: "beside the database" in project_names(tmp_path), "the change is published")
        daemon.wait_until_idle()
        exports = len(daemon.events("snapshot.opened"))
        daemon.checked_after(time.time() + 2)
        assert len(daemon.events("snapshot.opened")) == exports


@in_delete_mode
def test_a_published_file_that_is_lost_comes_back(sqlite_database: SqliteDatabase, exports: Path) -> None:
    """A published file that is deleted or edited while the database rests is repaired."""
    with Daemon(sqlite_database.url, exports, interval_s=0.2) as daemon:
        daemon.wait_until_idle()
        right = (exports / "projects.csv").read_bytes()
        (exports / "projects.csv").unlink()
        wait_until((exports / "projects.csv").exists, "the file is there again")
        assert (exports / "projects.csv").read_bytes() == right
        daemon.wait_until_idle()
        (exports / "images.csv").write_text("edited\n")
        wait_until(lambda: (exports / "images.csv").stat().st_size > 7, "the file is right again")


@in_delete_mode
def test_what_exceeds_the_budget_waits_and_says_so(sqlite_database: SqliteDatabase, exports: Path) -> None:
    """The first change is published at once, the next one waits: `status` and the log say until when and why.

    A request of the owner ends the wait.
    """
    with Daemon(sqlite_database.url, exports, interval_s=0.2, env={"DB_EXPORT_PACE": "0.001"}) as daemon:
        daemon.wait_for("export.published")
        sqlite_database.execute(RENAME, "the first change")
        wait_until(lambda: "the first change" in project_names(exports), "it is published")
        sqlite_database.execute(RENAME, "the second change")
        (paced,) = daemon.wait_for("export.paced")
        daemon.wait_for_report(lambda report: report.waits_for == paced["reason"], "the reason is reported")
        code, told = status(exports)
        assert (code, told["waits_for"]) == (0, paced["reason"])
        assert told["next_export"]
        assert paced["reason"] in run_autoexport("status", "--export-dir", str(exports)).stdout
        assert "the second change" not in project_names(exports)
        daemon.process.send_signal(signal.SIGUSR1)
        wait_until(lambda: "the second change" in project_names(exports), "it is published")


def test_it_says_that_it_waits_for_another_exporter(sqlite_database: SqliteDatabase, exports: Path) -> None:
    """`status` names the holder of the publish lock while the export waits for it, and no longer."""
    lock = Lock(exports / ".autoexport", PUBLISH_LOCK)
    with Daemon(sqlite_database.url, exports, interval_s=0.2) as daemon:
        daemon.wait_until_idle()
        assert lock.try_take()
        sqlite_database.execute(RENAME, "behind another exporter")
        reason = f"another exporter in this directory: {lock.holder()}"
        daemon.wait_for_report(lambda report: report.waits_for == reason, "it is reported")
        code, told = status(exports)
        assert (code, told["waits_for"], told["state"]) == (0, reason, "exporting")
        assert reason in run_autoexport("status", "--export-dir", str(exports)).stdout
        lock.release()
        wait_until(lambda: "behind another exporter" in project_names(exports), "it is published")
        daemon.wait_for_report(lambda report: report.waits_for is None, "it waits no longer")


def test_an_isolated_commit_costs_one_snapshot(sqlite_database: SqliteDatabase, exports: Path) -> None:
    """The second look at a file whose time stamp was young settles without a snapshot that nothing was missed."""
    with Daemon(sqlite_database.url, exports, interval_s=0.2) as daemon:
        daemon.wait_until_idle()
        snapshots = len(daemon.events("snapshot.opened"))
        for turn in range(2):
            sqlite_database.execute(RENAME, f"isolated {turn}")
            wait_until(lambda turn=turn: f"isolated {turn}" in project_names(exports), "it is published")  # type: ignore[misc]
            daemon.wait_until_idle()
            daemon.checked_after(time.time())
        assert len(daemon.events("snapshot.opened")) == snapshots + 2


# --- at rest -----------------------------------------------------------------------------------------


@in_wal_mode
def test_idle_costs_next_to_nothing(sqlite_database: SqliteDatabase, exports: Path) -> None:
    """At an interval of one second, an idle daemon uses hardly any processor time and touches no file.

    It writes no byte, and the database is not open. A check costs far less than reading this small database, on
    any machine. The promised half percent of a core is measured at rest.
    """
    looks, interval_s = 10, 1.0
    with Daemon(sqlite_database.url, exports, interval_s=interval_s) as daemon:
        daemon.wait_until_idle()
        process = psutil.Process(daemon.process.pid)
        cpu_s = sum(process.cpu_times()[:2])
        for _ in range(looks):
            assert not daemon.export_now()
        look_s = (sum(process.cpu_times()[:2]) - cpu_s) / looks
        daemon.wait_until_idle()
        watched = [exports, *exports.rglob("*"), *sqlite_database.path.parent.glob("application*")]
        before = {path: _facts(path) for path in watched}
        cpu_s, written, began = sum(process.cpu_times()[:2]), _written_bytes(process.pid), time.time()
        daemon.checked_after(began + 8)
        checks = (time.time() - began) / interval_s
        check_s = (sum(process.cpu_times()[:2]) - cpu_s) / checks
        assert check_s <= look_s / 2, f"a check takes {check_s} s of a core, a look {look_s} s"
        assert _written_bytes(process.pid) == written
        assert {path: _facts(path) for path in watched} == before
        opened = [os.readlink(link) for link in Path(f"/proc/{process.pid}/fd").iterdir()]
        assert not [target for target in opened if "application.sqlite3" in target]


def _facts(path: Path) -> tuple[int, ...]:
    """Everything but the time of the last access, which reading may change."""
    found = os.lstat(path)
    return found.st_ino, found.st_mode, found.st_uid, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _written_bytes(pid: int) -> str:
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    return next(line for line in lines if line.startswith("write_bytes"))


# --- trouble -----------------------------------------------------------------------------------------


@in_delete_mode
def test_a_database_that_is_away_is_waited_for(sqlite_database: SqliteDatabase, exports: Path) -> None:
    """A database that is moved away, at start or later, is an error that `status` reports.

    Moved back, it is exported soon.
    """
    sqlite_database.close()
    away = sqlite_database.path.with_name("away")
    sqlite_database.path.rename(away)
    with Daemon(sqlite_database.url, exports, interval_s=0.3) as daemon:
        daemon.wait_for_report(lambda report: report.error, "the missing file is reported")
        code, told = status(exports)
        assert (code, told["healthy"], told["generation"]) == (1, False, None)
        assert "There is no database file" in str(told["last_error"])
        assert told["next_try"]
        away.rename(sqlite_database.path)
        wait_until(lambda: generation(exports) == 1, "the first export")
        daemon.wait_for_report(lambda report: report.error is None, "it is well again")
        for turn in range(2):
            sqlite_database.path.rename(away)
            daemon.wait_for_report(lambda report: report.error, "the missing file is reported")
            away.rename(sqlite_database.path)
            daemon.wait_for("cycle.recovered", turn + 2)
            daemon.wait_for_report(lambda report: report.error is None, "it is well again")
        wait_until(lambda: status(exports)[0] == 0, "the command finds it healthy")
        failures = daemon.events("cycle.failed")
        recoveries = daemon.events("cycle.recovered")
        assert len(failures) == len(recoveries) == 3
        assert all(event["failures"] >= 1 for event in recoveries)
        assert generation(exports) == 1


@in_delete_mode
def test_an_export_directory_that_is_removed_is_made_again(sqlite_database: SqliteDatabase, exports: Path) -> None:
    """A removed export directory is created again with all its contents, the locks included."""
    with Daemon(sqlite_database.url, exports, interval_s=0.3) as daemon:
        daemon.wait_until_idle()
        shutil.rmtree(exports)
        wait_until(lambda: generation(exports) == 1 and daemon.report is not None, "the files are there again")
        daemon.wait_for_report(lambda report: report.error is None, "it is well again")
        wait_until(lambda: status(exports)[0] == 0, "the command finds it healthy")
        assert daemon.stop() == 0
        assert leftovers(exports) == []


PLAIN_USER = 65534


@pytest.fixture
def as_plain_user() -> list[str]:
    """The words before a command that make permissions bind it.

    Root becomes a user who owns nothing but may read everything: Python may be installed where only root can read.
    """
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("needs setpriv(1), to give up being root")
    capabilities = ["--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search"]
    return ["setpriv", f"--reuid={PLAIN_USER}", f"--regid={PLAIN_USER}", "--clear-groups", *capabilities]


@pytest.fixture
def open_directory(as_plain_user: list[str]) -> Iterator[Path]:
    """A directory of the plain user; pytest's directories are closed to others."""
    with tempfile.TemporaryDirectory(prefix="autoexport-test-") as name:
        if as_plain_user:
            os.chown(name, PLAIN_USER, PLAIN_USER)
        yield Path(name)


def test_a_directory_without_permission_is_told_and_retried(
    open_directory: Path, as_plain_user: list[str]
) -> None:
    """Without permission the old files stay and `status` says what is wrong; with it, the export is made."""
    path, exports = open_directory / "application.sqlite3", open_directory / "exports"
    with closing(create_sqlite(path)) as connection:
        fill_sqlite(connection)
        path.chmod(0o644)
        with Daemon(f"sqlite:///{path}", exports, interval_s=0.3, prefix=as_plain_user) as daemon:
            daemon.wait_for("export.published")
            old = (exports / "database_export.json").read_bytes()
            exports.chmod(0o555)
            connection.execute(RENAME, ("while it was closed",))
            daemon.wait_for_report(lambda report: report.error, "the missing permission is reported")
            code, told = status(exports)
            assert code == 1
            assert "ermission" in str(told["last_error"])
            assert float(str(told["oldest_unexported_change_seconds"])) > 0
            assert (exports / "database_export.json").read_bytes() == old
            exports.chmod(0o755)
            wait_until(lambda: "while it was closed" in project_names(exports), "the change is published")
            daemon.wait_for_report(lambda report: report.error is None, "it is well again")


def test_wal_of_another_user_is_not_opened_first(open_directory: Path, as_plain_user: list[str]) -> None:
    """A user who does not own a WAL database does not open it while no process has it open.

    The daemon says so, and reads the database as soon as its owner has opened it.
    """
    if not as_plain_user:
        pytest.skip("needs root, to have two users")
    folder = open_directory / "application"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    path, exports = folder / "application.sqlite3", open_directory / "exports"
    with closing(create_sqlite(path, journal_mode="wal")) as connection:
        fill_sqlite(connection)
    path.chmod(0o666)
    with Daemon(f"sqlite:///{path}", exports, interval_s=0.3, prefix=as_plain_user) as daemon:
        daemon.wait_for_report(lambda report: report.error, "the refusal is reported")
        assert "WAL" in str(status(exports)[1]["last_error"])
        assert [child.name for child in folder.iterdir()] == ["application.sqlite3"]
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute(RENAME, ("by its owner",))
            for companion in folder.iterdir():
                companion.chmod(0o666)
            wait_until(lambda: "by its owner" in project_names(exports), "the change is published")


def test_postgresql_that_is_restarted_is_found_again(own_postgres_server: PostgresServer, exports: Path) -> None:
    """Each stop of the server is reported, and after each start the daemon recovers."""
    with (
        own_postgres_server.database() as url,
        Daemon(url, exports, interval_s=0.3) as daemon,
    ):
        daemon.wait_for("export.published")
        for turn, mode in enumerate(("fast", "immediate"), 1):
            own_postgres_server.stop(mode)
            daemon.wait_for_report(lambda report: report.error, "the server's absence is reported")
            assert status(exports)[0] == 1
            own_postgres_server.start()
            daemon.wait_for("cycle.recovered", turn)
            daemon.wait_for_report(lambda report: report.error is None, "it is well again")
        wait_until(lambda: status(exports)[0] == 0, "the command finds it healthy")
        own_postgres_server.stop("immediate")


@in_delete_mode
def test_a_migration_is_lived_through(sqlite_database: SqliteDatabase, exports: Path) -> None:
    """A table that disappears is an error and keeps the old files; once it is back, its rows are exported."""
    with Daemon(sqlite_database.url, exports, interval_s=0.3) as daemon:
        daemon.wait_for("export.published")
        old = (exports / "images.csv").read_bytes()
        sqlite_database.execute("ALTER TABLE images RENAME TO old_pictures_of_before")
        daemon.wait_for_report(lambda report: report.error, "the missing table is reported")
        assert (exports / "images.csv").read_bytes() == old
        sqlite_database.execute("ALTER TABLE old_pictures_of_before RENAME TO images")
        sqlite_database.execute("ALTER TABLE projects ADD COLUMN colour TEXT")
        sqlite_database.execute(RENAME, "after the migration")
        wait_until(lambda: "after the migration" in project_names(exports), "the migrated database is published")
        daemon.wait_for_report(lambda report: report.error is None, "it is well again")
        assert daemon.process.poll() is None


@in_delete_mode
def test_a_start_in_the_middle_of_a_migration(sqlite_database: SqliteDatabase, exports: Path) -> None:
    """A database that was exported before is waited for: the daemon does not end with a configuration error."""
    with Daemon(sqlite_database.url, exports, interval_s=0.3) as daemon:
        daemon.wait_for("export.published")
    sqlite_database.execute("CREATE TABLE annotation AS SELECT * FROM annotations")
    with Daemon(sqlite_database.url, exports, interval_s=0.3) as daemon:
        daemon.wait_for_report(lambda report: report.error, "it is not clear which table is meant")
        sqlite_database.execute("DROP TABLE annotations")
        sqlite_database.execute("ALTER TABLE annotation RENAME TO annotations")
        sqlite_database.execute(RENAME, "after the migration")
        wait_until(lambda: "after the migration" in project_names(exports), "the migrated database is published")
        assert daemon.process.poll() is None


def test_tables_that_mean_nothing_are_told_at_once(tmp_path: Path, exports: Path) -> None:
    """A table setting of an unknown name ends the daemon, even if the database does not exist yet."""
    config = tmp_path / "autoexport.toml"
    config.write_text('[tables.imges]\ntable = "x"\n')
    with Daemon(str(tmp_path / "later.sqlite3"), exports, "--config", str(config)) as daemon:
        assert daemon.process.wait(deadline_s(30)) == 2
        assert "tables.imges" in daemon.log.read_text()


# --- the end -----------------------------------------------------------------------------------------


# In this daemon alone, an export that has made its plan waits until the test lets it go on.
# So the export still runs when a signal arrives, however fast the machine is.
_HELD_DAEMON = """
import asyncio, pathlib, sys
from autoexport.cli import main
from autoexport.pipeline.derivation import Derivation

go = pathlib.Path(sys.argv[1])
render = Derivation._render

async def held(*arguments, **named):
    go.with_name("held").touch()
    while not go.exists():
        await asyncio.sleep(0.01)
    return await render(*arguments, **named)

Derivation._render = held
sys.exit(main(sys.argv[2:]))
"""


@contextmanager
def held_in_an_export(url: str, exports: Path, prefix: Sequence[str] = ()) -> Iterator[tuple[Daemon, Path]]:
    """A daemon in the middle of an export, and the file that lets the export go on once it exists."""
    go = exports.parent / "go"
    with Daemon(url, exports, program=("-c", _HELD_DAEMON, str(go)), prefix=prefix) as daemon:
        wait_until(lambda: go.with_name("held").exists() or daemon.process.poll() is not None, "it exports")
        yield daemon, go


@in_delete_mode
def test_sigterm_lets_the_export_in_hand_finish(sqlite_database: SqliteDatabase, exports: Path) -> None:
    """SIGTERM lets the export finish: exit code 0, whole files and no leftovers."""
    with held_in_an_export(sqlite_database.url, exports) as (daemon, go):
        daemon.process.send_signal(signal.SIGTERM)
        daemon.wait_for("stop.asked")
        assert generation(exports) == 0
        go.touch()
        assert daemon.process.wait(deadline_s(LIMIT_S)) == 0
        assert generation(exports) == 1
        (images,) = sqlite_database.execute("SELECT count(*) FROM images")[0]
        assert json.loads((exports / "database_export.json").read_text())["export_info"]["total_images"] == images
        assert leftovers(exports) == []


@pytest.mark.parametrize("first_export", [True, False], ids=["first", "later"])
@in_delete_mode
def test_a_second_signal_gives_up(sqlite_database: SqliteDatabase, exports: Path, first_export: bool) -> None:
    """A second signal ends the daemon at once, with the old files and no leftovers."""
    if not first_export:
        where = ("--database-url", sqlite_database.url, "--export-dir", str(exports))
        assert run_autoexport(*where).exit_code == 0
        sqlite_database.execute("UPDATE images SET width = width + 1")
    with held_in_an_export(sqlite_database.url, exports) as (daemon, _):
        daemon.process.send_signal(signal.SIGTERM)
        daemon.wait_for("stop.asked")
        assert daemon.stop() == 128 + signal.SIGTERM
        assert generation(exports) == (0 if first_export else 1)
        assert leftovers(exports) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
@in_wal_mode
def test_a_stop_at_rest_is_clean(sqlite_database: SqliteDatabase, exports: Path, number: int) -> None:
    """A stopped daemon exits with 0, and still exports a change of the last moment."""
    with Daemon(sqlite_database.url, exports, interval_s=0.2) as daemon:
        daemon.wait_for("export.published")
        daemon.wait_until_idle()
        sqlite_database.execute(RENAME, "at the last moment")
        daemon.wait_for_report(lambda report: report.oldest_change_at, "the change is seen")
        assert daemon.stop(number) == 0
        assert "at the last moment" in project_names(exports)
        assert leftovers(exports) == []
        assert status(exports)[1]["running"] is False


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1], ids=["SIGHUP", "SIGUSR1"])
@in_delete_mode
def test_export_now(sqlite_database: SqliteDatabase, exports: Path, number: int) -> None:
    """Without a terminal, these signals cause an export, whether or not a change was noticed."""
    with Daemon(sqlite_database.url, exports, interval_s=3600) as daemon:
        daemon.wait_until_idle()
        unchanged = len(daemon.events("export.unchanged"))
        daemon.process.send_signal(number)
        daemon.wait_for("export.unchanged", unchanged + 1)


# The first terminal that the leader of a session opens becomes its controlling terminal (tty_ioctl(4)).
_ON_A_TERMINAL = "import os, sys; os.open(sys.argv[1], os.O_RDWR); os.execv(sys.argv[2], sys.argv[2:])"


@in_delete_mode
def test_closing_the_terminal_ends_it(sqlite_database: SqliteDatabase, exports: Path) -> None:
    """A daemon that was started on a terminal stops in good order when the terminal is closed."""
    terminal, name = pty_of_a_test()
    prefix = (sys.executable, "-c", _ON_A_TERMINAL, name)
    with Daemon(sqlite_database.url, exports, interval_s=3600, prefix=prefix) as daemon:
        daemon.wait_until_idle()
        os.close(terminal)
        assert daemon.process.wait(deadline_s(LIMIT_S)) == 0
        assert daemon.events("export.asked") == []
        assert leftovers(exports) == []


@in_delete_mode
def test_closing_the_terminal_twice_is_no_hurry(sqlite_database: SqliteDatabase, exports: Path) -> None:
    """Shell and kernel each send SIGHUP: the export in hand may finish all the same."""
    terminal, name = pty_of_a_test()
    prefix = (sys.executable, "-c", _ON_A_TERMINAL, name)
    with held_in_an_export(sqlite_database.url, exports, prefix) as (daemon, go):
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_for("stop.asked")
        daemon.process.send_signal(signal.SIGHUP)
        go.touch()
        assert daemon.process.wait(deadline_s(LIMIT_S)) == 0
        assert generation(exports) == 1
    os.close(terminal)


def pty_of_a_test() -> tuple[int, str]:
    """A new terminal: the descriptor that closes it, and its name."""
    terminal, other = os.openpty()
    name = os.ttyname(other)
    os.close(other)
    return terminal, name


@in_delete_mode
def test_nohup_keeps_it(sqlite_database: SqliteDatabase, exports: Path) -> None:
    """A SIGHUP that was ignored at the start neither ends the daemon nor causes an export."""
    with Daemon(sqlite_database.url, exports, interval_s=3600, prefix=("nohup",)) as daemon:
        daemon.wait_until_idle()
        daemon.process.send_signal(signal.SIGHUP)
        daemon.process.send_signal(signal.SIGUSR1)  # is handled after a SIGHUP that came before it
        (asked,) = daemon.wait_for("export.asked")
        assert asked["signal"] == "SIGUSR1"
        assert daemon.stop() == 0


def test_what_trying_again_cannot_help_ends_it(tmp_path: Path, exports: Path) -> None:
    """A database without a known table ends the daemon with exit code 2 and a hint, and makes no directory."""
    path = tmp_path / "strange.sqlite3"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE strange (a)")
    with Daemon(str(path), exports) as daemon:
        assert daemon.process.wait(deadline_s(30)) == 2
        assert "hint: " in daemon.log.read_text()
        assert not exports.exists()


@in_delete_mode
def test_production_logs_json_and_monitors_only_when_asked(sqlite_database: SqliteDatabase, exports: Path) -> None:
    """`--monitor` is an explicit request, and one log line says that it wins over the environment."""
    with Daemon(sqlite_database.url, exports, env={"DB_EXPORT_ENVIRONMENT": "production"}) as daemon:
        daemon.wait_for("export.published")
        (event,) = daemon.events("settings.overruled")
        assert "--monitor wins over DB_EXPORT_ENVIRONMENT=production" in event["detail"]
        assert daemon.stop() == 0


# --- systemd -----------------------------------------------------------------------------------------


def received(receiving: socket.socket) -> list[str]:
    """The datagrams that have arrived since the last call."""
    found = []
    while True:
        try:
            found.append(receiving.recv(4096).decode())
        except BlockingIOError:
            return found


@in_delete_mode
def test_systemd_sees_it_live(sqlite_database: SqliteDatabase, exports: Path, tmp_path: Path) -> None:
    """systemd is sent READY, the status, the watchdog and STOPPING.

    A daemon that hangs does not answer.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiving:
        receiving.bind(str(tmp_path / "notify"))
        receiving.setblocking(False)
        env = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1000000"}
        heard: list[str] = []

        def hears(text: str) -> bool:
            heard.extend(received(receiving))
            return any(message.startswith(text) for message in heard)

        with Daemon(sqlite_database.url, exports, interval_s=0.2, env=env) as daemon:
            for text in ("READY=1", "STATUS=exporting", "STATUS=watching; generation 1", "WATCHDOG=1"):
                wait_until(lambda text=text: hears(text), text)  # type: ignore[misc]
            heard.clear()
            wait_until(lambda: hears("WATCHDOG=1"), "the watchdog is fed while nothing happens")
            daemon.process.send_signal(signal.SIGSTOP)
            wait_until(lambda: psutil.Process(daemon.process.pid).status() == psutil.STATUS_STOPPED, "it hangs")
            code, told = status(exports)
            assert (code, told["running"], told["answering"]) == (1, True, False)
            daemon.process.send_signal(signal.SIGCONT)
            assert daemon.stop() == 0
            assert hears("STOPPING=1")


@in_delete_mode
def test_switched_off_it_is_ready_and_ends(sqlite_database: SqliteDatabase, exports: Path, tmp_path: Path) -> None:
    """A service that is switched off starts, ends and has not failed."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiving:
        receiving.bind(str(tmp_path / "notify"))
        receiving.setblocking(False)
        env = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "DB_EXPORT_ENABLE_AUTO_EXPORT": "false"}
        with Daemon(sqlite_database.url, exports, env=env) as daemon:
            assert daemon.process.wait(deadline_s(30)) == 0
        assert received(receiving) == ["READY=1", "STOPPING=1"]
        assert not exports.exists()
