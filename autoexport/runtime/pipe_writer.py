"""Writes messages to a pipe without blocking the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os

CAPACITY_BYTES = 1 << 20
"""The largest capacity that an unprivileged process may ask for (proc(5), `pipe-max-size`).

With the usual 64 KiB the reader waits for the rest of a message whenever this process is busy with the next one.
"""


def open_pipe() -> tuple[int, PipeWriter]:
    """A new pipe: the descriptor of its read end, which the caller closes, and a writer. Raises `OSError`."""
    read_end, write_end = os.pipe()
    with contextlib.suppress(OSError, AttributeError):  # macOS has no F_SETPIPE_SZ
        fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, CAPACITY_BYTES)
    os.set_blocking(write_end, False)
    return read_end, PipeWriter(write_end)


class PipeWriter:
    """Sends one message at a time; a task sends the part that does not fit into the pipe at once.

    It uses no thread: two threads that take turns several hundred times a second wait for each other longer than
    the writing takes. A message to a closed read end is dropped without an error: the reader's answers tell why.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._sending: asyncio.Task[None] | None = None

    def send(self, message: bytes) -> None:
        """Begin to send a message; the caller has waited until the previous one was `sent`."""
        if rest := _write(self._descriptor, memoryview(message)):
            self._sending = asyncio.create_task(_write_rest(self._descriptor, rest), name="autoexport: sending")

    async def sent(self, reader: asyncio.Task[object]) -> None:
        """Wait until the last message is sent, or until `reader`, the task that takes the answers, has ended.

        The pipe alone does not show that its reader is gone: another process may hold the read end open.
        """
        if self._sending is not None:
            await asyncio.wait({self._sending, reader}, return_when=asyncio.FIRST_COMPLETED)
            if self._sending.done():
                sending, self._sending = self._sending, None
                sending.result()

    async def close(self) -> None:
        """Give up what is not sent yet, and close the pipe; once."""
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.wait({self._sending})
        os.close(self._descriptor)


def _write(descriptor: int, message: memoryview) -> memoryview:
    """Write what fits into the pipe; the part of the message that did not fit, empty if the read end is closed."""
    try:
        while message:
            message = message[os.write(descriptor, message) :]
    except BlockingIOError:
        return message
    except ConnectionError:
        return message[:0]
    return message


async def _write_rest(descriptor: int, message: memoryview) -> None:
    loop, writable = asyncio.get_running_loop(), asyncio.Event()
    loop.add_writer(descriptor, writable.set)
    try:
        while message:
            await writable.wait()
            writable.clear()
            message = _write(descriptor, message)
    finally:
        loop.remove_writer(descriptor)
