"""A SQLite file is watched without being opened: by `stat`, and by file events that only make it sooner."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from autoexport.runtime.logs import get_logger
from autoexport.runtime.wake import Bell, pause
from autoexport.sources.sqlite.openable import opens_without_traces

YOUNG_S = 2.0
"""Two commits may share a time stamp that is younger than this (FAT keeps times in steps of 2 s)."""

_GROUP_MS = 50
log = get_logger()

Stat = tuple[int, ...]
"""Device, inode, size, and the times of modification and of change in nanoseconds."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """What `stat` says of the file, its `-wal` and its `-journal`.

    Our own reading must not count as a change. Opening a WAL database makes an empty `-wal` where there
    is none, so an empty companion counts as none: it holds nothing. And for root, SQLite sets the owner
    of the `-wal` whenever it opens it, so its time of change says nothing.

    `in_use` tells of the `-shm` where we would wait for the application to make it.
    """

    file: Stat | None
    wal: Stat | None
    journal: Stat | None
    in_use: bool = True

    @property
    def newest_s(self) -> float:
        """The youngest time stamp in seconds since the epoch; 0 without any file."""
        times = [max(part[3:]) for part in (self.file, self.wal, self.journal) if part is not None]
        return max(times, default=0) / 1e9


def take_stamp(path: Path) -> Stamp:
    """Look at the files without opening them; blocking. SQLite keeps the companions beside the real file."""
    real = os.path.realpath(path)
    file, wal, journal = _stat(real), _stat(f"{real}-wal"), _stat(f"{real}-journal")
    return Stamp(
        file,
        wal[:4] if wal is not None and wal[2] else None,
        journal if journal is not None and journal[2] else None,
        in_use=opens_without_traces(path) if file is not None else True,
    )


def _stat(path: str) -> Stat | None:
    try:
        found = os.stat(path)
    except OSError:  # what is wrong with it is told by whoever tries to read it
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


async def watch_file(
    path: Path,
    interval_s: float,
    *,
    hooks: bool,
    wake: asyncio.Event,
    clock: Callable[[], float] = time.time,
) -> AsyncIterator[bool]:
    """Check the file at least every `interval_s` seconds and yield whether it may have changed.

    The first check says yes. A `stat` can lie while it is young, so after a change that is younger than
    `YOUNG_S` there is one more yes when it no longer is, as git has it for racily clean files.
    """
    events = FileEvents(path, Bell(wake, asyncio.get_running_loop())) if hooks else None
    seen: Stamp | None = None
    again_at: float | None = None
    try:
        while True:
            if events is not None:
                await asyncio.to_thread(events.follow)
            stamp = await asyncio.to_thread(take_stamp, path)
            now = clock()
            changed = stamp != seen
            if changed:
                young = now - stamp.newest_s < YOUNG_S
                again_at = min(stamp.newest_s, now) + YOUNG_S if young else None
            elif again_at is not None and now >= again_at:
                changed, again_at = True, None
            seen = stamp
            yield changed
            wait_s = interval_s if again_at is None else min(interval_s, max(0.0, again_at - clock()))
            await pause(wake, wait_s)
    finally:
        if events is not None:
            await asyncio.to_thread(events.close)


class FileEvents:
    """Rings a bell when the file or a companion changes; a thread listens to the directory.

    Only their own names ring, so neither `-shm` nor an export directory in the same place can; and a
    ring only makes for a `stat`, so reading the file ourselves cannot start a circle.
    """

    def __init__(self, path: Path, bell: Bell) -> None:
        self._path = path
        self._bell = bell
        self._place: tuple[str, int, int] | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def follow(self) -> None:
        """Listen to the directory that the file is in now, if that is another than before; blocking."""
        real = os.path.realpath(self._path)
        directory = os.path.dirname(real)
        try:
            found = os.stat(directory)
        except OSError:
            self._place = None
            self.close()
            return
        place = (real, found.st_dev, found.st_ino)
        if place == self._place:
            return
        self.close()
        self._place, self._stop = place, threading.Event()
        self._thread = threading.Thread(
            target=_listen, args=(real, self._stop, self._bell), name="autoexport file events", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop listening; blocking, for about a twentieth of a second."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None


def _listen(real: str, stop: threading.Event, bell: Bell) -> None:
    """Until `stop`; where there are no file events (network file systems, limits), polling goes on alone."""
    # The class under `watchfiles.watch`, which does not tell when it has begun to listen, reads
    # environment variables, and goes over to polling of its own. It is private: a release of watchfiles may
    # move it (ImportError) or give it other parameters (TypeError), as 0.20 did.
    try:
        from watchfiles._rust_notify import RustNotify, WatchfilesRustInternalError
    except ImportError as exc:
        _tell_of_polling(exc)
        return
    names = {real, f"{real}-wal", f"{real}-journal"}
    try:
        with RustNotify([os.path.dirname(real)], False, False, 0, False, True) as watcher:
            bell.ring()  # for what happened before
            while isinstance(found := watcher.watch(_GROUP_MS, _GROUP_MS, 0, stop), set):
                if any(path in names for _, path in found):
                    bell.ring()
    except (OSError, TypeError, WatchfilesRustInternalError) as exc:
        _tell_of_polling(exc)


def _tell_of_polling(reason: Exception) -> None:
    log.info("hooks.unavailable", reason=str(reason), hint="changes are found by polling")
