"""Gathers the inputs of one export: source, target, formats and the few settings that it needs."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import xxhash

from autoexport.config.settings import Settings
from autoexport.errors import ConfigurationError
from autoexport.formats import chosen_formats
from autoexport.formats.contract import EncoderFormat, FolderFormat, Format, FormatOptions
from autoexport.mapping.overrides import TablesConfig
from autoexport.publishing import open_target
from autoexport.publishing.contract import Target
from autoexport.publishing.lake.process import require
from autoexport.publishing.lake.requests import Lake
from autoexport.runtime.threads import usable_cores
from autoexport.sources import opened_source
from autoexport.sources.contract import Source
from autoexport.values.encoders import fingerprints
from autoexport.version import __version__

MOST_WORKERS = 4
"""The most processes of a full export, unless the settings name a number."""


@dataclass(frozen=True, slots=True)
class ExportJob:
    """One database, exported to one target. No step of the export sees the settings themselves.

    `state` is the private directory. `tables` is the `[tables]` part of the configuration file; None if it is
    empty. `digest` identifies the version of the program and the settings that determine the bytes of the files.
    `page` and `history` say which files stand beside these. `workers` is the most processes that a full export
    may use. `lake` gets the rows of the Parquet files, too.
    """

    source: Source
    target: Target
    formats: tuple[Format, ...]
    options: FormatOptions
    tables: TablesConfig | None
    state: Path
    digest: str
    page: bool = False
    history: bool = False
    workers: int = 1
    lake: Lake | None = None

    @classmethod
    def of(cls, source: Source, settings: Settings, workers: int = 1) -> ExportJob:
        """The job that the settings describe; `source` is the database that they name."""
        options = settings.format_options
        return cls(
            source=source,
            target=target_of(settings),
            formats=formats_of(settings),
            options=options,
            tables=settings.tables_config or None,
            state=settings.state_dir.absolute(),
            digest=_digest(options),
            page=settings.export_page,
            history=settings.export_history,
            workers=workers,
            lake=lake_of(settings),
        )

    def encoders(self) -> dict[str, str]:
        """The fingerprints of the encoders that write the files, by name."""
        own = [output.encoder() for output in self.formats if isinstance(output, EncoderFormat)]
        return fingerprints() | dict(own)


def target_of(settings: Settings) -> Target:
    """The target that the settings name. Raises `ConfigurationError` if a package is missing."""
    return open_target(settings.export_directory, settings.state_dir, settings.object_store, settings.object_grace)


def formats_of(settings: Settings) -> tuple[Format, ...]:
    """The formats of the outputs that are on. Raises `ConfigurationError` if one does not suit the target."""
    formats = tuple(chosen_formats(settings.format_options))
    if settings.object_store is not None and (unfit := [it for it in formats if isinstance(it, FolderFormat)]):
        raise ConfigurationError(
            f"{unfit[0].file_name} cannot go to {settings.object_store}: it is a small file for each image, "
            "and no manifest could make them one set.",
            hint="Export YOLO to a directory, or turn it off. COCO and Parquet can go to an object store.",
        )
    return formats


def lake_of(settings: Settings) -> Lake | None:
    """The lake that the settings name; None if they name none. Raises `ConfigurationError`."""
    if not settings.lake:
        return None
    require()
    return Lake(settings.lake, settings.lake_file_rows, round(settings.lake_keep_hours * 3_600))


@contextlib.asynccontextmanager
async def opened_job(settings: Settings, *, alone: bool = False) -> AsyncIterator[ExportJob]:
    """The job that the settings describe, with an open source. Raises `ConfigurationError`.

    `alone`: the job has the machine for itself, and uses its cores unless the settings say how many.
    """
    workers = settings.workers or (min(usable_cores(), MOST_WORKERS) if alone else 1)
    async with opened_source(settings, shared=workers > 1) as source:
        yield ExportJob.of(source, settings, workers)


def _digest(options: FormatOptions) -> str:
    chosen = (__version__, sorted(options.items()))
    return xxhash.xxh3_64_hexdigest(repr(chosen).encode("utf-8", "surrogateescape"))
