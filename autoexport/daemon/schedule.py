"""Decides when the next export begins: after a burst of commits, and after the cooldown of a costly export."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from autoexport.errors import LockedError, SourceError
from autoexport.runtime.wake import pause

QUIET_S = 0.5
LONGEST_BURST_S = 2.0
COOLDOWN_PER_WORK = 4.0
"""Seconds of cooldown for each second of work: exports then use at most a fifth of a core."""

COOLDOWN_PER_WORK_IF_BUSY = 9.0
"""The same if the last cooldown delayed a change: exports then use at most a tenth of a core."""

_TICK_S = 5.0


class ExportSchedule:
    """Delays the next export until a burst of commits and the cooldown of a costly export are over.

    A few of the commits that meet an export take longer than usual. The cooldowns keep them below one in a hundred
    of all commits. `export_soon` ends both delays: the owner of the exporter has asked for an export.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.export_soon = asyncio.Event()
        self._clock = clock
        self._not_before: float | None = None
        self._busy = False

    async def settle(self, queue: asyncio.Queue[None]) -> None:
        """Wait until no request came for `QUIET_S`, at most `LONGEST_BURST_S` seconds."""
        deadline = self._clock() + LONGEST_BURST_S
        while not self.export_soon.is_set() and (left_s := deadline - self._clock()) > 0:
            try:
                async with asyncio.timeout(min(QUIET_S, left_s)):
                    await queue.get()
            except TimeoutError:
                return

    async def cooldown(self, tick: Callable[[], None]) -> None:
        """Wait until the last export's cooldown is over, calling `tick` every few seconds; clear `export_soon`."""
        self._busy = False
        while self._not_before is not None and (left_s := self._not_before - self._clock()) > 0:
            self._busy = True
            if await pause(self.export_soon, min(left_s, _TICK_S)):
                return
            tick()
        self.export_soon.clear()

    def exported(self, work_s: float) -> None:
        """Begin the cooldown of an export that kept a core busy for `work_s` seconds."""
        cooldown_per_work = COOLDOWN_PER_WORK_IF_BUSY if self._busy else COOLDOWN_PER_WORK
        self._not_before = self._clock() + cooldown_per_work * work_s


async def export_forever(
    queue: asyncio.Queue[None],
    export: Callable[[], Awaitable[float | None]],
    schedule: ExportSchedule,
    tick: Callable[[], None] = lambda: None,
) -> None:
    """Export after each request on the queue, for ever. Raises as `export`.

    `export` returns the processor time that it used in other processes, in seconds. An export also covers all
    requests that came before it began: it reads the database after them.
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
            raise  # It only waited, for another exporter or for the database: that needs no cooldown.
        except BaseException:
            schedule.exported(time.monotonic() - began)
            raise
        schedule.exported(time.monotonic() - began + (worker_cpu_s or 0.0))
