"""Brings an edition out: leaves alone what has not changed, publishes the rest, and remembers what then stands."""

from __future__ import annotations

import time
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from autoexport.formats import FILE_NAMES
from autoexport.incremental.ledger import Ledger, save_ledger
from autoexport.incremental.position import save_position
from autoexport.mapping.mapper import mapping_digest
from autoexport.model.tree import Tree
from autoexport.pipeline.generation import Generation, lay_out_all, make_manifest, spool_of, unpublished
from autoexport.publishing.crc32 import digest
from autoexport.publishing.directory import PUBLISHING, check_room, commit, discard
from autoexport.publishing.identity import FileIdentity
from autoexport.publishing.layout import Layout
from autoexport.publishing.manifest import MANIFEST_NAME, FileRecord, Manifest
from autoexport.publishing.splice import Staged, find_identical, stage
from autoexport.runtime.logs import get_logger
from autoexport.runtime.threads import in_thread

Identities = dict[str, FileIdentity]
"""Of the published files, by name."""

log = get_logger()


async def publish(
    generation: Generation, directory: Path, state: Path, previous: Manifest | None, intact: bool, started: float
) -> tuple[Manifest, bool, Identities]:
    """Publish what differs from the published files; the manifest that stands then, whether anything did, and how
    the files were left.

    `intact`: the manifest is as it was written; one that was edited is written anew.
    """
    tree = await in_thread(generation.tree)
    _warn(generation, tree, directory)
    if previous is not None and intact:
        unchanged = await in_thread(_unchanged, generation, tree, directory, previous)
        if unchanged is not None:
            if not await in_thread(_position_was_enough, generation, tree, state):
                await in_thread(_remember, generation, tree, *unchanged, directory, state, previous)
            return previous, False, unchanged[1]
    layouts = await in_thread(lay_out_all, generation, tree)
    manifest, files = await _publish(generation, tree, layouts, directory, state, previous, started)
    await in_thread(_remember, generation, tree, layouts, files, directory, state, manifest)
    return manifest, True, files


# --- unchanged ---------------------------------------------------------------------------------------


def _unchanged(
    generation: Generation, tree: Tree, directory: Path, previous: Manifest
) -> tuple[list[Layout], Identities] | None:
    """The published files, if these, made with their time stamp, would be the same to the byte."""
    timestamp = previous.read_at
    if timestamp is None or generation.certainly_differs():
        return None
    if set(previous.files) != {output.file_name for output in generation.formats}:
        return None
    layouts = lay_out_all(generation, replace(tree, timestamp=timestamp))
    if not all(_differs_not(layout, previous.files[layout.file_name]) for layout in layouts):
        return None
    files = {}
    for layout in layouts:
        identity = _find_identical(generation, layout, directory)
        if identity is None:
            return None
        files[layout.file_name] = identity
    return layouts, files


def _find_identical(generation: Generation, layout: Layout, directory: Path) -> FileIdentity | None:
    return find_identical(layout, spool_of(generation, layout), directory, generation.known(layout.file_name))


def _differs_not(layout: Layout, known: FileRecord) -> bool:
    return (layout.length, digest(layout.crc)) == (known.bytes, known.digest)


def _position_was_enough(generation: Generation, tree: Tree, state: Path) -> bool:
    """Write nothing but the position, if the ledger still says the truth; whether it does."""
    ledger = generation.ledger
    if ledger is None or generation.position is None or ledger.unpublished != unpublished(generation, tree):
        return False
    if generation.rendered_images:
        # What was rendered anew may have other counts of repaired values though its bytes are the same.
        return False
    save_position(state, ledger.generation, generation.position.pieces())
    return True


# --- changed -----------------------------------------------------------------------------------------


async def _publish(
    generation: Generation,
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
            identity = await _stands(generation, layout, directory, previous)
            if identity is None:
                changed.append(layout)
            else:
                stands[layout.file_name] = identity
        if generation.throttle is not None:
            await in_thread(generation.throttle.finish)
        await in_thread(check_room, directory, sum(layout.length for layout in changed))
        for layout in changed:
            await in_thread(_stage, staged, generation, layout, directory)
        log.debug("splice.staged", files=len(staged), bytes=sum(layout.length for layout in changed))
        manifest = make_manifest(generation, tree, layouts, previous, time.monotonic() - started)
        mark = state / PUBLISHING
        renamed = await in_thread(commit, staged, manifest, directory, previous, mark, generation.throttle)
    finally:
        await in_thread(discard, staged)
    return manifest, stands | renamed


def _stage(staged: list[Staged], generation: Generation, layout: Layout, directory: Path) -> None:
    # Appended by the thread itself: a caller that is cancelled meanwhile has to know what to discard.
    known, throttled = generation.known(layout.file_name), generation.throttle is not None
    staged.append(stage(layout, spool_of(generation, layout), directory, known, throttled=throttled))


async def _stands(
    generation: Generation, layout: Layout, directory: Path, previous: Manifest | None
) -> FileIdentity | None:
    """The identity of this one file if it is already what it has to be."""
    known = previous.files.get(layout.file_name) if previous is not None else None
    if known is None or not _differs_not(layout, known):
        return None
    return await in_thread(_find_identical, generation, layout, directory)


def _remember(
    generation: Generation,
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
        database=generation.source.identity,
        settings=generation.settings,
        mapping=mapping_digest(generation.mapping),
        generation=manifest.generation,
        timestamp=manifest.timestamp,
        files=files | {MANIFEST_NAME: FileIdentity.of(directory / MANIFEST_NAME, zlib.crc32(manifest.to_json()))},
        tables={name: mapped.table.full_name for name, mapped in generation.mapping.tables().items()},
        unpublished=unpublished(generation, tree),
        datasets=list(generation.builder.places) if generation.position is not None else [],
        blocks=generation.records if generation.position is not None else [],
    )
    save_ledger(state, ledger, generation.position.pieces() if generation.position is not None else None)


def _warn(generation: Generation, tree: Tree, directory: Path) -> None:
    orphans = {name: number for name, number in unpublished(generation, tree).items() if number}
    if orphans:
        log.warning("export.orphans", **orphans, hint="these rows are published nowhere; `check` tells more")
    if generation.mapping.box == "json" and generation.mapping.box_format is None and tree.counts.repaired:
        # Which of them, an export does not remember: the counts are kept block by block.
        log.warning(
            "export.boxes",
            repaired=tree.counts.repaired,
            hint="boxes among them cannot be read if they are lists of four; `check` tells",
        )
    written = {output.file_name for output in generation.formats}
    for name in FILE_NAMES:
        if name not in written and (directory / name).exists():
            log.warning("export.left_alone", file=name, hint="this output is switched off; the file grows old")
