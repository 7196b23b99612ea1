"""The databases that can be read: scheme → class, imported on use."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from importlib import import_module
from typing import TYPE_CHECKING

from autoexport.config.database_url import parse_database_url
from autoexport.config.postgres_url import with_service
from autoexport.mapping.overrides import read_overrides
from autoexport.sources.contract import Source, SourceOptions

if TYPE_CHECKING:  # A range worker imports this package, and needs no settings.
    from autoexport.config.settings import Settings

SOURCES = {
    "sqlite": "autoexport.sources.sqlite.source:SqliteSource",
    "postgresql": "autoexport.sources.postgres.source:PostgresSource",
}


def open_source(settings: Settings, *, shared: bool = False) -> Source:
    """The source that the settings name; nothing is opened before the first snapshot.

    `shared`: other processes may have to open the snapshots.

    Raises `ConfigurationError` for a URL that no source understands, and for a `[tables]` part that means
    nothing: what trying again cannot mend is said before a database is waited for.
    """
    read_overrides(settings.tables_config)
    url = with_service(parse_database_url(settings.resolved_database_url), os.environ)
    module, _, name = SOURCES[url.dialect].partition(":")
    options = SourceOptions(
        state=settings.state_dir,
        tables=settings.tables_config,
        prepared_statements=settings.pg_prepared_statements,
        statement_timeout_s=settings.pg_statement_timeout,
        shared=shared,
    )
    source: Source = getattr(import_module(module), name)(url, options)
    return source


@contextlib.asynccontextmanager
async def opened_source(settings: Settings, *, shared: bool = False) -> AsyncIterator[Source]:
    """The source that the settings name, closed in the end. Takes and raises what `open_source` does."""
    # Importing a driver takes long enough to be felt on the event loop of an application.
    source = await asyncio.to_thread(open_source, settings, shared=shared)
    try:
        yield source
    finally:
        await source.aclose()
