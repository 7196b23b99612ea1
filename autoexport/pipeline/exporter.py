"""Runs one export: claims the target, derives the next generation and publishes it."""

from __future__ import annotations

import time
from dataclasses import dataclass

from autoexport.config.settings import Settings
from autoexport.errors import AnnotationsLeftOut, LostRace
from autoexport.pipeline import lake
from autoexport.pipeline.derive import derive
from autoexport.pipeline.generation import Generation
from autoexport.pipeline.job import ExportJob, opened_job
from autoexport.pipeline.ownership import claim
from autoexport.publishing.contract import Identities
from autoexport.publishing.manifest import Manifest
from autoexport.publishing.throttle import DiskThrottle
from autoexport.runtime.logs import get_logger
from autoexport.runtime.progress import NullProgress, Progress

MOST_RACES = 5
"""So many times a one-time export begins again because another exporter published first."""

log = get_logger()


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of an export.

    `published`: a file was replaced, or a lake brought up to date. `manifest` is the published manifest. `reason`
    says why the export was full or incremental. `files` are the identities of the files as the export left them.
    `worker_cpu_s` is the CPU time of other processes in seconds. `left_out` is the error that a first export would
    raise: annotations are missing in the files. `full`: everything was rendered. `changed_files` are the names of
    the files that were replaced or removed, in order.
    """

    published: bool
    manifest: Manifest
    reason: str
    duration_s: float
    files: Identities
    worker_cpu_s: float = 0.0
    left_out: AnnotationsLeftOut | None = None
    full: bool = False
    changed_files: tuple[str, ...] = ()


async def export_once(
    job: ExportJob,
    *,
    full: bool = False,
    progress: Progress | None = None,
    throttle: DiskThrottle | None = None,
    goes_on: bool = False,
) -> Outcome:
    """Bring the files up to date with the database; `full` renders everything.

    With a `throttle`, the export writes slowly, so that an application can use the disk as well. Without one, it
    writes as fast as the disk can. An exporter that `goes_on` after an earlier publish exports the rest if the
    mapping leaves out annotations. Raises `AutoexportError`.
    """
    started = time.monotonic()
    shown = progress or NullProgress()
    tries = 0
    while True:
        try:
            async with job.target.hold():
                claimed = await claim(job, every_file=full)
                complete = not goes_on or claimed.previous is None
                async with derive(job, claimed.ledger, full=full, progress=shown, complete=complete) as generation:
                    from autoexport.pipeline.publish import publish  # loaded meanwhile, see `derive`

                    published = await publish(job, generation, claimed, started, throttle)
                delivered = await job.target.deliver(published.manifest, every_file=full, progress=shown)
                changed_files = published.changed_files or delivered or ()
                changed = published.changed or delivered is not None
                _log(generation, published.manifest, started, changed=changed)
                # An exporter whose files another one published leaves the lake to that one.
                leads = published.changed or not job.target.overtaken()
                synced = await lake.sync(job, published.manifest, shown) if leads else lake.Synced()
            break
        except LostRace:
            # The snapshot is older than the files that another exporter published meanwhile: take another one.
            tries += 1
            if tries == MOST_RACES and not goes_on:
                raise
    return Outcome(
        changed or bool(synced.tables),
        published.manifest,
        generation.plan.reason,
        round(time.monotonic() - started, 3),
        published.files,
        generation.worker_cpu_s + generation.row_files.cpu_s + synced.cpu_s,
        generation.left_out,
        generation.plan.ranges is None,
        changed_files,
    )


def _log(generation: Generation, manifest: Manifest, started: float, *, changed: bool) -> None:
    log.info(
        "export.published" if changed else "export.unchanged",
        generation=manifest.generation,
        mode=generation.plan.mode,
        reason=generation.plan.reason,
        changed_images=generation.plan.changed_images,
        rendered_images=generation.rendered_images,
        seconds=round(time.monotonic() - started, 3),
    )


async def run_once(settings: Settings, *, full: bool = False, progress: Progress | None = None) -> Outcome:
    """Bring the files up to date once, as `export_once` does. Raises `AutoexportError`."""
    async with opened_job(settings, alone=True) as job:
        return await export_once(job, full=full, progress=progress)
