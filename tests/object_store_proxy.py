"""A proxy before an S3 server that sees each request, and may kill a process, refuse, delay or cut it."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Literal
from urllib.parse import unquote

from tests.http_servers import talking
from tests.object_stores import Bucket

Decision = Literal["pass", "cut", "lose the answer", "hang"] | bytes
"""What becomes of a request; bytes are the answer that the client gets in place of the server's."""

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_STEP_BYTES = 1 << 16


def status(code: int, reason: str) -> bytes:
    """An answer without a body."""
    return f"HTTP/1.1 {code} {reason}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()


@dataclass
class Proxy:
    """A running proxy. `requests` are the methods and the paths so far. `drop` is a header that is not passed."""

    bucket: Bucket
    decide: Callable[[int, str], Decision]
    drop: bytes = b""
    requests: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def decision(self, line: bytes) -> Decision:
        """Count a request and decide."""
        method, path, _ = line.decode("ascii").split(" ")
        with self._lock:
            self.requests.append(f"{method} {unquote(path)}")
            return self.decide(len(self.requests), self.requests[-1])


@contextlib.contextmanager
def proxied(bucket: Bucket, decide: Callable[[int, str], Decision], drop: bytes = b"") -> Iterator[Proxy]:
    """A proxy before the server of a bucket; its own `bucket` is the same bucket, seen through it."""
    proxy = Proxy(bucket, decide, drop)
    with talking(lambda client, open_ones: _talk(client, bucket.port, proxy, open_ones)) as port:
        proxy.bucket = replace(bucket, port=port)
        yield proxy


def _talk(client: socket.socket, port: int, proxy: Proxy, open_ones: list[socket.socket]) -> None:
    """Forward the requests of one connection, one after the other; the answers go back as they come."""
    with contextlib.suppress(OSError), client, socket.create_connection(("127.0.0.1", port)) as server:
        open_ones.append(server)
        answering = threading.Event()
        answering.set()
        threading.Thread(target=_back, args=(server, client, answering), daemon=True).start()
        data = b""
        while True:
            while b"\r\n\r\n" not in data:
                more = client.recv(_STEP_BYTES)
                if not more:
                    return
                data += more
            head, _, data = data.partition(b"\r\n\r\n")
            decision = proxy.decision(head.partition(b"\r\n")[0])
            if decision == "cut":
                return
            if decision == "hang":
                client.recv(_STEP_BYTES, socket.MSG_WAITALL)
                while client.recv(_STEP_BYTES):
                    pass
                return
            if isinstance(decision, bytes) and decision != b"":
                client.sendall(decision)
                return
            if decision == "lose the answer":
                answering.clear()
            if proxy.drop:
                head = re.sub(rb"\r\n" + proxy.drop + rb":[^\r]*", b"", head, flags=re.IGNORECASE)
            found = _LENGTH.search(head)
            left = int(found[1]) if found else 0
            server.sendall(head + b"\r\n\r\n" + data[:left])
            left, data = max(0, left - len(data)), data[left:]
            while left:
                more = client.recv(min(left, _STEP_BYTES))
                if not more:
                    return
                server.sendall(more)
                left -= len(more)
            if decision == "lose the answer":
                answering.wait(10)  # the server has answered, which is kept from the client
                return


def _back(server: socket.socket, client: socket.socket, answering: threading.Event) -> None:
    with contextlib.suppress(OSError):
        while more := server.recv(_STEP_BYTES):
            if not answering.is_set():
                answering.set()
                return
            client.sendall(more)
        client.shutdown(socket.SHUT_WR)
