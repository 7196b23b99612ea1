"""Compare the published files with the database: in words, and by exit code."""

from __future__ import annotations

import asyncio
from pathlib import Path

from autoexport.commands.terminal import say, terminal_progress
from autoexport.config.settings import Settings
from autoexport.pipeline.job import opened_job
from autoexport.pipeline.verification import differences
from autoexport.publishing.contract import Target
from autoexport.publishing.locks import LEADER_LOCK, Lock

DRIFT = 3
_TRIES = 3
_PUBLISH_S = 10.0
"""How long, beyond its interval, a running daemon may take to publish a change that it has not seen yet."""


async def verify(settings: Settings, *, progress: bool = True) -> int:
    """Print what differs and return 3, or 0 where nothing does.

    Where a daemon is running, a difference may be a change that it is about to publish: it is given
    the time for that before the files are called different.
    """
    bar = terminal_progress(progress)
    try:
        async with opened_job(settings) as job:
            for _ in range(_TRIES):
                found = await differences(job, bar)
                if not found or not await _was_due(settings, job.target):
                    break
    finally:
        if bar is not None:
            bar.finish()
    if not found:
        say(f"{settings.export_directory} is what the database says, to the byte.")
        return 0
    for line in found:
        say(line)
    say("Repair: `python -m autoexport --full`.")
    return DRIFT


async def _was_due(settings: Settings, target: Target) -> bool:
    """Whether a running daemon published something new within the time that it may take."""
    state = settings.state_dir
    if not state.is_dir() or not await asyncio.to_thread(_daemon_runs, state):
        return False
    before = _generation(target)
    clock = asyncio.get_running_loop().time
    deadline = clock() + settings.check_interval + _PUBLISH_S
    while clock() < deadline:
        if _generation(target) != before:
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
