"""Locks an export directory: one lock for the leader, one for each publish."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
from collections.abc import AsyncIterator
from pathlib import Path

from autoexport.errors import LockedError
from autoexport.runtime.files import explain_os_error

LOCK_WAIT_S = 60.0
"""Seconds that a publish waits for another exporter."""

PUBLISH_LOCK = "publish.lock"
LEADER_LOCK = "leader.lock"
_RETRY_S = 0.1


class Lock:
    """A kernel lock on a file of the state directory. The kernel releases it when the process ends."""

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
        return True

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
    clock = asyncio.get_running_loop().time
    deadline = clock() + wait_s
    while not lock.try_take() or not lock.stands():
        # A lock that does not stand is on a file that its previous holder removed.
        lock.release()
        if clock() >= deadline:
            raise LockedError(
                f"Another exporter has been writing this export for {wait_s:g} seconds.",
                hint="Wait for it to finish. `status` shows what a running daemon does.",
            )
        await asyncio.sleep(_RETRY_S)
    try:
        yield
    finally:
        lock.release()
