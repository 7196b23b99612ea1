"""A request for an export ends the wait for the next try, and the wait for the budget that would follow."""

from __future__ import annotations

import asyncio
from pathlib import Path

from autoexport.config.settings import Settings
from autoexport.daemon.budget import Budget
from autoexport.daemon.retry import wait_to_retry
from autoexport.daemon.schedule import ExportSchedule
from autoexport.errors import PublishError
from tests.daemon import LIMIT_S
from tests.deadlines import deadline_s


async def test_who_asks_waits_neither_for_the_next_try_nor_for_a_rest(tmp_path: Path) -> None:
    """An export that failed at its end counts against the budget, as one that did not fail."""
    budget = Budget(0.1)
    budget.fail(1000.0)
    schedule = ExportSchedule(budget)
    settings = Settings(database_url=f"sqlite:///{tmp_path}/app.db", export_directory=tmp_path / "exports")
    ticks: list[None] = []

    def asked_at_the_first_tick() -> None:
        ticks.append(None)
        schedule.export_soon.set()

    async with asyncio.timeout(deadline_s(LIMIT_S)):
        cause = PublishError("The disk is full.", hint="Free some.")
        await wait_to_retry(
            settings,
            cause,
            1000.0,
            export_soon=schedule.export_soon,
            wake=asyncio.Event(),
            tick=asked_at_the_first_tick,
        )
        await schedule.wait_for_budget()
    assert len(ticks) == 1
    assert not schedule.export_soon.is_set(), "asked once, hurried once"
