"""Measures how late timers of an event loop are during an export in it; prints JSON.

python -m tests.bench.embedded URL DIRECTORY
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

from autoexport import Settings, run_exporter
from tests.bench.results import percentile

PERIOD_S = 0.005
IDLE_S = 2.0


@contextlib.asynccontextmanager
async def ticking(late: list[float]) -> AsyncIterator[None]:
    """Collect how late a timer that is due every `PERIOD_S` is, in seconds.

    A tick that the loop slept through counts as late. A stall of 50 ms is ten late ticks, not one.
    """

    async def tick_forever() -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + PERIOD_S
        while True:
            await asyncio.sleep(due - loop.time())
            now = loop.time()
            while due <= now:
                late.append(now - due)
                due += PERIOD_S

    task = asyncio.create_task(tick_forever(), name="ticks")
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def measure(url: str, directory: str) -> dict[str, object]:
    """Measure the lag of the idle loop, then during one full export."""
    idle: list[float] = []
    async with ticking(idle):
        await asyncio.sleep(IDLE_S)
    busy: list[float] = []
    began = time.perf_counter()
    async with ticking(busy):
        await run_exporter(Settings(database_url=url, export_directory=Path(directory)), monitor=False)
    seconds = time.perf_counter() - began
    return {"idle": _summary(idle), "busy": _summary(busy), "export_s": seconds}


def _summary(late: list[float]) -> dict[str, float]:
    return {
        name: 1000 * (percentile(late, share) or 0.0)
        for name, share in (("p50_ms", 0.5), ("p99_ms", 0.99), ("worst_ms", 1.0))
    }


def main() -> None:
    """The command line."""
    print(json.dumps(asyncio.run(measure(*sys.argv[1:3]))))


if __name__ == "__main__":
    main()
