"""Decides whether an export directory and its ledger belong to this database."""

from __future__ import annotations

import zlib
from contextlib import suppress
from pathlib import Path

from autoexport.errors import ConfigurationError
from autoexport.incremental.ledger import Ledger
from autoexport.publishing.crc32 import digest
from autoexport.publishing.identity import FileIdentity
from autoexport.publishing.manifest import MANIFEST_NAME, FileRecord, Manifest


def read_manifest(directory: Path) -> Manifest | None:
    """The manifest of an export directory, or None where there is none of ours."""
    try:
        return Manifest.from_json((directory / MANIFEST_NAME).read_bytes())
    except OSError:
        return None


def is_intact(manifest: Manifest, ledger: Ledger | None, directory: Path) -> bool:
    """Whether the manifest is, to the byte, as it was written, as far as the ledger can tell."""
    try:
        text = (directory / MANIFEST_NAME).read_bytes()
    except OSError:
        return False
    known = ledger.files.get(MANIFEST_NAME) if ledger is not None else None
    return text == manifest.to_json() and (known is None or known.crc == zlib.crc32(text))


def published_files(ledger: Ledger, directory: Path) -> dict[str, FileRecord]:
    """The files that a lost manifest named, as far as the ledger recognises them: without their rows.

    What else lies there under these names is somebody else's. (The ledger may be of another directory, where
    the state directory is a place of its own.)
    """
    found = {}
    for name, known in ledger.files.items():
        with suppress(OSError):
            if name != MANIFEST_NAME and FileIdentity.of(directory / name, known.crc) == known:
                found[name] = FileRecord(known.size, digest(known.crc), 0)
    return found


def is_foreign(manifest: Manifest, ledger: Ledger | None, database: str, identity: str) -> bool:
    """Whether this is the export of another database. The same one may have another name by now, by a link: then
    the ledger knows its identity."""
    return manifest.database != database and (ledger is None or ledger.database != identity)


def refuse_foreign(
    manifest: Manifest | None, ledger: Ledger | None, database: str, identity: str, directory: Path
) -> None:
    """Raise `ConfigurationError` if the directory holds the export of another database."""
    if manifest is not None and is_foreign(manifest, ledger, database, identity):
        raise ConfigurationError(
            f"{directory} holds the export of another database ({manifest.database}).",
            hint=f"Choose another --export-dir, or remove {MANIFEST_NAME} and .autoexport there to take it over.",
        )


def foreign_ledger(state: Path, database: str) -> ConfigurationError:
    """The error for a state directory that was used for another database, or for this one at another place."""
    return ConfigurationError(
        f"The ledger in {state} is of another database than this {database}.",
        hint="Give each database an --export-dir and a state directory of its own. If it is the same one, at "
        f"another place, remove {state / 'ledger.json'}: the next export is then a full one.",
    )
