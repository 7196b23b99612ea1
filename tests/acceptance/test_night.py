"""An operator's night: each trouble is told once at warning or above, and so is its end; `status` is right."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import run_autoexport
from tests.daemon import Daemon, project_names, wait_until
from tests.databases import SqliteDatabase
from tests.postgres import PostgresServer
from tests.small_disk import small_disk

RENAME = "UPDATE projects SET name = ? WHERE id = 1"
DISK_BYTES = 48 << 20

in_delete_mode = pytest.mark.parametrize("sqlite_database", ["delete"], indirect=True, ids=["sqlite"])


def status(directory: Path) -> tuple[int, dict[str, Any]]:
    """The exit code of the command, and its answer."""
    done = run_autoexport("status", "--json", "--export-dir", str(directory), "--log-level", "warning")
    assert done.stdout, done.stderr
    return done.exit_code, json.loads(done.stdout)


class Journal:
    """The log of a daemon as `journalctl -p warning` shows it."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._read = 0

    def new(self) -> list[str]:
        """The names of the events at warning or above since the last call."""
        lines = [json.loads(line) for line in self._daemon.log.read_text().splitlines() if line.startswith("{")]
        found = [line["event"] for line in lines if line["level"] in ("warning", "error", "critical")]
        new, self._read = found[self._read :], len(found)
        return new


def fails(daemon: Daemon, exports: Path, says: str) -> None:
    """Wait until it has failed and tried again at least once more, and check what `status` says."""
    daemon.wait_for_report(lambda report: report.failures >= 2, "it has tried again")
    code, told = status(exports)
    assert (code, told["failing"], told["running"], told["answering"]) == (1, True, True, True)
    assert says in str(told["last_error"])
    assert told["hint"]
    assert told["next_try"]


def is_well(daemon: Daemon, exports: Path, name: str) -> None:
    """Wait until the change is published and the daemon has nothing to do, and check what `status` says."""
    wait_until(lambda: name in project_names(exports), f"{name} is published")
    daemon.wait_for_report(lambda report: report.error is None and report.state == "watching", "it is well")
    code, told = status(exports)
    assert (code, told["healthy"], told["last_error"], told["failures"]) == (0, True, None, 0)
    assert told["pid"] == daemon.process.pid


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root on Linux may mount a tmpfs")
    with small_disk(tmp_path / "disk", DISK_BYTES) as place:
        yield place


@in_delete_mode
def test_the_disk_is_full(sqlite_database: SqliteDatabase, disk: Path) -> None:
    """Told once, however often it is tried again and whatever number of bytes is missing."""
    exports, ballast = disk / "exports", disk / "ballast"
    with Daemon(sqlite_database.url, exports, interval_s=0.2) as daemon:
        journal = Journal(daemon)
        daemon.wait_until_idle()
        with ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(disk).free - (1 << 20))
        sqlite_database.execute(RENAME, "while the disk was full")
        fails(daemon, exports, "No room")
        assert journal.new() == ["cycle.failed"]
        with ballast.open("r+b") as file:  # Still too little room: another number of bytes is free.
            file.truncate(ballast.stat().st_size - (2 << 20))
        failures = daemon.report.failures if daemon.report else 0
        daemon.wait_for_report(lambda report: report.failures > failures, "it has tried again")
        assert journal.new() == []
        ballast.unlink()
        is_well(daemon, exports, "while the disk was full")
        assert journal.new() == ["cycle.recovered"]
        assert daemon.stop() == 0


@in_delete_mode
def test_the_database_is_gone(sqlite_database: SqliteDatabase, tmp_path: Path) -> None:
    """Told once; it is exported as soon as it is back."""
    exports, away = tmp_path / "exports", sqlite_database.path.with_name("away")
    with Daemon(sqlite_database.url, exports, interval_s=0.2) as daemon:
        journal = Journal(daemon)
        daemon.wait_until_idle()
        for turn in range(2):
            sqlite_database.execute(RENAME, f"turn {turn}")
            sqlite_database.close()
            sqlite_database.path.rename(away)
            fails(daemon, exports, "There is no database file")
            assert journal.new() == ["cycle.failed"]
            away.rename(sqlite_database.path)
            is_well(daemon, exports, f"turn {turn}")
            assert journal.new() == ["cycle.recovered"]


def test_postgresql_is_restarted(own_postgres_server: PostgresServer, tmp_path: Path) -> None:
    """A server that closes connections, refuses them and then starts up is one trouble, in plain words."""
    exports = tmp_path / "exports"
    with own_postgres_server.database() as url, Daemon(url, exports, interval_s=0.2) as daemon:
        journal = Journal(daemon)
        name = url.rpartition("/")[2]
        daemon.wait_until_idle()
        for mode in ("fast", "immediate"):
            own_postgres_server.stop(mode)
            fails(daemon, exports, name)
            assert journal.new() == ["cycle.failed"]
            own_postgres_server.start()
            own_postgres_server.admin("INSERT INTO projects (id, name) VALUES (?, ?)", hash(mode) % 1000, mode,
                                      database=name)  # fmt: skip
            is_well(daemon, exports, mode)
            assert journal.new() == ["cycle.recovered"]
        assert "cannot switch" not in daemon.log.read_text()


@in_delete_mode
def test_the_daemon_is_restarted(sqlite_database: SqliteDatabase, tmp_path: Path) -> None:
    """Stopped, `status` says so; a reboot's daemon has nothing to warn about and publishes what it missed."""
    exports = tmp_path / "exports"
    with Daemon(sqlite_database.url, exports, interval_s=0.2) as daemon:
        daemon.wait_until_idle()
        assert daemon.stop() == 0
        assert Journal(daemon).new() == []
    sqlite_database.execute(RENAME, "while it was down")
    assert status(exports)[1]["running"] is False
    with Daemon(sqlite_database.url, exports, interval_s=0.2) as daemon:
        is_well(daemon, exports, "while it was down")
        daemon.process.send_signal(signal.SIGKILL)
        daemon.process.wait()
    assert status(exports)[1]["running"] is False
    sqlite_database.execute(RENAME, "after a power cut")
    with Daemon(sqlite_database.url, exports, interval_s=0.2) as daemon:
        is_well(daemon, exports, "after a power cut")
        assert Journal(daemon).new() == []


@in_delete_mode
def test_two_at_once(sqlite_database: SqliteDatabase, tmp_path: Path) -> None:
    """The second one says behind whom it stands, once, and once that it took over."""
    exports = tmp_path / "exports"
    with Daemon(sqlite_database.url, exports, interval_s=0.2) as first:
        first.wait_until_idle()
        with Daemon(sqlite_database.url, exports, interval_s=0.2) as second:
            journal = Journal(second)
            (waits,) = second.wait_for("leader.waiting")
            assert f"process {first.process.pid}, since " in waits["behind"]
            sqlite_database.execute(RENAME, "by the first")
            is_well(first, exports, "by the first")
            assert first.stop() == 0
            second.wait_for("leader.taken")
            sqlite_database.execute(RENAME, "by the second")
            is_well(second, exports, "by the second")
            assert journal.new() == ["leader.waiting", "leader.taken"]
        assert Journal(first).new() == []
