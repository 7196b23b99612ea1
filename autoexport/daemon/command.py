"""Runs a command of the operator without a shell, with a time limit, and keeps the end of its output."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence

from autoexport.runtime.tasks import ended

GRACE_S = 1.0
"""Time between SIGTERM and SIGKILL, for a command that is over its limit."""

_TAIL_BYTES = 2_000
_OWN_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")
"""Variables of the service manager that are meant for the exporter alone."""


class CommandFailed(Exception):
    """A command could not be started, failed, or was over its limit; the message says which, in a few words."""


async def run_command(words: Sequence[str], environment: Mapping[str, str], limit_s: float) -> None:
    """Run a program with its arguments, and with these variables beside those of the exporter.

    Its standard input is empty. It is the leader of a session, and after `limit_s` seconds the whole session gets
    SIGTERM, then SIGKILL. Cancelling the caller ends it as well. Raises `CommandFailed`.
    """
    inherited = {name: value for name, value in os.environ.items() if name not in _OWN_VARIABLES}
    with _Output() as output:
        try:
            process = await asyncio.create_subprocess_exec(
                *words, env={**inherited, **environment}, stdin=asyncio.subprocess.DEVNULL,
                stdout=output.write_end, stderr=output.write_end, start_new_session=True,
            )  # fmt: skip
        except (OSError, ValueError, NotImplementedError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
            raise CommandFailed(f"{words[0]} cannot be started: {reason}") from error
        output.listen()
        waiting = asyncio.ensure_future(process.wait())
        try:
            done, _ = await asyncio.wait({waiting}, timeout=limit_s)
        except BaseException:
            _signal(process.pid, signal.SIGKILL)
            await ended(waiting)
            raise
        if not done:
            _signal(process.pid, signal.SIGTERM)
            await asyncio.wait({waiting}, timeout=GRACE_S)
            _signal(process.pid, signal.SIGKILL)
            await asyncio.wait({waiting}, timeout=GRACE_S)  # one that waits for a dead disk does not end
            raise CommandFailed(f"{words[0]} was ended after {limit_s:g} s{output.last_line()}")
        if process.returncode:
            raise CommandFailed(f"{words[0]} {_ending(process.returncode)}{output.last_line()}")


def _signal(group: int, number: signal.Signals) -> None:
    # The group exists as long as any of its members does, also after its leader has ended.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _ending(code: int) -> str:
    if code > 0:
        return f"failed with exit code {code}"
    with contextlib.suppress(ValueError):
        return f"was ended by {signal.Signals(-code).name}"
    return f"was ended by signal {-code}"


class _Output:
    """A pipe for the output of a command, of which only the end is kept.

    It is no pipe of asyncio's process: that waits until every writer has closed it, and a command may leave a
    process behind that never does.
    """

    def __init__(self) -> None:
        self._read_end, self.write_end = os.pipe()
        os.set_blocking(self._read_end, False)
        self._loop = asyncio.get_running_loop()
        self._tail = b""

    def __enter__(self) -> _Output:
        return self

    def listen(self) -> None:
        """Read what is written from now on; only the command has the other end."""
        os.close(self.write_end)
        self.write_end = -1
        self._loop.add_reader(self._read_end, self._read)

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            data = os.read(self._read_end, 1 << 16)
            self._tail = (self._tail + data)[-_TAIL_BYTES:]
            if not data:
                self._loop.remove_reader(self._read_end)

    def last_line(self) -> str:
        """The last line of the output after a colon; nothing if there is none."""
        self._read()
        lines = [line for line in self._tail.decode("utf-8", "replace").splitlines() if line.strip()]
        return f": {lines[-1].strip()[-200:]}" if lines else ""

    def __exit__(self, *_: object) -> None:
        self._loop.remove_reader(self._read_end)
        os.close(self._read_end)
        if self.write_end >= 0:
            os.close(self.write_end)
