"""The contract of a target, which receives the files of an export."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

from autoexport.publishing.identity import FileIdentity
from autoexport.publishing.layout import Layout
from autoexport.publishing.locks import Lock
from autoexport.publishing.manifest import Manifest
from autoexport.publishing.splice import Spools, Staged
from autoexport.publishing.throttle import DiskThrottle
from autoexport.runtime.progress import Progress

Identities = Mapping[str, FileIdentity]
"""Identities of published files by file name."""


class TargetWatch(Protocol):
    """Tells whether another program touched the target of this exporter."""

    def begin_own_changes(self) -> None:
        """Ignore changes from now on: this exporter may change the files itself."""
        ...

    def end_own_changes(self, left: Identities | None = None) -> None:
        """Report changes from now on, compared with the files as they are; blocking.

        `left` are identities of the files as this exporter left them. They count instead of the present ones.
        """
        ...

    def tampered(self) -> bool:
        """Whether another program changed a published file since the last call; blocking.

        Raises `PublishError` if the state directory was removed.
        """
        ...


class Target(Protocol):
    """Receives the files. A publish holds the target, stages the changed files and commits them.

    All methods but the asynchronous ones block: call them in a thread. Errors of the operating system are raised
    as `PublishError`.
    """

    directory: Path
    """The directory that holds the published files, or the local copies of them."""

    elsewhere: str
    """The URL at which readers find the files; empty if they find them in `directory`."""

    def hold(self) -> AbstractAsyncContextManager[None]:
        """Hold the right to publish here, and remove the leftovers of a killed exporter.

        Raises `LockedError` if another exporter publishes for too long.
        """
        ...

    def overtaken(self) -> bool:
        """Whether another exporter published here since the files in `directory` were written.

        Then `read_manifest` is the manifest of that exporter. Call it while the target is held.
        """
        ...

    async def deliver(self, manifest: Manifest, *, every_file: bool, progress: Progress) -> tuple[str, ...] | None:
        """Bring the files of the manifest to where readers find them; returns the names of those that are new.

        It returns None, and does nothing, if readers find this manifest already. `every_file`: bring those, too,
        that are there. Raises `PublishError`, and `LostRace` if another exporter published since the target is
        held. Readers then find its files.
        """
        ...

    async def probe(self) -> Manifest | None:
        """Make sure that an export could be published; returns the manifest that readers find. It leaves nothing.

        Raises `PublishError`.
        """
        ...

    async def differences(self, manifest: Manifest) -> list[str]:
        """The differences between this manifest and the files that readers find elsewhere, one line each."""
        ...

    def read_manifest(self) -> Manifest | None:
        """The published manifest; None if there is none that this program wrote."""
        ...

    def read_manifest_text(self) -> bytes | None:
        """The bytes of the file `manifest.json`, valid or not; None if there is no such file."""
        ...

    def identify(self, file_name: str, crc: int) -> FileIdentity | None:
        """The identity of a published file as it is now, with this checksum; None if there is no such file."""
        ...

    def find_identical(self, layout: Layout, spools: Spools, known: FileIdentity | None) -> FileIdentity | None:
        """The identity of the published file if it already has the bytes of this layout, else None.

        `spools` are the descriptors of the fresh parts of the blocks. A layout with kept ranges needs a file of
        identity `known`.
        """
        ...

    def check_room(self, needed_bytes: int) -> None:
        """Raise `PublishError` if there is no room for so many new bytes."""
        ...

    def stage(self, layout: Layout, spools: Spools, known: FileIdentity | None, *, throttled: bool) -> Staged:
        """Write a file durably beside the published one.

        `throttled`: write slowly, so that an application can use the disk as well.
        """
        ...

    def commit(
        self,
        staged: Sequence[Staged],
        manifest: Manifest,
        previous: Manifest | None,
        throttle: DiskThrottle | None,
    ) -> Identities:
        """Put the staged files in place, then the manifest; returns the identities of the staged files."""
        ...

    def discard(self, staged: Sequence[Staged]) -> None:
        """Remove the staged files that were not committed."""
        ...

    def remove_others(self, patterns: Sequence[str], names: Collection[str]) -> None:
        """Remove the files that fit one of these patterns and are not named, and the folders that are then empty.

        They are files of an earlier export, of a project or a split that has none any more.
        """
        ...

    def read_all(self, pattern: str) -> Iterator[bytes]:
        """The bytes of the published files whose paths fit a pattern of `glob`, in the order of their paths."""
        ...

    def small_files_differ(self, files: Iterable[tuple[str, bytes]]) -> bool:
        """Whether one of these files, each with its path and its bytes, is not as it should be."""
        ...

    def write_small_files(self, files: Iterable[tuple[str, bytes]]) -> int:
        """Write those of these files that are not as they should be, durably; how many.

        If the exporter is killed before `small_files_recorded`, `small_files_open` tells the next one.
        """
        ...

    def retire_small_files(self, data_sets: Iterable[str] | None) -> None:
        """Note the small files of these folders that no list names, and remove those that were noted long ago.

        None: of all folders.
        """
        ...

    def small_files_recorded(self) -> None:
        """The ledger is that of the small files again."""
        ...

    def small_files_open(self) -> bool:
        """Whether small files were written that no ledger knows."""
        ...

    def link_images(self, data_set: str, root: str) -> None:
        """Let `images` in the folder of a data set lead to the images."""
        ...

    def switched_off(self, written: Sequence[str]) -> list[str]:
        """The existing files of outputs that are switched off; `written` are the file names of the others."""
        ...

    def watch(self, lock: Lock) -> TargetWatch:
        """A watch over the published files and the lock of the leader."""
        ...
