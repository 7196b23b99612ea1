"""PostgreSQL databases for the tests of its source."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.applications import fill_postgres
from tests.postgres import PostgresServer
from tests.postgres_connection import PostgresConnection


@pytest.fixture
def url(postgres_database: str) -> str:
    """A database of the application with the sample rows."""
    with closing(PostgresConnection(postgres_database)) as connection:
        fill_postgres(connection)
    return postgres_database


@pytest.fixture
def application(url: str) -> Iterator[PostgresConnection]:
    """A session of the application."""
    with closing(PostgresConnection(url)) as connection:
        yield connection


@pytest.fixture
def empty_url(postgres_server: PostgresServer) -> Iterator[str]:
    """A database without tables."""
    with postgres_server.database("template0") as made:
        yield made
