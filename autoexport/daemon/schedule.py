"""The exporter's side of the queue: takes a look off it, waits for the right moment, exports, for ever."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from autoexport.errors import LockedError, SourceError
from autoexport.runtime.wake import pause

QUIET_S = 0.5
LONGEST_BURST_S = 2.0
COOLDOWN_PER_WORK = 4.0
COOLDOWN_PER_WORK_IF_BUSY = 9.0
_TICK_S = 5.0


class ExportSchedule:
    """When the next export may begin: after a burst of commits, and not too soon after a costly export.

    So a busy database costs at most a fifth of a core, and one that changes before every rest is over a tenth: a
    few of the commits that meet an export take longer than usual, and they must be less than one in a hundred of
    all. `hurry` ends the waiting: somebody asked.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.export_soon = asyncio.Event()
        self._clock = clock
        self._not_before: float | None = None
        self._busy = False

    async def settle(self, queue: asyncio.Queue[None]) -> None:
        """Let a burst pass: until no look came for `QUIET_S`, at most for `LONGEST_BURST_S` seconds."""
        deadline = self._clock() + LONGEST_BURST_S
        while not self.export_soon.is_set() and (left_s := deadline - self._clock()) > 0:
            try:
                async with asyncio.timeout(min(QUIET_S, left_s)):
                    await queue.get()
            except TimeoutError:
                return

    async def cooldown(self, tick: Callable[[], None]) -> None:
        """Wait until enough time has passed since the last export; `tick` is called every few seconds."""
        self._busy = False
        while self._not_before is not None and (left_s := self._not_before - self._clock()) > 0:
            self._busy = True
            if await pause(self.export_soon, min(left_s, _TICK_S)):
                return
            tick()
        self.export_soon.clear()

    def exported(self, work_s: float) -> None:
        """An export ended that kept a core busy for so long."""
        rest_per_work = COOLDOWN_PER_WORK_IF_BUSY if self._busy else COOLDOWN_PER_WORK
        self._not_before = self._clock() + rest_per_work * work_s


async def export_forever(
    queue: asyncio.Queue[None],
    export: Callable[[], Awaitable[float | None]],
    schedule: ExportSchedule,
    tick: Callable[[], None] = lambda: None,
) -> None:
    """Export after each look on the queue; what `export` raises ends it. What it returns is how many seconds
    of another core it used.

    The looks that came until an export begins are served by it: it reads the database after them.
    """
    while True:
        await queue.get()
        await schedule.settle(queue)
        await schedule.cooldown(tick)
        while not queue.empty():
            queue.get_nowait()
        began = time.monotonic()
        try:
            worker_cpu_s = await export()
        except (LockedError, SourceError):
            raise  # It waited, for another exporter or for the database: that costs nobody anything.
        except BaseException:
            schedule.exported(time.monotonic() - began)
            raise
        schedule.exported(time.monotonic() - began + (worker_cpu_s or 0.0))
