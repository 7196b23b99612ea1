"""Connects to PostgreSQL: keeps no connection open, notices a dead network."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import os
import random
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from inspect import signature
from typing import Any
from uuid import uuid4

import asyncpg
from sqlalchemy import URL
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from autoexport.config.address import DatabaseURL
from autoexport.config.libpq import connect_timeout_s, server_settings, ssl_mode, tcp_options
from autoexport.config.libpq_files import password_from_file
from autoexport.errors import ConfigurationError
from autoexport.sources.postgres.errors import DRIVER_ERRORS

CONNECT_TIMEOUT_S = 15.0
OPEN_TIMEOUT_S = 5.0
"""Time limit for opening a connection beside another: a pool without a spare one would let it wait."""

CLOSE_TIMEOUT_S = 2.0
_QUIET_S, _BETWEEN_S, _PROBES = 60, 10, 6
"""Seconds, seconds and number: the kernel probes a connection that is silent for a minute, and gives it up after
another minute."""


class LivelyConnection(asyncpg.Connection):  # type: ignore[misc]
    """A connection that notices, by TCP keepalive, a server that disappeared without closing it."""

    tcp_options: Mapping[str, int] = {}
    """The options of its socket by name; those that a system lacks are passed over."""

    def __init__(self, protocol: Any, transport: asyncio.Transport, *arguments: Any, **named: Any) -> None:
        super().__init__(protocol, transport, *arguments, **named)
        opened = transport.get_extra_info("socket")
        if opened is None or opened.family not in (socket.AF_INET, socket.AF_INET6) or not self.tcp_options:
            return
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in self.tcp_options.items():
            if hasattr(socket, name):
                opened.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _connection_class(parameters: Mapping[str, str]) -> type[LivelyConnection]:
    """A class of connections with the keepalive of these parameters, or else with ours."""
    options = tcp_options(parameters, {"idle": _QUIET_S, "interval": _BETWEEN_S, "count": _PROBES})
    return type("LivelyConnection", (LivelyConnection,), {"tcp_options": options})


def make_engine(url: DatabaseURL, *, prepared_statements: bool) -> AsyncEngine:
    """An engine that opens each connection on demand and closes it as soon as it is released.

    Raises `ConfigurationError` if a certificate file of the URL cannot be used.
    """
    arguments = connect_args(url)
    arguments.setdefault("timeout", CONNECT_TIMEOUT_S)
    arguments["connection_class"] = _connection_class(url.parameters)
    if not prepared_statements:
        arguments |= {
            "statement_cache_size": 0,
            "prepared_statement_cache_size": 0,
            "prepared_statement_name_func": unique_name,
        }
    return create_async_engine(engine_url(url), poolclass=NullPool, connect_args=arguments, hide_parameters=True)


def engine_url(url: DatabaseURL) -> URL:
    """The URL for SQLAlchemy, with asyncpg as the driver; `connect_args` gives all that it cannot hold."""
    hosts = _addresses(url)
    host, port = hosts[0] if len(hosts) == 1 else (None, None)
    return URL.create("postgresql+asyncpg", url.user, url.password, host, port, url.database)


def connect_args(url: DatabaseURL) -> dict[str, object]:
    """The keyword arguments of `asyncpg.connect` beyond host, port, user, password and database.

    Raises `ConfigurationError` if a certificate file cannot be used, or no user is known.
    """
    arguments: dict[str, object] = {}
    hosts = _addresses(url)
    if len(hosts) > 1:
        arguments["host"] = [host for host, _ in hosts]
        arguments["port"] = [port or 5432 for _, port in hosts]
    if (password := _password(url)) is not None:
        arguments["password"] = password
    if state := url.parameters.get("target_session_attrs"):
        if "target_session_attrs" not in signature(asyncpg.connect).parameters:
            raise ConfigurationError("target_session_attrs needs asyncpg 0.28.", hint="Install a newer asyncpg.")
        arguments["target_session_attrs"] = state
    if timeout_s := connect_timeout_s(url.parameters):
        arguments["timeout"] = timeout_s
    if (tls := _tls(url.parameters)) is not None:
        arguments["ssl"] = tls
    arguments["server_settings"] = server_settings(url.parameters)
    return arguments


def _addresses(url: DatabaseURL) -> list[tuple[str, int | None]]:
    """The hosts to connect to: by their addresses where these are given, in any order where that is asked for."""
    hosts = list(url.hosts)
    if addresses := [item.strip() for item in url.parameters.get("hostaddr", "").split(",") if item.strip()]:
        if ssl_mode(url.parameters) == "verify-full":
            raise ConfigurationError(
                "hostaddr cannot be used with sslmode=verify-full.", hint="Leave hostaddr out, or use verify-ca."
            )
        if hosts and len(hosts) != len(addresses):
            raise ConfigurationError("hostaddr and host have different lengths.", hint="Give one for each host.")
        ports = [port for _, port in hosts] or [None] * len(addresses)
        hosts = list(zip(addresses, ports, strict=True))
    if url.parameters.get("load_balance_hosts") == "random":
        random.shuffle(hosts)
    return hosts


def _password(url: DatabaseURL) -> str | None:
    """The password of the password file, if the URL and PGPASSWORD have none.

    asyncpg reads that file too, but takes escaped colons and backslashes for parts of the password.
    """
    environ = os.environ
    if url.password is not None or environ.get("PGPASSWORD"):
        return None
    user = url.user or environ.get("PGUSER") or _login_name()
    database = url.database or environ.get("PGDATABASE") or user
    hosts = url.hosts or tuple((host, None) for host in (environ.get("PGHOST") or "localhost").split(","))
    places = [(host, str(port or environ.get("PGPORT") or 5432)) for host, port in hosts]
    return password_from_file(url.parameters.get("passfile"), places, database, user, environ)


def _login_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError) as error:
        raise ConfigurationError(
            "The database URL names no user, and this user id has no name.",
            hint="Name a user in the URL: postgresql://user@host/name.",
        ) from error


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
