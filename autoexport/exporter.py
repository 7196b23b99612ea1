"""The line itself: snapshot, changes, plan, render, splice, publish."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from autoexport.bring_out import bring_out
from autoexport.contracts import Format, Source
from autoexport.courtesy import Courtesy
from autoexport.edition import Edition
from autoexport.errors import UndecodableText
from autoexport.ledger import FileIdentity, Ledger, load_ledger
from autoexport.line import Line, Progress
from autoexport.logs import get_logger
from autoexport.manifest import Manifest
from autoexport.offloop import in_thread
from autoexport.publish import foreign_ledger, is_intact, published_files, read_manifest, refuse_foreign, sweep
from autoexport.settings import Settings
from autoexport.spool import HeldPosition, Spool, spools
from autoexport.workspace import directories, publishing

LOCK_WAIT_S = 60.0

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
    elsewhere_s: float = 0.0


async def export_once(
    source: Source,
    settings: Settings,
    formats: Sequence[Format],
    *,
    full: bool = False,
    progress: Progress | None = None,
    courtesy: Courtesy | None = None,
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
            async with derived(source, settings, formats, state, ledger, full=full, progress=progress) as edition:
                edition.courtesy = courtesy
                manifest, published, files = await bring_out(edition, directory, state, previous, intact, started)
    duration_s = round(time.monotonic() - started, 3)
    log.info(
        "export.published" if published else "export.unchanged",
        generation=manifest.generation,
        mode=edition.plan.mode,
        reason=edition.plan.reason,
        seconds=duration_s,
    )
    return Outcome(published, manifest, edition.plan.reason, duration_s, files, edition.elsewhere_s)


@contextlib.asynccontextmanager
async def derived(
    source: Source,
    settings: Settings,
    formats: Sequence[Format],
    state: Path,
    ledger: Ledger | None,
    *,
    full: bool,
    progress: Progress | None = None,
) -> AsyncIterator[Edition]:
    """What the files have to be, from one snapshot, which is over when the edition is there."""
    async with contextlib.AsyncExitStack() as working:
        spooled = await working.enter_async_context(spools(state, formats))
        held = HeldPosition(state)
        working.push_async_callback(in_thread, held.close)
        edition = await _read(source, settings, formats, spooled, held, ledger, full=full, progress=progress)
        for spool in spooled:
            await spool.flush()
        yield edition


async def _read(
    source: Source,
    settings: Settings,
    formats: Sequence[Format],
    spooled: Sequence[Spool],
    held: HeldPosition,
    ledger: Ledger | None,
    *,
    full: bool,
    progress: Progress | None,
) -> Edition:
    """The edition, from a snapshot of which nothing is left when it is there."""
    async with source.snapshot() as snapshot:
        log.debug("snapshot.opened", database=source.database)
        line = Line(snapshot, source, settings, formats, spooled, progress)
        try:
            edition = await line.run(ledger, full=full)
        except UndecodableText as error:
            log.debug("snapshot.reread", reason=str(error))
            await snapshot.read_leniently()
            edition = await _leniently(line, ledger, full=full)
        if edition.position is not None:
            edition.position = await in_thread(held.take, edition.position)
        return edition


async def _leniently(line: Line, ledger: Ledger | None, *, full: bool) -> Edition:
    try:
        return await line.run(ledger, full=full)
    except UndecodableText as error:
        # A key that is not valid text cannot be asked for by name, only met in passing.
        return await line.run(ledger, full=full, everything=str(error))
