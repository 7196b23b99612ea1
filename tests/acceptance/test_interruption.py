"""A signal ends a one-time export within a second: one line, the old files whole, nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bench.generate import write_postgres, write_sqlite
from tests.conftest import program_environment, run_autoexport
from tests.daemon import PUBLISHED, leftovers, wait_until
from tests.deadlines import deadline_s
from tests.postgres import PostgresServer
from tests.processes import started

IMAGES, ANNOTATIONS_PER_IMAGE = 12_000, 5
WITHIN_S = 1.0
"""Seconds on the reference machine between the signal and the end of the process."""


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database whose full export takes longer than a process takes to react."""
    if request.param == "sqlite":
        path = tmp_path / "larger.sqlite3"
        write_sqlite(path, IMAGES, ANNOTATIONS_PER_IMAGE, seed=1, indexes=False, journal="delete")
        yield str(path)
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    with server.database("template0") as found:
        write_postgres(found, IMAGES, ANNOTATIONS_PER_IMAGE, seed=1, indexes=False)
        yield found


def contents(exports: Path) -> dict[str, bytes]:
    """The published files."""
    return {name: (exports / name).read_bytes() for name in PUBLISHED if (exports / name).exists()}


@pytest.mark.parametrize(
    ("number", "step"),
    [
        (signal.SIGINT, "snapshot.opened"),
        (signal.SIGINT, "plan.made"),
        (signal.SIGTERM, "plan.made"),
        (signal.SIGHUP, "plan.made"),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_a_signal_ends_an_export_in_one_line(url: str, tmp_path: Path, number: signal.Signals, step: str) -> None:
    """A statement of the database is interrupted, and so is the rendering."""
    exports, where = tmp_path / "exports", ("--database-url", url, "--export-dir", "exports")
    before: dict[str, bytes] = {}
    if step != "snapshot.opened":
        assert run_autoexport(*where, cwd=tmp_path).exit_code == 0
        before = contents(exports)
    told = tmp_path / "stderr"
    command = [sys.executable, "-m", "autoexport", *where, "--full"]
    command += ["--log-format", "json", "--log-level", "debug"]
    with (
        told.open("wb") as log,
        started(
            command, cwd=tmp_path, env=program_environment(), stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=log, start_new_session=True,
        ) as process,
    ):  # fmt: skip
        wait_until(lambda: step in told.read_text(), f"it is at {step}", every_s=0.002)
        sent_at = time.monotonic()
        os.killpg(process.pid, number)
        assert process.wait(deadline_s(30)) == 128 + number
        assert time.monotonic() - sent_at < deadline_s(WITHIN_S)
    lines = [line for line in told.read_text().splitlines() if not line.startswith("{")]
    assert lines == ["interrupted: the published files are complete and unchanged"]
    levels = {json.loads(line)["level"] for line in told.read_text().splitlines() if line.startswith("{")}
    assert levels <= {"debug", "info"}
    assert contents(exports) == before
    assert leftovers(exports) == []


def test_a_signal_that_is_ignored_at_the_start_stays_ignored(url: str, tmp_path: Path) -> None:
    """As for a command that a shell starts in the background, or under nohup."""
    where = ("--database-url", url, "--export-dir", "exports", "--log-format", "json", "--log-level", "debug")
    ignoring = 'trap \'\' INT HUP; exec "$0" -m autoexport "$@"'
    told = tmp_path / "stderr"
    with (
        told.open("wb") as log,
        started(
            ["/bin/sh", "-c", ignoring, sys.executable, *where], cwd=tmp_path, env=program_environment(),
            stdout=subprocess.DEVNULL, stderr=log, start_new_session=True,
        ) as process,
    ):  # fmt: skip
        wait_until(lambda: "plan.made" in told.read_text(), "it exports", every_s=0.002)
        for number in (signal.SIGINT, signal.SIGHUP):
            os.killpg(process.pid, number)
        assert process.wait(deadline_s(60)) == 0
