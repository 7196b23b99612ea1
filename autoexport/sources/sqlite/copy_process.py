"""The copying process as its parent sees it: started, asked, listened to, ended."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from autoexport.runtime.logs import get_logger
from autoexport.runtime.threads import is_interpreter
from autoexport.sources.sqlite.copy_worker import AT, LOG_AT
from autoexport.sources.sqlite.page_scan import PageScan

START_S = 10.0
"""How long the process may take to start, or to end."""

_STILL_S = 10.0
"""How long it may stand still while somebody holds a lock for it."""

_LOOK_S = 0.05
_PROGRAM = Path(__file__).with_name("copy_worker.py")

log = get_logger()


class Worker:
    """The copying process, asked by lines and answering in lines."""

    def __init__(self, process: subprocess.Popen[bytes], given_up: threading.Event) -> None:
        assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018 - they are pipes
        self._to, self._from = process.stdin, process.stdout
        self._given_up = given_up
        self._rest = b""
        # Not `select`, which refuses descriptors from 1,024 on: an application may have many files open.
        self._arrivals = select.poll()
        self._arrivals.register(self._from, select.POLLIN)

    def copy(self, request: bytes, scan: PageScan, limit_s: float) -> str:
        """Have it copy, and scan the pages of the copy meanwhile; its answer, empty if it ended.

        Raises TimeoutError if it stands still, or has not answered after `limit_s` seconds.
        """
        try:
            self._to.write(request)
        except BrokenPipeError:
            return ""
        copied, heard = 0, time.monotonic()
        deadline = heard + limit_s
        while time.monotonic() < min(heard + _STILL_S, deadline):
            more = scan.advance(copied)
            for line in self._lines(0.0 if more else _LOOK_S):
                heard = time.monotonic()
                if line.startswith(AT):
                    copied = int(line.removeprefix(AT))
                elif not line.startswith(LOG_AT):
                    return line
        raise TimeoutError

    def answer(self, limit_s: float) -> str:
        """Its next line; empty if there is none in time."""
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            for line in self._lines(_LOOK_S):
                return line
        return ""

    def _lines(self, limit_s: float) -> list[str]:
        """The lines that have come, without their ends; an empty one when it has ended."""
        if self._given_up.is_set():
            raise sqlite3.OperationalError("database is locked")
        if not self._arrivals.poll(1000 * limit_s):
            return []
        more = self._from.read(4096)
        if not more:
            return [""]
        *lines, self._rest = (self._rest + more).split(b"\n")
        return [line.decode("utf-8", "replace") for line in lines]


@contextlib.contextmanager
def started(
    path: Path, status: os.stat_result, targets: Sequence[int], given_up: threading.Event
) -> Iterator[Worker | None]:
    """The copying process; None where none can be started."""
    if not is_interpreter():
        yield None
        return
    numbers = map(str, (status.st_dev, status.st_ino, *targets))
    command = [sys.executable, "-I", "-S", str(_PROGRAM), os.path.realpath(path), *numbers]
    try:
        process = subprocess.Popen(  # noqa: S603 - our own program, a path and numbers as its arguments
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=targets,
            bufsize=0,
            process_group=0,  # Ctrl-C is for us.
        )
    except OSError as error:
        log.debug("copy.not_started", error=str(error))
        yield None
        return
    try:
        yield Worker(process, given_up)
    finally:
        # It has answered, or nothing depends on it any more.
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(START_S)
