"""Limits that a server, a pooler or a firewall sets for sessions and transactions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import cast

import pytest

from autoexport.errors import SourceError
from autoexport.sources.reader import SnapshotReader
from tests.contracts.postgres_snapshots import snapshot_of, source_of
from tests.daemon import wait_until
from tests.postgres import PostgresServer
from tests.postgres_connection import PostgresConnection
from tests.trials import Trial

END_OURS = "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE " + (
    "application_name = 'autoexport' AND datname = current_database()"
)
OUR_SESSIONS = "SELECT pid FROM pg_stat_activity WHERE application_name = 'autoexport'"


def checks_of(url: str, interval_s: float = 0.01) -> aclosing[AsyncGenerator[bool]]:
    """The checks of a new source."""
    checks = source_of(url).checks(interval_s, hooks=False, wake=asyncio.Event())
    return aclosing(cast("AsyncGenerator[bool]", checks))


@contextmanager
def limited(server: PostgresServer, url: str, setting: str) -> Iterator[None]:
    """The database sets a parameter for all new sessions."""
    server.admin(f"ALTER DATABASE {url.rpartition('/')[2]} SET {setting}")
    yield


async def test_a_short_idle_session_timeout(postgres_server: PostgresServer, url: str) -> None:
    """The server's limit for idle sessions is below the interval: the checks go on, on the same connection."""
    with limited(postgres_server, url, "idle_session_timeout = '50ms'"):
        async with checks_of(url, interval_s=0.3) as checks:
            sessions = set()
            for _ in range(4):
                await anext(checks)
                sessions |= set(postgres_server.admin(OUR_SESSIONS))
            assert len(sessions) == 1


async def test_a_connection_that_died_between_checks(url: str, application: PostgresConnection) -> None:
    """It is opened again without a word, and a commit made meanwhile is found."""
    async with checks_of(url) as checks:
        assert await anext(checks)
        for _ in range(2):
            application.execute("UPDATE images SET filename = filename")
            assert application.execute(END_OURS) == [(1,)]
            assert await anext(checks)
        assert not await anext(checks)


async def test_a_fresh_connection_that_fails(
    postgres_server: PostgresServer, url: str, application: PostgresConnection
) -> None:
    """The error is that of the connection that was opened again."""
    async with checks_of(url) as checks:
        assert await anext(checks)
        postgres_server.admin(f"ALTER DATABASE {url.rpartition('/')[2]} CONNECTION LIMIT 0")
        application.execute(END_OURS)
        with pytest.raises(SourceError, match="too many connections"):
            await anext(checks)


@pytest.mark.parametrize(
    "setting",
    [
        "transaction_timeout = '1ms'",
        "idle_in_transaction_session_timeout = '20ms'",
        "idle_session_timeout = '20ms'",
        "lock_timeout = '1ms'",
    ],
)
async def test_a_limit_for_short_transactions(postgres_server: PostgresServer, url: str, setting: str) -> None:
    """An export that takes longer than the server's limits for an application is complete."""
    if setting.startswith("transaction_timeout") and postgres_server.major < 17:
        pytest.skip("transaction_timeout came with PostgreSQL 17")
    idle = "SELECT now() - state_change > '100ms' FROM pg_stat_activity WHERE state = 'idle in transaction'"
    with limited(postgres_server, url, setting):
        async with snapshot_of(url) as (snapshot, mapping):
            wait_until(lambda: (True,) in postgres_server.admin(idle), "the snapshot is idle for a while")
            totals = await SnapshotReader(snapshot, mapping).totals()
            assert totals.live["images"] > 0


def test_a_statement_timeout_is_named(postgres_server: PostgresServer, url: str, tmp_path: Path) -> None:
    """Of the role's own statement_timeout the error says where to raise it."""
    with PostgresConnection(url) as application, limited(postgres_server, url, "statement_timeout = '1ms'"):
        application.script(
            "ALTER TABLE annotations RENAME TO slow; CREATE SCHEMA apart;"
            "ALTER TABLE slow SET SCHEMA apart; CREATE VIEW annotations AS "
            "SELECT slow.* FROM apart.slow, pg_sleep(1) WHERE pg_sleep IS NOT NULL"
        )
        with pytest.raises(SourceError, match="statement timeout") as raised:
            Trial(url, tmp_path / "exports").export()
        assert "statement_timeout" in raised.value.hint
