"""Opens a private copy by its name, for reading."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import URL
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.pool import StaticPool

from autoexport.config.database_url import file_uri
from autoexport.sources.sqlite.gate import Gate
from autoexport.sources.sqlite.snapshot import CACHE_KIB, ReadingConnection


def copy_engine(copy: Path) -> AsyncEngine:
    """An engine that opens a private copy once."""
    # `immutable`: no other program knows this file, so SQLite need not lock it or look for a journal. If the URL
    # were a string, it would be decoded once more.
    query = {"mode": "ro", "immutable": "1", "uri": "true"}
    url = URL.create("sqlite+aiosqlite", database=file_uri(copy), query=query)
    return create_async_engine(url, poolclass=StaticPool, connect_args={"factory": ReadingConnection})


async def set_up(session: AsyncSession, *, helped: bool) -> AsyncConnection:
    """Open the copy and choose its cache; `helped`: a second thread helps SQLite to sort. Raises `DBAPIError`."""
    connection = await session.connection()
    await connection.exec_driver_sql(f"PRAGMA cache_size=-{CACHE_KIB}")
    await connection.exec_driver_sql(f"PRAGMA threads={int(helped)}")
    (await connection.exec_driver_sql("SELECT 1 FROM sqlite_master")).first()
    return connection


async def gate_of(session: AsyncSession) -> Gate:
    """The gate of the connection that reads."""
    raw: Any = (await (await session.connection()).get_raw_connection()).driver_connection
    gate: Gate = raw._conn.gate
    return gate
