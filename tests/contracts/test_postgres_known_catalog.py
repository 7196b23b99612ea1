"""The declarations are read once, and again after any change that decides about tables, columns or rights."""

from __future__ import annotations

import pytest

from autoexport.sources.postgres import known_catalog
from tests.contracts.postgres_snapshots import source_of
from tests.postgres_connection import PostgresConnection

CHANGES = (
    "CREATE TABLE more (id integer PRIMARY KEY)",
    "ALTER TABLE images ADD COLUMN more integer",
    "ALTER TABLE images RENAME COLUMN filename TO file_name",
    "ALTER TABLE images ALTER COLUMN filename TYPE varchar(300)",
    "DROP TABLE labels CASCADE",
    "CREATE INDEX more ON images (filename)",
    "ALTER TABLE annotations ADD CONSTRAINT more FOREIGN KEY (image_id) REFERENCES images (id)",
    "ALTER TABLE images ENABLE ROW LEVEL SECURITY",
    "REVOKE SELECT ON images FROM PUBLIC",
    "GRANT SELECT (filename) ON images TO PUBLIC",
    "CREATE VIEW more AS SELECT * FROM images",
)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Has an item for each time that the whole catalog was read."""
    counted: list[None] = []
    whole = known_catalog.read_catalog

    async def read(*arguments: object) -> object:
        counted.append(None)
        return await whole(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(known_catalog, "read_catalog", read)
    return counted


async def test_an_unchanged_catalog_is_read_once(
    url: str, application: PostgresConnection, reads: list[None]
) -> None:
    """Changed rows of the application, statistics and a vacuum are no change of the catalog's tables."""
    source = source_of(url)
    try:
        for statement in ("SELECT 1", "UPDATE images SET filename = filename", "ANALYZE images", "VACUUM images"):
            application.execute(statement)
            async with source.snapshot() as snapshot:
                assert snapshot.catalog.tables
        assert len(reads) == 1
    finally:
        await source.aclose()


@pytest.mark.parametrize("statement", CHANGES)
async def test_a_change_of_the_catalog_is_seen(
    url: str, application: PostgresConnection, reads: list[None], statement: str
) -> None:
    """The next snapshot has the catalog that a new source would read."""
    source, other = source_of(url), source_of(url)
    try:
        async with source.snapshot():
            assert len(reads) == 1
        application.execute(statement)
        async with source.snapshot() as snapshot:
            assert len(reads) > 1
            async with other.snapshot() as fresh:
                assert snapshot.catalog == fresh.catalog
    finally:
        await source.aclose()
        await other.aclose()
