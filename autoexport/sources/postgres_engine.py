"""How PostgreSQL is connected to: none kept, a dead network noticed."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from autoexport.database_url import DatabaseURL
from autoexport.settings import Settings
from autoexport.sources.postgres_errors import DRIVER_ERRORS

CONNECT_TIMEOUT_S = 15.0
CLOSE_TIMEOUT_S = 2.0
_QUIET_S, _BETWEEN_S, _PROBES = 60, 10, 6
"""After a minute without a byte the network is probed; a minute later the connection counts as lost."""


class LivelyConnection(asyncpg.Connection):  # type: ignore[misc]
    """A connection that does not wait for ever for a server that is gone without a word."""

    def __init__(self, protocol: Any, transport: asyncio.Transport, *arguments: Any, **named: Any) -> None:
        super().__init__(protocol, transport, *arguments, **named)
        opened = transport.get_extra_info("socket")
        if opened is None or opened.family not in (socket.AF_INET, socket.AF_INET6):
            return
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in (
            ("TCP_KEEPIDLE", _QUIET_S),
            ("TCP_KEEPINTVL", _BETWEEN_S),
            ("TCP_KEEPCNT", _PROBES),
        ):
            if hasattr(socket, name):
                opened.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def make_engine(url: DatabaseURL, settings: Settings) -> AsyncEngine:
    """An engine that opens a connection when asked and closes it when it is given back."""
    arguments = dict(url.connect_args())
    arguments.setdefault("timeout", CONNECT_TIMEOUT_S)
    arguments["connection_class"] = LivelyConnection
    if not settings.pg_prepared_statements:
        arguments |= {
            "statement_cache_size": 0,
            "prepared_statement_cache_size": 0,
            "prepared_statement_name_func": unique_name,
        }
    return create_async_engine(url.url, poolclass=NullPool, connect_args=arguments, hide_parameters=True)


def unique_name() -> str:
    """A name that no other client of a pooled session has given to a statement."""
    return f"autoexport_{uuid4()}"


async def driver_of(connection: AsyncConnection) -> Any:
    """The driver's own connection."""
    return (await connection.get_raw_connection()).driver_connection


async def close_in_time(close: Callable[[], Awaitable[None]], driver: Any) -> None:
    """Close, and without the server where it does not answer. What goes wrong meanwhile has no consequence."""
    with contextlib.suppress(*DRIVER_ERRORS):
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            await close()
        return
    driver.terminate()


async def decode_leniently(connection: AsyncConnection) -> None:
    """Let invalid bytes through as lone surrogates, which the value rules then repair and count."""
    driver = await driver_of(connection)
    await driver.execute("SET LOCAL client_encoding = 'SQL_ASCII'")  # or the server refuses to send them
    for name in ("text", "varchar", "bpchar"):
        await _set_lenient_codec(driver, name)
    # asyncpg up to 0.30 takes the type `name` for an array and refuses the codec. Names of tables and columns with
    # invalid bytes then stay an error.
    with contextlib.suppress(asyncpg.InterfaceError):
        await _set_lenient_codec(driver, "name")


async def _set_lenient_codec(driver: Any, name: str) -> None:
    await driver.set_type_codec(name, schema="pg_catalog", format="binary", encoder=_to_bytes, decoder=_from_bytes)


def _to_bytes(value: str) -> bytes:
    return value.encode("utf-8", "surrogateescape")


def _from_bytes(value: bytes) -> str:
    return bytes(value).decode("utf-8", "surrogateescape")
