"""Runs an exporter inside an asyncio program."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from autoexport.config.settings import Settings
from autoexport.daemon.supervisor import Exporter
from autoexport.errors import AutoexportError
from autoexport.runtime.logs import get_logger

log = get_logger()


async def run_exporter(
    settings: Settings | None = None, *, stop: asyncio.Event | None = None, monitor: bool | None = None
) -> None:
    """Export, then keep the files current until `stop` is set or the task is cancelled.

    `settings` None: those of the environment. `monitor` None: as the settings say; without monitoring it
    is one export. After `stop`, an export in hand may finish, within `DRAIN_S` seconds. Raises
    `ConfigurationError`, for which trying again cannot help, and without monitoring any `AutoexportError`.
    """
    exporter = _exporter(settings)
    await exporter.run(stop if stop is not None else asyncio.Event(), monitor=monitor)


@contextlib.asynccontextmanager
async def exporting(settings: Settings | None = None, *, monitor: bool | None = None) -> AsyncIterator[Exporter]:
    """Keep the files current in the background of an application, for as long as it is in here.

    On exit an export in hand finishes, as in `run_exporter`. What ends the background task early (only
    a `ConfigurationError` does, with monitoring) is logged, and raised by `export_now`.
    """
    exporter = _exporter(settings)
    stop = asyncio.Event()
    task = asyncio.create_task(exporter.run(stop, monitor=monitor), name="autoexport")
    task.add_done_callback(_tell_of_the_end)
    try:
        yield exporter
    finally:
        stop.set()
        try:
            await asyncio.wait({task})
        finally:
            task.cancel()  # nothing, unless this was cancelled in its turn


def _exporter(settings: Settings | None) -> Exporter:
    exporter = Exporter(settings if settings is not None else Settings())
    for warning in exporter.settings.warnings:
        log.warning("settings.unknown", detail=warning)
    return exporter


def _tell_of_the_end(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        hint = error.hint if isinstance(error, AutoexportError) else ""
        log.error("exporter.ended", error=str(error), hint=hint)
