"""Connects to PostgreSQL: keeps no connection open, notices a dead network."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from uuid import uuid4

import asyncpg
from sqlalchemy import URL
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from autoexport.config.database_url import DRIVER_OPTIONS, DatabaseURL
from autoexport.config.libpq import connect_timeout_s, server_settings, ssl_mode
from autoexport.errors import ConfigurationError
from autoexport.sources.postgres.errors import DRIVER_ERRORS

CONNECT_TIMEOUT_S = 15.0
CLOSE_TIMEOUT_S = 2.0
_QUIET_S, _BETWEEN_S, _PROBES = 60, 10, 6
"""Seconds, seconds and number: the kernel probes a connection that is silent for a minute, and gives it up after
another minute."""


class LivelyConnection(asyncpg.Connection):  # type: ignore[misc]
    """A connection that notices, by TCP keepalive, a server that disappeared without closing it."""

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


def make_engine(url: DatabaseURL, *, prepared_statements: bool) -> AsyncEngine:
    """An engine that opens each connection on demand and closes it as soon as it is released.

    Raises `ConfigurationError` if a certificate file of the URL cannot be used.
    """
    arguments = connect_args(url)
    arguments.setdefault("timeout", CONNECT_TIMEOUT_S)
    arguments["connection_class"] = LivelyConnection
    if not prepared_statements:
        arguments |= {
            "statement_cache_size": 0,
            "prepared_statement_cache_size": 0,
            "prepared_statement_name_func": unique_name,
        }
    return create_async_engine(engine_url(url), poolclass=NullPool, connect_args=arguments, hide_parameters=True)


def engine_url(url: DatabaseURL) -> URL:
    """The URL for SQLAlchemy, with asyncpg as the driver; `connect_args` gives all that it cannot hold."""
    host, port = url.hosts[0] if len(url.hosts) == 1 else (None, None)
    return URL.create("postgresql+asyncpg", url.user, url.password, host, port, url.database)


def connect_args(url: DatabaseURL) -> dict[str, object]:
    """The keyword arguments of `asyncpg.connect` beyond host, port, user, password and database.

    Raises `ConfigurationError` if a certificate file cannot be used.
    """
    arguments: dict[str, object] = {name: url.options[name] for name in DRIVER_OPTIONS if name in url.options}
    if len(url.hosts) > 1:
        arguments["host"] = [host for host, _ in url.hosts]
        arguments["port"] = [port or 5432 for _, port in url.hosts]
    if timeout_s := connect_timeout_s(url.options):
        arguments["timeout"] = timeout_s
    if (tls := _tls(url.options)) is not None:
        arguments["ssl"] = tls
    arguments["server_settings"] = server_settings(url.options)
    return arguments


def _tls(options: Mapping[str, str]) -> str | ssl.SSLContext | None:
    """asyncpg's argument `ssl`: libpq's mode, or a context if the options name files.

    The meaning of the modes is libpq's (PostgreSQL manual, sections 34.1.2 and 34.19).
    """
    mode = ssl_mode(options)
    root, certificate = options.get("sslrootcert"), options.get("sslcert")
    if not root and not certificate:
        return mode
    if mode in ("disable", "allow", "prefer"):
        return mode  # these modes do not verify the server, whatever files are named
    try:
        context = ssl.create_default_context(cafile=None if root in (None, "system") else root)
        if root is None:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        elif mode != "verify-full" and root != "system":
            context.check_hostname = False  # with a root file, "require" means verify-ca (manual, 34.19.1)
        if certificate:
            context.load_cert_chain(certificate, options.get("sslkey"), options.get("sslpassword"))
    except OSError as exc:  # ssl.SSLError is one
        raise ConfigurationError(
            f"A certificate file of the database URL cannot be used: {exc.strerror or exc}.",
            hint="Check the paths in sslrootcert, sslcert and sslkey, and that this user may read them.",
        ) from exc
    return context


def unique_name() -> str:
    """A statement name that no other client of a pooled session uses."""
    return f"autoexport_{uuid4()}"


async def driver_of(connection: AsyncConnection) -> Any:
    """The driver's own connection."""
    return (await connection.get_raw_connection()).driver_connection


async def close_in_time(close: Callable[[], Awaitable[None]], driver: Any) -> None:
    """Close, within `CLOSE_TIMEOUT_S` even if the server does not answer. Errors while closing are ignored."""
    with contextlib.suppress(*DRIVER_ERRORS):
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            await close()
        return
    driver.terminate()


async def decode_leniently(connection: AsyncConnection) -> None:
    """Decode invalid bytes as lone surrogates, which the value rules then repair and count."""
    driver = await driver_of(connection)
    await driver.execute("SET LOCAL client_encoding = 'SQL_ASCII'")  # else the server refuses to send them
    for name in ("text", "varchar", "bpchar", "name"):
        await driver.set_type_codec(
            name, schema="pg_catalog", format="binary", encoder=_to_bytes, decoder=_from_bytes
        )


def _to_bytes(value: str) -> bytes:
    return value.encode("utf-8", "surrogateescape")


def _from_bytes(value: bytes) -> str:
    return bytes(value).decode("utf-8", "surrogateescape")
