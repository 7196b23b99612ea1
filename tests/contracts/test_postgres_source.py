"""The PostgreSQL source on a real server: what it reads, what it locks, what it notices, what it says."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from typing import Any

import asyncpg
import pytest
from sqlalchemy import column, select, table

from autoexport.errors import SourceError
from autoexport.mapping import map_catalog
from autoexport.model import Changes, Column, Everything, Mapping
from autoexport.settings import Settings
from autoexport.snapshot import Reading
from autoexport.sources import open_source
from autoexport.sources.postgres import PostgresSource
from autoexport.sources.postgres_snapshot import PostgresSnapshot
from tests.applications import COLUMNS, annotation_row, fill_postgres
from tests.postgres import PASSWORD, SUPERUSER, PostgresServer
from tests.postgres_connection import PostgresConnection

Application = PostgresConnection


def source_of(url: str, **settings: object) -> PostgresSource:
    """The source of a database; closing it closes no connection, as it keeps none."""
    source = open_source(Settings(database_url=url, **settings))  # type: ignore[arg-type]
    assert isinstance(source, PostgresSource)
    return source


@asynccontextmanager
async def snapshot_of(url: str, **settings: object) -> AsyncIterator[tuple[PostgresSnapshot, Mapping]]:
    """A snapshot and its mapping."""
    source = source_of(url, **settings)
    async with source.snapshot() as snapshot:
        yield snapshot, map_catalog(snapshot.catalog, settings.get("tables"))  # type: ignore[arg-type]
    await source.aclose()


async def position_of(url: str) -> bytes:
    """The position of a snapshot taken now."""
    async with snapshot_of(url) as (snapshot, mapping):
        position = await snapshot.position(mapping)
        assert position is not None
        return b"".join(position.pieces())


async def changes_of(url: str, since: bytes, **settings: object) -> Changes | Everything:
    """What a snapshot taken now tells about the time since a position."""
    async with snapshot_of(url, **settings) as (snapshot, mapping):
        return await snapshot.changes(mapping, iter([since]))


async def images_since(url: str, since: bytes) -> set[Any]:
    """The keys of the images that may have changed since a position."""
    changes = await changes_of(url, since)
    assert isinstance(changes, Changes), changes
    return set(changes.images)


async def rows_of(snapshot: PostgresSnapshot, statement: Any) -> list[tuple[Any, ...]]:
    """All rows of a statement."""
    return [tuple(row) async for part in snapshot.stream(statement) for row in part]


@pytest.fixture
def url(postgres_database: str) -> str:
    """A database of the application with the sample rows."""
    with closing(PostgresConnection(postgres_database)) as connection:
        fill_postgres(connection)
    return postgres_database


@pytest.fixture
def application(url: str) -> Iterator[Application]:
    """A session of the application."""
    with closing(PostgresConnection(url)) as connection:
        yield connection


@pytest.fixture
def empty_url(postgres_server: PostgresServer) -> Iterator[str]:
    """A database without tables."""
    with postgres_server.database("template0") as made:
        yield made


def one_image(application: Application) -> str:
    """The key of an image that has annotations."""
    return str(application.execute("SELECT min(image_id) FROM annotations JOIN images i ON i.id = image_id")[0][0])


# --- catalog -------------------------------------------------------------------------------------


_ALL_KINDS = """
CREATE TYPE mood AS ENUM ('happy', 'sad');
CREATE DOMAIN short AS varchar(5);
CREATE DOMAIN shorter AS short;
CREATE TABLE everything (
  a integer PRIMARY KEY, b double precision, c numeric(9, 2), d varchar(7) COLLATE "C", e boolean, f timestamptz,
  g jsonb, h uuid NOT NULL UNIQUE, i bytea, j float8[], k mood, l interval, m shorter, n char(4), o real, p "char");
CREATE VIEW seen AS SELECT a FROM everything;
CREATE TABLE parts (a integer) PARTITION BY RANGE (a);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10);
CREATE TABLE child (x integer, y integer REFERENCES everything (a));
CREATE INDEX ON child (y, x);
CREATE INDEX ON child (x) WHERE x > 0;
CREATE INDEX ON child ((x + y));
"""


async def test_catalog_kinds(empty_url: str) -> None:
    """Types are told by what they hold, domains by their base, with the database's own words beside."""
    with closing(PostgresConnection(empty_url)) as connection:
        connection.script(_ALL_KINDS)
    async with source_of(empty_url).snapshot() as snapshot:
        tables = {found.name: found for found in snapshot.catalog.tables}
    kinds = {item.name: item.kind for item in tables["everything"].columns}
    assert kinds == {
        "a": "integer", "b": "real", "c": "numeric", "d": "text", "e": "boolean", "f": "time", "g": "json",
        "h": "uuid", "i": "binary", "j": "array", "k": "enum", "l": "other", "m": "text", "n": "text", "o": "real",
        "p": "text",
    }  # fmt: skip
    assert {name: found.kind for name, found in tables.items()} == {
        "everything": "table", "seen": "view", "parts": "partitioned table", "child": "table",
    }  # fmt: skip
    everything, child = tables["everything"], tables["child"]
    assert (everything.schema, everything.primary_key, everything.indexes) == ("public", ("a",), (("a",), ("h",)))
    assert everything.column("d") == Column("d", "text", 'character varying(7) COLLATE "C"', nullable=True)
    assert everything.column("h") == Column("h", "uuid", "uuid", nullable=False)
    (link,) = child.foreign_keys
    assert (link.columns, link.referred_table, link.referred_columns) == (("y",), "everything", ("a",))
    assert child.indexes == (("y", "x"),)


async def test_schemas(postgres_server: PostgresServer, url: str, application: Application) -> None:
    """Tables are those of the search path, the first of a name, and of the schemas that the settings name."""
    application.script("CREATE SCHEMA other; CREATE TABLE other.images (id int PRIMARY KEY, filename text)")

    async def schemas(place: str, **settings: object) -> set[str | None]:
        async with source_of(place, **settings).snapshot() as snapshot:
            return {found.schema for found in snapshot.catalog.tables if found.name == "images"}

    assert await schemas(url) == {"public"}
    assert await schemas(url, tables={"images": {"schema": "other"}}) == {"public", "other"}
    assert await schemas(f"{url}?options=-csearch_path%3Dother,public") == {"other"}


# --- values --------------------------------------------------------------------------------------


async def test_readable_values(empty_url: str) -> None:
    """Values arrive as plain scalars, with the digits and in the words of the server."""
    with closing(PostgresConnection(empty_url)) as connection:
        connection.script(_ALL_KINDS)
        connection.script(
            "INSERT INTO everything VALUES (1, 0.1, 12.50, 'text', true, '2024-05-06 07:08:09.5+02',"
            """ '{"a": [1, 2.50]}', 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', '\\x00ff', '{1,NULL,2.5}', 'sad',"""
            " '1 day', 'm', 'n', 0.1, 'p')"
        )
    async with source_of(empty_url).snapshot() as snapshot:
        columns = next(found.columns for found in snapshot.catalog.tables if found.name == "everything")
        rows = table("everything", *(column(item.name) for item in columns))
        statement = select(*(snapshot.readable(item, rows.c[item.name]) for item in columns))
        (found,) = await rows_of(snapshot, statement)
    assert found == (
        1, 0.1, "12.50", "text", True, "2024-05-06 05:08:09.5+00", '{"a": [1, 2.50]}',
        "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", b"\x00\xff", "[1,null,2.5]", "sad", "1 day", "m", "n", 0.1, "p",
    )  # fmt: skip
    assert [type(value) for value in found[:5]] == [int, float, str, str, bool]


_KEYS = ("text", "varchar(40)", "char(12)", "uuid", "bigint", "smallint", "numeric", "bytea", "mood", "short")


@pytest.mark.parametrize("declared", _KEYS)
async def test_keys(empty_url: str, declared: str) -> None:
    """For keys of any type: a key that was read can be found again, compared with, and is ordered by its kind."""
    texts = ["a", "B", "ä", "Z z", "b'", "é"]
    values = {
        "uuid": [f"{n}0000000-0000-0000-0000-00000000000{n}" for n in (3, 1, 2)],
        "bigint": ["10", "9", "-1"], "smallint": ["10", "9", "-1"], "numeric": ["10", "9.5", "-1"],
        "bytea": ["\\xff", "\\x00", "\\x10"], "mood": ["sad", "happy"], "short": ["b", "A", "ä"],
    }.get(declared, texts)  # fmt: skip
    with closing(PostgresConnection(empty_url)) as connection:
        connection.script("CREATE TYPE mood AS ENUM ('sad', 'happy'); CREATE DOMAIN short AS varchar(5)")
        connection.execute(f"CREATE TABLE things (k {declared} PRIMARY KEY)")
        for value in values:
            connection.execute(f"INSERT INTO things VALUES (CAST(?::text AS {declared}))", value)
    async with source_of(empty_url).snapshot() as snapshot:
        (declaration,) = next(found.columns for found in snapshot.catalog.tables)
        things = table("things", column("k"))
        readable = snapshot.readable(declaration, things.c.k)
        order = snapshot.ordered(declaration, things.c.k)
        found = [row[0] for row in await rows_of(snapshot, select(readable).order_by(order))]
        by_number = declared in ("bigint", "smallint", "numeric")
        assert [str(value) for value in found] == (
            sorted(map(str, found), key=float) if by_number else [str(value) for value in sorted(found)]
        )
        assert len(found) == len(values)
        after = [
            row[0]
            for row in await rows_of(
                snapshot, select(readable).where(order > snapshot.bound(declaration, found[0])).order_by(order)
            )
        ]
        assert after == found[1:]
        wanted = snapshot.member(declaration, things.c.k, [found[1], found[0]])
        assert [row[0] for row in await rows_of(snapshot, select(readable).where(wanted).order_by(order))] == found[:2]
        same = snapshot.same((declaration, things.c.k), (declaration, things.alias().c.k))
        assert len(await rows_of(snapshot, select(readable).where(same))) == len(found)


@pytest.mark.parametrize(
    ("child", "parent"),
    [("text", "integer"), ("text", "uuid"), ("bigint", "numeric"), ("varchar", "char(40)"), ("text", "mood"),
     ('text COLLATE "C"', 'text COLLATE "und-x-icu"'), ("char(36)", "uuid"), ("integer", "smallint")],
)  # fmt: skip
async def test_same(postgres_server: PostgresServer, empty_url: str, child: str, parent: str) -> None:
    """A link finds its parent whatever the two are declared with."""
    value = "5" if {child, parent} & {"integer", "bigint"} else "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"
    with closing(PostgresConnection(empty_url)) as connection:
        if "icu" in parent and not connection.execute("SELECT 1 FROM pg_collation WHERE collname = 'und-x-icu'"):
            parent = 'text COLLATE "POSIX"'
        connection.script(f"CREATE TYPE mood AS ENUM ('{value}'); CREATE TABLE one (k {child}, l {parent})")
        connection.script(f"INSERT INTO one VALUES ('{value}', '{value}'), (NULL, NULL)")
    async with source_of(empty_url).snapshot() as snapshot:
        one = table("one", column("k"), column("l"))
        left, right = next(found.columns for found in snapshot.catalog.tables)
        for pair in (((left, one.c.k), (right, one.c.l)), ((right, one.c.l), (left, one.c.k))):
            assert len(await rows_of(snapshot, select(one.c.k).where(snapshot.same(*pair)))) == 1


async def test_streams_interleave(url: str, application: Application) -> None:
    """Several streams of one snapshot may be read in turn, left half-read, and followed by other statements."""
    application.execute(
        "INSERT INTO labels (id, name, project_id) SELECT n, 'label ' || n, 1 FROM generate_series(1000, 9999) n"
    )
    async with snapshot_of(url) as (snapshot, mapping):
        labels = table("labels", column("id"))
        statement = select(labels.c.id).where(labels.c.id >= 1000).order_by(labels.c.id)
        one, two, three = (snapshot.stream(statement) for _ in range(3))
        firsts = [[row[0] for row in await anext(stream)] for stream in (one, two, three)]
        assert firsts[0] == firsts[1] == firsts[2]
        await three.aclose()  # type: ignore[attr-defined]
        del two
        assert await snapshot.position(mapping) is not None
        rest = [row[0] async for part in one for row in part]
        assert firsts[0] + rest == list(range(1000, 10000))


async def test_long_values_come_few_at_a_time(empty_url: str) -> None:
    """Partitions of a statement with heavy values are short in bytes, those of light ones long in rows."""
    with closing(PostgresConnection(empty_url)) as connection:
        connection.execute("CREATE TABLE shapes AS SELECT n, repeat('x', 100000) AS s FROM generate_series(1, 400) n")
    async with source_of(empty_url).snapshot() as snapshot:
        shapes = table("shapes", column("n"), column("s"))
        sizes = [len(part) async for part in snapshot.stream(select(shapes.c.n, shapes.c.s), heavy=1)]
        assert sum(sizes) == 400
        assert max(sizes[1:]) <= 32
        assert [len(part) async for part in snapshot.stream(select(shapes.c.n))] == [400]


async def test_undefined_encoding(postgres_server: PostgresServer) -> None:
    """In a SQL_ASCII database invalid UTF-8 is delivered as surrogates, and no history is trusted."""
    name = postgres_server.create_database("template0")
    postgres_server.drop_database(name)
    postgres_server.admin(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'")
    try:
        place = postgres_server.url(name, user=SUPERUSER)
        with closing(PostgresConnection(place)) as connection:
            connection.script("CREATE TABLE images (id int PRIMARY KEY, filename text)")
            connection.script("INSERT INTO images VALUES (1, E'a\\xffb'), (2, 'plain ä')")
        async with snapshot_of(place) as (snapshot, mapping):
            names = table("images", column("id"), column("filename"))
            found = await rows_of(snapshot, select(names.c.filename).order_by(names.c.id))
            assert found == [("a\udcffb",), ("plain ä",)]
            assert await snapshot.position(mapping) is None
    finally:
        postgres_server.drop_database(name)


# --- the snapshot --------------------------------------------------------------------------------


async def test_snapshot_is_consistent(url: str, application: Application) -> None:
    """What commits after the snapshot is not in it, however late it is read."""
    before = application.execute("SELECT count(*) FROM annotations")[0][0]
    async with snapshot_of(url) as (snapshot, mapping):
        application.execute("DELETE FROM annotations")
        assert (await Reading(snapshot, mapping).totals()).live["annotations"] == before
    async with snapshot_of(url) as (snapshot, mapping):
        assert (await Reading(snapshot, mapping).totals()).live["annotations"] == 0


async def waiting_for_a_lock(application: Application) -> None:
    """Until the exporter stands in a queue for a lock."""
    waiting = (
        "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity s USING (pid)"
        " WHERE NOT granted AND application_name = 'autoexport'"
    )
    while application.execute(waiting) == [(0,)]:
        await asyncio.sleep(0)


async def test_snapshot_waits_for_a_truncate(url: str, application: Application) -> None:
    """A TRUNCATE with new rows, committed while the snapshot begins, is seen whole: not as an empty table."""
    source = source_of(url)
    async with source.snapshot():
        pass  # from now on it knows what to lock, and locks it first of all
    image = one_image(application)
    application.script("BEGIN; TRUNCATE annotations")
    application.copy(*_one_annotation(image))

    async def count() -> int:
        async with source.snapshot() as snapshot:
            mapping = map_catalog(snapshot.catalog)
            return (await Reading(snapshot, mapping).totals()).live["annotations"]

    counting = asyncio.create_task(count())
    await waiting_for_a_lock(application)
    application.execute("COMMIT")
    assert await counting == 1


async def test_snapshot_follows_a_swap_of_tables(url: str, application: Application) -> None:
    """A table that is replaced by another one while the snapshot waits is read as it is afterwards."""
    source = source_of(url)
    async with source.snapshot():
        pass
    application.script(
        "BEGIN; ALTER TABLE annotations RENAME TO old; CREATE TABLE annotations (LIKE old INCLUDING ALL, extra int)"
    )
    begun = asyncio.create_task(_catalog(source))
    await waiting_for_a_lock(application)
    application.execute("COMMIT")
    catalog = await begun
    assert next(found for found in catalog.tables if found.name == "annotations").column("extra")


async def _catalog(source: PostgresSource) -> Any:
    async with source.snapshot() as snapshot:
        return snapshot.catalog


async def test_session_is_read_only_and_named(url: str, application: Application) -> None:
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


async def test_without_prepared_statements(url: str) -> None:
    """Prepared statements off: no name is given that another client of a pooled session could have."""
    async with snapshot_of(url, pg_prepared_statements=False) as (snapshot, mapping):
        reading = Reading(snapshot, mapping)
        assert (await reading.totals()).live["images"] > 0
        blocks = reading.blocks()
        await anext(blocks)
        driver = await snapshot_driver(snapshot)
        names = [row[0] for row in await driver.fetch("SELECT name FROM pg_prepared_statements")]
        assert names
        assert all(len(name) > 36 for name in names if name)
        await blocks.aclose()


async def test_no_connection_stays(url: str, application: Application) -> None:
    """After a snapshot nothing of it is left on the server, also when its reader fails."""
    with pytest.raises(ZeroDivisionError):
        async with snapshot_of(url) as (snapshot, mapping):
            await anext(Reading(snapshot, mapping).blocks())
            raise ZeroDivisionError
    while application.execute("SELECT 1 FROM pg_stat_activity WHERE application_name = 'autoexport'"):
        await asyncio.sleep(0)


async def test_row_level_security_is_an_error(
    postgres_server: PostgresServer, url: str, application: Application
) -> None:
    """A role from which rows are hidden gets an error, not an export of a part."""
    application.script("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader")
    application.script("ALTER TABLE annotations ENABLE ROW LEVEL SECURITY")
    reader = url.replace("application:", "reader:", 1)
    with pytest.raises(SourceError, match="[Rr]ow-level security") as raised:
        async with snapshot_of(reader) as (snapshot, mapping):
            await Reading(snapshot, mapping).totals()
    assert "BYPASSRLS" in raised.value.hint


# --- row versions --------------------------------------------------------------------------------


def _one_annotation(image: str, number: int = 987_654) -> tuple[str, list[str], list[Any]]:
    return "annotations", list(COLUMNS["annotations"]), [annotation_row(number, image)]


async def test_nothing_changed(url: str, application: Application) -> None:
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


async def test_changed_rows(url: str, application: Application) -> None:
    """New and different rows of images and annotations name their image; deleted ones name none."""
    images = [row[0] for row in application.execute("SELECT image_id FROM annotations GROUP BY 1 ORDER BY 1 LIMIT 4")]
    since = await position_of(url)
    application.execute("UPDATE annotations SET confidence = 0.5 WHERE image_id = ?", images[0])
    application.execute("UPDATE images SET filename = 'new' WHERE id = ?", images[1])
    application.copy(*_one_annotation(images[2]))
    application.execute("DELETE FROM annotations WHERE image_id = ?", images[3])
    assert await images_since(url, since) == set(images[:3])


async def test_savepoints_late_and_prepared_commits(url: str, application: Application) -> None:
    """Transactions that were open at the position are seen when they commit, with all their subtransactions."""
    images = [row[0] for row in application.execute("SELECT image_id FROM annotations GROUP BY 1 ORDER BY 1 LIMIT 4")]
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


async def test_rewritten_and_frozen_rows(url: str, application: Application) -> None:
    """Rows that were loaded frozen, moved by VACUUM FULL, or made anew after TRUNCATE, are not missed."""
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


async def test_orphans_are_seen(url: str, application: Application) -> None:
    """A changed annotation whose image is missing is reported, as it upsets sums."""
    since = await position_of(url)
    application.copy(*_one_annotation("there is no such image"))
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
    url: str, application: Application, reason: str, change: str
) -> None:
    """What changes values and touches no row means everything, and why is said."""
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
    """Whether the server lets somebody in."""
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


# --- looks ---------------------------------------------------------------------------------------


async def test_looks(url: str, application: Application) -> None:
    """The first check says yes; later ones only after somebody's commit; our own reading is no change."""
    source, wake = source_of(url), asyncio.Event()
    looks = source.looks(60, hooks=True, wake=wake)

    async def look() -> bool:
        wake.set()
        return await anext(looks)

    assert await look() is True
    assert await look() is False
    async with source.snapshot() as snapshot:
        mapping = map_catalog(snapshot.catalog)
        await Reading(snapshot, mapping).totals()
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


async def test_looks_by_the_clock(url: str, application: Application) -> None:
    """Without being woken it looks again after the interval."""
    looks = source_of(url).looks(0.01, hooks=False, wake=asyncio.Event())
    assert await anext(looks) is True
    application.execute("DELETE FROM annotations")
    while not await anext(looks):
        pass
    await looks.aclose()  # type: ignore[attr-defined]


async def test_looks_end_with_the_server(url: str, application: Application) -> None:
    """A lost connection is an error, from which the supervisor starts anew."""
    looks = source_of(url).looks(0.01, hooks=False, wake=asyncio.Event())
    assert await anext(looks)
    application.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'autoexport'"
    )
    with pytest.raises(SourceError) as raised:
        while True:
            await anext(looks)
    assert raised.value.hint
    assert PASSWORD not in str(raised.value)


# --- check ---------------------------------------------------------------------------------------


async def test_remarks(url: str, application: Application) -> None:
    """`check` is told the version, what the role may not read, and why exports cannot be incremental."""
    application.script("GRANT SELECT ON projects, datasets, images, annotations, labels TO reader")
    found = await source_of(url.replace("application:", "reader:", 1), pg_prepared_statements=False).remarks()
    assert found[0].startswith("PostgreSQL ")
    assert any("dev_mode_settings" in remark and "images" not in remark for remark in found)
    assert any("pgbouncer" in remark for remark in found)
    assert not any("full" in remark for remark in found)
    application.script("ALTER TABLE annotations RENAME TO a; CREATE VIEW annotations AS TABLE a")
    assert "Every export is a full one: public.annotations is a view." in await source_of(url).remarks()


async def test_names(postgres_server: PostgresServer) -> None:
    """The database is named by server and name; the identity does not depend on who reads it."""
    place = f"127.0.0.1:{postgres_server.port}/some"
    one, two = (source_of(postgres_server.url("some", user=user)) for user in ("reader", "application"))
    assert one.database == two.database == place
    assert one.identity == two.identity != source_of(postgres_server.url("other")).identity
    assert source_of("postgresql://u:secret@h:5432/name").database == "h/name"
    assert source_of("postgresql:///name?host=/var/run/postgresql").database == "localhost/name"
