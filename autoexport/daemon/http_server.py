"""Serves small texts over HTTP in the event loop: metrics and health."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from autoexport.config.operations import Address
from autoexport.runtime.logs import get_logger

if TYPE_CHECKING:
    import h11

REQUEST_S = 5.0
"""Seconds in which a client has to send its request and read the answer."""

MOST_CLIENTS = 64
"""More connections at once are closed without an answer, so that they cannot use up the descriptors."""

_READ_BYTES = 8_192
_DEFECT = "Exports are not affected. Please report this."

log = get_logger()


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a request for one path."""

    text: bytes
    status: HTTPStatus = HTTPStatus.OK
    media_type: str = "text/plain; charset=utf-8"


Answerer = Callable[[str, str], Answer]
"""Gives the answer for a path without its query, and the value of the `Accept` header."""

NOT_FOUND = Answer(b"not found: there are /metrics, /healthz and /readyz\n", HTTPStatus.NOT_FOUND)


class HttpServer:
    """Answers GET and HEAD requests, one a connection. The `answer` must not wait for anything."""

    def __init__(self, address: Address, answer: Answerer) -> None:
        self._address = address
        self._answer = answer
        self._server: asyncio.Server | None = None
        self._clients: dict[asyncio.StreamWriter, asyncio.Task[None] | None] = {}

    async def open(self) -> Address:
        """Listen; returns the address with the real port. Raises `OSError` if that is not possible."""
        address = self._address
        self._server = await asyncio.start_server(self._serve, address.host, address.port, limit=_READ_BYTES)
        listening: socket.socket = self._server.sockets[0]
        host, port = listening.getsockname()[:2]
        return Address(host, port)

    async def close(self) -> None:
        """Stop listening, and drop the clients."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in self._clients:
            writer.transport.abort()
        # The end of the event loop would cancel these tasks, which asyncio of Python 3.11 logs as errors.
        if tasks := [task for task in self._clients.values() if task is not None]:
            await asyncio.wait(tasks, timeout=REQUEST_S)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._clients) >= MOST_CLIENTS:
            writer.transport.abort()
            return
        self._clients[writer] = asyncio.current_task()
        try:
            # OSError: the client has gone. TimeoutError is one as well.
            with contextlib.suppress(OSError):
                async with asyncio.timeout(REQUEST_S):
                    await self._reply(reader, writer)
        finally:
            del self._clients[writer]
            writer.transport.abort()

    async def _reply(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        import h11

        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=_READ_BYTES)
        request = None
        try:
            request = await _request(connection, reader)
            if request is None:
                return
            answer = self._answered(request)
        except h11.RemoteProtocolError as error:
            answer = Answer(b"this is no request\n", HTTPStatus(error.error_status_hint))
        headers = [
            ("Content-Type", answer.media_type),
            ("Content-Length", str(len(answer.text))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            ("Connection", "close"),
        ]
        for event in (
            h11.Response(status_code=answer.status, headers=headers, reason=answer.status.phrase),
            h11.Data(data=answer.text if request is None or request.method != b"HEAD" else b""),
            h11.EndOfMessage(),
        ):
            writer.write(connection.send(event) or b"")
        await writer.drain()
        writer.write_eof()
        # A socket that is closed before the client has read everything may lose the end of the answer.
        while await reader.read(_READ_BYTES):
            pass

    def _answered(self, request: h11.Request) -> Answer:
        if request.method not in (b"GET", b"HEAD"):
            return Answer(b"only GET\n", HTTPStatus.METHOD_NOT_ALLOWED)
        accept = next((value for name, value in request.headers if name == b"accept"), b"")
        path = request.target.decode("ascii", "replace").partition("?")[0]
        try:
            return self._answer(path, accept.decode("latin-1"))
        except Exception as error:  # noqa: BLE001 - the next request may be another one
            log.warning("listen.error", path=path, error=f"{type(error).__name__}: {error}", hint=_DEFECT)
            return Answer(b"the exporter has a defect\n", HTTPStatus.INTERNAL_SERVER_ERROR)


async def _request(connection: h11.Connection, reader: asyncio.StreamReader) -> h11.Request | None:
    """The next request; None if the client closes the connection first. Raises `RemoteProtocolError`."""
    import h11

    while (event := connection.next_event()) is h11.NEED_DATA:
        connection.receive_data(await reader.read(_READ_BYTES))
    return event if isinstance(event, h11.Request) else None
