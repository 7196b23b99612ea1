"""Row versions on a real PostgreSQL server: every answer is a superset of what changed, or everything."""

from __future__ import annotations

import json
import os
import signal
from contextlib import closing
from typing import Any

import asyncpg
import pytest

from autoexport.model.blocks import Changes, Everything
from tests.contracts.postgres_snapshots import (
    changes_of,
    images_since,
    one_annotation,
    one_image,
    position_of,
    snapshot_of,
)
from tests.postgres import PostgresServer
from tests.postgres_connection import PostgresConnection


async def test_nothing_changed(url: str, application: PostgresConnection) -> None:
    """Commits elsewhere, and upkeep of the mapped tables, change no image."""
    since = await position_of(url)
    application.execute("UPDATE dev_mode_settings SET password_hash = 'x'")
    application.execute("CREATE TABLE unrelated (a int)")
    for upkeep in ("VACUUM FREEZE", "VACUUM FULL", "CLUSTER", "ANALYZE", "REINDEX TABLE"):
        using = " USING annotations_pkey" if upkeep == "CLUSTER" else ""
        application.execute(f"{upkeep} annotations{using}")
    application.script("BEGIN; DELETE FROM images; ROLLBACK")
    application.script(f"BEGIN; SELECT * FROM images WHERE id = '{one_image(application)}' FOR UPDATE; COMMIT")
    assert await changes_of(url, since) == Changes(frozenset())


async def test_changed_rows(url: str, application: PostgresConnection) -> None:
    """New and different rows of images and annotations name their image; deleted ones name none."""
    images = [
        row[0] for row in application.execute("SELECT image_id FROM annotations GROUP BY 1 ORDER BY 1 LIMIT 4")
    ]
    since = await position_of(url)
    application.execute("UPDATE annotations SET confidence = 0.5 WHERE image_id = ?", images[0])
    application.execute("UPDATE images SET filename = 'new' WHERE id = ?", images[1])
    application.copy(*one_annotation(images[2]))
    application.execute("DELETE FROM annotations WHERE image_id = ?", images[3])
    assert await images_since(url, since) == set(images[:3])


async def test_savepoints_late_and_prepared_commits(url: str, application: PostgresConnection) -> None:
    """Transactions that were open at the position are seen when they commit, with all their subtransactions."""
    images = [
        row[0] for row in application.execute("SELECT image_id FROM annotations GROUP BY 1 ORDER BY 1 LIMIT 4")
    ]
    with closing(PostgresConnection(url)) as late, closing(PostgresConnection(url)) as prepared:
        late.script("BEGIN; SAVEPOINT one")
        late.execute("UPDATE annotations SET confidence = 0.1 WHERE image_id = ?", images[0])
        late.script("RELEASE one; SAVEPOINT two")
        prepared.execute("BEGIN")
        prepared.execute("UPDATE annotations SET confidence = 0.2 WHERE image_id = ?", images[1])
        prepared.execute("PREPARE TRANSACTION 'waiting'")
        application.execute("UPDATE annotations SET confidence = 0.3 WHERE image_id = ?", images[2])
        since = await position_of(url)
        assert images[2] in await images_since(url, since)  # not over when the oldest open one began
        late.execute("UPDATE images SET filename = 'late' WHERE id = ?", images[3])
        late.script("ROLLBACK TO two; COMMIT")
        prepared.execute("COMMIT PREPARED 'waiting'")
    assert {images[0], images[1]} <= await images_since(url, since)
    assert images[3] not in await images_since(url, since)


async def test_rewritten_and_frozen_rows(url: str, application: PostgresConnection) -> None:
    """No row is missed that was loaded frozen, moved by VACUUM FULL, or inserted again after TRUNCATE."""
    image = one_image(application)
    since = await position_of(url)
    application.execute("UPDATE annotations SET confidence = 0.25 WHERE image_id = ?", image)
    application.execute("VACUUM (FULL, FREEZE) annotations")
    assert await images_since(url, since) == {image}
    since = await position_of(url)
    rows = application.execute("SELECT * FROM annotations WHERE image_id = ?", image)
    application.script("BEGIN; CREATE TEMP TABLE kept AS SELECT * FROM annotations; TRUNCATE annotations")
    application.script(f"INSERT INTO annotations SELECT * FROM kept WHERE image_id = '{image}'; COMMIT")
    assert application.execute("SELECT * FROM annotations") == rows
    application.execute("VACUUM FREEZE annotations")
    assert await images_since(url, since) == {image}


async def test_orphans_are_seen(url: str, application: PostgresConnection) -> None:
    """A changed annotation whose image is missing is reported, as it upsets sums."""
    since = await position_of(url)
    application.copy(*one_annotation("there is no such image"))
    assert await changes_of(url, since) == Changes(frozenset(), orphans_seen=True)


async def test_images_with_links_of_other_types(empty_url: str) -> None:
    """Changed annotations find their image also where text refers to uuids."""
    image = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"
    with closing(PostgresConnection(empty_url)) as connection:
        connection.script(
            "CREATE TABLE images (id uuid PRIMARY KEY, filename text);"
            "CREATE TABLE annotations (id bigserial PRIMARY KEY, image_id text, label text);"
            f"INSERT INTO images VALUES ('{image}', 'a.jpg'), (gen_random_uuid(), 'b.jpg')"
        )
        since = await position_of(empty_url)
        connection.execute("INSERT INTO annotations (image_id, label) VALUES (?, 'car')", image)
    assert await images_since(empty_url, since) == {image}


_MATTERS = {
    "the tables changed": [
        "ALTER TABLE annotations RENAME class_name TO c; ALTER TABLE annotations RENAME model_id TO class_name;"
        "ALTER TABLE annotations RENAME c TO model_id",
        "ALTER TABLE annotations ALTER confidence TYPE real",
        "ALTER TABLE annotations RENAME TO a; CREATE TABLE annotations (LIKE a INCLUDING ALL)",
        "ALTER TABLE images ALTER filename TYPE varchar(300)",
    ],
    "public.annotations has tables that inherit from it": ["CREATE TABLE more () INHERITS (annotations)"],
    "public.annotations is a view": ["ALTER TABLE annotations RENAME TO a; CREATE VIEW annotations AS TABLE a"],
    "public.images is a materialized view": [
        "ALTER TABLE images RENAME TO i; CREATE MATERIALIZED VIEW images AS TABLE i"
    ],
    "an enum type changed": ["CREATE TYPE mood AS ENUM ('happy')"],
}


@pytest.mark.parametrize(
    ("reason", "change"), [(reason, change) for reason, changes in _MATTERS.items() for change in changes]
)
async def test_changes_without_row_versions(
    url: str, application: PostgresConnection, reason: str, change: str
) -> None:
    """A change of values that touches no row means everything, and the reason is given."""
    since = await position_of(url)
    application.script(change)
    assert await changes_of(url, since) == Everything(reason)


async def test_computed_columns(empty_url: str) -> None:
    """A column that is computed when it is read, or is written in words of the catalog, has no history."""
    with closing(PostgresConnection(empty_url)) as connection:
        connection.script("CREATE TABLE images (id int PRIMARY KEY, filename text, status regclass)")
        async with snapshot_of(empty_url) as (snapshot, mapping):
            assert "status" in mapping.images.fields or await snapshot.position(mapping) is not None
        connection.script("ALTER TABLE images DROP status, ADD n int")
        if connection.execute("SELECT current_setting('server_version_num')::int >= 180000") == [(True,)]:
            connection.script("ALTER TABLE images ADD width int GENERATED ALWAYS AS (n * 2) VIRTUAL")
            async with snapshot_of(empty_url) as (snapshot, mapping):
                assert await snapshot.position(mapping) is None
        else:
            connection.script("ALTER TABLE images ADD width int GENERATED ALWAYS AS (n * 2) STORED")
            async with snapshot_of(empty_url) as (snapshot, mapping):
                assert await snapshot.position(mapping) is not None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format": 0}, "the position of the last export is of another version"),
        ({"snapshot": "900000000000:900000000000:"}, "the snapshot is older than the last export's"),
        ({"snapshot": "-1000000000:5:"}, "too many transactions since the last export"),
        ({"snapshot": "5"}, "the position of the last export cannot be read"),
    ],
)
async def test_positions_that_cannot_be_compared(url: str, change: dict[str, Any], reason: str) -> None:
    """A position from another time or program, or one that is too old, means everything."""
    since = {**json.loads(await position_of(url)), **change}
    assert await changes_of(url, json.dumps(since).encode()) == Everything(reason)
    assert await changes_of(url, b"{") == Everything("the position of the last export cannot be read")


def crash(server: PostgresServer, url: str) -> None:
    """Kill a backend, upon which the server recovers from its log without a new postmaster."""
    with closing(PostgresConnection(url)) as connection:
        postmaster = server.pid
        os.kill(connection.execute("SELECT pg_backend_pid()")[0][0], signal.SIGKILL)
    while "reinitializing" not in server.log.read_text() or not accepts(url):
        assert server.running
    assert server.pid == postmaster


def accepts(url: str) -> bool:
    """Whether the server accepts a connection."""
    try:
        with closing(PostgresConnection(url)) as connection:
            return connection.execute("SELECT 1") == [(1,)]
    except (asyncpg.PostgresError, OSError):
        return False


async def test_restart_and_crash(own_postgres_server: PostgresServer) -> None:
    """After a restart, and after a recovery that the postmaster lived through, nothing is concluded from ids."""
    with own_postgres_server.database() as place:
        since = await position_of(place)
        own_postgres_server.restart()
        assert await changes_of(place, since) == Everything("the server was restarted")
        since = await position_of(place)
        crash(own_postgres_server, place)
        reason = "the server recovered from a crash, or its statistics were reset"
        assert await changes_of(place, since) == Everything(reason)
