"""Locks an export directory: one lock for the leader, one for each publish."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from autoexport.errors import LockedError
from autoexport.runtime.files import explain_os_error
from autoexport.runtime.logs import get_logger
from autoexport.runtime.waits import tell_wait, waiting

LOCK_WAIT_S = 60.0
"""Seconds that a publish waits for another exporter."""

PUBLISH_LOCK = "publish.lock"
LEADER_LOCK = "leader.lock"
TOLD_AFTER_S = 1.0
"""A shorter wait for another exporter is not worth a line in the log."""

_RETRY_S = 0.1
log = get_logger()


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that holds a lock, and since when: ISO 8601, UTC."""

    pid: int
    since: str

    def __str__(self) -> str:
        return f"process {self.pid}, since {self.since}"


class Lock:
    """A kernel lock on a file of the state directory. The kernel releases it when the process ends.

    The file holds a note of its holder, for those who wait.
    """

    def __init__(self, state: Path, name: str) -> None:
        self.path = state / name
        self._descriptor: int | None = None

    def try_take(self) -> bool:
        """Take the lock and return True if it is free. Raises `PublishError` if the file cannot be opened."""
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            descriptor = os.open(self.path, flags, 0o600)
        except OSError as error:
            raise explain_os_error(error, self.path) from error
        try:
            # flock, not fcntl, because it belongs to the descriptor. Two exporters in one process exclude each
            # other, and closing another descriptor of the file does not release the lock.
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if error.errno in (errno.EAGAIN, errno.EACCES):
                return False
            raise explain_os_error(error, self.path) from error
        self._descriptor = descriptor
        note = f"{os.getpid()} {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())}\n"
        with contextlib.suppress(OSError):  # The lock holds without the note, on a full disk for example.
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, note.encode(), 0)
        return True

    def holder(self) -> Holder | None:
        """The process that took the lock last; None if it left no note."""
        try:
            pid, since = self.path.read_text(encoding="ascii").split()
            return Holder(int(pid), since)
        except (OSError, ValueError):
            return None

    def stands(self) -> bool:
        """Whether this process holds the lock, and others would try to take the same file."""
        if self._descriptor is None:
            return False
        try:
            return os.path.samestat(os.fstat(self._descriptor), os.stat(self.path, follow_symlinks=False))
        except OSError:
            return False

    def is_held(self) -> bool:
        """Whether a process holds the lock now; creates nothing. Raises `OSError` if the file cannot be opened."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def release(self) -> None:
        """Release the lock, even if a forked process still has the file open."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            os.close(self._descriptor)
            self._descriptor = None


@contextlib.asynccontextmanager
async def publishing(state: Path, wait_s: float) -> AsyncIterator[None]:
    """Hold the publish lock; waits at most `wait_s` seconds for another exporter, then raises `LockedError`."""
    lock = Lock(state, PUBLISH_LOCK)
    with waiting():
        await _take(lock, wait_s)
    try:
        yield
    finally:
        lock.release()


async def _take(lock: Lock, wait_s: float) -> None:
    clock = asyncio.get_running_loop().time
    began, told = clock(), False
    while not lock.try_take() or not lock.stands():
        # A lock that does not stand is on a file that its previous holder removed.
        lock.release()
        waited_s = clock() - began
        if waited_s >= wait_s:
            holder = lock.holder()
            raise LockedError(
                f"Another exporter still writes this export after {wait_s:g} s{f': {holder}' if holder else ''}.",
                hint="Wait for it to finish. `status` shows what a running daemon does.",
            )
        if waited_s >= TOLD_AFTER_S and not told:
            told = True
            behind = str(lock.holder() or "another exporter")
            tell_wait(f"another exporter in this directory: {behind}")
            log.warning("export.waiting", behind=behind)
        await asyncio.sleep(_RETRY_S)
    if told:
        tell_wait(None)
