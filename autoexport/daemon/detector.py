"""Waits for "something may have changed" and puts it on the queue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import cast

from autoexport.daemon.health import Health
from autoexport.daemon.report import PENDING_S
from autoexport.publishing.contract import TargetWatch

TICK_S = 5.0
HUNG_S = 60.0
"""So long after its time a check that has not come back is no longer taken for waiting."""


async def detect(
    checks: AsyncIterator[bool],
    queue: asyncio.Queue[None],
    published_files: TargetWatch,
    health: Health,
    interval_s: float,
) -> None:
    """Put a look on the queue whenever the database or the published files may have changed, for ever.

    A look says nothing but "look": one that is still on the queue serves for all that come after it.
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
    """The next check's answer. Waiting for its time is progress, waiting for longer is not."""
    check = asyncio.ensure_future(anext(checks))
    try:
        for _ in range(int((interval_s + HUNG_S) / TICK_S) + 1):
            done, _pending = await asyncio.wait({check}, timeout=TICK_S)
            if done:
                break
            health.waited()
        return await check
    finally:
        if not check.done():
            check.cancel()
            await asyncio.wait({check})
