"""The PostgreSQL source reads declarations, keys of any type, values and long streams."""

from __future__ import annotations

from contextlib import closing

import pytest
from sqlalchemy import column, select, table

from autoexport.model.catalog import Column
from tests.contracts.postgres_snapshots import rows_of, snapshot_of, source_of
from tests.postgres import SUPERUSER, PostgresServer
from tests.postgres_connection import PostgresConnection

# --- catalog -------------------------------------------------------------------------------------


_ALL_KINDS = """
CREATE TYPE mood AS ENUM ('happy', 'sad');
CREATE DOMAIN short AS varchar(5);
CREATE DOMAIN shorter AS short;
CREATE TABLE everything (
  a int PRIMARY KEY, b double precision, c numeric(9, 2),
  d varchar(7) COLLATE "C", e boolean, f timestamptz,
  g jsonb, h uuid NOT NULL UNIQUE, i bytea, j float8[], k mood,
  l interval, m shorter, n char(4), o real, p "char");
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


async def test_schemas(postgres_server: PostgresServer, url: str, application: PostgresConnection) -> None:
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
        assert [
            row[0] for row in await rows_of(snapshot, select(readable).where(wanted).order_by(order))
        ] == found[:2]
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


async def test_streams_interleave(url: str, application: PostgresConnection) -> None:
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
        connection.execute(
            "CREATE TABLE shapes AS SELECT n, repeat('x', 100000) AS s FROM generate_series(1, 400) n"
        )
    async with source_of(empty_url).snapshot() as snapshot:
        shapes = table("shapes", column("n"), column("s"))
        sizes = [len(part) async for part in snapshot.stream(select(shapes.c.n, shapes.c.s), wide_column=1)]
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
