"""Notifies systemd: ready, status, watchdog, stopping.

The protocol is that of sd_notify(3): datagrams of `NAME=value` lines to the socket in NOTIFY_SOCKET.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Mapping

_FEEDS_PER_LIMIT = 8


class SystemdNotifier:
    """Notifies the service manager that started this process; without one it does nothing.

    `watchdog_s` is the watchdog's limit in seconds; None if no watchdog is set.
    """

    def __init__(
        self, address: str | None, watchdog_s: float | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._address = address
        self._watchdog_s = watchdog_s
        self._clock = clock
        self._fed_at: float | None = None
        self._status = ""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> SystemdNotifier:
        """A notifier for NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID, as sd_watchdog_enabled(3) reads them."""
        meant = environ.get("WATCHDOG_PID") in (None, "", str(os.getpid()))
        limit = environ.get("WATCHDOG_USEC", "")
        watchdog_s = int(limit) / 1e6 if meant and limit.isdigit() and int(limit) else None
        return cls(environ.get("NOTIFY_SOCKET"), watchdog_s)

    def ready(self) -> None:
        """Report that the settings are valid and the work has begun."""
        self._send("READY=1")

    def stopping(self) -> None:
        """Report that the process has begun to stop."""
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        """Set the line that `systemctl status` shows."""
        line = " ".join(text.split())
        if line != self._status:
            self._status = line
            self._send(f"STATUS={line}")

    def progressed(self) -> None:
        """Feed the watchdog, if there is one, and not more often than it needs."""
        if self._watchdog_s is None:
            return
        now = self._clock()
        if self._fed_at is None or now - self._fed_at >= self._watchdog_s / _FEEDS_PER_LIMIT:
            self._fed_at = now
            self._send("WATCHDOG=1")

    def _send(self, message: str) -> None:
        if not self._address or self._address[0] not in "/@":
            return
        # A leading @ stands for the zero byte of an address in the abstract namespace (unix(7)).
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams,
        ):
            datagrams.setblocking(False)
            datagrams.sendto(message.encode("utf-8", "backslashreplace"), address)
