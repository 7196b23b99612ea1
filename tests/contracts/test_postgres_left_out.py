"""Which tables of PostgreSQL look like annotations that are left out: not those that are read or cannot be."""

from __future__ import annotations

from contextlib import closing

import pytest

from autoexport.sources.check_queries import left_out
from tests.contracts.postgres_snapshots import snapshot_of
from tests.postgres import READER, PostgresServer
from tests.postgres_connection import PostgresConnection


async def lost(url: str) -> str:
    """The error for annotations that an export would lose, or nothing."""
    async with snapshot_of(url) as (snapshot, mapping):
        return str(await left_out(snapshot, mapping) or "")


async def test_tables_that_inherit_from_the_annotations(url: str, application: PostgresConnection) -> None:
    """Their rows are rows of the annotations, so they are exported; a child of a child, too."""
    application.script(
        """CREATE TABLE annotations_2025 () INHERITS (annotations);
        CREATE TABLE annotations_2025_1 () INHERITS (annotations_2025);
        INSERT INTO annotations_2025_1 SELECT * FROM annotations LIMIT 1"""
    )
    assert await lost(url) == ""
    application.script("ALTER TABLE annotations_2025 NO INHERIT annotations")
    assert "annotations_2025_1 look like annotations" in await lost(url)


async def test_partitions_of_the_annotations(url: str, application: PostgresConnection) -> None:
    """A partition is read through its parent."""
    application.script(
        """CREATE TABLE more (LIKE annotations) PARTITION BY LIST (image_id);
        CREATE TABLE more_1 PARTITION OF more DEFAULT;
        INSERT INTO more SELECT * FROM annotations LIMIT 1"""
    )
    assert await lost(url) == "public.more looks like annotations, has rows and is not exported."


@pytest.mark.parametrize("readable", [True, False])
async def test_a_table_that_the_role_may_not_read(
    postgres_server: PostgresServer, url: str, readable: bool
) -> None:
    """It is no reason to fail where the five tables are granted alone: a warning is all that can be said."""
    name = url.rsplit("/", 1)[1]
    with closing(PostgresConnection(url)) as session:
        session.script(
            f"""GRANT SELECT ON ALL TABLES IN SCHEMA public TO {READER};
            CREATE TABLE predictions (id integer PRIMARY KEY, image_id varchar, label text);
            INSERT INTO predictions VALUES (1, 'a', 'car')"""
        )
        if readable:
            session.script(f"GRANT SELECT ON predictions TO {READER}")
    reader = postgres_server.url(name, user=READER)
    assert bool(await lost(reader)) is readable
    async with snapshot_of(reader) as (_, mapping):
        (warning,) = mapping.warnings
    assert ("this user may not read its rows" in warning) is not readable


async def test_row_level_security_of_another_table(postgres_server: PostgresServer, url: str) -> None:
    """Policies of a table that is not mapped are no reason to fail either."""
    name = url.rsplit("/", 1)[1]
    with closing(PostgresConnection(url)) as session:
        session.script(
            f"""CREATE TABLE predictions (id integer PRIMARY KEY, image_id varchar, label text);
            INSERT INTO predictions VALUES (1, 'a', 'car');
            ALTER TABLE predictions ENABLE ROW LEVEL SECURITY;
            GRANT SELECT ON ALL TABLES IN SCHEMA public TO {READER}"""
        )
    assert await lost(postgres_server.url(name, user=READER)) == ""
