"""The PostgreSQL source on a real server: what it locks, when it looks, what it says."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import asyncpg
import pytest
from sqlalchemy import Select, column, select, table

from autoexport.errors import SourceError
from autoexport.mapping.mapper import map_catalog
from autoexport.sources.postgres.snapshot import PostgresSnapshot
from autoexport.sources.postgres.source import PostgresSource
from autoexport.sources.reader import SnapshotReader
from tests.contracts.postgres_snapshots import one_annotation, one_image, rows_of, snapshot_of, source_of
from tests.postgres import PostgresServer
from tests.postgres_connection import PostgresConnection

# --- the snapshot --------------------------------------------------------------------------------


async def test_snapshot_is_consistent(url: str, application: PostgresConnection) -> None:
    """Commits after the snapshot are not in it, however late it is read."""
    before = application.execute("SELECT count(*) FROM annotations")[0][0]
    async with snapshot_of(url) as (snapshot, mapping):
        application.execute("DELETE FROM annotations")
        assert (await SnapshotReader(snapshot, mapping).totals()).live["annotations"] == before
    async with snapshot_of(url) as (snapshot, mapping):
        assert (await SnapshotReader(snapshot, mapping).totals()).live["annotations"] == 0


async def waiting_for_a_lock(application: PostgresConnection) -> None:
    """Until the exporter stands in a queue for a lock."""
    waiting = (
        "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity s USING (pid)"
        " WHERE NOT granted AND application_name = 'autoexport'"
    )
    while application.execute(waiting) == [(0,)]:
        await asyncio.sleep(0)


async def test_snapshot_waits_for_a_truncate(url: str, application: PostgresConnection) -> None:
    """A TRUNCATE with new rows, committed while the snapshot begins, is seen whole: not as an empty table."""
    source = source_of(url)
    async with source.snapshot():
        pass  # from now on it knows what to lock, and locks it first of all
    image = one_image(application)
    application.script("BEGIN; TRUNCATE annotations")
    application.copy(*one_annotation(image))

    async def count() -> int:
        async with source.snapshot() as snapshot:
            mapping = map_catalog(snapshot.catalog)
            return (await SnapshotReader(snapshot, mapping).totals()).live["annotations"]

    counting = asyncio.create_task(count())
    await waiting_for_a_lock(application)
    application.execute("COMMIT")
    assert await counting == 1


async def test_snapshot_follows_a_swap_of_tables(url: str, application: PostgresConnection) -> None:
    """A table that is replaced by another one while the snapshot waits is read as it is afterwards."""
    source = source_of(url)
    async with source.snapshot():
        pass
    application.script(
        "BEGIN; ALTER TABLE annotations RENAME TO old;CREATE TABLE annotations (LIKE old INCLUDING ALL, extra int)"
    )
    begun = asyncio.create_task(_catalog(source))
    await waiting_for_a_lock(application)
    application.execute("COMMIT")
    catalog = await begun
    assert next(found for found in catalog.tables if found.name == "annotations").column("extra")


async def test_snapshot_yields_in_a_deadlock(url: str, application: PostgresConnection) -> None:
    """A migration that locks tables the other way round is not ended for our sake: the snapshot tries again."""
    source = source_of(url)
    async with source.snapshot():
        pass
    application.script("BEGIN; LOCK TABLE annotations IN ACCESS EXCLUSIVE MODE")
    begun = asyncio.create_task(_catalog(source))
    await waiting_for_a_lock(application)
    await asyncio.to_thread(application.script, "LOCK TABLE projects IN ACCESS EXCLUSIVE MODE; COMMIT")
    assert (await begun).tables


async def test_snapshot_after_a_table_is_gone(url: str, application: PostgresConnection) -> None:
    """A table that was locked last time and is gone now is no error: the snapshot maps the tables again."""
    source = source_of(url)
    async with source.snapshot():
        pass
    application.execute("DROP TABLE labels")
    assert "labels" not in {found.name for found in (await _catalog(source)).tables}


async def _catalog(source: PostgresSource) -> Any:
    async with source.snapshot() as snapshot:
        return snapshot.catalog


async def test_session_is_read_only_and_named(url: str, application: PostgresConnection) -> None:
    """The transaction cannot write, gets no transaction id, and can be told by its name and its settings."""
    async with snapshot_of(url, pg_statement_timeout=7.5) as (snapshot, _):
        driver = await snapshot_driver(snapshot)
        settings = {
            name: await driver.fetchval(f"SHOW {name}")
            for name in ("transaction_isolation", "transaction_read_only", "statement_timeout", "application_name")
        }
        assert await driver.fetchval("SELECT pg_current_xact_id_if_assigned()") is None
        with pytest.raises(asyncpg.PostgresError, match="read-only"):
            await driver.execute("DELETE FROM images")
    assert settings == {
        "transaction_isolation": "repeatable read",
        "transaction_read_only": "on",
        "statement_timeout": "7500ms",
        "application_name": "autoexport",
    }


async def snapshot_driver(snapshot: PostgresSnapshot) -> Any:
    """The driver's own connection."""
    return (await (await snapshot.session.connection()).get_raw_connection()).driver_connection


async def test_without_prepared_statements(url: str, application: PostgresConnection) -> None:
    """Prepared statements off: no name is given that another client of a pooled session could have."""
    application.execute("CREATE TABLE many AS SELECT n FROM generate_series(1, 20000) n")
    async with snapshot_of(url, pg_prepared_statements=False) as (snapshot, mapping):
        assert (await SnapshotReader(snapshot, mapping).totals()).live["images"] > 0
        stream = snapshot.stream(select(column("n")).select_from(table("many")))
        first = await anext(stream)
        prepared: Select[Any] = select(column("name")).select_from(table("pg_prepared_statements"))
        names = [row[0] for row in await rows_of(snapshot, prepared)]
        assert any(name.startswith("autoexport_") for name in names)
        assert all(len(name) > 36 for name in names if name)
        assert len(first) + sum([len(part) async for part in stream]) == 20000


async def test_no_connection_stays(url: str, application: PostgresConnection) -> None:
    """After a snapshot nothing of it is left on the server, also when its reader fails."""

    async def fail() -> None:
        async with snapshot_of(url) as (snapshot, mapping):
            await anext(SnapshotReader(snapshot, mapping).blocks())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    while application.execute("SELECT 1 FROM pg_stat_activity WHERE application_name = 'autoexport'"):
        await asyncio.sleep(0)


async def test_connections_are_lively(url: str) -> None:
    """A server that is gone without a word is noticed: the system probes quiet connections."""
    async with snapshot_of(url) as (snapshot, _):
        driver = await snapshot_driver(snapshot)
        opened = driver._transport.get_extra_info("socket")
        assert opened.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


async def test_row_level_security_is_an_error(
    postgres_server: PostgresServer, url: str, application: PostgresConnection
) -> None:
    """A role from which rows are hidden gets an error, not an export of a part."""
    application.script("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader")
    application.script("ALTER TABLE annotations ENABLE ROW LEVEL SECURITY")
    reader = url.replace("application:", "reader:", 1)

    async def count() -> None:
        async with snapshot_of(reader) as (snapshot, mapping):
            await SnapshotReader(snapshot, mapping).totals()

    with pytest.raises(SourceError, match="Row-level security") as raised:
        await count()
    assert "BYPASSRLS" in raised.value.hint


# --- looks ---------------------------------------------------------------------------------------


async def test_looks(url: str, application: PostgresConnection) -> None:
    """The first check says yes, later ones only after a commit; the exporter's own reading is no change."""
    source, wake = source_of(url), asyncio.Event()
    looks = source.checks(60, hooks=True, wake=wake)

    async def look() -> bool:
        wake.set()
        return await anext(looks)

    assert await look() is True
    assert await look() is False
    async with source.snapshot() as snapshot:
        mapping = map_catalog(snapshot.catalog)
        await SnapshotReader(snapshot, mapping).totals()
        await snapshot.position(mapping)
        assert await look() is False
    application.execute("UPDATE images SET filename = 'other' WHERE id = ?", one_image(application))
    assert await look() is True
    assert await look() is False
    (session,) = application.execute(
        "SELECT state, xact_start FROM pg_stat_activity WHERE application_name = 'autoexport'"
    )
    assert session == ("idle", None)
    await looks.aclose()  # type: ignore[attr-defined]
    await source.aclose()


async def test_looks_by_the_clock(url: str, application: PostgresConnection) -> None:
    """Without being woken it looks again after the interval."""
    looks = source_of(url).checks(0.01, hooks=False, wake=asyncio.Event())
    assert await anext(looks) is True
    application.execute("DELETE FROM annotations")
    while not await anext(looks):
        pass
    await looks.aclose()  # type: ignore[attr-defined]


# --- check ---------------------------------------------------------------------------------------


async def test_remarks(url: str, application: PostgresConnection) -> None:
    """`check` is told the version and what the role may not read; and why exports cannot be incremental."""
    application.script("GRANT SELECT ON projects, datasets, images, annotations, labels TO reader")
    found = await source_of(url.replace("application:", "reader:", 1), pg_prepared_statements=False).check_notes()
    assert found[0].startswith("PostgreSQL ")
    assert any("dev_mode_settings" in remark and "images" not in remark for remark in found)
    assert any("pgbouncer" in remark for remark in found)
    assert not any("full" in remark for remark in found)
    application.script("ALTER TABLE annotations RENAME TO a; CREATE VIEW annotations AS TABLE a")
    async with snapshot_of(url) as (snapshot, mapping):
        assert await snapshot.obstacle(mapping) == "public.annotations is a view"


async def test_names(postgres_server: PostgresServer) -> None:
    """The database is named by server and name; the identity does not depend on who reads it."""
    place = f"127.0.0.1:{postgres_server.port}/some"
    one, two = (source_of(postgres_server.url("some", user=user)) for user in ("reader", "application"))
    assert one.database == two.database == place
    assert one.identity == two.identity != source_of(postgres_server.url("other")).identity
    assert source_of("postgresql://u:secret@h:5432/name").database == "h/name"
    assert source_of("postgresql:///name?host=/var/run/postgresql").database == "localhost/name"
