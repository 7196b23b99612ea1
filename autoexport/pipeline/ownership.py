"""Decides whether the files and the ledger at a target belong to this database."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

from autoexport.errors import ForeignExport
from autoexport.incremental.ledger import Ledger, load_ledger
from autoexport.pipeline.job import ExportJob
from autoexport.publishing.contract import Target
from autoexport.publishing.crc32 import digest
from autoexport.publishing.manifest import BESIDE_NAMES, MANIFEST_NAME, BesideRecord, FileRecord, Manifest
from autoexport.runtime.threads import in_thread


@dataclass(frozen=True, slots=True)
class Claim:
    """The manifest and the ledger of an earlier export of this database; None if there is none.

    `intact`: the manifest is unchanged, byte by byte, as far as the ledger can tell.
    """

    previous: Manifest | None
    ledger: Ledger | None
    intact: bool


async def claim(job: ExportJob, *, every_file: bool = False) -> Claim:
    """Claim the target for the database of the job.

    `every_file`: every file has to be written here, so the manifest of another exporter does not count as intact.
    A lost manifest is rebuilt from the ledger, without its row counts, so that the generation keeps counting.
    Raises `ForeignExport` if the files or the ledger belong to another database, and `SourceError` if this
    database cannot be read: then a slip in its name is more likely, and taking over the target would be wrong.
    """
    try:
        return await in_thread(_claim, job, every_file)
    except ForeignExport:
        async with job.source.snapshot():
            raise


def _claim(job: ExportJob, every_file: bool) -> Claim:
    manifest, ledger = job.target.read_manifest(), load_ledger(job.state)
    place = job.target.elsewhere or job.target.directory
    mine = ledger is not None and ledger.database == job.source.identity
    if manifest is not None and is_foreign(manifest, ledger, job.source.database, job.source.identity):
        raise _foreign_files(place, manifest, "" if job.target.elsewhere else " and .autoexport")
    if manifest is not None and ledger is not None and not mine:
        raise _foreign_ledger(job.state, job.source.database)
    if manifest is None:
        return Claim(_rebuilt(ledger, job) if ledger is not None and mine else None, ledger, intact=False)
    # The ledger does not know the manifest of another exporter.
    if job.target.overtaken():
        return Claim(manifest, ledger, intact=not every_file)
    return Claim(manifest, ledger, is_intact(manifest, ledger, job.target))


def is_intact(manifest: Manifest, ledger: Ledger | None, target: Target) -> bool:
    """Whether the published manifest is unchanged, byte by byte, as far as the ledger can tell."""
    text = target.read_manifest_text()
    known = ledger.files.get(MANIFEST_NAME) if ledger is not None else None
    return text == manifest.to_json() and (known is None or known.crc == zlib.crc32(text))


def is_foreign(manifest: Manifest, ledger: Ledger | None, database: str, identity: str) -> bool:
    """Whether this is the manifest of another database.

    The same database may have a new name, through a link. Then the ledger has its identity.
    """
    return manifest.database != database and (ledger is None or ledger.database != identity)


def _rebuilt(ledger: Ledger, job: ExportJob) -> Manifest:
    """The lost manifest, with those files that the ledger recognises.

    Other files of these names belong to other programs. If the state directory was set separately, the ledger may
    even describe another directory.
    """
    files = {
        name: FileRecord(known.size, digest(known.crc), 0)
        for name, known in ledger.files.items()
        if name != MANIFEST_NAME and job.target.identify(name, known.crc) == known
    }
    # The ledger does not list the files beside these. None is compared, so only the names matter.
    beside = {name: BesideRecord(0, "") for name in BESIDE_NAMES if job.target.identify(name, 0) is not None}
    return Manifest(ledger.generation, ledger.timestamp, job.source.database, files, beside)


def _foreign_files(place: Path | str, manifest: Manifest, more: str) -> ForeignExport:
    return ForeignExport(
        f"{place} holds the export of another database ({manifest.database}).",
        hint=f"Choose another --export-dir, or remove {MANIFEST_NAME}{more} there to take it over.",
    )


def _foreign_ledger(state: Path, database: str) -> ForeignExport:
    return ForeignExport(
        f"The ledger in {state} belongs to another database than this {database}.",
        hint="Give each database an --export-dir and a state directory of its own. If it is the same database "
        f"with a new path, remove {state / 'ledger.json'}: the next export is then a full one.",
    )
