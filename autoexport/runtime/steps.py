"""Tells that a long step of an export goes on, so that an export that is only large does not count as hanging."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

EVERY_S = 1.0
"""The time in seconds from one report to the next: the work calls for each piece."""


@dataclass(slots=True)
class _Steps:
    tell: Callable[[], object]
    told_at: float


_current: ContextVar[_Steps | None] = ContextVar("autoexport_steps", default=None)


@contextmanager
def telling_steps(tell: Callable[[], object]) -> Iterator[None]:
    """Call `tell` on the running event loop while work inside goes on, also that of threads that began inside."""
    loop = asyncio.get_running_loop()
    token = _current.set(_Steps(lambda: loop.call_soon_threadsafe(tell), time.monotonic()))
    try:
        yield
    finally:
        _current.reset(token)


def stepped() -> None:
    """Some bytes or rows more are done. Call it as often as you like, but only for work that was done."""
    steps = _current.get()
    if steps is not None and (now := time.monotonic()) - steps.told_at >= EVERY_S:
        steps.told_at = now
        steps.tell()
