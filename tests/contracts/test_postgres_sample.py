"""The sample that says where to cut a table: its rows lie all over it, and the table is not read for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from autoexport.model.catalog import Table
from autoexport.sources.postgres.sample import in_sample
from tests.postgres_connection import PostgresConnection

SCHEMA, NAME = "Sch'em a", "od\"d 'Table'"
QUOTED = '"Sch\'em a"."od""d \'Table\'"'
WANTED = 40
TABLE = Table(NAME, SCHEMA, "table", ())


def sampled(connection: PostgresConnection) -> list[int]:
    """The numbers of the sampled rows."""
    condition = in_sample(TABLE, "a", WANTED)
    return [row[0] for row in connection.execute(f"SELECT number FROM {QUOTED} AS a WHERE {condition}")]


@pytest.fixture
def connection(postgres_database: str) -> Iterator[PostgresConnection]:
    """To a database with an empty table of an odd name."""
    with PostgresConnection(postgres_database) as connection:
        connection.execute('CREATE SCHEMA "Sch\'em a"')
        connection.execute(f"CREATE TABLE {QUOTED} (number integer PRIMARY KEY, filling text)")
        yield connection


def fill(connection: PostgresConnection, rows: int) -> None:
    """Rows of which about 33 fit on a page."""
    connection.execute(f"INSERT INTO {QUOTED} SELECT n, repeat('x', 200) FROM generate_series(1, {rows}) n")


def test_a_large_table(connection: PostgresConnection) -> None:
    fill(connection, 10_000)
    numbers = sampled(connection)
    assert WANTED <= len(numbers) == len(set(numbers)) <= 2 * WANTED
    for quarter in range(4):
        inside = [number for number in numbers if 2_500 * quarter < number <= 2_500 * (quarter + 1)]
        assert len(inside) >= WANTED / 4 - 1


def test_the_table_is_not_read(connection: PostgresConnection) -> None:
    fill(connection, 10_000)
    condition = in_sample(TABLE, "a", WANTED)
    plan = connection.execute(f"EXPLAIN SELECT number FROM {QUOTED} AS a WHERE {condition}")
    assert any("Tid Scan" in line for (line,) in plan)
    assert not any("Seq Scan" in line for (line,) in plan)


def test_updated_rows(connection: PostgresConnection) -> None:
    """Old versions leave empty places, on most pages the first ones."""
    fill(connection, 10_000)
    connection.execute(f"UPDATE {QUOTED} SET filling = 'y' WHERE number % 3 = 0")
    connection.execute(f"DELETE FROM {QUOTED} WHERE number % 7 = 0")
    assert len(sampled(connection)) >= WANTED / 2


@pytest.mark.parametrize("rows", [0, 1, 50])
def test_a_small_table(connection: PostgresConnection, rows: int) -> None:
    """No page, one, and two, each of which gives a row."""
    fill(connection, rows)
    assert len(sampled(connection)) == -(-rows // 33)
