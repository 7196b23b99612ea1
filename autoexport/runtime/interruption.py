"""Interrupts the work of a process that is about to end: statements of a database, and long work in threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

_interrupted = threading.Event()
_interrupts: list[Callable[[], object]] = []


@contextmanager
def interruptible(interrupt: Callable[[], object]) -> Iterator[None]:
    """Inside, `interrupt_work` calls this function. It must not block."""
    _interrupts.append(interrupt)
    try:
        yield
    finally:
        _interrupts.remove(interrupt)


def is_interrupted() -> bool:
    """Whether this process is about to end: for long work in a thread, which cannot be cancelled."""
    return _interrupted.is_set()


def interrupt_work() -> None:
    """Interrupt all work in this process: it fails. Only for a process that is about to end."""
    _interrupted.set()
    for interrupt in tuple(_interrupts):
        with suppress(Exception):  # It only saves time.
            interrupt()
