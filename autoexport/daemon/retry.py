"""After a failure: what went wrong, how long to wait, and what ends the wait sooner."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable

from autoexport.config.settings import Settings
from autoexport.errors import AutoexportError, ConfigurationError, EmptyDatabase, MappingError, SourceError
from autoexport.runtime.wake import pause
from autoexport.sources import opened_source

FIRST_RETRY_S, LONGEST_RETRY_S = 1.0, 60.0
_LOOK_S = 1.0
_TICK_S = 1.0


def retry_delay_s(failures: int) -> float:
    """How long to wait after so many failures in a row: doubling, with jitter so that many do not retry as one."""
    doubled = FIRST_RETRY_S * 2.0 ** min(failures, 10)
    return min(LONGEST_RETRY_S, max(FIRST_RETRY_S, doubled * random.uniform(0.75, 1.25)))  # noqa: S311 - no secret


def cause_of(error: BaseException) -> BaseException:
    """What went wrong, out of the group that a TaskGroup makes of it: what cannot be retried first."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    causes = [cause_of(inner) for inner in error.exceptions]
    for kind in (ConfigurationError, AutoexportError):
        if (found := next((cause for cause in causes if isinstance(cause, kind)), None)) is not None:
            return found
    return causes[0]


def mends_itself(cause: ConfigurationError, *, published: bool, written: bool) -> bool:
    """Whether what seems to be a mistake of the operator is a state that the application is going to leave.

    Before a publish, a database without any table is an application that has not started yet; after one, a mapping
    that does not work is a migration that is under way, unless the operator has `written` it since it worked.
    """
    if isinstance(cause, EmptyDatabase):
        return True
    return isinstance(cause, MappingError) and published and not written


async def wait_to_retry(
    settings: Settings,
    cause: BaseException,
    delay_s: float,
    *,
    export_soon: asyncio.Event,
    wake: asyncio.Event,
    tick: Callable[[], None],
) -> None:
    """Until the time has come, somebody asks (`hurry`), or a database that could not be read moves.

    `tick` is called every second meanwhile; `wake` has the database looked at sooner.
    """
    deadline = time.monotonic() + delay_s
    moved = None
    if isinstance(cause, SourceError):
        moved = asyncio.create_task(_database_moves(settings, wake), name="waiting for the database")
    try:
        while (left_s := deadline - time.monotonic()) > 0:
            tick()
            if await pause(export_soon, min(left_s, _TICK_S)):
                export_soon.set()  # The rest after a costly export, which comes next, is to be cut short as well.
                break
            if moved and moved.done():
                break
    finally:
        if moved is not None:
            moved.cancel()
            await asyncio.wait({moved})


async def _database_moves(settings: Settings, wake: asyncio.Event) -> None:
    with contextlib.suppress(AutoexportError):
        async with opened_source(settings) as source:
            checks = source.checks(min(_LOOK_S, settings.check_interval), hooks=False, wake=wake)
            await anext(checks)  # the first answer is always yes
            async for changed in checks:
                if changed:
                    return
    await asyncio.Event().wait()  # it cannot even be asked: the time decides alone
