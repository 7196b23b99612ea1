"""Times every step of one export in this process; prints the seconds as JSON.

python -m tests.bench.stations URL DIRECTORY [--full]

The stopwatches are put on from here, by name, so that the product carries none. A missing name is an error:
without that step's time, the sum of the others would mislead.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import json
import sys
import threading
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

PARTS = {
    "copy": "autoexport.sources.sqlite.source:copy_database",
    "hash": "autoexport.sources.sqlite.page_scan:PageScan.finish",
    "walk": "autoexport.sources.sqlite.changes:fingerprint",
    "compare": "autoexport.sources.sqlite.changes:compare autoexport.sources.sqlite.changes:changed_ranges",
    "render": "autoexport.rendering.bodies:render_together",
    "format": "autoexport.formats.json_document:JsonDocument.blocks "
    "autoexport.formats.csv_table:ImagesTable.blocks",
    "lay out": "autoexport.pipeline.generation:Generation.tree autoexport.pipeline.generation:Generation.lay_out",
    "compare bytes": "autoexport.publishing.directory:find_identical",
    "splice": "autoexport.publishing.directory:stage",
    "fsync": "os:fsync",
    "rename": "autoexport.publishing.directory:commit",
    "ledger": "autoexport.pipeline.ownership:load_ledger autoexport.pipeline.publish:save_ledger",
}
"""The measured functions, by the module that calls them. A nested part is not counted in the outer one."""

AWAITED = {
    "position": "autoexport.sources.postgres.snapshot:take_position",
    "hand over": "autoexport.rendering.process:WorkerProcessRenderer.add "
    "autoexport.rendering.process:WorkerProcessRenderer.finish",
}
"""Coroutines that are awaited; "hand over" is to the process that renders, if there is one."""

STREAMED = {
    "query": "autoexport.sources.sqlite.snapshot:SqliteSnapshot.stream "
    "autoexport.sources.postgres.snapshot:PostgresSnapshot.stream"
}
"""The time spent waiting for rows.

Other rows are rendered in part of it, so the sum may exceed the whole.
"""

ORDER = ("copy", "hash", "walk", "position", "compare", "query", "hand over", "render", "format", "lay out",
         "compare bytes", "splice", "fsync", "rename", "ledger")  # fmt: skip


class Stopwatches:
    """Seconds by part, without those of parts within; usable from any thread."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._adding = threading.Lock()
        self._within = threading.local()

    def add(self, part: str, seconds: float) -> None:
        """Add seconds to a part."""
        with self._adding:
            self.seconds[part] += seconds

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function with a stopwatch."""

        @functools.wraps(function)
        def stopped(*arguments: Any, **options: Any) -> Any:
            inner: list[float] = getattr(self._within, "stack", [])
            self._within.stack = inner
            inner.append(0.0)
            began = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                took = time.perf_counter() - began
                self.add(part, took - inner.pop())
                if inner:
                    inner[-1] += took

        return stopped

    def awaited(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The coroutine function with a stopwatch."""

        @functools.wraps(function)
        async def stopped(*arguments: Any, **options: Any) -> Any:
            began = time.perf_counter()
            try:
                return await function(*arguments, **options)
            finally:
                self.add(part, time.perf_counter() - began)

        return stopped

    def streamed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The asynchronous generator function with a stopwatch that runs while it is waited for."""

        @functools.wraps(function)
        async def stopped(*arguments: Any, **options: Any) -> AsyncIterator[Any]:
            stream = function(*arguments, **options)
            began = time.perf_counter()
            try:
                async for item in stream:
                    self.add(part, time.perf_counter() - began)
                    yield item
                    began = time.perf_counter()
            finally:
                await stream.aclose()
            self.add(part, time.perf_counter() - began)

        return stopped


def put_on(places: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Replace the functions at these places, `module:name` or `module:Class.name`, by wrapped ones."""
    for place in places.split():
        module, _, path = place.partition(":")
        owner: Any = importlib.import_module(module)
        *outer, name = path.split(".")
        for attribute in outer:
            owner = getattr(owner, attribute)
        setattr(owner, name, wrap(getattr(owner, name)))


async def export(url: str, directory: str, *, full: bool) -> dict[str, object]:
    """Export with stopwatches on. Returns the seconds of the parts and of the whole, and the outcome."""
    from autoexport.config.settings import Settings
    from autoexport.pipeline.exporter import run_once

    watches = Stopwatches()
    for part, places in PARTS.items():
        put_on(places, functools.partial(watches.timed, part))
    for part, places in AWAITED.items():
        put_on(places, functools.partial(watches.awaited, part))
    for part, places in STREAMED.items():
        put_on(places, functools.partial(watches.streamed, part))
    outcome = await run_once(Settings(database_url=url, export_directory=Path(directory)), full=full)
    return {
        "parts": {part: watches.seconds[part] for part in ORDER if part in watches.seconds},
        "total_s": outcome.duration_s,
        "published": outcome.published,
        "mode": outcome.manifest.mode,
        "reason": outcome.reason,
        "rendered_images": outcome.manifest.rendered_images,
    }


def main() -> None:
    """The command line."""
    from autoexport.runtime.tuning import return_memory

    return_memory()
    url, directory, *flags = sys.argv[1:]
    print(json.dumps(asyncio.run(export(url, directory, full="--full" in flags))))


if __name__ == "__main__":
    main()
