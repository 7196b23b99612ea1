"""Runs one export with a progress bar and prints a table of the published files."""

from __future__ import annotations

from autoexport.commands.terminal import print_summary, say, terminal_progress
from autoexport.config.settings import Settings
from autoexport.daemon.one_time import run_recorded


async def export(settings: Settings, *, full: bool = False, progress: bool = True) -> int:
    """Export once, print the published files and return 0. `full` ignores the ledger of earlier exports.

    Raises `AutoexportError`.
    """
    bar = terminal_progress(progress)
    try:
        outcome = await run_recorded(settings, full=full, progress=bar)
    finally:
        if bar is not None:
            bar.finish()
    manifest = outcome.manifest
    if not outcome.published:
        say(f"Nothing has changed: {settings.destination} remains at generation {manifest.generation}.")
    else:
        print_summary(
            settings.destination,
            [(name, record.bytes, record.rows) for name, record in manifest.files.items()],
            mode=manifest.mode,
            generation=manifest.generation,
            duration_s=outcome.duration_s,
        )
    return 0
