"""Runs one export and records it, so that `status` knows it after this process has ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from pathlib import Path

from autoexport.config.settings import Settings
from autoexport.daemon.after_publish import AfterPublish, Callback, publication_of
from autoexport.daemon.heartbeat import Heartbeat
from autoexport.daemon.report import Report, read_report, write_report
from autoexport.errors import AutoexportError, ConfigurationError, LockedError, MappingError
from autoexport.pipeline.exporter import Outcome, run_once
from autoexport.pipeline.job import target_of
from autoexport.publishing.locks import LEADER_LOCK, Lock
from autoexport.runtime.interruption import is_interrupted
from autoexport.runtime.logs import get_logger
from autoexport.runtime.progress import Progress

_WRITABLE = "Let this user write to the folder of the file."

log = get_logger()


async def run_recorded(
    settings: Settings,
    *,
    full: bool = False,
    progress: Progress | None = None,
    on_publish: Callback | None = None,
) -> Outcome:
    """Bring the files up to date once, as `run_once` does, and record the result. Raises `AutoexportError`.

    After a publish, the command and `on_publish` run to their end or their limit. Then the textfile is written,
    and the heartbeat is called. An error of the settings is not recorded: they may name the directory of another
    exporter.
    """
    if settings.metrics_textfile is not None:
        from autoexport.daemon.metrics import require_packages

        require_packages("metrics_textfile", "prometheus_client")
    began = time.time()
    try:
        outcome = await run_once(settings, full=full, progress=progress)
    except AutoexportError as error:
        wrong_settings = isinstance(error, ConfigurationError) and not isinstance(error, MappingError)
        if not wrong_settings and not isinstance(error, LockedError) and not is_interrupted():
            await asyncio.to_thread(record, settings.state_dir, began, error)
            await _write_textfile(settings, None)
        raise
    failure = await _after_publish(settings, outcome, on_publish)
    await asyncio.to_thread(record, settings.state_dir, began, outcome, failure)
    await report_success(settings, outcome)
    return outcome


async def report_success(settings: Settings, outcome: Outcome) -> None:
    """Write the textfile and call the heartbeat, where the settings name them. A failure is only logged."""
    await _write_textfile(settings, outcome)
    if settings.heartbeat_url:
        await Heartbeat(settings.heartbeat_url).once()


async def _after_publish(settings: Settings, outcome: Outcome, on_publish: Callback | None) -> str | None:
    """Run what has to run after a publish; returns why it failed."""
    failures: list[str | None] = [None]
    after = AfterPublish(settings.on_publish, on_publish, settings.on_publish_timeout, failures.append)
    if (publication := publication_of(outcome, settings)) is not None:
        await after.run(publication)
    return failures[-1]


async def _write_textfile(settings: Settings, outcome: Outcome | None) -> None:
    """Write the textfile after an export; `outcome` is None if it failed.

    A file that cannot be written is only logged: the export is done.
    """
    path = settings.metrics_textfile
    if path is None or (report := await asyncio.to_thread(read_report, settings.state_dir)) is None:
        return
    from autoexport.daemon.metrics import Observed

    observed = Observed(lambda: report)
    if outcome is not None:
        observed.exported(outcome.manifest, full=outcome.full, published=outcome.published)
    else:
        target = target_of(settings)
        observed.manifest = await asyncio.to_thread(target.read_manifest)
        observed.failed()
    try:
        await asyncio.to_thread(observed.write_textfile, path)
    except OSError as error:
        log.warning("textfile.failed", path=str(path), error=error.strerror or str(error), hint=_WRITABLE)


def record(state: Path, began: float, result: Outcome | AutoexportError, after_publish: str | None = None) -> None:
    """Write the report of an export that began at `began`, in seconds since the epoch; blocking.

    A running daemon reports for itself, so then nothing is written.
    """
    with contextlib.suppress(OSError):
        if not state.is_dir() or Lock(state, LEADER_LOCK).is_held():
            return
        report = Report(os.getpid(), "finished", 0.0, began)
        before = read_report(state) or report
        if isinstance(result, AutoexportError):
            report = Report(
                os.getpid(), "finished", 0.0, began, last_check_at=before.last_check_at,
                last_export_s=before.last_export_s, generation=before.generation, last_publish=before.last_publish,
                failures=before.failures + 1, error=str(result), hint=result.hint,
                after_publish=before.after_publish,
            )  # fmt: skip
        else:
            manifest = result.manifest
            report = Report(
                os.getpid(), "finished", 0.0, began, last_check_at=began, last_export_s=result.duration_s,
                generation=manifest.generation, last_publish=manifest.timestamp,
                after_publish=after_publish if result.published else before.after_publish,
            )  # fmt: skip
        write_report(state, report)
