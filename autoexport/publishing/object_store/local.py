"""Passes what a target does in the working directory on to the target of that directory."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

from autoexport.publishing.contract import Identities, Target
from autoexport.publishing.identity import FileIdentity
from autoexport.publishing.layout import Layout
from autoexport.publishing.manifest import Manifest
from autoexport.publishing.splice import Spools, Staged
from autoexport.publishing.throttle import DiskThrottle


class LocalCopies:
    """The files of a working directory. `Target` documents each method."""

    def __init__(self, local: Target) -> None:
        self.local = local
        self.directory: Path = local.directory

    def find_identical(self, layout: Layout, spools: Spools, known: FileIdentity | None) -> FileIdentity | None:
        """Compare the local file."""
        return self.local.find_identical(layout, spools, known)

    def check_room(self, needed_bytes: int) -> None:
        """Ask for the room on the local disk."""
        self.local.check_room(needed_bytes)

    def stage(self, layout: Layout, spools: Spools, known: FileIdentity | None, *, throttled: bool) -> Staged:
        """Write a local temp file."""
        return self.local.stage(layout, spools, known, throttled=throttled)

    def commit(
        self,
        staged: Sequence[Staged],
        manifest: Manifest,
        previous: Manifest | None,
        throttle: DiskThrottle | None,
    ) -> Identities:
        """Put the files in place locally: readers see them after `deliver`."""
        return self.local.commit(staged, manifest, previous, throttle)

    def discard(self, staged: Sequence[Staged]) -> None:
        """Remove the local temp files."""
        self.local.discard(staged)

    def remove_others(self, patterns: Sequence[str], names: Collection[str]) -> None:
        """Remove local files. The manifest does not name them, so their objects are removed in time."""
        self.local.remove_others(patterns, names)

    def small_files_differ(self, files: Iterable[tuple[str, bytes]]) -> bool:
        """Compare local files: no object store gets small files."""
        return self.local.small_files_differ(files)

    def write_small_files(self, files: Iterable[tuple[str, bytes]]) -> int:
        """Write local files."""
        return self.local.write_small_files(files)

    def retire_small_files(self, data_sets: Iterable[str] | None) -> None:
        """Compare local folders."""
        self.local.retire_small_files(data_sets)

    def small_files_recorded(self) -> None:
        """Remove the local mark."""
        self.local.small_files_recorded()

    def small_files_open(self) -> bool:
        """Look for the local mark."""
        return self.local.small_files_open()

    def link_images(self, data_set: str, root: str) -> None:
        """Link local images."""
        self.local.link_images(data_set, root)

    def switched_off(self, written: Sequence[str]) -> list[str]:
        """None: the manifest names no file of another output, so no reader finds one."""
        return []

    def read_local(self, pattern: str) -> Iterator[bytes]:
        """Read local files."""
        return self.local.read_all(pattern)
