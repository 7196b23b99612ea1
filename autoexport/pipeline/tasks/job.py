"""Opens what a plan, a range and a commit have in common: the database and the lake."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import xxhash

from autoexport.config.settings import Settings
from autoexport.errors import ConfigurationError, PublishError
from autoexport.formats.contract import FormatOptions
from autoexport.mapping.mapper import mapping_digest
from autoexport.mapping.overrides import TablesConfig
from autoexport.model.mapping import Mapping as TableMappings
from autoexport.pipeline.job import lake_of
from autoexport.publishing.lake.process import worked
from autoexport.publishing.lake.requests import Action, Answer, Facts, Lake, Request, Source
from autoexport.sources import opened_source
from autoexport.sources.contract import AdoptingSource
from autoexport.sources.contract import Source as Database
from autoexport.version import __version__

TRIES_AGAIN = "The exporter tries again."
"""The end of hints that do not hold here: a task is repeated by its scheduler."""


@dataclass(frozen=True, slots=True)
class TasksJob:
    """A database, the lake that gets its rows, and what the rows depend on."""

    source: Database
    lake: Lake
    tables: TablesConfig | None
    options: FormatOptions

    def adopting(self) -> AdoptingSource:
        """The database. Raises `ConfigurationError` if its snapshots cannot be opened on other machines."""
        if isinstance(self.source, AdoptingSource):
            return self.source
        raise ConfigurationError(
            f"{self.source.database} is not a PostgreSQL database: only these export ranges as tasks.",
            hint="One process exports it with --lake.",
        )

    def request(self, action: Action, task: Mapping[str, Any], sources: Sequence[Source] = ()) -> Request:
        """A request to the lake."""
        facts = Facts(0, "", self.source.database, {})
        return Request(action, self.lake, facts, sources, task=task)

    async def asked(self, action: Action, task: Mapping[str, Any], sources: Sequence[Source] = ()) -> Answer:
        """The answer of the lake. Raises `AutoexportError`."""
        try:
            return await worked(self.request(action, task, sources), lambda _: None)
        except PublishError as error:
            error.hint = error.hint.replace(TRIES_AGAIN, "").strip()
            raise

    async def found(self, snapshot: str) -> tuple[Mapping[str, Any], Mapping[str, Mapping[str, int]]]:
        """The plan of a snapshot, and the counts in its commit, by table. Raises `AutoexportError`."""
        found = (await self.asked("look", {"snapshot": snapshot})).task
        plan = found["plan"]
        if plan is None:
            raise ConfigurationError(
                f"The lake {self.lake.location} has no plan with the snapshot {snapshot}.",
                hint="export-plan prints both: name them with --out and --snapshot.",
            )
        if plan["database"] != self.source.database:
            raise ConfigurationError(
                f"The plan is for {plan['database']}, not for {self.source.database}.",
                hint="Name the same database for the plan, its ranges and the commit.",
            )
        return plan, found["committed"]


def held(plan: Mapping[str, Any]) -> tuple[str, str, datetime]:
    """The snapshot of a plan, as `AdoptingSource.adopted` takes it."""
    return plan["snapshot"], plan["server"], datetime.fromisoformat(plan["taken_at"])


def rows_digest(mapping: TableMappings) -> str:
    """A digest of what the rows depend on beside the database: equal for a plan and its ranges."""
    return xxhash.xxh3_64_hexdigest(f"{__version__} {mapping_digest(mapping)}".encode())


@contextlib.asynccontextmanager
async def opened_tasks(settings: Settings) -> AsyncIterator[TasksJob]:
    """The job that the settings describe, with an open source. Raises `ConfigurationError`."""
    lake = lake_of(settings)
    if lake is None:
        raise ConfigurationError("No lake is named.", hint="Name it: --lake URL for the plan, else --out URL.")
    async with opened_source(settings, shared=True) as source:
        job = TasksJob(source, lake, settings.tables_config or None, settings.format_options)
        job.adopting()
        yield job
