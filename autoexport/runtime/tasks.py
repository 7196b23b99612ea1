"""Waits for the end of tasks that their caller must not leave behind."""

from __future__ import annotations

import asyncio
from typing import Any


async def ended(task: asyncio.Future[Any]) -> None:
    """Wait until a task has ended, whatever its result.

    If the caller is cancelled meanwhile, it still waits, and is cancelled afterwards. A generator that a task
    still reads cannot be closed.
    """
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    if not task.cancelled():
        task.exception()  # mark it as retrieved
    if cancelled is not None:
        raise cancelled
