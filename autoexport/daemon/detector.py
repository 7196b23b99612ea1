"""Detects that the database or the published files may have changed, and requests an export."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import cast

from autoexport.daemon.health import Health
from autoexport.daemon.report import PENDING_S
from autoexport.publishing.contract import TargetWatch
from autoexport.runtime.tasks import ended

TICK_S = 5.0
HUNG_S = 60.0
"""A check that is so late counts as hanging: waiting for it no longer feeds the watchdog."""


async def detect(
    checks: AsyncIterator[bool],
    queue: asyncio.Queue[None],
    published_files: TargetWatch,
    health: Health,
    interval_s: float,
) -> None:
    """Put a request on the queue whenever the database or the published files may have changed, for ever.

    A request carries nothing: one that is still on the queue also covers all later changes. Raises as the checks.
    """
    async with aclosing(cast(AsyncGenerator[bool], checks)):
        while True:
            changed = await _next(checks, health, interval_s)
            changed |= await asyncio.to_thread(published_files.tampered)
            health.checked(changed=changed)
            pending = queue.full()
            if changed and not pending:
                queue.put_nowait(None)
            if pending:
                await asyncio.sleep(PENDING_S - interval_s)


async def _next(checks: AsyncIterator[bool], health: Health, interval_s: float) -> bool:
    """The result of the next check. Waiting until it is due counts as progress, waiting for longer does not."""
    check = asyncio.ensure_future(anext(checks))
    try:
        for _ in range(int((interval_s + HUNG_S) / TICK_S) + 1):
            done, _pending = await asyncio.wait({check}, timeout=TICK_S)
            if done:
                break
            health.waited()
        return await check
    finally:
        check.cancel()  # does nothing if the check is done
        await ended(check)
