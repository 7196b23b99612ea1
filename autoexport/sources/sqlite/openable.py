"""Checks that opening a SQLite database leaves no files of ours beside it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from autoexport.errors import SourceError
from autoexport.runtime.interpreter import bare_command, is_interpreter

_WAL = 2
_READ_LIMIT_S = 10.0

# A process of its own, because closing a descriptor of the file in this one would drop the locks that an
# application in the same process holds (https://www.sqlite.org/howtocorrupt.html, section 2.2).
# File format, section 1.3.3: the write version at offset 18 is 1 for a rollback journal, 2 for WAL.
_HEADER_BYTES = 19
_PRINT_HEADER = f"""
import sys
with open(sys.argv[1], "rb", buffering=0) as file:
    sys.stdout.buffer.write(file.read({_HEADER_BYTES}))
"""


def opens_without_traces(path: Path) -> bool:
    """Whether opening the file, even in WAL mode, leaves nothing behind that belongs to us alone. Opens no file.

    True if the `-shm` exists already, if we own the database, and for root: SQLite then gives the new files to the
    owner of the database.
    """
    real = os.path.realpath(path)
    try:
        owner = os.stat(real).st_uid
    except OSError:
        return True  # Opening it will fail, with the reason.
    return os.geteuid() in (0, owner) or os.path.exists(f"{real}-shm")


def refuse_to_leave_traces(path: Path) -> None:
    """Raise `SourceError` for a WAL database of another user that no program has open; blocking.

    Opening it, even read-only, would create a `-wal` and a `-shm` that are ours and stay behind. They may lock out
    the application (https://www.sqlite.org/wal.html, section 3, read-only databases).
    """
    if opens_without_traces(path):
        return
    version = _write_version(path)
    if version is None:
        raise SourceError(
            f"The journal mode of {path} could not be read, and opening the file could lock its owner out.",
            hint="Start the application, or run autoexport as the user who owns the file.",
        )
    if version != _WAL:
        return
    raise SourceError(
        f"{path} is in WAL mode and no program has it open; reading it now could lock its owner out.",
        hint="Start the application, or run autoexport as the user who owns the file.",
    )


def _write_version(path: Path) -> int | None:
    """The write version in the header of the file; 0 if it has no header, None if no process could read it."""
    real = os.path.realpath(path)
    command = ["head", "-c", str(_HEADER_BYTES), "--", real]
    if is_interpreter():
        command = bare_command("-c", _PRINT_HEADER, real)
    try:
        done = subprocess.run(  # noqa: S603 - a constant program, a path as its argument
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_READ_LIMIT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout[_HEADER_BYTES - 1] if len(done.stdout) == _HEADER_BYTES else 0
