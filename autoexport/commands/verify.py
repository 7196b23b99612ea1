"""Compare the published files with the database: in words, and by exit code."""

from __future__ import annotations

import asyncio
from pathlib import Path

from autoexport.errors import EncoderChanged
from autoexport.formats import chosen_formats
from autoexport.progress import say, terminal_progress
from autoexport.publish import read_manifest
from autoexport.settings import Settings
from autoexport.sources import open_source
from autoexport.verification import changed_encoders, differences
from autoexport.workspace import LEADER_LOCK, Lock

DRIFT = 3
_TRIES = 3
_PUBLISH_S = 10.0
"""How long, beyond its interval, a running daemon may take to publish a change that it has not seen yet."""


async def verify(settings: Settings, *, progress: bool = True) -> int:
    """Print what differs and return 3, or 0 where nothing does.

    Where a daemon is running, a difference may be a change that it is about to publish: it is given
    the time for that before the files are called different. Raises `EncoderChanged` if the files differ and
    another encoder wrote them: the database may be what they say all the same.
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
    if names := await asyncio.to_thread(changed_encoders, settings):
        raise EncoderChanged(
            f"The {' and '.join(names)} encoder changed since the files were written: that need not be drift.",
            hint="Run `python -m autoexport` once: that export is a full one. Then verify again.",
        )
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
