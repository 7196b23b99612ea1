"""The processes that tests start: none outlives its test, and none outlives the test run, however either ends.

The kernel hands every orphan to the test process, which finds it among its children after the test. If the test
process itself is killed, its guard is left: `python tests/processes.py PID MARK`. The guard kills every process
with this mark in its environment, which all children inherit.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import psutil

MARKS = "AUTOEXPORT_TEST_PROCESSES"
"""The environment variable with the marks of all test processes above, separated by spaces."""

GRACE_S = 2.0
"""Seconds in which a process may end by itself: PostgreSQL then leaves no shared memory behind."""

GIVE_UP_S = 120.0

_PR_SET_CHILD_SUBREAPER = 36  # <linux/prctl.h>

kept: set[int] = set()
"""The process ids of the servers that several tests share."""

_guards: set[int] = set()


# --- while the tests run -------------------------------------------------------------------------


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Mark all processes that this one starts from here on. A guard kills them once this one is gone."""
    before, mark = os.environ.get(MARKS, ""), uuid.uuid4().hex
    _adopt_orphans()
    guard = subprocess.Popen(
        [sys.executable, "-I", __file__, str(os.getpid()), mark], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, cwd="/", start_new_session=True,
    )  # fmt: skip
    assert guard.stdin is not None
    _guards.add(guard.pid)
    os.environ[MARKS] = f"{before} {mark}".strip()
    try:
        yield
    finally:
        os.environ[MARKS] = before
        guard.stdin.close()
        guard.wait()
        _guards.discard(guard.pid)


@contextlib.contextmanager
def started(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """A process with the options of `Popen`, killed at the end with its process group if it has one of its own."""
    with subprocess.Popen(command, **options) as process:
        try:
            yield process
        finally:
            if options.get("start_new_session"):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            process.kill()


def end_left_behind(grace_s: float) -> list[str]:
    """Kill the processes that this one or its descendants left running; a line for each.

    A process has `grace_s` seconds to end by itself. Those in `kept` go on.
    """
    _, alive = psutil.wait_procs(_children(), timeout=grace_s)
    found = [f"{process.pid}: {_command(process)}" for process in alive]
    _kill(alive)
    return found


def _adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends; on Linux alone."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _children() -> list[psutil.Process]:
    """The running children but for those in `kept`. Reaps the others, which may be adopted."""
    alive = []
    for child in psutil.Process().children():
        if child.pid in kept or child.pid in _guards:
            continue
        with contextlib.suppress(psutil.NoSuchProcess):
            if child.status() != psutil.STATUS_ZOMBIE:
                alive.append(child)
                continue
        with contextlib.suppress(ChildProcessError):
            os.waitpid(child.pid, os.WNOHANG)
    return alive


def _command(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())
    return "?"


def _kill(processes: list[psutil.Process]) -> None:
    """Kill these and all their descendants."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            for one in [process, *process.children(recursive=True)]:
                with contextlib.suppress(psutil.Error):
                    one.kill()
    psutil.wait_procs(processes, timeout=GRACE_S)


# --- the guard -----------------------------------------------------------------------------------


def _marked(mark: str) -> list[psutil.Process]:
    """The processes with this mark. Those of other users without our rights are not to be read."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if mark in process.environ().get(MARKS, "").split():
                found.append(process)
    return found


def main() -> None:
    """Wait for the end of the test process, then kill the processes with its mark until none is left."""
    parent, mark = int(sys.argv[1]), sys.argv[2]
    # Its end of this pipe is not enough: a child that was forked meanwhile may hold it too.
    while os.getppid() == parent and not select.select([sys.stdin], [], [], 0.5)[0]:
        pass
    began = time.monotonic()
    while (found := _marked(mark)) and (waited_s := time.monotonic() - began) < GIVE_UP_S:
        if waited_s > GRACE_S:
            _kill(found)
        time.sleep(0.1)


if __name__ == "__main__":
    main()
