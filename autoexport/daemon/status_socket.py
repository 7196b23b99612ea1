"""Serves the report of a running exporter through a socket in its state directory.

So an idle exporter need not write every check to disk to prove that it still checks.
"""

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
    """Sends the report to each program that connects; only this user and root can connect.

    The holder of the leader lock opens it in its event loop: so a loop that hangs does not answer.
    """

    def __init__(self, state: Path, answer: Callable[[], bytes]) -> None:
        self._state = state
        self._answer = answer
        self._socket: socket.socket | None = None
        self._file: os.stat_result | None = None

    @property
    def is_open(self) -> bool:
        """Whether it answers: not every file system supports sockets."""
        return self._socket is not None

    def open(self) -> None:
        """Listen, in place of a socket that an earlier process left behind. If that fails, stay closed."""
        self.close()
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
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
        # A report is smaller than any socket's buffer: sending it never waits for the client.
        with contextlib.suppress(OSError):
            connection, _ = listening.accept()
            with connection:
                connection.setblocking(False)
                connection.send(self._answer())

    def close(self) -> None:
        """Stop answering, and remove the socket's name."""
        if self._socket is None:
            return
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
        self._socket = None
        with contextlib.suppress(OSError), _short_path(self._state) as address:
            # If the state directory was removed and made again, the name may belong to another exporter.
            if self._file is not None and os.path.samestat(os.lstat(address), self._file):
                os.unlink(address)


def ask(state: Path) -> bytes | None:
    """The answer of the exporter that uses this state directory; None if none answers. Blocking."""
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client,
    ):
        client.settimeout(ANSWER_LIMIT_S)
        with _short_path(state) as address:
            client.connect(address)
        answer = b""
        while part := client.recv(1 << 16):
            answer += part
        return answer or None
    return None


@contextlib.contextmanager
def _short_path(state: Path) -> Iterator[str]:
    """The socket's address through /proc: addresses are limited to 108 bytes (unix(7)), paths are not."""
    descriptor = os.open(state, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        directory = f"/proc/self/fd/{descriptor}"
        yield f"{directory if os.path.exists(directory) else state}/{SOCKET_NAME}"
    finally:
        os.close(descriptor)
