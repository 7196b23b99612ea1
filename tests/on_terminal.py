"""Runs the program on a terminal of 80 columns and reads the screen."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import sys
import termios
from collections.abc import Callable, Mapping, Sequence

from tests.conftest import program_environment
from tests.daemon import wait_until
from tests.processes import started

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """The program on a terminal of 80 columns; `shown` is everything that it wrote so far."""

    def __init__(self, master: int) -> None:
        self.master = master
        self.shown = ""
        os.set_blocking(master, False)

    def read(self) -> bool:
        """Read what there is; whether the terminal is still open."""
        try:
            while chunk := os.read(self.master, 65536):
                self.shown += chunk.decode().replace("\r\n", "\n")
        except BlockingIOError:
            return True
        except OSError:  # Linux says EIO when the last writer has closed it
            return False
        return False

    def wait_for(self, awaited: str | Callable[[], object]) -> None:
        """Wait until a text is on the screen or a condition holds."""

        def holds() -> bool:
            self.read()
            return awaited in self.shown if isinstance(awaited, str) else bool(awaited())

        wait_until(holds, f"{awaited!r} on the terminal")

    def lines(self) -> list[str]:
        """The lines without escape sequences."""
        return [ESCAPE.sub("", line) for line in self.shown.splitlines()]


def on_terminal(
    *arguments: str,
    env: Mapping[str, str] | None = None,
    keys: Sequence[tuple[str | Callable[[], object], str]] = (),
) -> Terminal:
    """Run the program in the working directory, on a terminal, to its end.

    `keys`: a text on the screen or a condition to wait for, and the keys to send then.
    """
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environment = program_environment({"TERM": "xterm-256color", **(env or {})})
    for name in ("NO_COLOR", "COLUMNS"):
        if name not in (env or {}):
            environment.pop(name, None)
    command = [sys.executable, "-m", "autoexport", *arguments]

    def control_terminal() -> None:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    with started(
        command, stdin=slave, stdout=slave, stderr=slave, env=environment, preexec_fn=control_terminal
    ) as process:
        os.close(slave)
        terminal = Terminal(master)
        for awaited, sent in keys:
            terminal.wait_for(awaited)
            os.write(master, sent.encode())
        wait_until(lambda: not terminal.read(), "the program ended")
        process.wait()
        os.close(master)
    return terminal
