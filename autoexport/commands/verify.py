"""Compares the published files with the database and prints the differences."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from autoexport.commands.terminal import say, say_command, terminal_progress, visible
from autoexport.config.settings import Settings
from autoexport.errors import EncoderChanged
from autoexport.pipeline.job import opened_job
from autoexport.pipeline.verification import changed_encoders, differences
from autoexport.publishing.contract import Target
from autoexport.publishing.locks import LEADER_LOCK, Lock
from autoexport.publishing.workspace import scratch

DRIFT = 3
_TRIES = 3
_PUBLISH_S = 10.0
"""Seconds beyond its check interval in which a running daemon should publish a new change."""


async def verify(settings: Settings, *, progress: bool = True, repair: str = "autoexport --full") -> int:
    """Print the differences and return 3, or return 0 if there are none. `repair` is a command that repairs them.

    While a daemon runs, a difference may be a change that it is about to publish. So it gets the time to publish,
    and the comparison is repeated. Raises `AutoexportError` if the database or the files cannot be read, and
    `EncoderChanged` if the files differ and another encoder wrote them.
    """
    bar = terminal_progress(progress)
    try:
        with _workplace(settings) as (own, reader):
            async with opened_job(own, alone=True) as job:
                for _ in range(_TRIES):
                    before = job.target.read_manifest_text()
                    lines = await differences(job, bar, hold=not reader)
                    if reader and job.target.read_manifest_text() != before:
                        continue
                    if not lines or not await _published_meanwhile(settings, job.target, reader=reader):
                        break
                encoders = await asyncio.to_thread(changed_encoders, job)
    finally:
        if bar is not None:
            bar.finish()
    if not lines:
        say(f"{settings.destination} matches the database, byte for byte.")
        return 0
    for line in lines:
        say(visible(line))
    if encoders:
        raise EncoderChanged(
            f"The {' and '.join(encoders)} encoder changed since the files were written: that need not be drift.",
            hint="Run `python -m autoexport` once, which exports in full. Then verify again.",
        )
    say_command(repair, "To repair the files, run:")
    return DRIFT


@contextlib.contextmanager
def _workplace(settings: Settings) -> Iterator[tuple[Settings, bool]]:
    """The settings to work with, and whether this user may only read: then the working copy is a temporary one."""
    directory, state = settings.export_directory, settings.state_dir
    writable = os.access(directory, os.W_OK | os.X_OK)
    private = not state.is_dir() or os.access(state, os.R_OK | os.W_OK | os.X_OK)
    if not directory.is_dir() or (writable and private):
        yield settings, False
        return
    with scratch(Path(tempfile.gettempdir())) as folder:
        yield settings.model_copy(update={"state_directory": folder}), True


async def _published_meanwhile(settings: Settings, target: Target, *, reader: bool) -> bool:
    """Wait for a running daemon to publish. False if none runs, or if it published nothing in time.

    A user who may only read cannot see whether one runs.
    """
    state = settings.state_dir
    if not reader and (not state.is_dir() or not await asyncio.to_thread(_daemon_runs, state)):
        return False
    generation = _generation(target)
    clock = asyncio.get_running_loop().time
    deadline = clock() + settings.check_interval + _PUBLISH_S
    while clock() < deadline:
        if _generation(target) != generation:
            return True
        await asyncio.sleep(0.2)
    return False


def _generation(target: Target) -> int | None:
    manifest = target.read_manifest()
    return manifest.generation if manifest is not None else None


def _daemon_runs(state: Path) -> bool:
    lock = Lock(state, LEADER_LOCK)
    if lock.try_take():
        lock.release()
        return False
    return True
