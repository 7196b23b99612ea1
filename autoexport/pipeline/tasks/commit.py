"""Commits the ranges of a planned snapshot to the lake: one commit a table."""

from __future__ import annotations

from collections.abc import Mapping

from autoexport.pipeline.lake import TABLES
from autoexport.pipeline.tasks.job import TasksJob, held


async def commit(job: TasksJob, snapshot: str) -> tuple[int, Mapping[str, int]]:
    """Commit all ranges, unless they are committed; the generation and the counts.

    Raises `SnapshotGone` if no process holds the snapshot any more, unless one of the tables has the commit: then
    the other one gets it. Raises `AutoexportError`.
    """
    plan, committed = await job.found(snapshot)
    generation: int = plan["generation"]
    if not committed:
        # Until the commit is made, this process holds the snapshot, too.
        async with job.adopting().adopted(*held(plan)):
            answer = await job.asked("finish", plan)
    elif len(committed) < len(TABLES):
        answer = await job.asked("finish", plan)
    else:
        return generation, next(iter(committed.values()))
    return generation, answer.task["counts"]
