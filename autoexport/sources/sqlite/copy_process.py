"""Starts the copying process, sends it a request, reads its answers and ends it."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from autoexport.runtime.interpreter import bare_command
from autoexport.runtime.logs import get_logger
from autoexport.sources.sqlite.copy_worker import COPIED, LOG_COPIED
from autoexport.sources.sqlite.page_scan import PageScan

START_S = 10.0
"""How long the process may take to start, and how long to end."""

_STILL_S = 10.0
"""How long it may make no progress while its parent holds a lock for it."""

_POLL_S = 0.05
_PROGRAM = Path(__file__).with_name("copy_worker.py")

log = get_logger()


class Worker:
    """The copying process. Requests and answers are lines."""

    def __init__(self, process: subprocess.Popen[bytes], given_up: threading.Event) -> None:
        assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018 - they are pipes
        self._requests, self._answers = process.stdin, process.stdout
        self._given_up = given_up
        self._unfinished = b""  # the beginning of a line
        # `select` would refuse descriptors from 1,024 on, and an application may have many files open.
        self._readable = select.poll()
        self._readable.register(self._answers, select.POLLIN)

    def copy(self, request: bytes, scan: PageScan, limit_s: float) -> str:
        """Send a request, scan the pages of the copy as they come, and return the answer; empty if it ended.

        Raises `TimeoutError` if it makes no progress for `_STILL_S` seconds, or has not answered after `limit_s`
        seconds, and as `PageScan.advance`.
        """
        try:
            self._requests.write(request)
        except BrokenPipeError:
            return ""
        copied_bytes, last_line_at = 0, time.monotonic()
        deadline = last_line_at + limit_s
        while time.monotonic() < min(last_line_at + _STILL_S, deadline):
            scanned_some = scan.advance(copied_bytes)
            for line in self._lines(0.0 if scanned_some else _POLL_S):
                last_line_at = time.monotonic()
                if line.startswith(COPIED):
                    copied_bytes = int(line.removeprefix(COPIED))
                elif not line.startswith(LOG_COPIED):
                    return line
        raise TimeoutError

    def answer(self, limit_s: float) -> str:
        """The next line; empty if none comes within `limit_s` seconds."""
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            for line in self._lines(_POLL_S):
                return line
        return ""

    def _lines(self, limit_s: float) -> list[str]:
        """The lines that came within `limit_s` seconds; one empty line if the process has ended.

        Raises `sqlite3.OperationalError` if the copy was given up.
        """
        if self._given_up.is_set():
            raise sqlite3.OperationalError("database is locked")
        if not self._readable.poll(1000 * limit_s):
            return []
        more = self._answers.read(4096)
        if not more:
            return [""]
        *lines, self._unfinished = (self._unfinished + more).split(b"\n")
        return [line.decode("utf-8", "replace") for line in lines]


@contextlib.contextmanager
def started(
    path: Path, status: os.stat_result, targets: Sequence[int], given_up: threading.Event
) -> Iterator[Worker | None]:
    """Start the copying process, and end it on exit. None if no process can be started.

    It copies the file with `status` into the descriptors `targets`: the database and its log.
    """
    numbers = map(str, (status.st_dev, status.st_ino, *targets))
    try:
        process = subprocess.Popen(  # noqa: S603 - our own program; its arguments are a path and numbers
            bare_command(str(_PROGRAM), os.path.realpath(path), *numbers),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=targets,
            bufsize=0,
            process_group=0,  # Ctrl-C ends the parent alone, which then ends the process.
        )
    except OSError as error:
        log.debug("copy.not_started", error=str(error))
        yield None
        return
    try:
        yield Worker(process, given_up)
    finally:
        # It has answered, or the copy was given up.
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(START_S)
