"""Tells without a snapshot whether anything was committed to a SQLite file since the last snapshot.

The time stamps of a file can hide a commit: two may have the same one, and a commit to the log becomes visible
some time after its bytes were written. The marks of the file cannot.

Another process reads them (`mark_worker`), never this one. A descriptor that is closed here would drop the POSIX
locks of an application in the same process (https://www.sqlite.org/howtocorrupt.html, section 2.2).
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from autoexport.runtime.interpreter import bare_command, is_interpreter

_PROGRAM = Path(__file__).with_name("mark_worker.py")
_LIMIT_S = 10.0


def read_marks(path: Path) -> bytes | None:
    """The marks of a SQLite file: they differ after each commit. None if they cannot be read; blocking.

    Starting the process takes about 12 ms of a core.
    """
    if not is_interpreter():
        return None
    command = bare_command(str(_PROGRAM), os.path.realpath(path))
    try:
        done = subprocess.run(  # noqa: S603 - our own program; its argument is a path
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_LIMIT_S,
            check=False,
            process_group=0,  # Ctrl-C ends the parent alone.
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 and done.stdout else None


class CommitMarks:
    """Remembers the marks from before the last snapshot, and compares."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._before: bytes | None = None
        self.used = False
        """Whether they will be compared: a single export does without."""

    def remember(self) -> None:
        """Remember the marks from before a snapshot, which has every commit that they show; blocking."""
        self.forget()
        if self.used:
            self._before = read_marks(self._path)

    def forget(self) -> None:
        """Take nothing for granted: the snapshot was not read to its end."""
        self._before = None

    def unchanged(self) -> bool:
        """Whether certainly nothing was committed since the last snapshot began; blocking."""
        return self._before is not None and read_marks(self._path) == self._before
