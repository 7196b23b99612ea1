"""A role or a database that may have one connection at a time."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from autoexport import Settings, exporting
from autoexport.errors import SourceError
from autoexport.runtime.waits import counting_waits
from tests.conftest import run_autoexport
from tests.contracts.postgres_snapshots import source_of
from tests.contracts.test_postgres_limits import checks_of
from tests.daemon import Daemon
from tests.postgres import PostgresServer


@pytest.fixture
def narrow_url(postgres_server: PostgresServer, url: str) -> str:
    """The sample rows in a database that takes one connection."""
    postgres_server.admin(f"ALTER DATABASE {url.rpartition('/')[2]} CONNECTION LIMIT 1")
    return url


def rename(server: PostgresServer, url: str, name: str) -> None:
    """A commit of a superuser, for whom the limit does not count."""
    server.admin("UPDATE projects SET name = ?", name, database=url.rpartition("/")[2])


async def test_checks_make_room_for_a_snapshot(postgres_server: PostgresServer, narrow_url: str) -> None:
    """While a snapshot is open nothing is checked; what was committed meanwhile is found afterwards."""
    source, wake = source_of(narrow_url), asyncio.Event()
    checks = source.checks(0.01, hooks=False, wake=wake)
    assert await anext(checks)
    for number in range(3):
        async with source.snapshot():
            assert not await anext(checks)
            rename(postgres_server, narrow_url, f"name {number}")
            assert not await anext(checks)
        assert await anext(checks)
        assert not await anext(checks)
    await checks.aclose()  # type: ignore[attr-defined]


def test_a_daemon(postgres_server: PostgresServer, narrow_url: str, tmp_path: Path) -> None:
    """It publishes at first and after each change, without an error."""
    with Daemon(narrow_url, tmp_path / "exports", interval_s=0.1) as daemon:
        daemon.wait_for("export.published")
        for count in (2, 3):
            rename(postgres_server, narrow_url, f"name {count}")
            daemon.wait_for("export.published", count)
        assert not daemon.events("cycle.failed")


async def test_waiting_for_the_connection_is_no_work(narrow_url: str) -> None:
    """A snapshot that waits until the checks have given up the connection counts the wait."""
    source = source_of(narrow_url)
    checks = source.checks(0.01, hooks=False)
    assert await anext(checks)
    with counting_waits() as waits:
        async with source.snapshot():
            pass
        first_s = waits.seconds
        async with source.snapshot():
            pass
    assert 0 < first_s < waits.seconds
    await checks.aclose()  # type: ignore[attr-defined]


async def test_an_export_that_the_application_asks_for(narrow_url: str, tmp_path: Path) -> None:
    """`export_now` beside the checks needs no second connection."""
    settings = Settings(database_url=narrow_url, export_directory=tmp_path / "exports", check_interval=0.1)
    async with exporting(settings, monitor=True) as exporter:
        while exporter.health.report.generation is None:
            await asyncio.sleep(0.01)
        assert (await exporter.export_now()).generation == 1
        assert exporter.health.report.error is None


def test_check_says_so(url: str, postgres_server: PostgresServer, tmp_path: Path) -> None:
    """`check` names the limit, and only where there is one."""
    assert "Only one connection" not in run_autoexport("--database-url", url, "check", cwd=tmp_path).stdout
    postgres_server.admin(f"ALTER DATABASE {url.rpartition('/')[2]} CONNECTION LIMIT 1")
    assert "Only one connection" in run_autoexport("--database-url", url, "check", cwd=tmp_path).stdout


async def test_no_connection_at_all(postgres_server: PostgresServer, url: str) -> None:
    """All are taken by others: an error for a snapshot and for a check, with what to do."""
    postgres_server.admin(f"ALTER DATABASE {url.rpartition('/')[2]} CONNECTION LIMIT 0")
    with pytest.raises(SourceError, match="too many connections") as raised:
        async with source_of(url).snapshot():
            pass
    assert "CONNECTION LIMIT" in raised.value.hint
    async with checks_of(url) as checks:
        with pytest.raises(SourceError, match="too many connections"):
            await anext(checks)
