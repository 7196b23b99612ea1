"""Snapshots, positions and changes of a PostgreSQL database, for the tests of its source."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from autoexport.config.settings import Settings
from autoexport.mapping.mapper import map_catalog
from autoexport.model.blocks import Changes, Everything
from autoexport.model.mapping import Mapping
from autoexport.sources import open_source
from autoexport.sources.postgres.snapshot import PostgresSnapshot
from autoexport.sources.postgres.source import PostgresSource
from tests.applications import COLUMNS, annotation_row
from tests.population import Cell, Row
from tests.postgres_connection import PostgresConnection


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
    """The changes since a position, as a snapshot taken now reports them."""
    async with snapshot_of(url, **settings) as (snapshot, mapping):
        return await snapshot.changes(mapping, iter([since]))


async def images_since(url: str, since: bytes) -> set[Any]:
    """The keys of the images that may have changed since a position."""
    changes = await changes_of(url, since)
    assert isinstance(changes, Changes), changes
    return set(changes.images)


async def rows_of(snapshot: PostgresSnapshot, statement: Any) -> list[tuple[Any, ...]]:
    """All rows of a statement."""
    return await all_rows(snapshot.stream(statement))


async def all_rows(parts: AsyncIterator[Any] | None) -> list[tuple[Any, ...]]:
    """All rows of what is streamed."""
    assert parts is not None
    return [tuple(row) async for part in parts for row in part]


def one_image(application: PostgresConnection) -> str:
    """The key of an image that has annotations."""
    return str(annotated_images(application, 1)[0])


def annotated_images(application: PostgresConnection, number: int) -> list[Cell]:
    """The keys of the first images that have annotations."""
    found = application.execute("SELECT image_id FROM annotations GROUP BY 1 ORDER BY 1 LIMIT ?", number)
    return [row[0] for row in found]


def one_annotation(image: Cell) -> tuple[str, tuple[str, ...], list[Row]]:
    """The arguments of `PostgresConnection.copy` for one more annotation of an image."""
    return "annotations", COLUMNS["annotations"], [annotation_row(987_654, str(image))]
