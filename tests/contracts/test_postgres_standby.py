"""A hot standby: it is read like a primary, and says what to do when its recovery stops an export."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import column, select, table

from autoexport.errors import SourceError
from autoexport.model.blocks import Changes, Everything
from tests.applications import fill_postgres
from tests.contracts.postgres_snapshots import (
    changes_of,
    images_since,
    one_image,
    position_of,
    snapshot_of,
    source_of,
)
from tests.postgres import PASSWORD, SUPERUSER, PostgresServer
from tests.postgres_connection import PostgresConnection


class Standby(PostgresServer):
    """A server that is ready when it can be read."""

    def _accepts_connections(self) -> bool:
        file = self.data / "postmaster.pid"
        lines = file.read_text().splitlines() if file.exists() else []
        return len(lines) >= 8 and lines[7].strip() in ("standby", "ready")


@pytest.fixture
def standby(own_postgres_server: PostgresServer) -> Iterator[Standby]:
    """A standby of the test's own server that cancels queries at once where they are in the way."""
    primary = own_postgres_server
    directory = Path(tempfile.mkdtemp(prefix=f"autoexport-postgres-{os.getpid()}-standby-"))
    primary_is = f"host=127.0.0.1 port={primary.port} user={SUPERUSER} password={PASSWORD}"
    settings = {
        "primary_conninfo": primary_is,
        "max_standby_streaming_delay": "0",
        "wal_retrieve_retry_interval": "50ms",
    }
    made = Standby(directory, major=primary.major, settings=settings)
    try:
        primary.stop()
        shutil.copytree(primary.data, made.data)
        (made.data / "standby.signal").touch()
        owner = primary.data.stat()
        for path in (made.data, *made.data.rglob("*")):
            os.chown(path, owner.st_uid, owner.st_gid)
        primary.start()
        made.start()
        yield made
    finally:
        made.stop("immediate")
        shutil.rmtree(directory, ignore_errors=True)


async def until(standby: Standby, sql: str, url: str) -> None:
    """Wait until a question that is asked of the standby is answered with yes."""
    with closing(PostgresConnection(url)) as connection:
        while connection.execute(sql) != [(True,)]:
            await asyncio.sleep(0)


async def test_standby(own_postgres_server: PostgresServer, standby: Standby) -> None:
    """Snapshots, changes and looks work on a standby; its promotion means everything."""
    primary = own_postgres_server
    with primary.database() as url, closing(PostgresConnection(url)) as application:
        fill_postgres(application)
        place = standby.url(url.rpartition("/")[2])
        replayed = f"SELECT pg_last_wal_replay_lsn() >= '{_lsn(application)}'"
        await until(standby, replayed, standby.url("postgres"))
        looks = source_of(place).checks(0.01, hooks=False, wake=asyncio.Event())
        assert await anext(looks)
        async with snapshot_of(place) as (snapshot, _):
            assert await snapshot.stream_in_parallel(select(column("id")).select_from(table("images"))) is not None
        since = await position_of(place)
        assert await changes_of(place, since) == Changes(frozenset())
        image = one_image(application)
        application.execute("UPDATE images SET filename = 'new' WHERE id = ?", image)
        while not await anext(looks):
            pass
        await looks.aclose()  # type: ignore[attr-defined]
        await until(standby, f"SELECT filename = 'new' FROM images WHERE id = '{image}'", place)
        assert await images_since(place, since) == {image}
        check_notes = await source_of(place).check_notes()
        assert "hot standby" in check_notes[0]
        assert any("hot_standby_feedback is off" in remark for remark in check_notes)
        since = await position_of(place)
        standby.admin("SELECT pg_promote()")
        assert await changes_of(place, since) == Everything("the standby was promoted")


async def test_recovery_conflict(own_postgres_server: PostgresServer, standby: Standby) -> None:
    """An export that the standby's recovery cancels is an error that names the remedy.

    What the server says is lost with the connection if it comes while the driver asks nothing.
    """
    with own_postgres_server.database() as url, closing(PostgresConnection(url)) as application:
        fill_postgres(application)
        application.execute("CREATE TABLE many AS SELECT n, repeat('x', 500) s FROM generate_series(1, 50000) n")
        place = standby.url(url.rpartition("/")[2])
        await until(standby, f"SELECT pg_last_wal_replay_lsn() >= '{_lsn(application)}'", standby.url("postgres"))

        async def read() -> None:
            async with snapshot_of(place) as (snapshot, _):
                many = table("many", column("n"), column("s"))
                stream = snapshot.stream(select(many.c.n, many.c.s))
                await anext(stream)
                application.script("DELETE FROM many")
                application.execute("VACUUM many")
                await until(
                    standby, f"SELECT pg_last_wal_replay_lsn() >= '{_lsn(application)}'", standby.url("postgres")
                )
                async for _part in stream:
                    pass

        with pytest.raises(SourceError, match=r"conflict with recovery|was lost") as raised:
            await read()
        assert "hot_standby_feedback" in raised.value.hint
        assert PASSWORD not in f"{raised.value} {raised.value.hint}"


def _lsn(application: PostgresConnection) -> str:
    return str(application.execute("SELECT pg_current_wal_insert_lsn()::text")[0][0])
