"""Exports one snapshot by ranges that an existing scheduler starts on many machines: plan, range, commit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from autoexport.commands.terminal import flush, say, terminal_progress
from autoexport.config.settings import Settings
from autoexport.pipeline.tasks.commit import commit
from autoexport.pipeline.tasks.job import opened_tasks
from autoexport.pipeline.tasks.piece import export_range
from autoexport.pipeline.tasks.plan import hold
from autoexport.runtime.progress import NullProgress


async def plan(settings: Settings, *, of: int, limit_s: float) -> int:
    """Print the plan as one line of JSON, hold its snapshot until it is committed, and return 0.

    Raises `AutoexportError`.
    """

    def tell(plan: Mapping[str, Any]) -> None:
        names = ("snapshot", "of", "generation", "database", "timestamp")
        _say({**{name: plan[name] for name in names}, "lake": settings.lake, "time_limit_s": limit_s})

    async with opened_tasks(settings) as job:
        generation = await hold(job, of, limit_s, tell)
    _say({"committed": generation})
    return 0


async def one_range(settings: Settings, *, snapshot: str, task: int, of: int, progress: bool = True) -> int:
    """Export one range, print its numbers of rows as one line of JSON, and return 0. Raises `AutoexportError`."""
    bar = terminal_progress(progress)
    try:
        async with opened_tasks(settings) as job:
            rows = await export_range(job, snapshot, task, of, bar or NullProgress())
    finally:
        if bar is not None:
            bar.finish()
    _say({"task": task, "of": of, **rows})
    return 0


async def publish(settings: Settings, *, snapshot: str) -> int:
    """Commit the ranges of a plan, print the commit as JSON, and return 0. Raises `AutoexportError`."""
    async with opened_tasks(settings) as job:
        generation, counts = await commit(job, snapshot)
    _say({"lake": settings.lake, "generation": generation, "counts": counts})
    return 0


def _say(facts: Mapping[str, Any]) -> None:
    say(orjson.dumps(facts).decode())
    flush()
