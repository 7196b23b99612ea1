"""Small servers on loopback that answer as a test says, and a client that measures."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


@dataclass
class Received:
    """A server that keeps the requests that it received."""

    port: int = 0
    requests: list[bytes] = field(default_factory=list)

    def url(self, path: str = "/ping/geheim-4711?token=geheim-4712") -> str:
        """The URL of a path of this server."""
        return f"http://127.0.0.1:{self.port}{path}"


@contextlib.contextmanager
def answering(answer: Callable[[socket.socket], object]) -> Iterator[Received]:
    """A server that reads each request, remembers it and lets `answer` use the connection."""
    received = Received()

    def talk(connection: socket.socket, _: list[socket.socket]) -> None:
        with contextlib.suppress(OSError), connection:
            received.requests.append(connection.recv(65_536))
            answer(connection)

    with talking(talk) as received.port:
        yield received


@contextlib.contextmanager
def talking(talk: Callable[[socket.socket, list[socket.socket]], object]) -> Iterator[int]:
    """A server that lets `talk` use each connection, in a thread; its port.

    `talk` may add connections of its own to the open ones, which are shut down at the end.
    """
    listening = socket.create_server(("127.0.0.1", 0))
    open_ones: list[socket.socket] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            open_ones.append(connection)
            threading.Thread(target=talk, args=(connection, open_ones), daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        with contextlib.suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        for connection in open_ones:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        thread.join()


def sending(data: bytes) -> Callable[[socket.socket], object]:
    """An answer of these bytes."""
    return lambda connection: connection.sendall(data)


def fetch(
    address: str, path: str, *, accept: str = "", method: str = "GET", limit_s: float = 30.0
) -> tuple[int, str, str]:
    """The status, the media type and the text that a server answers. Raises `OSError` if it does not."""
    host, _, port = address.rpartition(":")
    connection = HTTPConnection(host, int(port), timeout=limit_s)
    try:
        connection.request(method, path, headers={"Accept": accept} if accept else {})
        response = connection.getresponse()
        return response.status, response.headers["Content-Type"], response.read().decode()
    finally:
        connection.close()


def quickest(action: Callable[[], object], times: int) -> float:
    """Seconds of the quickest of several turns: other work on the machine only adds to the others."""
    found = []
    for _ in range(times):
        began = time.perf_counter()
        action()
        found.append(time.perf_counter() - began)
    return min(found)
