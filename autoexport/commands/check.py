"""Shows the mapping of the tables, the rows that would be exported, and problems."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from autoexport.commands.check_findings import CheckFindings, print_findings
from autoexport.commands.check_sizes import size_notes
from autoexport.config.postgres_url import with_service
from autoexport.config.settings import Settings
from autoexport.errors import AutoexportError, PublishError, SourceError
from autoexport.incremental.key_kinds import obstacle
from autoexport.incremental.ledger import load_ledger
from autoexport.mapping.mapper import map_catalog
from autoexport.mapping.sql_names import quoted, quoted_table
from autoexport.model.mapping import Mapping, TableMapping
from autoexport.model.tree import Totals
from autoexport.pipeline.job import formats_of, lake_of, target_of
from autoexport.pipeline.lake import probe
from autoexport.pipeline.ownership import is_foreign
from autoexport.pipeline.training_check import TrainingFindings, training_findings
from autoexport.publishing.contract import Target
from autoexport.publishing.workspace import scratch
from autoexport.runtime.wording import counted, counted_name
from autoexport.sources import open_source
from autoexport.sources.check_queries import (
    EXCEL_CELL,
    dangling_label_ids,
    key_types,
    left_out,
    long_cells,
    orphans,
    query_notes,
    refuse_conditions,
    unread_boxes,
    unread_projects,
)
from autoexport.sources.contract import Source
from autoexport.sources.reader import SnapshotReader
from autoexport.sources.shared_keys import refuse_shared_keys

_SCAN_ROWS_PER_S = 2_000_000
"""Rows that a table scan reads in a second. Measured: 1.1 million annotations in 0.5 s."""

_WORTH_S = 0.1
"""A shorter cost is not worth a warning."""


async def check(settings: Settings, *, verbose: bool = False, more: str = "autoexport check --verbose") -> int:
    """Inspect the database and the export directory, print the results and return 0, even with warnings.

    `verbose`: also print the mapping, which the command `more` shows. It publishes nothing and leaves no file
    behind. Raises the errors of an export if the database cannot be read (`SourceError`) or its tables cannot be
    mapped (`MappingError`), the latter after the results if there are any.
    """
    database = with_service(settings.database, os.environ)
    formats_of(settings)  # an output may need a package that is not installed
    with _private_directory(settings) as (private, warnings):
        source = open_source(settings.model_copy(update={"state_directory": private}))
        try:
            findings = await _inspect(source, settings, private)
        finally:
            await source.aclose()
    findings.warnings[:0] = warnings
    findings.blocked = findings.blocked or bool(warnings)
    if database.ignored:
        findings.notes.append(f"These options of the URL have no effect: {', '.join(database.ignored)}.")
    print_findings(database.display, settings.destination, findings, None if verbose else more)
    if findings.left_out is not None:
        raise findings.left_out
    return 0


async def _inspect(source: Source, settings: Settings, private: Path) -> CheckFindings:
    async with source.snapshot() as snapshot:
        mapping = map_catalog(snapshot.catalog, settings.tables_config)
        reader = SnapshotReader(snapshot, mapping)
        await refuse_conditions(reader)
        await refuse_shared_keys(reader)
        totals = await reader.totals()
        orphan_counts = await orphans(reader, totals)
        lost = await left_out(snapshot, mapping)
        always_full = await _always_full(reader, mapping)
        ambiguous, unreadable = await unread_boxes(reader)
        unread = await unread_projects(reader)
        long = await long_cells(reader)
        of_queries = await query_notes(snapshot, mapping)
        dangling = await dangling_label_ids(reader)
        target = target_of(settings)
        directory = [
            *_directory_warnings(settings, source),
            *await _store_warnings(settings, target, source),
            *await _lake_warnings(settings, source),
        ]
        training = await training_findings(reader, source.database, settings.format_options, target, private)
    notes = [*await source.check_notes(), *of_queries, *_cell_notes(long), *_left_out_notes(training)]
    notes += size_notes(totals.live, settings.format_options, lake=bool(settings.lake))
    if always_full:
        notes.append(f"Every export is a full one: {always_full}.")
    return CheckFindings(
        source.database,
        mapping,
        totals,
        orphan_counts,
        warnings=[
            *mapping.warnings,
            *_box_warnings(mapping, ambiguous, unreadable),
            *_project_warnings(mapping, unread),
            *_label_warnings(mapping, dangling),
            *_orphan_warnings(orphan_counts),
            *([] if always_full else _index_warnings(mapping, totals)),
            *filter(None, [training.warning]),
            *directory,
        ],
        notes=notes,
        left_out=lost,
        blocked=bool(directory),
    )


async def _always_full(reader: SnapshotReader, mapping: Mapping) -> str:
    """The reason why no export can be incremental, by the rules of the export itself; empty if there is none."""
    if reason := await reader.snapshot.obstacle(mapping):
        return reason
    for logical in filter(None, ("images", reader.tables.dataset_level())):
        if reason := obstacle(await key_types(reader, logical)):
            key = mapping.tables()[logical].fields["id"]
            return f"{reason} in {mapping.tables()[logical].table.full_name}.{key.name}"
    return ""


@contextlib.contextmanager
def _private_directory(settings: Settings) -> Iterator[tuple[Path, list[str]]]:
    """Create a private directory for the working copy on the disk that an export would use.

    Yields it with warnings if that disk is not writable; then it is in the temporary directory of the system.
    """
    existing = settings.state_dir.absolute()
    while not existing.is_dir() and existing != existing.parent:
        existing = existing.parent
    warnings = []
    if not os.access(existing, os.W_OK | os.X_OK):
        warnings.append(f"{existing} is not writable: grant this user write access, or set --export-dir.")
        existing = Path(tempfile.gettempdir())
    with contextlib.ExitStack() as stack:
        try:
            private = stack.enter_context(scratch(existing))
        except OSError as exc:
            raise SourceError(
                f"The directory for a working copy cannot be created: {exc.strerror}.",
                hint="Free some disk space, or set TMPDIR.",
            ) from exc
        yield private, warnings


# --- warnings ------------------------------------------------------------------------------------


def _box_warnings(mapping: Mapping, ambiguous: int, unreadable: int) -> list[str]:
    """Warn about the sampled boxes that are lists of four of unknown meaning, and about those of no known form."""
    if mapping.annotations is None or "box_json" not in mapping.annotations.fields:
        return []
    name = f"{mapping.annotations.table.full_name}.{mapping.annotations.fields['box_json'].name}"
    warnings = []
    if ambiguous:
        warnings.append(
            f"{name} holds lists of four numbers, which are ambiguous and not read: "
            "set tables.annotations.box_format to xyxy, xywh or cxcywh."
        )
    if unreadable:
        warnings.append(
            f"{name} holds boxes that cannot be read ({unreadable:,} of the first 1,000): a box has known keys, "
            "such as x, y, width and height, or x_min, y_min, x_max and y_max, with numbers."
        )
    return warnings


def _project_warnings(mapping: Mapping, unread: int) -> list[str]:
    """Warn about the documents of projects that cannot be read: labels and paths of images depend on them."""
    if not unread or mapping.projects is None:
        return []
    column = mapping.projects.fields["document"].name
    return [
        f"The {column} of {counted(unread, 'project')} cannot be read: labels have no colours, and the paths of "
        "images may be missing. Save it again in the application."
    ]


def _label_warnings(mapping: Mapping, dangling: int) -> list[str]:
    if not dangling or mapping.annotations is None or mapping.labels is None:
        return []
    name = f"{mapping.annotations.table.full_name}.{mapping.annotations.fields['label_id'].name}"
    target = f"{mapping.labels.table.full_name}.{mapping.labels.fields['id'].name}"
    return [
        f"label_id is {name}, which does not refer to {target}: {counted(dangling, 'annotation')} "
        f"{'names' if dangling == 1 else 'name'} no label there, or one of another name. "
        "Join labels by name, or leave label_id out in autoexport.toml:\n"
        "[tables.annotations.columns]\nlabel_id = false"
    ]


def _cell_notes(longest: dict[str, int]) -> list[str]:
    return [
        f"{name} has values of up to {length:,} characters; a cell of Excel holds {EXCEL_CELL:,}."
        for name, length in longest.items()
    ]


def _left_out_notes(training: TrainingFindings) -> list[str]:
    """A note for each format that leaves rows out, with the number for each reason."""
    return [
        f"{name} leaves out or changes: "
        + ", ".join(counted_name(count, reason) for reason, count in reasons.items())
        + "."
        for name, reasons in training.left_out.items()
        if reasons
    ]


def _orphan_warnings(orphans: dict[str, int]) -> list[str]:
    return [
        f"{counted_name(count, logical)} {'is an orphan' if count == 1 else 'are orphans'} and not exported: "
        "a parent does not exist or is soft-deleted."
        for logical, count in orphans.items()
        if count
    ]


def _index_warnings(mapping: Mapping, totals: Totals) -> list[str]:
    mapped = mapping.tables()
    return [
        _missing_index(mapped[logical], totals.live[logical])
        for logical in ("images", "annotations")
        if logical in mapped
        and totals.live[logical] >= _WORTH_S * _SCAN_ROWS_PER_S
        and _lacks_index(mapped[logical])
    ]


def _lacks_index(mapped: TableMapping) -> bool:
    link = mapped.parent_link
    return mapped.table.kind == "table" and link is not None and not mapped.table.has_index_on(link.name)


def _missing_index(mapped: TableMapping, rows: int) -> str:
    name = mapped.table.full_name
    link = mapped.parent_link.name if mapped.parent_link else ""
    seconds = rows / _SCAN_ROWS_PER_S
    return (
        f"{name}.{link} has no index, so each incremental export reads all {rows:,} rows of {name} "
        f"(about {seconds:.1f} s). To create one:\n"
        f"CREATE INDEX {quoted(f'ix_{mapped.table.name}_{link}')} "
        f"ON {quoted_table(mapped.table)} ({quoted(link)});"
    )


async def _lake_warnings(settings: Settings, source: Source) -> list[str]:
    lake = lake_of(settings)
    if lake is None:
        return []
    try:
        await probe(lake, settings.export_directory, source.database)
    except AutoexportError as error:
        return [f"{error} {error.hint}"]
    return []


async def _store_warnings(settings: Settings, target: Target, source: Source) -> list[str]:
    """Warn if a probe cannot be written to an object store, or if another database is exported there."""
    if not target.elsewhere:
        return []
    try:
        manifest = await target.probe()
    except PublishError as error:
        return [f"{error} {error.hint}"]
    if manifest is None or not is_foreign(
        manifest, load_ledger(settings.state_dir), source.database, source.identity
    ):
        return []
    return [f"{target.elsewhere} holds the export of another database ({manifest.database}): set --export-dir."]


def _directory_warnings(settings: Settings, source: Source) -> list[str]:
    directory = settings.export_directory
    if not directory.exists():
        return []
    if not directory.is_dir():
        return [f"{directory} is not a directory, so an export would fail: set --export-dir."]
    if not os.access(directory, os.W_OK | os.X_OK):
        return [f"{directory} is not writable: grant this user write access, or set --export-dir."]
    manifest = target_of(settings).read_manifest() if settings.object_store is None else None
    if manifest is None:
        return []
    if is_foreign(manifest, load_ledger(settings.state_dir), source.database, source.identity):
        return [f"{directory} holds the export of another database ({manifest.database}): set --export-dir."]
    return []
