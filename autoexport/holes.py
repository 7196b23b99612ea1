"""A working file gives its room back while it is still being copied from."""

from __future__ import annotations

import ctypes
import queue
import threading
from types import TracebackType

from autoexport.pace import PAGE_BYTES

STEP_BYTES = 8 << 20
"""So much is given back at a time; smaller ranges wait until their file is closed."""

# <linux/falloc.h>; fallocate(2)
_KEEP_SIZE = 1
_PUNCH_HOLE = 2
_libc = ctypes.CDLL(None)
_fallocate = getattr(_libc, "fallocate64", None) or getattr(_libc, "fallocate", None)
if _fallocate is not None:
    _fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


def punch_hole(descriptor: int, start: int, end: int) -> bool:
    """Give the whole pages of this range back to the disk: they read as zeros then. Whether it could be done."""
    first, last = -(-start // PAGE_BYTES) * PAGE_BYTES, end // PAGE_BYTES * PAGE_BYTES
    if _fallocate is None or first >= last:
        return False
    return bool(_fallocate(descriptor, _PUNCH_HOLE | _KEEP_SIZE, first, last - first) == 0)


class GivingBack:
    """Takes ranges of a file that nobody reads any more and gives them back in a thread, which is gone afterwards.

    Nothing depends on it: where the file system cannot do it, the room is free when the file is closed. That
    takes about as long as to copy the file (measured with 700 MB on ext4: 0.4 s), for which an export waited.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._start = self._end = 0
        self._ranges: queue.SimpleQueue[tuple[int, int] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._give_back, name="autoexport: giving back the spool")

    def __enter__(self) -> GivingBack:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ranges.put(None)
        self._thread.join()

    def add(self, start: int, length: int) -> None:
        """So many bytes from there on are not needed any more."""
        if start != self._end:
            self._start = start
        self._end = start + length
        if self._end - self._start >= STEP_BYTES:
            self._ranges.put((self._start, self._end))
            self._start = self._end

    def _give_back(self) -> None:
        while (found := self._ranges.get()) is not None:
            if not punch_hole(self._descriptor, *found):
                return
