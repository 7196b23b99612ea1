"""Watches a SQLite file without opening it: by `stat`, which file events only bring forward."""

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
"""Two commits within this time may have the same time stamp (FAT keeps times in steps of 2 s)."""

_GROUP_MS = 50
log = get_logger()

Stat = tuple[int, ...]
"""Device, inode, size, and the times of modification and of change in nanoseconds."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """The results of `stat` for the file, its `-wal` and its `-journal`.

    Our own reading must not count as a change. Opening a WAL database creates an empty `-wal` if there is none, so
    an empty companion counts as none: it holds nothing. For root, SQLite sets the owner of the `-wal` whenever it
    opens it, so the `-wal` has no time of change here.

    `in_use` is False for another user's database without a `-shm`: in WAL mode, a snapshot waits until the
    application creates it.
    """

    file: Stat | None
    wal: Stat | None
    journal: Stat | None
    in_use: bool = True

    @property
    def is_fine(self) -> bool:
        """Whether the file system keeps parts of a second."""
        return any(
            time_ns % 1_000_000_000 for part in (self.file, self.wal) if part is not None for time_ns in part[3:]
        )

    @property
    def newest_s(self) -> float:
        """The latest time stamp, in seconds since the epoch; 0 if there is no file."""
        times = [max(part[3:]) for part in (self.file, self.wal, self.journal) if part is not None]
        return max(times, default=0) / 1e9


def take_stamp(path: Path) -> Stamp:
    """Stat the files; blocking. SQLite keeps the companions beside the real file, not beside a link to it."""
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
        status = os.stat(path)
    except OSError:  # The next snapshot reports the reason.
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


async def watch_file(
    path: Path,
    interval_s: float,
    *,
    hooks: bool,
    wake: asyncio.Event,
    clock: Callable[[], float] = time.time,
    unchanged: Callable[[], bool] = lambda: False,
) -> AsyncIterator[bool]:
    """Check the file at least every `interval_s` seconds and yield whether it may have changed.

    The first check yields True. A time stamp younger than `YOUNG_S` may hide a second change, so the watch yields
    True once more when it is older. Git treats racily clean files alike. But first it asks, in a thread, whether
    the file is certainly `unchanged` since the last snapshot. If the file system keeps whole seconds, it does not
    ask: a transaction that was rolled back may then be taken for a later one.
    """
    events = FileEvents(path, Bell(wake, asyncio.get_running_loop())) if hooks else None
    previous: Stamp | None = None
    repeat_at: float | None = None
    try:
        while True:
            if events is not None:
                await asyncio.to_thread(events.follow)
            stamp = await asyncio.to_thread(take_stamp, path)
            now = clock()
            changed = stamp != previous
            if changed:
                young = now - stamp.newest_s < YOUNG_S
                repeat_at = min(stamp.newest_s, now) + YOUNG_S if young else None
            elif repeat_at is not None and now >= repeat_at:
                repeat_at = None
                changed = not stamp.is_fine or not await asyncio.to_thread(unchanged)
            previous = stamp
            yield changed
            wait_s = interval_s if repeat_at is None else min(interval_s, max(0.0, repeat_at - clock()))
            await pause(wake, wait_s)
    finally:
        if events is not None:
            await asyncio.to_thread(events.close)


class FileEvents:
    """Rings a bell when the file, its `-wal` or its `-journal` changes. A thread listens to the directory.

    No other name rings, neither that of the `-shm` nor one in an export directory in the same folder. A ring only
    causes a `stat`, so our own reading of the file cannot start a circle.
    """

    def __init__(self, path: Path, bell: Bell) -> None:
        self._path = path
        self._bell = bell
        self._followed: tuple[str, int, int] | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def follow(self) -> None:
        """Listen to the directory in which the file is now, if it is not the same as before; blocking."""
        real = os.path.realpath(self._path)
        directory = os.path.dirname(real)
        try:
            status = os.stat(directory)
        except OSError:
            self._followed = None
            self.close()
            return
        followed = (real, status.st_dev, status.st_ino)
        if followed == self._followed:
            return
        self.close()
        self._followed, self._stop = followed, threading.Event()
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
    """Ring for each change until `stop`. Where there are no file events, polling by `stat` goes on alone."""
    # Not `watchfiles.watch`: it does not tell when it has begun to listen, reads environment variables, and may
    # poll by itself. The class below it is private: a release of watchfiles may move it (ImportError) or give it
    # other parameters (TypeError), as 0.20 did.
    try:
        from watchfiles._rust_notify import RustNotify, WatchfilesRustInternalError
    except ImportError as exc:
        _log_unavailable(exc)
        return
    names = {real, f"{real}-wal", f"{real}-journal"}
    try:
        with RustNotify([os.path.dirname(real)], False, False, 0, False, True) as watcher:
            bell.ring()  # for changes before it listened
            while isinstance(events := watcher.watch(_GROUP_MS, _GROUP_MS, 0, stop), set):
                if any(path in names for _, path in events):
                    bell.ring()
    except (OSError, TypeError, WatchfilesRustInternalError) as exc:
        _log_unavailable(exc)


def _log_unavailable(reason: Exception) -> None:
    log.info("hooks.unavailable", reason=str(reason), hint="changes are found by polling")
