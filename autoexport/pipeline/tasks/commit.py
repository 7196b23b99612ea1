"""Commits the ranges of a planned snapshot to the lake: one commit a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from autoexport.pipeline.tasks.job import TasksJob, held
from autoexport.publishing.lake.requests import Answer


@dataclass(frozen=True, slots=True)
class Committed:
    """The generation of a commit and its counts. `counts` are empty if it was there before."""

    generation: int
    counts: Mapping[str, int]


async def commit(job: TasksJob, snapshot: str) -> Committed:
    """Commit all ranges; nothing if they are committed.

    Raises `SnapshotGone` if no process holds the snapshot any more, unless one of the tables has the commit: then
    the other one gets it. Raises `AutoexportError`.
    """
    plan, committed = await job.found(snapshot)
    answer = Answer()
    if not committed:
        # Until the commit is made, this process holds the snapshot, too.
        async with job.adopting().adopted(*held(plan)):
            answer = await job.asked("finish", plan)
    elif len(committed) == 1:
        answer = await job.asked("finish", plan)
    return Committed(plan["generation"], answer.task.get("counts", {}))
