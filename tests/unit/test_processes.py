"""No process of a test outlives it, and none outlives a test run that is killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.conftest import REPOSITORY, program_environment
from tests.daemon import wait_until
from tests.processes import started

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux hands orphans to the test process")

# A test that leaves two processes, each in a session of its own: a daemon, and an orphan, whose parent has ended.
_LEAVES = """
import subprocess, sys, time
from pathlib import Path
from tests.applications import create_sqlite
from tests.daemon import Daemon

_ORPHAN = '''
import subprocess
print(subprocess.Popen(["sleep", "1000000"], start_new_session=True, stdout=subprocess.DEVNULL).pid)
'''

def test_leaves(tmp_path):
    create_sqlite(tmp_path / "app.db").close()
    daemon = Daemon(f"sqlite:///{tmp_path / 'app.db'}", tmp_path / "exports")
    daemon.wait_for("export.published")
    orphan = subprocess.check_output([sys.executable, "-c", _ORPHAN], text=True)
    told = Path(TOLD)
    told.with_name("half").write_text(f"{daemon.process.pid} {orphan}")
    told.with_name("half").replace(told)
    if STAYS:
        time.sleep(1e6)
"""


def run_command(directory: Path, *, stays: bool) -> tuple[list[str], Path]:
    """A test run of that test with our fixtures, and the file in which it tells the ids of the processes."""
    told = directory / "told"
    test = directory / "test_leaves.py"
    test.write_text(_LEAVES.replace("TOLD", repr(str(told))).replace("STAYS", repr(stays)))
    options = ["-c", "/dev/null", "--rootdir", str(directory), "-p", "tests.conftest", "-p", "no:cacheprovider"]
    return [sys.executable, "-m", "pytest", *options, str(test)], told


def left(told: Path) -> list[psutil.Process]:
    """The processes that were left and still run."""
    found = []
    for pid in told.read_text().split():
        if psutil.pid_exists(int(pid)):
            process = psutil.Process(int(pid))
            if process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def test_a_test_that_leaves_processes_fails(tmp_path: Path) -> None:
    """They are named and killed."""
    command, told = run_command(tmp_path, stays=False)
    done = subprocess.run(
        command, cwd=tmp_path, env=program_environment({"PYTHONPATH": str(REPOSITORY)}), capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert "1 passed, 1 error" in done.stdout, done.stdout + done.stderr
    assert "left processes running" in done.stdout
    for pid in told.read_text().split():
        assert f"{pid}: " in done.stdout
    assert left(told) == []


def test_a_test_run_that_is_killed_leaves_no_process(tmp_path: Path) -> None:
    """SIGKILL lets no teardown run."""
    command, told = run_command(tmp_path, stays=True)
    env = program_environment({"PYTHONPATH": str(REPOSITORY)})
    with started(command, cwd=tmp_path, env=env, stdout=subprocess.DEVNULL) as run:
        wait_until(lambda: told.exists() or run.poll() is not None, "both processes run")
        assert len(left(told)) == 2
    wait_until(lambda: left(told) == [], "the guard has killed both")
