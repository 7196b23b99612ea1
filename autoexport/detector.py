"""Waits for "something may have changed" and puts it on the queue."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import cast

from autoexport.errors import PublishError
from autoexport.formats import FILE_NAMES
from autoexport.health import PENDING_S, Health
from autoexport.ledger import FileIdentity
from autoexport.manifest import MANIFEST_NAME
from autoexport.workspace import Lock

TICK_S = 5.0
HUNG_S = 60.0
"""So long after its time a check that has not come back is no longer taken for waiting."""


class Surroundings:
    """What may be taken from under the exporter: the published files, and the lock that makes it the leader."""

    def __init__(self, directory: Path, lock: Lock) -> None:
        self._paths = [directory / name for name in (*FILE_NAMES, MANIFEST_NAME)]
        self._lock = lock
        self._seen: list[tuple[int, int, int] | None] | None = None
        self._changing = False

    def begin_to_change(self) -> None:
        """From here on the files may change by our own doing."""
        self._changing = True

    def end_to_change(self, left: Mapping[str, FileIdentity] | None = None) -> None:
        """As the files are now, they are as we left them; blocking. `left` tells how we did leave them."""
        self._seen = [_stat(path) for path in self._paths]
        for place, path in enumerate(self._paths):
            if left is not None and (known := left.get(path.name)) is not None:
                self._seen[place] = known.inode, known.size, known.mtime_ns
        self._changing = False

    def disturbed(self) -> bool:
        """Whether somebody else changed a published file since the last call; blocking.

        Raises `PublishError` if the state directory was removed: another process may lead by now.
        """
        if not self._lock.stands():
            raise PublishError(
                f"The directory {self._lock.path.parent} was removed or replaced.",
                hint="It is made again; leave it in place while the exporter runs.",
            )
        if self._changing:
            return False
        found = [_stat(path) for path in self._paths]
        disturbed = self._seen is not None and found != self._seen
        self._seen = found
        return disturbed


def _stat(path: Path) -> tuple[int, int, int] | None:
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


async def detect(
    looks: AsyncIterator[bool],
    queue: asyncio.Queue[None],
    surroundings: Surroundings,
    health: Health,
    interval_s: float,
) -> None:
    """Put a look on the queue whenever the database or the published files may have changed, for ever.

    A look says nothing but "look": one that is still on the queue serves for all that come after it.
    """
    async with aclosing(cast(AsyncGenerator[bool], looks)):
        while True:
            changed = await _next(looks, health, interval_s)
            changed |= await asyncio.to_thread(surroundings.disturbed)
            health.checked(changed=changed)
            pending = queue.full()
            if changed and not pending:
                queue.put_nowait(None)
            if pending:
                await asyncio.sleep(PENDING_S - interval_s)


async def _next(looks: AsyncIterator[bool], health: Health, interval_s: float) -> bool:
    """The next check's answer. Waiting for its time is progress, waiting for longer is not."""
    check = asyncio.ensure_future(anext(looks))
    try:
        for _ in range(int((interval_s + HUNG_S) / TICK_S) + 1):
            done, _pending = await asyncio.wait({check}, timeout=TICK_S)
            if done:
                break
            health.waited()
        return await check
    finally:
        if not check.done():
            check.cancel()
            await asyncio.wait({check})
