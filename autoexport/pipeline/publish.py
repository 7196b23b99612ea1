"""Publishes the files that changed, leaves the others alone, and saves the ledger."""

from __future__ import annotations

import time
import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from autoexport.formats.contract import FileSetFormat, FolderFormat
from autoexport.incremental.ledger import Ledger, save_ledger
from autoexport.incremental.position import save_position
from autoexport.mapping.mapper import mapping_digest
from autoexport.model.tree import Tree
from autoexport.pipeline.beside import Beside, all_there, left_beside
from autoexport.pipeline.generation import Generation
from autoexport.pipeline.job import ExportJob
from autoexport.pipeline.ownership import Claim
from autoexport.publishing.contract import Identities
from autoexport.publishing.crc32 import digest
from autoexport.publishing.identity import FileIdentity
from autoexport.publishing.layout import Layout
from autoexport.publishing.manifest import FORMAT_VERSION, MANIFEST_NAME, FileRecord, Manifest
from autoexport.publishing.splice import Staged
from autoexport.publishing.throttle import DiskThrottle
from autoexport.runtime.logs import get_logger
from autoexport.runtime.threads import in_thread

log = get_logger()


@dataclass(frozen=True, slots=True)
class Published:
    """The published manifest, whether a file was replaced, and the identities of all files.

    `changed_files` are the names of the files that were replaced, and of those that are gone, in order. Those that
    stand beside the exported ones are among them. A name with `/` at its end is a folder in which files changed.
    """

    manifest: Manifest
    changed: bool
    files: Identities
    changed_files: tuple[str, ...] = ()


async def publish(
    job: ExportJob, generation: Generation, claimed: Claim, started: float, throttle: DiskThrottle | None
) -> Published:
    """Publish the files that differ from the published ones. Raises `PublishError`.

    `started` is the start of the export in seconds on the monotonic clock. A manifest that another program edited
    is written again.
    """
    publication = _Publication(job, generation, await in_thread(generation.tree), claimed, started, throttle)
    publication.warn()
    return await publication.unchanged() or await publication.publish()


@dataclass(slots=True)
class _Publication:
    """One generation on its way to the target."""

    job: ExportJob
    generation: Generation
    tree: Tree
    claimed: Claim
    started: float
    throttle: DiskThrottle | None
    _changed: Collection[str] = ()

    # --- nothing changed ---------------------------------------------------------------------------------

    async def unchanged(self) -> Published | None:
        """Save only the position, if the published files are already right; None if they are not."""
        previous = self.claimed.previous
        if previous is None or not self.claimed.intact or previous.format_version != FORMAT_VERSION:
            return None
        if self.job.target.overtaken():
            return Published(previous, False, {}) if await in_thread(self._recorded, previous) else None
        if not await in_thread(all_there, self.job, previous):
            return None
        found = await in_thread(self._identical, previous)
        if found is None:
            return None
        layouts, files = found
        if not await in_thread(self._position_suffices):
            await in_thread(self._remove_others, previous, ())
            await in_thread(self._save, layouts, files, previous)
        elif self._has_folders():
            await in_thread(self.job.target.retire_small_files, ())
        return Published(previous, False, files)

    def _identical(self, previous: Manifest) -> tuple[list[Layout], dict[str, FileIdentity]] | None:
        """The layouts with the published time stamp and the identities of the files, if all bytes are equal."""
        layouts = self._recorded(previous)
        if layouts is None:
            return None
        files = {}
        for layout in layouts:
            identity = self._find_identical(layout)
            if identity is None:
                return None
            files[layout.file_name] = identity
        return layouts, files

    def _recorded(self, previous: Manifest) -> list[Layout] | None:
        """The layouts with the published time stamp, if the manifest records files with their digests."""
        timestamp = previous.read_at
        if timestamp is None or self.generation.sections.differ:
            return None
        layouts = self.generation.lay_out(replace(self.tree, timestamp=timestamp))
        folders = self.generation.folders(self.tree)
        if set(previous.files) != {layout.file_name for layout in layouts} | folders.keys():
            return None
        if any(previous.files[name] != folder for name, folder in folders.items()):
            return None
        if folders and self.job.target.small_files_differ(self.generation.small_files()):
            return None
        known = all(_is_recorded(layout, previous.files[layout.file_name]) for layout in layouts)
        return layouts if known else None

    def _find_identical(self, layout: Layout) -> FileIdentity | None:
        spools, known = self.generation.spools_of(layout), self.generation.known(layout.file_name)
        return self.job.target.find_identical(layout, spools, known)

    def _position_suffices(self) -> bool:
        """Save only the position, if the rest of the ledger is still right; returns whether it is."""
        generation, ledger = self.generation, self.generation.ledger
        if ledger is None or generation.position is None:
            return False
        if ledger.unpublished != generation.unpublished(self.tree):
            return False
        if generation.rendered_images:
            # Freshly rendered blocks may have other counts of repaired values, with the same bytes.
            return False
        save_position(self.job.state, ledger.generation, generation.position.pieces())
        return True

    # --- something changed -------------------------------------------------------------------------------

    async def publish(self) -> Published:
        """Stage and commit the files that differ, then save the ledger."""
        layouts = await in_thread(self.generation.lay_out, self.tree)
        manifest, files, replaced = await self._commit(layouts)
        # Before the ledger is saved: an exporter that is killed in between leaves a ledger that does not fit.
        await in_thread(self._remove_others, manifest, self._changed)
        await in_thread(self._save, layouts, files, manifest)
        # The files of a folder are no files of their own here: their common record tells whether one changed.
        before = self.claimed.previous.files if self.claimed.previous is not None else {}
        names = {*before, *manifest.files}
        differing = {name for name in names if before.get(name) != manifest.files.get(name)}
        return Published(manifest, True, files, tuple(sorted({*replaced, *differing})))

    def _has_folders(self) -> bool:
        return any(isinstance(output, FolderFormat) for output in self.generation.formats)

    def _remove_others(self, manifest: Manifest, changed: Collection[str]) -> None:
        """Remove the files of projects and splits that are gone, also those that a killed export left.

        `changed` are the names of files that were replaced. The small files beside them may be named no more.
        """
        target, previous = self.job.target, self.claimed.previous
        for output in self.generation.formats:
            if isinstance(output, FileSetFormat):
                target.remove_others(output.patterns, manifest.files)
        if self._has_folders():
            gone = previous.files.keys() - manifest.files.keys() if previous is not None else set()
            folders = {"/".join(name.split("/")[:2]) for name in {*changed, *gone} if "/" in name}
            target.retire_small_files(None if self.generation.plan.ranges is None else folders)

    def _write_small_files(self, manifest: Manifest) -> None:
        """Write the small files of the rendered blocks, before the lists that name them."""
        if self._has_folders():
            written = self.job.target.write_small_files(self.generation.small_files())
            log.debug("publish.small_files", written=written)
            root = self.job.options.get("image_root", "")
            for name in manifest.files if root else ():
                if name.endswith("/labels/"):
                    self.job.target.link_images(name.removesuffix("/labels/"), root)

    async def _commit(self, layouts: Sequence[Layout]) -> tuple[Manifest, Identities, list[str]]:
        """The new manifest, the identities of all files, the unchanged ones included, and the replaced files."""
        target, previous = self.job.target, self.claimed.previous
        staged: list[Staged] = []
        identical, changed = {}, []
        try:
            for layout in layouts:
                identity = await self._identical_file(layout)
                if identity is None:
                    changed.append(layout)
                else:
                    identical[layout.file_name] = identity
            if self.throttle is not None:
                await in_thread(self.throttle.finish)
            size_bytes = sum(layout.length for layout in changed)
            await in_thread(target.check_room, size_bytes)
            for layout in changed:
                await in_thread(self._stage, staged, layout)
            log.debug("splice.staged", files=len(staged), bytes=size_bytes)
            manifest = self.generation.manifest(self.tree, layouts, previous, time.monotonic() - self.started)
            beside = Beside(self.job, self.generation, self.tree, staged)
            manifest = await in_thread(beside.stage, manifest)
            owned = await in_thread(self._with_files_left_alone, previous)
            await in_thread(self._write_small_files, manifest)
            self._changed = [layout.file_name for layout in changed]
            committed = await in_thread(target.commit, staged, manifest, owned, self.throttle)
        finally:
            await in_thread(target.discard, staged)
        exported = {name: identity for name, identity in committed.items() if name in manifest.files}
        return manifest, {**identical, **exported}, list(committed)

    def _left_alone(self) -> dict[str, FileIdentity]:
        """The files that earlier exports of this database published, and that are still as they left them."""
        ledger, job = self.claimed.ledger, self.job
        if ledger is None or ledger.database != job.source.identity:
            return {}
        earlier = {**ledger.left_alone, **ledger.files}
        return {name: known for name, known in earlier.items() if job.target.identify(name, known.crc) == known}

    def _with_files_left_alone(self, previous: Manifest | None) -> Manifest | None:
        """The previous manifest with the files of all outputs that were ever on: they are no others' files."""
        if previous is None:
            return None
        ours = {name: FileRecord(it.size, digest(it.crc), 0) for name, it in self._left_alone().items()}
        return replace(previous, files={**ours, **previous.files})

    async def _identical_file(self, layout: Layout) -> FileIdentity | None:
        """The identity of this one file if it already has the right bytes."""
        previous = self.claimed.previous
        known = previous.files.get(layout.file_name) if previous is not None else None
        if known is None or not _is_recorded(layout, known):
            return None
        return await in_thread(self._find_identical, layout)

    def _stage(self, staged: list[Staged], layout: Layout) -> None:
        # The thread appends, because a caller that is cancelled meanwhile must know what to discard.
        spools, known = self.generation.spools_of(layout), self.generation.known(layout.file_name)
        throttled = self.throttle is not None
        staged.append(self.job.target.stage(layout, spools, known, throttled=throttled))

    def _save(self, layouts: Sequence[Layout], files: Identities, manifest: Manifest) -> None:
        """Save the ledger.

        `files` are the identities from the time when the bytes were known to be ours. Read now, they could belong
        to a file that another program wrote since.
        """
        generation, job = self.generation, self.job
        own = job.target.identify(MANIFEST_NAME, zlib.crc32(manifest.to_json()))
        present = {*files, MANIFEST_NAME}
        can_continue = generation.position is not None and generation.kinds is not None
        ledger = Ledger(
            database=job.source.identity,
            settings=generation.settings,
            mapping=mapping_digest(generation.mapping),
            generation=manifest.generation,
            timestamp=manifest.timestamp,
            files={**files, **({MANIFEST_NAME: own} if own is not None else {})},
            tables={name: mapped.table.full_name for name, mapped in generation.mapping.tables().items()},
            unpublished=generation.unpublished(self.tree),
            kinds=generation.kinds or ("", ""),
            block_files=generation.sections.block_files,
            sections=generation.sections.recorded(layouts) if can_continue else (),
            left_alone={name: known for name, known in self._left_alone().items() if name not in present},
            encoders=job.encoders(),
        )
        save_ledger(job.state, ledger, generation.position.pieces() if generation.position is not None else None)
        job.target.small_files_recorded()

    # --- warnings ----------------------------------------------------------------------------------------

    def warn(self) -> None:
        """Log warnings about the data and the settings that an operator may want to change."""
        generation, tree = self.generation, self.tree
        orphans = {name: count for name, count in generation.orphans(tree).items() if count}
        if orphans:
            log.warning("export.orphans", **orphans, hint="these rows have no parent; run `check` for more")
        if generation.mapping.box == "json" and generation.mapping.box_format is None and tree.counts.repaired:
            # Repaired values are only counted, block by block, so an export does not know which they are.
            log.warning(
                "export.boxes",
                repaired=tree.counts.repaired,
                hint="boxes that are lists of four numbers cannot be read; run `check` for more",
            )
        before = self.claimed.previous.left_out if self.claimed.previous is not None else {}
        for name, reasons in generation.rows_left_out(tree).items():
            if reasons == before.get(name):
                continue
            log.info("export.left_out", format=name, **reasons)
        off = self.job.target.switched_off([output.file_name for output in generation.formats])
        for name in (*off, *left_beside(self.job)):
            log.warning("export.left_alone", file=name, hint="this output is off: its file is not updated")


def _is_recorded(layout: Layout, known: FileRecord) -> bool:
    """Whether a layout has the length and the checksum that the manifest records."""
    return (layout.length, digest(layout.crc)) == (known.bytes, known.digest)
