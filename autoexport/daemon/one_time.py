"""Runs one export and records it, so that `status` knows it after this process has ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from pathlib import Path

from autoexport.config.settings import Settings
from autoexport.daemon.report import Report, read_report, write_report
from autoexport.errors import AutoexportError, ConfigurationError, LockedError, MappingError
from autoexport.pipeline.exporter import Outcome, run_once
from autoexport.publishing.locks import LEADER_LOCK, Lock
from autoexport.runtime.interruption import is_interrupted
from autoexport.runtime.progress import Progress


async def run_recorded(settings: Settings, *, full: bool = False, progress: Progress | None = None) -> Outcome:
    """Bring the files up to date once, as `run_once` does, and record the result. Raises `AutoexportError`.

    An error of the settings is not recorded: they may name the directory of another exporter.
    """
    began = time.time()
    try:
        outcome = await run_once(settings, full=full, progress=progress)
    except AutoexportError as error:
        wrong_settings = isinstance(error, ConfigurationError) and not isinstance(error, MappingError)
        if not wrong_settings and not isinstance(error, LockedError) and not is_interrupted():
            await asyncio.to_thread(record, settings.state_dir, began, error)
        raise
    await asyncio.to_thread(record, settings.state_dir, began, outcome)
    return outcome


def record(state: Path, began: float, result: Outcome | AutoexportError) -> None:
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
            )  # fmt: skip
        else:
            manifest = result.manifest
            report = Report(
                os.getpid(), "finished", 0.0, began, last_check_at=began, last_export_s=result.duration_s,
                generation=manifest.generation, last_publish=manifest.timestamp,
            )  # fmt: skip
        write_report(state, report)
