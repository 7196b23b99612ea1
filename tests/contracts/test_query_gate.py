"""A query reads the columns that it names, and no others."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import column, select, table

from autoexport.config.settings import Settings
from autoexport.errors import MappingError, SourceError
from autoexport.sources import opened_source
from tests.conftest import PostgresServer
from tests.databases import Connection
from tests.labelling.cvat import Cvat
from tests.postgres_connection import PostgresConnection
from tests.trials import Trial, everything_in

CANARY = "canary-of-an-unread-column"
TABLES = """
CREATE TABLE picture (id integer PRIMARY KEY, src text NOT NULL, secret text NOT NULL);
CREATE TABLE box (id integer PRIMARY KEY, picture integer NOT NULL, x float, y float, w float, h float, name text,
  token text NOT NULL);
CREATE TABLE login (id integer PRIMARY KEY, password text NOT NULL)
"""
IMAGES = "SELECT id, src AS file_path FROM picture"
BOXES = (
    "SELECT b.id, p.id AS image_id, b.x, b.y, b.w, b.h, b.name AS label "
    "FROM box b JOIN picture p ON p.id = b.picture"
)

STARRED = "SELECT b.*, b.picture AS image_id, b.name AS label FROM box b JOIN picture p ON p.id = b.picture"


def settings(images: str = IMAGES, boxes: str = BOXES, **more: Any) -> dict[str, Any]:
    """The `[tables]` of this database."""
    return {"images": {"query": images}, "annotations": {"query": boxes, **more}}


@pytest.fixture
def pictures(bare_database: tuple[str, Connection]) -> Iterator[str]:
    """The URL of a database with pictures and boxes, and a canary in every column that no query names."""
    url, connection = bare_database
    connection.script(TABLES)
    connection.execute("INSERT INTO login VALUES (1, ?)", CANARY)
    for number in range(5):
        connection.execute("INSERT INTO picture VALUES (?, ?, ?)", number, f"{number}.jpg", CANARY)
        connection.execute("INSERT INTO box VALUES (?, ?, 1, 2, 3, 4, 'car', ?)", number, number, CANARY)
    return url  # type: ignore[return-value]


def test_only_named_columns_are_read(pictures: str, tmp_path: Path) -> None:
    """The canaries of the other columns are in no file, public or private."""
    trial = Trial(pictures, tmp_path / "exports", tables=settings())
    trial.export()
    assert b"4.jpg" in trial.contents()["images.csv"]
    assert CANARY.encode() not in everything_in([tmp_path / "exports"])


@pytest.mark.parametrize(
    ("boxes", "named"),
    [
        (STARRED, "box.(x|token)"),
        (BOXES.replace("b.name", "(SELECT min(l.id) FROM login l)").replace("AS label", "AS label_id"), ""),
    ],
)
def test_a_star_is_refused(boxes: str, named: str, pictures: str, tmp_path: Path) -> None:
    """`*` hands on columns that the query does not name. A table that it names is allowed."""
    trial = Trial(pictures, tmp_path / "exports", tables=settings(boxes=boxes))
    if not named:
        trial.export()
        return
    with pytest.raises(
        MappingError, match=rf"tables.annotations.query reads (public\.)?{named}, which it does not"
    ):
        trial.export()


def test_reads_allows_more(pictures: str, tmp_path: Path) -> None:
    """`reads` names a column that the query has only by `*`, and then nothing else."""
    reads = ["box.*", "picture"]
    Trial(pictures, tmp_path / "exports", tables=settings(boxes=STARRED, reads=reads)).export()
    with pytest.raises(MappingError, match="picture"):
        Trial(pictures, tmp_path / "other", tables=settings(reads=["box"])).export()


def test_unknown_names_in_reads(pictures: str, tmp_path: Path) -> None:
    """A name that is no table is an error that says so."""
    with pytest.raises(MappingError, match="there is no table 'boxes'"):
        Trial(pictures, tmp_path / "exports", tables=settings(reads=["boxes"])).export()


def test_the_connection_refuses_other_columns(pictures: str, tmp_path: Path) -> None:
    """Even a statement of our own cannot read an unmapped column of a SQLite file."""
    if not pictures.startswith("sqlite"):
        pytest.skip("PostgreSQL checks the plans of queries instead, and grants")
    chosen = Settings(database_url=pictures, export_directory=tmp_path / "exports", tables=settings())

    async def read(table_name: str, column_name: str) -> list[Any]:
        async with opened_source(chosen) as source, source.snapshot() as snapshot:
            statement = select(column(column_name)).select_from(table(table_name))
            return [row async for part in snapshot.stream(statement) for row in part]

    (tmp_path / "exports" / ".autoexport").mkdir(parents=True)
    assert len(asyncio.run(read("picture", "src"))) == 5
    for unread in (("picture", "secret"), ("login", "password")):
        with pytest.raises(SourceError, match="prohibited"):
            asyncio.run(read(*unread))


@pytest.mark.parametrize(
    "boxes",
    [
        "SELECT b.id, p.id AS image_id, to_jsonb(b) ->> 'name' AS label "
        "FROM box b JOIN picture p ON p.id = b.picture",
        "SELECT b.id, b.picture AS image_id, b::text AS label FROM box b",
        "SELECT x.id, x.picture AS image_id, x.label FROM (SELECT b.*, b.name AS label FROM box b) x "
        "ORDER BY x.token",
    ],
)
def test_whole_rows(boxes: str, postgres_server: PostgresServer, tmp_path: Path) -> None:
    """A whole row has columns that the query does not name; a column that only sorts is named."""
    with postgres_server.database("template0") as url:
        with PostgresConnection(url) as connection:
            connection.script(TABLES)
        trial = Trial(url, tmp_path / "exports", tables=settings(boxes=boxes))
        if "ORDER BY" in boxes:
            trial.export()
            return
        with pytest.raises(MappingError, match=r"reads public\.box"):
            trial.export()


def test_functions_of_the_database_in_a_preset(postgres_server: PostgresServer, tmp_path: Path) -> None:
    """A preset never calls a function that the database has in place of a built-in one."""
    with postgres_server.database("template0") as url, PostgresConnection(url) as connection:
        Cvat(connection)
        trial = Trial(url, tmp_path / "exports")
        trial.export()
        connection.script(
            "CREATE FUNCTION public.lpad(text, int, varchar) RETURNS text LANGUAGE sql AS 'SELECT $3::text'"
        )
        with pytest.raises(MappingError, match="would call lpad of this database"):
            trial.export()
