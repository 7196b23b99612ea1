"""Decides after a failure whether and when to try again."""

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
_CHECK_S = 1.0
_TICK_S = 1.0


def retry_delay_s(failures: int) -> float:
    """Seconds to wait after so many failures in a row: doubling, with jitter to spread many exporters."""
    doubled = FIRST_RETRY_S * 2.0 ** min(failures, 10)
    return min(LONGEST_RETRY_S, max(FIRST_RETRY_S, doubled * random.uniform(0.75, 1.25)))  # noqa: S311 - no secret


def cause_of(error: BaseException) -> BaseException:
    """The error to report; out of the exception group of a TaskGroup, preferably one that no retry can mend."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    causes = [cause_of(inner) for inner in error.exceptions]
    for kind in (ConfigurationError, AutoexportError):
        if (found := next((cause for cause in causes if isinstance(cause, kind)), None)) is not None:
            return found
    return causes[0]


def mends_itself(cause: ConfigurationError, *, published: bool, written: bool) -> bool:
    """Whether the application will end a state that looks like a mistake of the operator.

    A database without any table belongs to an application that has not started yet. After a publish, a failing
    mapping means that a migration is under way, unless the operator has `written` one that has not worked yet.
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
    """Wait `delay_s` seconds, until `export_soon` is set, or until a database that could not be read changes.

    Calls `tick` every second; `wake` makes the database be checked at once.
    """
    deadline = time.monotonic() + delay_s
    changed = None
    if isinstance(cause, SourceError):
        changed = asyncio.create_task(_database_changed(settings, wake), name="waiting for the database")
    try:
        while (left_s := deadline - time.monotonic()) > 0:
            tick()
            if await pause(export_soon, min(left_s, _TICK_S)):
                export_soon.set()  # It shall also end the cooldown, which comes next.
                break
            if changed and changed.done():
                break
    finally:
        if changed is not None:
            changed.cancel()
            await asyncio.wait({changed})


async def _database_changed(settings: Settings, wake: asyncio.Event) -> None:
    with contextlib.suppress(AutoexportError):
        async with opened_source(settings) as source:
            checks = source.checks(min(_CHECK_S, settings.check_interval), hooks=False, wake=wake)
            await anext(checks)  # the first answer is always yes
            async for changed in checks:
                if changed:
                    return
    await asyncio.Event().wait()  # the check itself failed: the delay alone decides
