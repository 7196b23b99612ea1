"""The line itself: snapshot, changes, plan, render, splice, publish."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from autoexport.config.settings import Settings
from autoexport.formats import chosen_formats
from autoexport.formats.contract import Format
from autoexport.incremental.ledger import load_ledger
from autoexport.pipeline.derive import derive
from autoexport.pipeline.ownership import foreign_ledger, is_intact, published_files, read_manifest, refuse_foreign
from autoexport.pipeline.publish import publish
from autoexport.publishing.identity import FileIdentity
from autoexport.publishing.locks import LOCK_WAIT_S, publishing
from autoexport.publishing.manifest import Manifest
from autoexport.publishing.throttle import DiskThrottle
from autoexport.publishing.workspace import directories, sweep
from autoexport.runtime.logs import get_logger
from autoexport.runtime.progress import Progress
from autoexport.runtime.threads import in_thread
from autoexport.sources import opened_source
from autoexport.sources.contract import Source

log = get_logger()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an export did: whether it published, the manifest that now stands, why it was full or incremental, how
    long it took in seconds, how it left the files, and how many seconds of a core a rendering process used."""

    published: bool
    manifest: Manifest
    reason: str
    duration_s: float
    files: Mapping[str, FileIdentity]
    worker_cpu_s: float = 0.0


async def export_once(
    source: Source,
    settings: Settings,
    formats: Sequence[Format],
    *,
    full: bool = False,
    progress: Progress | None = None,
    throttle: DiskThrottle | None = None,
) -> Outcome:
    """Bring the files up to date with the database; `full` uses nothing that is known from before.

    `courtesy`: nobody waits for it, and an application may need the disk meanwhile.
    Raises `AutoexportError`; the files are then as they were.
    """
    started = time.monotonic()
    directory, state = settings.export_directory.absolute(), settings.state_dir.absolute()
    with directories(directory, state):
        async with publishing(state, LOCK_WAIT_S):
            await in_thread(sweep, directory, state)
            previous = read_manifest(directory)
            ledger = await in_thread(load_ledger, state)
            refuse_foreign(previous, ledger, source.database, source.identity, directory)
            if ledger is not None and previous is not None and ledger.database != source.identity:
                raise foreign_ledger(state, source.database)
            if previous is None and ledger is not None and ledger.database == source.identity:
                # Somebody removed or spoiled the manifest: the files are ours all the same, and the count goes on.
                ours = published_files(ledger, directory)
                previous = Manifest(ledger.generation, ledger.timestamp, source.database, ours)
            intact = previous is not None and is_intact(previous, ledger, directory)
            async with derive(
                source, settings, formats, state, ledger, full=full, progress=progress
            ) as generation:
                generation.throttle = throttle
                manifest, published, files = await publish(generation, directory, state, previous, intact, started)
    duration_s = round(time.monotonic() - started, 3)
    log.info(
        "export.published" if published else "export.unchanged",
        generation=manifest.generation,
        mode=generation.plan.mode,
        reason=generation.plan.reason,
        seconds=duration_s,
    )
    return Outcome(published, manifest, generation.plan.reason, duration_s, files, generation.worker_cpu_s)


async def run_once(settings: Settings, *, full: bool = False, progress: Progress | None = None) -> Outcome:
    """Bring the files up to date once; `full` uses nothing that is known from before. Raises `AutoexportError`."""
    async with opened_source(settings) as source:
        return await export_once(source, settings, chosen_formats(settings), full=full, progress=progress)
