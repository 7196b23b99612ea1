"""Counts the time that work waits: for others (a lock, a connection, a writer), or to spare the disk."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(slots=True)
class Waits:
    """The seconds waited so far, in all tasks and threads that this work has begun.

    `seconds` is the time for others. `sparing_s` is the time in which a file is written slowly.
    """

    seconds: float = 0.0
    sparing_s: float = 0.0


Tell = Callable[[str | None], None]
"""Takes what this work waits for, in a few words; None when it goes on."""

_tell: ContextVar[Tell | None] = ContextVar("autoexport_tell_waits", default=None)
_current: ContextVar[Waits | None] = ContextVar("autoexport_waits", default=None)


@contextmanager
def counting_waits() -> Iterator[Waits]:
    """Count the waits inside. Tasks and threads count as well if they began inside."""
    waits = Waits()
    token = _current.set(waits)
    try:
        yield waits
    finally:
        _current.reset(token)


@contextmanager
def waiting() -> Iterator[None]:
    """Count the time inside as waited."""
    began = time.monotonic()
    try:
        yield
    finally:
        waited(time.monotonic() - began)


@contextmanager
def telling_waits(tell: Tell) -> Iterator[None]:
    """Call `tell` when work inside waits for another process, and when it goes on."""
    token = _tell.set(tell)
    try:
        yield
    finally:
        _tell.reset(token)


def tell_wait(reason: str | None) -> None:
    """Tell what this work waits for; None when it goes on."""
    tell = _tell.get()
    if tell is not None:
        tell(reason)


def waited(seconds: float) -> None:
    """Count so many seconds as waited."""
    waits = _current.get()
    if waits is not None:
        waits.seconds += seconds


def spared(seconds: float) -> None:
    """Count so many seconds as waited to spare the disk."""
    waits = _current.get()
    if waits is not None:
        waits.sparing_s += seconds


@asynccontextmanager
async def turn(lock: asyncio.Lock) -> AsyncIterator[None]:
    """Hold a lock, and count the time until it is free as waited."""
    with waiting():
        await lock.acquire()
    try:
        yield
    finally:
        lock.release()
