"""Plans the ranges of one snapshot, and holds the snapshot until they are committed."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import gettempdir
from typing import Any

from autoexport.errors import ConfigurationError, PublishError, SnapshotGone, SourceError
from autoexport.pipeline.mapped import mapping_of
from autoexport.pipeline.tasks.job import TasksJob, rows_digest
from autoexport.pipeline.tasks.places import written
from autoexport.rendering.spool import ScratchFile
from autoexport.rendering.tree import TreeBuilder
from autoexport.runtime.logs import get_logger
from autoexport.runtime.threads import in_thread
from autoexport.sources.check_queries import left_out, refuse_conditions
from autoexport.sources.contract import LastingSnapshot, NamedSnapshot, Snapshot
from autoexport.sources.reader import SnapshotReader
from autoexport.sources.stretches import stretches, uncuttable
from autoexport.values.block import ruled_parents

log = get_logger()

LOOK_S = 1.0
"""How often a plan looks for its commit in a folder, in seconds."""

LOOK_FAR_S = 5.0
"""As `LOOK_S`, in an object store, where a look takes some requests."""


async def hold(job: TasksJob, of: int, limit_s: float, tell: Callable[[Mapping[str, Any]], None]) -> int:
    """Plan so many ranges and `tell` the plan; the generation, once both tables have it.

    Raises `SnapshotGone` if the server ends the transaction, `PublishError` after `limit_s` seconds, and
    `AutoexportError`.
    """
    async with job.source.snapshot() as snapshot:
        made = await _planned(job, snapshot, of)
        async with snapshot.share() as shared:
            if not isinstance(shared, NamedSnapshot) or not isinstance(snapshot, LastingSnapshot):
                raise ConfigurationError(
                    f"No second connection may read the snapshot of {job.source.database}.",
                    hint="Connect to the server without a pooler, as a role that may export snapshots.",
                )
            until = time.time() + limit_s
            plan = {**made, "snapshot": shared.name, "server": shared.server, "until": until}
            plan = dict((await job.asked("put", plan)).task)
            tell(plan)
            await _committed(job, snapshot, plan, time.monotonic() + limit_s)
            return int(plan["generation"])


async def _planned(job: TasksJob, snapshot: Snapshot, of: int) -> dict[str, Any]:
    """The plan, as the lake keeps it, without the name of the snapshot."""
    mapping = await in_thread(mapping_of, snapshot.catalog, job.tables, None)
    lost = await left_out(snapshot, mapping)
    if lost is not None:
        raise lost
    reader = SnapshotReader(snapshot, mapping)
    await refuse_conditions(reader)
    await reader.totals()
    reason = uncuttable(reader)
    if reason:
        raise ConfigurationError(
            f"The images cannot be cut into ranges: {reason}.", hint="One process exports them with --lake."
        )
    images, annotations, keyless = reader.counted
    parts = await stretches(reader, of)
    taken_at = snapshot.taken_at
    return {
        "plan": secrets.token_hex(16),
        "database": job.source.database,
        "of": of,
        "places": [written(part.to) for part in parts[:-1]],
        "counted": [images, annotations, sorted(keyless)],
        "rows": rows_digest(mapping),
        "taken_at": taken_at.isoformat(),
        "timestamp": taken_at.replace(microsecond=0).isoformat().replace("+00:00", "Z"),
        **await _counts(job, reader),
    }


async def _counts(job: TasksJob, reader: SnapshotReader) -> dict[str, Any]:
    """The counts of projects, datasets and labels, and the labels that documents of projects declare."""
    mapping = reader.tables.mapping
    with contextlib.closing(ScratchFile(Path(gettempdir()))) as scratch:
        parents = await reader.parents()
        builder = await in_thread(TreeBuilder, parents, mapping, job.source.database, ruled_parents, scratch)
        outline, declared = builder.outline, []
        if outline.labels_from_names:
            declared = [[str(node.key), name] for node in builder.project_nodes() for name in node.label_colors]
        counts = {
            "projects": outline.project_count,
            "datasets": outline.dataset_count,
            "labels": None if outline.labels_from_names else outline.labels.published,
        }
    return {"counts": counts, "declared": declared}


async def _committed(job: TasksJob, snapshot: LastingSnapshot, plan: Mapping[str, Any], deadline: float) -> None:
    """Wait until both tables have the commit of the plan."""
    # Not in a process of its own: there would be one each second, and this one does little else.
    from autoexport.publishing.lake.work import TABLES, work

    request = job.request("look", {"snapshot": plan["snapshot"]})
    pause_s = LOOK_S if job.lake.is_local else LOOK_FAR_S
    while True:
        late = time.monotonic() >= deadline
        try:
            answer = await in_thread(work, request, lambda _: None)
            if len(answer.task["committed"]) == len(TABLES):
                return
        except PublishError as error:
            log.warning("tasks.lake_unreachable", error=str(error))
        if late:
            raise PublishError(
                "The time limit has passed, and no export-commit came.",
                hint="Nothing of this snapshot can be committed now. Choose a longer --time-limit.",
            )
        try:
            await snapshot.require()
        except SourceError as error:
            raise SnapshotGone(
                f"The snapshot {plan['snapshot']} is lost: the server ended its transaction.",
                hint="Nothing of it can be committed now. Start export-plan and the ranges again.",
            ) from error
        await asyncio.sleep(max(0.0, min(pause_s, deadline - time.monotonic())))
