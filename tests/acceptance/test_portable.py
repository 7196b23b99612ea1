"""The program without the names and files that only Linux has: macOS lacks them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from autoexport.commands.demo import make_database
from tests.conftest import Finished, program_environment
from tests.daemon import Daemon, generation, wait_until
from tests.databases import SqliteDatabase
from tests.deadlines import deadline_s

WITHOUT_LINUX = """
import builtins, ctypes, fcntl, os, runpy, select, socket, sys

taken = {
    os: "pipe2 posix_fallocate posix_fadvise copy_file_range sendfile splice memfd_create eventfd pidfd_open "
        "sched_getaffinity getrandom O_TMPFILE O_PATH",
    socket: "SOCK_CLOEXEC SOCK_NONBLOCK SO_PEERCRED TCP_KEEPIDLE TCP_USER_TIMEOUT",
    fcntl: "F_SETPIPE_SZ F_GETPIPE_SZ F_SETLEASE F_OFD_SETLK F_OFD_SETLKW F_OFD_GETLK",
    select: "epoll",
}
for module, names in taken.items():
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)

class Library(ctypes.CDLL):
    def __getattr__(self, name):
        if name in ("sync_file_range", "mallopt", "malloc_trim", "prctl"):
            raise AttributeError(name)
        return super().__getattr__(name)

ctypes.CDLL = Library

def in_proc(path):
    return isinstance(path, str) and path.startswith("/proc")

exists, opened = os.path.exists, open
os.path.exists = lambda path: not in_proc(path) and exists(path)

def open_elsewhere(path, *arguments, **options):
    if in_proc(path):
        raise FileNotFoundError(2, "No such file or directory", path)
    return opened(path, *arguments, **options)

builtins.open = open_elsewhere

from autoexport.rendering import renderer
from autoexport.sources.sqlite import private_copy
renderer.PROCESS_FROM_ROWS = private_copy.PROCESS_FROM_BYTES = 1  # also start the processes
runpy.run_module("autoexport", run_name="__main__", alter_sys=True)
"""


def run(*arguments: str, folder: Path) -> Finished:
    """The program to its end, without what Linux alone has."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_LINUX, *arguments], cwd=folder, env=program_environment(),
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=deadline_s(60), check=False,
    )  # fmt: skip
    return Finished(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize(
    "commands",
    [
        [["app.db"], ["app.db"], ["verify", "app.db"], ["check", "app.db"], ["status"]],
        [["app.db", "--full", "--log-level", "debug"]],
    ],
    ids=["commands", "process"],
)
def test_commands(commands: Sequence[Sequence[str]], tmp_path: Path) -> None:
    """Exports, full and incremental, `verify`, `check` and `status`; blocks are rendered by a process."""
    make_database(tmp_path / "app.db")
    for command in commands:
        done = run(*command, folder=tmp_path)
        assert done.exit_code == 0, done.stderr
        assert "in this process" not in done.stderr, "both processes work"
    assert json.loads((tmp_path / "database_exports" / "manifest.json").read_bytes())["counts"]["images"] == 46


def test_a_daemon_without_linux(sqlite_database: SqliteDatabase, tmp_path: Path) -> None:
    """It publishes, answers on its socket, follows a change and stops."""
    exports = tmp_path / "exports"
    with Daemon(sqlite_database.url, exports, program=("-c", WITHOUT_LINUX)) as daemon:
        daemon.wait_until_idle()
        sqlite_database.execute("UPDATE projects SET name = 'renamed'")
        wait_until(lambda: generation(exports) == 2, "the change is published")
        status = run("status", "--json", "--export-dir", str(exports), folder=tmp_path)
        assert (status.exit_code, json.loads(status.stdout)["answering"]) == (0, True)
        assert daemon.stop() == 0
