"""Runs an exporter inside an asyncio program."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from autoexport.config.settings import Settings
from autoexport.daemon.one_time import run_recorded
from autoexport.daemon.supervisor import Exporter
from autoexport.errors import AutoexportError, ConfigurationError
from autoexport.publishing.manifest import Manifest
from autoexport.runtime.logs import get_logger

log = get_logger()


async def run_exporter(
    settings: Settings | None = None, *, stop: asyncio.Event | None = None, monitor: bool | None = None
) -> None:
    """Export, then keep the files current until `stop` is set or the task is cancelled.

    `settings` None stands for those of the environment, `monitor` None for the setting; without monitoring it
    exports once. After `stop`, a running export may finish within `DRAIN_S` seconds. Raises `ConfigurationError`,
    which no retry can mend, and without monitoring any `AutoexportError`.
    """
    exporter = _exporter(settings)
    await exporter.run(stop if stop is not None else asyncio.Event(), monitor=monitor)


async def export_once(settings: Settings | None = None, *, full: bool = False) -> Manifest:
    """Export once, as the command line does; returns the manifest of the published files.

    `settings` None stands for those of the environment. `full` uses nothing of earlier exports. It waits for a
    running export of another process. Cancelling it leaves the old files. Raises `AutoexportError`.
    """
    chosen = _with_warnings(settings)
    if not chosen.enable_auto_export:
        raise ConfigurationError("Exporting is switched off.", hint="Set DB_EXPORT_ENABLE_AUTO_EXPORT to true.")
    return (await run_recorded(chosen, full=full)).manifest


@contextlib.asynccontextmanager
async def exporting(settings: Settings | None = None, *, monitor: bool | None = None) -> AsyncIterator[Exporter]:
    """Keep the files current in the background of an application, until the block is left.

    On exit a running export may finish, as in `run_exporter`. An error that ends the background task early is
    logged, and `export_now` raises it; with monitoring only a `ConfigurationError` ends it.
    """
    exporter = _exporter(settings)
    stop = asyncio.Event()
    task = asyncio.create_task(exporter.run(stop, monitor=monitor), name="autoexport")
    task.add_done_callback(_log_early_end)
    try:
        yield exporter
    finally:
        stop.set()
        try:
            await asyncio.wait({task})
        finally:
            task.cancel()  # does nothing, unless the wait was cancelled


def _exporter(settings: Settings | None) -> Exporter:
    return Exporter(_with_warnings(settings))


def _with_warnings(settings: Settings | None) -> Settings:
    chosen = settings if settings is not None else Settings()
    for warning in chosen.warnings:
        log.warning("settings.unknown", detail=warning)
    return chosen


def _log_early_end(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        hint = error.hint if isinstance(error, AutoexportError) else ""
        log.error("exporter.ended", error=str(error), hint=hint)
