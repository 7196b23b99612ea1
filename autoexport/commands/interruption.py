"""Ends a command within a second when a signal asks for it: one line, the old files whole, no traceback."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from autoexport.runtime.interruption import interrupt_work
from autoexport.runtime.tasks import ended

LEAVE_S = 0.8
"""How long the work may take to end after the signal. Then the process ends; the next start removes its files."""

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """A signal has ended the command. `exit_code` is 128 plus its number, as shells have it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = 128 + number


async def until_interrupted(work: Coroutine[Any, Any, int], leave: Callable[[int], None]) -> int:
    """Do the work and return its exit code.

    SIGINT, SIGTERM and SIGHUP cancel it and interrupt its statements: this raises `Interrupted`. If the work does
    not end in time, or at a second signal, `leave` is called with the exit code in another thread: it ends the
    process. A signal that is ignored at the start stays ignored.
    """
    task = asyncio.create_task(work, name="command")
    received: list[int] = []

    def receive(number: signal.Signals) -> None:
        late_s = 0.0 if received else LEAVE_S
        received.append(number)
        timer = threading.Timer(late_s, leave, args=(128 + received[0],))
        timer.daemon = True
        timer.start()
        _silence()
        interrupt_work()
        task.cancel()

    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, receive, number)
    await ended(task)
    if received and (task.cancelled() or task.exception() is not None):
        raise Interrupted(received[0])
    return task.result()


def _silence() -> None:
    """Let libraries say nothing about the work that was given up. The process is about to end."""
    logging.disable(logging.CRITICAL)
    sys.unraisablehook = lambda _: None
