"""Several processes on one export directory: one exports, the others wait and take over."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import psutil
import pytest

from autoexport.publishing.locks import PUBLISH_LOCK, Lock
from autoexport.publishing.workspace import directories
from tests.conftest import program_environment
from tests.daemon import Daemon, generation, leftovers, project_names, wait_until
from tests.databases import SqliteDatabase
from tests.deadlines import deadline_s
from tests.postgres import free_port
from tests.processes import started

RENAME = "UPDATE projects SET name = ? WHERE id = 1"

# The journal mode makes no difference here.
in_wal_mode = pytest.mark.parametrize("sqlite_database", ["wal"], indirect=True, ids=["sqlite"])

APPLICATION = """
import os
from contextlib import asynccontextmanager
from fastapi import FastAPI
from autoexport import Settings, exporting

@asynccontextmanager
async def lifespan(app):
    async with exporting(Settings(check_interval=0.3)) as exporter:
        app.state.exporter = exporter
        yield

app = FastAPI(lifespan=lifespan)

@app.get("/export")
async def export():
    manifest = await app.state.exporter.export_now()
    return {"pid": os.getpid(), "generation": manifest.generation}

@app.get("/state")
async def state():
    return {"pid": os.getpid(), "state": app.state.exporter.health.report.state}
"""


@in_wal_mode
def test_another_daemon_takes_over_when_the_leader_is_killed(
    sqlite_database: SqliteDatabase, tmp_path: Path
) -> None:
    """Of two daemons one exports. Once it is killed, the other takes over long before the next check."""
    exports = tmp_path / "exports"
    with Daemon(sqlite_database.url, exports, interval_s=3600) as leader:
        leader.wait_for("export.published")
        with Daemon(sqlite_database.url, exports, interval_s=3600) as other:
            (waits,) = other.wait_for("leader.waiting")
            assert waits["behind"].startswith(f"process {leader.process.pid}, since ")
            sqlite_database.execute(RENAME, "while both ran")
            wait_until(lambda: "while both ran" in project_names(exports), "the change is published")
            assert not other.events("snapshot.opened")
            report = leader.report
            assert report is not None
            assert report.pid == leader.process.pid
            leader.process.kill()
            leader.process.wait()
            other.wait_for("leader.taken")
            sqlite_database.execute(RENAME, "after the takeover")
            wait_until(lambda: "after the takeover" in project_names(exports), "the change is published")
            other.wait_for_report(lambda report: report.pid == other.process.pid, "the other one answers now")
            assert other.stop() == 0
    assert leftovers(exports) == []


@in_wal_mode
def test_a_one_time_export_beside_a_daemon(sqlite_database: SqliteDatabase, tmp_path: Path) -> None:
    """It does not wait for the daemon to end, and does not disturb the daemon."""
    exports = tmp_path / "exports"
    with Daemon(sqlite_database.url, exports, "--disable-hooks", interval_s=3600) as daemon:
        daemon.wait_until_idle()
        sqlite_database.execute(RENAME, "exported by hand")
        command = [sys.executable, "-m", "autoexport", "--database-url", sqlite_database.url]
        subprocess.run(
            [*command, "--export-dir", str(exports)], check=True, timeout=deadline_s(60),
            env=program_environment(), capture_output=True, cwd=tmp_path,
        )  # fmt: skip
        assert "exported by hand" in project_names(exports)
        assert not daemon.export_now()
        assert generation(exports) == 2
        assert daemon.events("cycle.failed") == []


@in_wal_mode
def test_who_waits_says_for_whom(sqlite_database: SqliteDatabase, tmp_path: Path) -> None:
    """A one-time export behind another one names its process and since when, and goes on once that has ended."""
    exports = tmp_path / "exports"
    with directories(exports, exports / ".autoexport"):
        lock = Lock(exports / ".autoexport", PUBLISH_LOCK)
        assert lock.try_take()
    command = [
        sys.executable,
        "-m",
        "autoexport",
        "--database-url",
        sqlite_database.url,
        "--export-dir",
        "exports",
    ]
    told = tmp_path / "stderr"
    with (
        told.open("wb") as log,
        started(command, cwd=tmp_path, env=program_environment(), stdout=log, stderr=log) as process,
    ):
        wait_until(lambda: f"process {os.getpid()}, since {lock.holder().since}" in told.read_text(), "it says so")  # type: ignore[union-attr]
        assert process.poll() is None
        lock.release()
        assert process.wait(deadline_s(30)) == 0
    assert told.read_text().count(f"process {os.getpid()}") == 1


@in_wal_mode
def test_of_three_web_workers_one_exports(sqlite_database: SqliteDatabase, tmp_path: Path) -> None:
    """Under `uvicorn --workers 3` one worker leads, and any of them can be asked to export.

    When the leader's process dies, another one leads.
    """
    (tmp_path / "application.py").write_text(APPLICATION)
    port, exports = free_port(), tmp_path / "exports"
    env = program_environment(
        {"DB_EXPORT_DATABASE_URL": sqlite_database.url, "DB_EXPORT_EXPORT_DIRECTORY": str(exports)}
    )
    env["PYTHONPATH"] += f":{tmp_path}"
    command = [
        sys.executable, "-m", "uvicorn", "application:app", "--port", str(port), "--workers", "3",
        "--log-level", "warning", "--timeout-worker-healthcheck", str(round(deadline_s(5))),
    ]  # fmt: skip

    def ask(path: str) -> dict[str, object]:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=deadline_s(30)) as answer:
            found: dict[str, object] = json.load(answer)
            return found

    states: dict[object, object] = {}

    def know(count: int) -> bool:
        """Ask until so many workers have answered: each connection reaches one of them."""
        try:
            told = ask("state")
        except OSError:
            return False
        states[told["pid"]] = told["state"]
        return len(states) >= count and "starting" not in states.values()

    with (
        (tmp_path / "uvicorn.log").open("wb") as log,
        started(command, cwd=tmp_path, env=env, stdout=log, stderr=log, start_new_session=True) as server,
    ):
        wait_until(lambda: know(3), "three workers answer")
        wait_until(lambda: generation(exports) == 1, "the first export")
        assert sorted(states.values()).count("standing by") == 2, states  # type: ignore[type-var]
        sqlite_database.execute(RENAME, "asked for")
        asked = ask("export")
        assert asked["generation"] == generation(exports)
        assert "asked for" in project_names(exports)
        (leader,) = [pid for pid, state in states.items() if state != "standing by"]
        psutil.Process(int(str(leader))).kill()
        sqlite_database.execute(RENAME, "under another leader")
        wait_until(lambda: "under another leader" in project_names(exports), "another worker exports")
        server.send_signal(signal.SIGTERM)
        server.wait(deadline_s(30))
    assert leftovers(exports) == []
