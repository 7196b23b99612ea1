"""Tables that are there and cannot be seen: the error says where they are, and its hint works."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from autoexport import Settings
from autoexport.config.database_url import parse_database_url
from autoexport.errors import EmptyDatabase, MappedTableGone, MappingError, SourceError
from autoexport.pipeline.exporter import run_once
from tests.databases import SqliteDatabase
from tests.postgres import READER, PostgresServer
from tests.postgres_connection import PostgresConnection

TABLES = """
CREATE SCHEMA "Anno";
CREATE TABLE "Anno".images (id integer PRIMARY KEY, filename text);
CREATE TABLE "Anno".annotations (id integer PRIMARY KEY, image_id integer, label text);
INSERT INTO "Anno".images VALUES (1, 'a');
"""


@pytest.fixture
def elsewhere(postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of a database whose tables are in a schema that is not on the search path."""
    with postgres_server.database("template0") as url, closing(PostgresConnection(url)) as session:
        session.script(TABLES)
        yield url


async def export(url: str, config: str = "") -> int | None:
    """Export once with this text as the configuration file; the number of images."""
    Path("autoexport.toml").write_text(config)
    return (await run_once(Settings(database_url=url, export_directory=Path("out")))).manifest.counts["images"]


def pasted(error: MappingError) -> str:
    """The lines of the hint, as they are pasted into the configuration file."""
    assert error.hint.startswith("Decide in autoexport.toml:\n")
    return error.hint.partition("\n")[2]


async def test_a_schema_that_is_not_on_the_search_path(elsewhere: str) -> None:
    """It is named, with its number of tables; the hint names it in the configuration."""
    with pytest.raises(EmptyDatabase) as caught:
        await export(elsewhere)
    assert str(caught.value) == (
        'The search path ("$user", public) has no tables; there are tables in the schema Anno (2 tables).'
    )
    assert await export(elsewhere, pasted(caught.value)) == 1


@pytest.mark.parametrize(
    "option", ["options=-csearch_path%3D%22Anno%22", "schema=Anno", "currentSchema=%22Anno%22,public"]
)
async def test_a_schema_in_the_url(elsewhere: str, option: str) -> None:
    """Prisma and JDBC have words of their own for the search path."""
    assert await export(f"{elsewhere}?{option}") == 1
    assert parse_database_url(f"{elsewhere}?{option}").ignored == ()


async def test_a_search_path_that_does_not_exist(elsewhere: str) -> None:
    """The error shows the search path and where the tables are."""
    with pytest.raises(EmptyDatabase, match=r"The search path \(nowhere\) has no tables; .* Anno \(2 tables\)"):
        await export(f"{elsewhere}?options=-csearch_path%3Dnowhere")


async def test_other_tables_on_the_search_path(elsewhere: str) -> None:
    """Those of an extension do not hide the schema in which the images are."""
    with closing(PostgresConnection(elsewhere)) as session:
        session.script("CREATE TABLE spatial_ref_sys (id integer PRIMARY KEY, name text)")
    with pytest.raises(MappingError, match=r"No table of images was found\.") as caught:
        await export(elsewhere)
    assert await export(elsewhere, pasted(caught.value)) == 1


@pytest.mark.parametrize("path", ["%22Anno%22", "public"])
async def test_a_schema_that_the_role_may_not_use(
    postgres_server: PostgresServer, elsewhere: str, path: str
) -> None:
    """The error names role and schema, and the hint grants what is missing."""
    name = elsewhere.rsplit("/", 1)[1]
    url = f"{postgres_server.url(name, user=READER)}?options=-csearch_path%3D{path}"
    with closing(PostgresConnection(elsewhere)) as session:
        session.script(f'GRANT SELECT ON ALL TABLES IN SCHEMA "Anno" TO {READER}')
        with pytest.raises(EmptyDatabase) as caught:
            await export(url)
        assert str(caught.value) == f"The role {READER} may not use the schema Anno, which has 2 tables."
        session.script(caught.value.hint.partition(": ")[2])
    config = "" if path != "public" else '[tables.images]\nschema = "Anno"'
    assert await export(url, config) == 1


async def test_tables_that_may_be_seen_and_not_read(postgres_server: PostgresServer, elsewhere: str) -> None:
    """That is no emptiness: the error names the table, and the hint the right."""
    name = elsewhere.rsplit("/", 1)[1]
    with closing(PostgresConnection(elsewhere)) as session:
        session.script(f'GRANT USAGE ON SCHEMA "Anno" TO {READER}')
    with pytest.raises(SourceError, match="denies this role access: permission denied for table") as caught:
        await export(f"{postgres_server.url(name, user=READER)}?schema=Anno")
    assert "GRANT SELECT" in caught.value.hint


async def test_tables_that_were_exported_before(elsewhere: str) -> None:
    """They are not called gone if only the search path of the role has changed."""
    assert await export(f"{elsewhere}?schema=Anno") == 1
    with pytest.raises(MappedTableGone, match=r"can no longer be seen: Anno\.annotations, Anno\.images") as caught:
        await export(elsewhere)
    assert await export(elsewhere, caught.value.hint.partition("\n")[2]) == 1


async def test_virtual_tables_alone(tmp_path: Path) -> None:
    """A SQLite file with nothing but virtual tables is not called empty."""
    database = SqliteDatabase(tmp_path / "app.sqlite3")
    database.script(
        """PRAGMA writable_schema = ON;
        INSERT INTO sqlite_master (type, name, tbl_name, rootpage, sql)
        VALUES ('table', 'vectors', 'vectors', 0, 'CREATE VIRTUAL TABLE vectors USING vec0 (embedding)');"""
    )
    database.close()
    with pytest.raises(EmptyDatabase, match="only virtual tables, which cannot be read: vectors"):
        await export(database.url)
