"""A running exporter answers how it is through a socket in its state directory, so that an idle one need
not write its last check to disk to be believed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

SOCKET_NAME = "status.sock"
ANSWER_LIMIT_S = 3.0


class StatusSocket:
    """Whoever connects gets the report and nothing else; only this user and root can.

    To be opened by the holder of the leader lock, in its event loop: a loop that hangs does not answer.
    """

    def __init__(self, state: Path, answer: Callable[[], bytes]) -> None:
        self._state = state
        self._answer = answer
        self._socket: socket.socket | None = None
        self._file: os.stat_result | None = None

    @property
    def is_open(self) -> bool:
        """Whether there is an answer to be had; not every file system has sockets."""
        return self._socket is not None

    def open(self) -> None:
        """Listen, in place of what an earlier process left; where that is impossible, do not."""
        self.close()
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        listening.setblocking(False)
        try:
            with _short_path(self._state) as address:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(address)
                listening.bind(address)
                os.chmod(address, 0o600)
                self._file = os.lstat(address)
            listening.listen(16)
            asyncio.get_running_loop().add_reader(listening, self._serve, listening)
        except (OSError, NotImplementedError):
            listening.close()
            return
        self._socket = listening

    def _serve(self, listening: socket.socket) -> None:
        # A report is smaller than any socket's buffer: sending it cannot wait for the one who asked.
        with contextlib.suppress(OSError):
            connection, _ = listening.accept()
            with connection:
                connection.setblocking(False)
                connection.send(self._answer())

    def close(self) -> None:
        """Answer no more, and take the name away."""
        if self._socket is None:
            return
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
        self._socket = None
        with contextlib.suppress(OSError), _short_path(self._state) as address:
            # After the directory was removed and made anew, it may be that of another exporter.
            if self._file is not None and os.path.samestat(os.lstat(address), self._file):
                os.unlink(address)


def ask(state: Path) -> bytes | None:
    """What the exporter of this state directory answers; None where nobody does. Blocking."""
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as asking,
    ):
        asking.settimeout(ANSWER_LIMIT_S)
        with _short_path(state) as address:
            asking.connect(address)
        answer = b""
        while part := asking.recv(1 << 16):
            answer += part
        return answer or None
    return None


@contextlib.contextmanager
def _short_path(state: Path) -> Iterator[str]:
    """The socket's address; 108 bytes are the limit (unix(7)), which a state directory may exceed."""
    descriptor = os.open(state, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        through = f"/proc/self/fd/{descriptor}"
        yield f"{through if os.path.exists(through) else state}/{SOCKET_NAME}"
    finally:
        os.close(descriptor)
