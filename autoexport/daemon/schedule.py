"""Decides when the next export begins: after a burst of commits, and when the budget has room for it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from autoexport.daemon.budget import Budget
from autoexport.errors import LockedError, SourceError
from autoexport.runtime.logs import get_logger
from autoexport.runtime.waits import counting_waits
from autoexport.runtime.wake import pause

QUIET_S = 0.5
LONGEST_BURST_S = 2.0

PACED = "exports have used their share of the machine"
SETTLING = "more changes may follow at once"

_TICK_S = 5.0
_WORTH_TELLING_S = 1.0
log = get_logger()


class Observer(Protocol):
    """Is told why the next export has not begun. `Health` is one."""

    def export_waits(self, reason: str, due_in_s: float) -> None:
        """The next export begins in `due_in_s` seconds, for this reason."""
        ...


class Unobserved:
    """Observes nothing."""

    def export_waits(self, reason: str, due_in_s: float) -> None:
        """Do nothing."""


@dataclass(frozen=True, slots=True)
class Work:
    """An export that succeeded: the processor time of its other processes in seconds, and whether it was full.

    `in_process`: no server worked for it.
    """

    worker_cpu_s: float = 0.0
    full: bool = False
    in_process: bool = False


class ExportSchedule:
    """Delays the next export until a burst of commits is over and the budget has room.

    `export_soon` ends both delays: the owner of the exporter has asked for an export.
    """

    def __init__(
        self, budget: Budget, observer: Observer | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.export_soon = asyncio.Event()
        self.budget = budget
        self._observer = observer or Unobserved()
        self._clock = clock

    async def settle(self, queue: asyncio.Queue[None]) -> None:
        """Wait until no request came for `QUIET_S`, at most `LONGEST_BURST_S` seconds."""
        deadline = self._clock() + LONGEST_BURST_S
        self._observer.export_waits(SETTLING, QUIET_S)
        while not self.export_soon.is_set() and (left_s := deadline - self._clock()) > 0:
            try:
                async with asyncio.timeout(min(QUIET_S, left_s)):
                    await queue.get()
            except TimeoutError:
                return

    async def wait_for_budget(self) -> None:
        """Wait until the budget has room, telling the observer every few seconds; clear `export_soon`."""
        told = False
        while (left_s := self.budget.delay_s()) > 0:
            self._observer.export_waits(PACED, left_s)
            if left_s > _WORTH_TELLING_S and not told:
                told = True
                log.info("export.paced", due_in_s=round(left_s, 1), reason=PACED)
            if await pause(self.export_soon, min(left_s, _TICK_S)):
                return
        self.export_soon.clear()


async def export_forever(
    queue: asyncio.Queue[None], export: Callable[[], Awaitable[Work]], schedule: ExportSchedule
) -> None:
    """Export after each request on the queue, for ever. Raises as `export`.

    An export also covers all requests that came before it began: it reads the database after them.

    Its work is its duration, without the time in which it waits for others. If no server worked for it, that is
    more than it used on a machine with much else to do. Then its work is the processor time of this process, which
    may include that of a host program, and the time in which files are written slowly.
    """
    while True:
        await queue.get()
        await schedule.settle(queue)
        await schedule.wait_for_budget()
        while not queue.empty():
            queue.get_nowait()
        began, cpu_began_s = time.monotonic(), _cpu_s()
        with counting_waits() as waits:
            try:
                work = await export()
            except (LockedError, SourceError):
                raise  # It only waited, for another exporter or for the database.
            except BaseException:
                schedule.budget.fail(time.monotonic() - began - waits.seconds)
                raise
        work_s = max(0.0, time.monotonic() - began - waits.seconds) + work.worker_cpu_s
        if work.in_process:
            work_s = min(work_s, _cpu_s() - cpu_began_s + waits.sparing_s)
        schedule.budget.spend(work_s, full=work.full)


def _cpu_s() -> float:
    """The processor time of this process and of its children that have ended, in seconds."""
    return sum(os.times()[:4])
