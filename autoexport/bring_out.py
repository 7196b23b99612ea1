"""Brings an edition out: leaves alone what has not changed, publishes the rest, and remembers what then stands."""

from __future__ import annotations

import time
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from autoexport.checksum import digest
from autoexport.edition import Edition, lay_out_all, make_manifest, spool_of, unpublished
from autoexport.encoders import fingerprints
from autoexport.formats import FILE_NAMES
from autoexport.ledger import FileIdentity, Ledger, save_ledger, save_position
from autoexport.logs import get_logger
from autoexport.manifest import MANIFEST_NAME, FileRecord, Manifest
from autoexport.mapping import mapping_digest
from autoexport.model import Tree
from autoexport.offloop import in_thread
from autoexport.publish import PUBLISHING, check_room, discard, publish
from autoexport.splice import Layout, Staged, stage, standing

Identities = dict[str, FileIdentity]
"""Of the published files, by name."""

log = get_logger()


async def bring_out(
    edition: Edition, directory: Path, state: Path, previous: Manifest | None, intact: bool, started: float
) -> tuple[Manifest, bool, Identities]:
    """Publish what differs from the published files; the manifest that stands then, whether anything did, and how
    the files were left.

    `intact`: the manifest is as it was written; one that was edited is written anew.
    """
    tree = await in_thread(edition.tree)
    _warn(edition, tree, directory)
    if previous is not None and intact:
        unchanged = await in_thread(_unchanged, edition, tree, directory, previous)
        if unchanged is not None:
            if not await in_thread(_position_was_enough, edition, tree, state):
                await in_thread(_remember, edition, tree, *unchanged, directory, state, previous)
            return previous, False, unchanged[1]
    layouts = await in_thread(lay_out_all, edition, tree)
    manifest, files = await _publish(edition, tree, layouts, directory, state, previous, started)
    await in_thread(_remember, edition, tree, layouts, files, directory, state, manifest)
    return manifest, True, files


# --- unchanged ---------------------------------------------------------------------------------------


def _unchanged(
    edition: Edition, tree: Tree, directory: Path, previous: Manifest
) -> tuple[list[Layout], Identities] | None:
    """The published files, if these, made with their time stamp, would be the same to the byte."""
    timestamp = previous.read_at
    if timestamp is None or edition.certainly_differs():
        return None
    if set(previous.files) != {output.file_name for output in edition.formats}:
        return None
    layouts = lay_out_all(edition, replace(tree, timestamp=timestamp))
    if not all(_differs_not(layout, previous.files[layout.file_name]) for layout in layouts):
        return None
    files = {}
    for layout in layouts:
        identity = _standing(edition, layout, directory)
        if identity is None:
            return None
        files[layout.file_name] = identity
    return layouts, files


def _standing(edition: Edition, layout: Layout, directory: Path) -> FileIdentity | None:
    return standing(layout, spool_of(edition, layout), directory, edition.known(layout.file_name))


def _differs_not(layout: Layout, known: FileRecord) -> bool:
    return (layout.length, digest(layout.crc)) == (known.bytes, known.digest)


def _position_was_enough(edition: Edition, tree: Tree, state: Path) -> bool:
    """Write nothing but the position, if the ledger still says the truth; whether it does."""
    ledger = edition.ledger
    if ledger is None or edition.position is None or ledger.unpublished != unpublished(edition, tree):
        return False
    if edition.rendered_images:
        # What was rendered anew may have other counts of repaired values though its bytes are the same.
        return False
    save_position(state, ledger.generation, edition.position.pieces())
    return True


# --- changed -----------------------------------------------------------------------------------------


async def _publish(
    edition: Edition,
    tree: Tree,
    layouts: Sequence[Layout],
    directory: Path,
    state: Path,
    previous: Manifest | None,
    started: float,
) -> tuple[Manifest, Identities]:
    """The manifest and the identities of all files, those that stand included."""
    staged: list[Staged] = []
    stands, changed = {}, []
    try:
        for layout in layouts:
            identity = await _stands(edition, layout, directory, previous)
            if identity is None:
                changed.append(layout)
            else:
                stands[layout.file_name] = identity
        if edition.courtesy is not None:
            await in_thread(edition.courtesy.finish)
        await in_thread(check_room, directory, sum(layout.length for layout in changed))
        for layout in changed:
            await in_thread(_stage, staged, edition, layout, directory)
        log.debug("splice.staged", files=len(staged), bytes=sum(layout.length for layout in changed))
        manifest = make_manifest(edition, tree, layouts, previous, time.monotonic() - started)
        mark = state / PUBLISHING
        renamed = await in_thread(publish, staged, manifest, directory, previous, mark, edition.courtesy)
    finally:
        await in_thread(discard, staged)
    return manifest, stands | renamed


def _stage(staged: list[Staged], edition: Edition, layout: Layout, directory: Path) -> None:
    # Appended by the thread itself: a caller that is cancelled meanwhile has to know what to discard.
    known, paced = edition.known(layout.file_name), edition.courtesy is not None
    staged.append(stage(layout, spool_of(edition, layout), directory, known, paced=paced))


async def _stands(
    edition: Edition, layout: Layout, directory: Path, previous: Manifest | None
) -> FileIdentity | None:
    """The identity of this one file if it is already what it has to be."""
    known = previous.files.get(layout.file_name) if previous is not None else None
    if known is None or not _differs_not(layout, known):
        return None
    return await in_thread(_standing, edition, layout, directory)


def _remember(
    edition: Edition,
    tree: Tree,
    layouts: Sequence[Layout],
    files: Identities,
    directory: Path,
    state: Path,
    manifest: Manifest,
) -> None:
    """Write the ledger. `files` are the identities as they were when the bytes were known to be ours: what
    somebody else wrote to a file since then must not be taken for them."""
    for layout in layouts:
        for offset, part in layout.offsets:
            part.offset, part.fresh = offset, False
    ledger = Ledger(
        database=edition.source.identity,
        settings=edition.settings,
        mapping=mapping_digest(edition.mapping),
        generation=manifest.generation,
        timestamp=manifest.timestamp,
        files=files | {MANIFEST_NAME: FileIdentity.of(directory / MANIFEST_NAME, zlib.crc32(manifest.to_json()))},
        tables={name: mapped.table.full_name for name, mapped in edition.mapping.tables().items()},
        unpublished=unpublished(edition, tree),
        datasets=list(edition.builder.places) if edition.position is not None else [],
        blocks=edition.records if edition.position is not None else [],
        encoders=fingerprints(),
    )
    save_ledger(state, ledger, edition.position.pieces() if edition.position is not None else None)


def _warn(edition: Edition, tree: Tree, directory: Path) -> None:
    orphans = {name: number for name, number in unpublished(edition, tree).items() if number}
    if orphans:
        log.warning("export.orphans", **orphans, hint="these rows are published nowhere; `check` tells more")
    if edition.mapping.box == "json" and edition.mapping.box_format is None and tree.counts.repaired:
        # Which of them, an export does not remember: the counts are kept block by block.
        log.warning(
            "export.boxes",
            repaired=tree.counts.repaired,
            hint="boxes among them cannot be read if they are lists of four; `check` tells",
        )
    written = {output.file_name for output in edition.formats}
    for name in FILE_NAMES:
        if name not in written and (directory / name).exists():
            log.warning("export.left_alone", file=name, hint="this output is switched off; the file grows old")
