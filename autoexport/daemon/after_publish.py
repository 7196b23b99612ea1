"""Runs the command and the function of the operator after a publish, each with a time limit."""

from __future__ import annotations

import asyncio
import inspect
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any

from autoexport.config.settings import Settings
from autoexport.daemon.command import GRACE_S, CommandFailed, run_command
from autoexport.daemon.events import Publication
from autoexport.pipeline.exporter import Outcome
from autoexport.runtime.logs import get_logger
from autoexport.runtime.tasks import ended
from autoexport.runtime.threads import in_daemon_thread

Callback = Callable[[Publication], object | Awaitable[object]]
"""A function of the host program. One that is not async runs in a thread."""

MOST_NAMES, MOST_BYTES = 1_000, 100_000
"""The longest list of files that goes into a variable. The kernel takes at most 128 KB (execve(2))."""

ALL_FILES = "*"
"""The value in place of a longer list."""

RUNS = "the command of the last publish is still running"
_TICK_S = 5.0

log = get_logger()


class AfterPublish:
    """Runs the command `words`, then the `callback`, after each publish, at most `limit_s` seconds each.

    One publish at a time: the files stay as they are while they run, because the next export waits for them.
    A failure is logged, and `report` gets it as a line of text, or None after a success.
    """

    def __init__(
        self,
        words: tuple[str, ...],
        callback: Callback | None,
        limit_s: float,
        report: Callable[[str | None], None],
    ) -> None:
        self._words = words
        self._callback = callback
        self._limit_s = limit_s
        self._report = report
        self._running: asyncio.Task[None] | None = None
        self._unfinished: asyncio.Future[Any] | None = None

    def start(self, publication: Publication) -> None:
        """Begin with this publish; the last one is `finished`."""
        if self._words or self._callback is not None:
            self._running = asyncio.create_task(self.run(publication), name="after the publish")

    async def run(self, publication: Publication) -> None:
        """Run everything for this publish; no failure is raised."""
        began, failures = time.monotonic(), []
        for part in (self._command, self._call):
            try:
                await part(publication)
            except CommandFailed as failure:
                failures.append(str(failure))
            except Exception as error:  # noqa: BLE001 - no descriptors are left, for instance
                failures.append(f"{type(error).__name__}: {error}")
        generation = publication.manifest.generation
        if failures:
            log.warning(
                "after_publish.failed", generation=generation, error="; ".join(failures),
                hint="The files are published; run the command by hand to see why it fails.",
            )  # fmt: skip
        elif self._words or self._callback is not None:
            log.debug("after_publish.done", generation=generation, seconds=round(time.monotonic() - began, 3))
        self._report("; ".join(failures) or None)

    async def finished(self, waiting: Callable[[str, float], None] | None = None) -> None:
        """Wait until nothing runs any more. `waiting` is told the reason and the seconds that it may take."""
        began = time.monotonic()
        while self._running is not None and not self._running.done():
            if waiting is not None:
                waiting(RUNS, max(0.0, began + self._limit_s - time.monotonic()))
            await asyncio.wait({self._running}, timeout=_TICK_S)

    async def close(self) -> None:
        """Kill the command if it still runs."""
        if self._running is not None:
            self._running.cancel()
            await ended(self._running)

    # --- the two parts -----------------------------------------------------------------------------------

    async def _command(self, publication: Publication) -> None:
        if self._words:
            await run_command(self._words, variables(publication), self._limit_s)

    async def _call(self, publication: Publication) -> None:
        callback = self._callback
        if callback is None:
            return
        name = getattr(callback, "__qualname__", type(callback).__name__)
        if self._unfinished is not None and not self._unfinished.done():
            raise CommandFailed(f"{name} was not called: its last call has not returned")
        try:
            if is_async(callback):
                await self._within_limit(asyncio.ensure_future(_awaited(callback(publication))), name)
                return
            result = await self._within_limit(in_daemon_thread(callback, publication), name)
            if inspect.isawaitable(result):  # a lambda or a partial that returns a coroutine
                await self._within_limit(asyncio.ensure_future(_awaited(result)), name)
        except CommandFailed:
            raise
        except Exception as error:
            raise CommandFailed(f"{name} raised {type(error).__name__}: {error}") from error

    async def _within_limit(self, work: asyncio.Future[Any], name: str) -> Any:
        """The result of the function. One that is not done in time is cancelled; a thread continues alone."""
        work.add_done_callback(lambda done: None if done.cancelled() else done.exception())
        try:
            done, _ = await asyncio.wait({work}, timeout=self._limit_s)
        except asyncio.CancelledError:
            work.cancel()
            raise
        if done:
            return work.result()
        self._unfinished = work
        if isinstance(work, asyncio.Task):
            work.cancel()
            await asyncio.wait({work}, timeout=GRACE_S)
        raise CommandFailed(f"{name} has not returned after {self._limit_s:g} s")


def variables(publication: Publication) -> dict[str, str]:
    """The environment variables that describe a publish to a command."""
    names = publication.changed_files
    listed = "\n".join(names)
    short = len(names) <= MOST_NAMES and len(os.fsencode(listed)) <= MOST_BYTES
    return {
        "AUTOEXPORT_MANIFEST": str(publication.manifest_path),
        "AUTOEXPORT_DIRECTORY": str(publication.directory),
        "AUTOEXPORT_GENERATION": str(publication.manifest.generation),
        "AUTOEXPORT_CHANGED_FILES": listed if short else ALL_FILES,
    }


def is_async(callback: Callback) -> bool:
    """Whether calling it gives a coroutine, as far as one can tell without calling it."""
    called = getattr(type(callback), "__call__", None)  # noqa: B004 - an object with an async `__call__`
    return inspect.iscoroutinefunction(callback) or inspect.iscoroutinefunction(called)


async def _awaited(result: object | Awaitable[object]) -> object:
    return await result if inspect.isawaitable(result) else result


def publication_of(outcome: Outcome, settings: Settings) -> Publication | None:
    """The publish of an export; None if it published nothing."""
    if not outcome.published:
        return None
    return Publication(outcome.manifest, outcome.changed_files, settings.export_directory.absolute())
