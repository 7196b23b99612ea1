"""Compare the published files with the database: in words, and by exit code."""

from __future__ import annotations

import asyncio
from pathlib import Path

from autoexport.commands.terminal import say, terminal_progress
from autoexport.config.settings import Settings
from autoexport.formats import chosen_formats
from autoexport.pipeline.ownership import read_manifest
from autoexport.pipeline.verification import differences
from autoexport.publishing.locks import LEADER_LOCK, Lock
from autoexport.sources import open_source

DRIFT = 3
_TRIES = 3
_PUBLISH_S = 10.0
"""How long, beyond its interval, a running daemon may take to publish a change that it has not seen yet."""


async def verify(settings: Settings, *, progress: bool = True) -> int:
    """Print what differs and return 3, or 0 where nothing does.

    Where a daemon is running, a difference may be a change that it is about to publish: it is given
    the time for that before the files are called different.
    """
    source = open_source(settings)
    formats = chosen_formats(settings)
    bar = terminal_progress(progress)
    try:
        for _ in range(_TRIES):
            found = await differences(source, settings, formats, bar)
            if not found or not await _was_due(settings):
                break
    finally:
        if bar is not None:
            bar.finish()
        await source.aclose()
    if not found:
        say(f"{settings.export_directory} is what the database says, to the byte.")
        return 0
    for line in found:
        say(line)
    say("Repair: `python -m autoexport --full`.")
    return DRIFT


async def _was_due(settings: Settings) -> bool:
    """Whether a running daemon published something new within the time that it may take."""
    state, directory = settings.state_dir, settings.export_directory
    if not state.is_dir() or not await asyncio.to_thread(_daemon_runs, state):
        return False
    before = _generation(directory)
    clock = asyncio.get_running_loop().time
    deadline = clock() + settings.check_interval + _PUBLISH_S
    while clock() < deadline:
        if _generation(directory) != before:
            return True
        await asyncio.sleep(0.2)
    return False


def _generation(directory: Path) -> int | None:
    manifest = read_manifest(directory)
    return manifest.generation if manifest is not None else None


def _daemon_runs(state: Path) -> bool:
    lock = Lock(state, LEADER_LOCK)
    if lock.try_take():
        lock.release()
        return False
    return True
