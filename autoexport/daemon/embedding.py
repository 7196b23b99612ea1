"""Runs an exporter inside an asyncio program."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from autoexport.config.settings import Settings
from autoexport.daemon.after_publish import Callback, publication_of
from autoexport.daemon.events import Event, Events, Listener
from autoexport.daemon.one_time import run_recorded
from autoexport.daemon.operations import result_of
from autoexport.daemon.supervisor import Exporter
from autoexport.errors import AutoexportError, ConfigurationError
from autoexport.publishing.manifest import Manifest
from autoexport.runtime.logs import get_logger

log = get_logger()


async def run_exporter(
    settings: Settings | None = None,
    *,
    stop: asyncio.Event | None = None,
    monitor: bool | None = None,
    on_publish: Callback | None = None,
    on_event: Listener | None = None,
) -> None:
    """Export, then keep the files current until `stop` is set or the task is cancelled.

    `settings` None stands for those of the environment, `monitor` None for the setting; without monitoring it
    exports once. After `stop`, a running export may finish within `DRAIN_S` seconds. Raises `ConfigurationError`,
    which no retry can mend, and without monitoring any `AutoexportError`.

    `on_publish` is called with a `Publication` after each publish by this exporter. It may be a coroutine
    function. Any other function runs in a thread. The next export waits until it has returned, or until the
    setting `on_publish_timeout` is over. `on_event` is called in the event loop with each `Event`, and has to
    return at once. An error of either is logged, and `status` shows that of `on_publish`. No export fails by it.
    """
    exporter = _exporter(settings, on_publish, on_event)
    await exporter.run(stop if stop is not None else asyncio.Event(), monitor=monitor)


async def export_once(
    settings: Settings | None = None,
    *,
    full: bool = False,
    on_publish: Callback | None = None,
    on_event: Listener | None = None,
) -> Manifest:
    """Export once, as the command line does; returns the manifest of the published files.

    `settings` None stands for those of the environment. `full` uses nothing of earlier exports. It waits for a
    running export of another process. Cancelling it leaves the old files. `on_publish` and `on_event` are those of
    `run_exporter`; it returns after `on_publish`. Raises `AutoexportError`.
    """
    chosen = _with_warnings(settings)
    if not chosen.enable_auto_export:
        raise ConfigurationError("Exporting is switched off.", hint="Set DB_EXPORT_ENABLE_AUTO_EXPORT to true.")
    events = Events()
    if on_event is not None:
        events.listen(on_event)
    events.tell(Event("exporting"))
    try:
        outcome = await run_recorded(chosen, full=full, progress=events, on_publish=on_publish)
    except AutoexportError as error:
        events.tell(Event("failed", error=error))
        raise
    events.tell(result_of(outcome.manifest, publication_of(outcome, chosen)))
    return outcome.manifest


@contextlib.asynccontextmanager
async def exporting(
    settings: Settings | None = None,
    *,
    monitor: bool | None = None,
    on_publish: Callback | None = None,
    on_event: Listener | None = None,
) -> AsyncIterator[Exporter]:
    """Keep the files current in the background of an application, until the block is left.

    `on_publish` and `on_event` are those of `run_exporter`. On exit a running export may finish, as there. An
    error that ends the background task early is logged, and `export_now` raises it; with monitoring only a
    `ConfigurationError` ends it.
    """
    exporter = _exporter(settings, on_publish, on_event)
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


def _exporter(settings: Settings | None, on_publish: Callback | None, on_event: Listener | None) -> Exporter:
    return Exporter(_with_warnings(settings), on_publish=on_publish, on_event=on_event)


def _with_warnings(settings: Settings | None) -> Settings:
    chosen = settings if settings is not None else Settings()
    for warning in chosen.warnings:
        log.warning("settings.unknown", detail=warning)
    return chosen


def _log_early_end(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        hint = error.hint if isinstance(error, AutoexportError) else ""
        log.error("exporter.ended", error=str(error), hint=hint)
