"""The contract of a target, the place that the files of an export go to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

from autoexport.publishing.identity import FileIdentity
from autoexport.publishing.layout import Layout
from autoexport.publishing.locks import Lock
from autoexport.publishing.manifest import Manifest
from autoexport.publishing.splice import Staged
from autoexport.publishing.throttle import DiskThrottle

Identities = Mapping[str, FileIdentity]
"""The identities of published files by name."""


class TargetWatch(Protocol):
    """Tells whether another program touched a target that this exporter leads."""

    def begin_own_changes(self) -> None:
        """From now on this exporter itself may change the files."""
        ...

    def end_own_changes(self, left: Identities | None = None) -> None:
        """This exporter left the files as they are now, or as `left` says; blocking."""
        ...

    def tampered(self) -> bool:
        """Whether another program changed a published file since the last call; blocking. Raises `PublishError`
        if the state directory was removed."""
        ...


class Target(Protocol):
    """A place for the files. One publish holds it, stages the changed files, and commits them.

    All methods but `hold` block: call them in a thread. What the operating system refuses is a `PublishError`.
    """

    directory: Path
    """The directory that holds the published files, or the local copies of them."""

    def hold(self) -> AbstractAsyncContextManager[None]:
        """Be the one who publishes here; what a killed exporter left behind is removed. Raises `LockedError` if
        another exporter publishes for too long."""
        ...

    def read_manifest(self) -> Manifest | None:
        """The manifest that is published, or None if there is none of ours."""
        ...

    def read_manifest_text(self) -> bytes | None:
        """The bytes of the published manifest, whatever they are; None if there are none."""
        ...

    def identify(self, file_name: str, crc: int) -> FileIdentity | None:
        """The identity of a published file as it is now, with this checksum; None if it is not there."""
        ...

    def find_identical(self, layout: Layout, spool: int | None, known: FileIdentity | None) -> FileIdentity | None:
        """The identity of the published file if it already has the bytes of this layout, else None.

        `spool` is the descriptor of the fresh blocks; kept ranges count only in the file that is `known`.
        """
        ...

    def check_room(self, needed_bytes: int) -> None:
        """Raise `PublishError` if there is no room for so many new bytes."""
        ...

    def stage(self, layout: Layout, spool: int | None, known: FileIdentity | None, *, throttled: bool) -> Staged:
        """Write a file beside the published one, durably. `throttled`: leave the disk to an application as
        well."""
        ...

    def commit(
        self,
        staged: Sequence[Staged],
        manifest: Manifest,
        previous: Manifest | None,
        throttle: DiskThrottle | None,
    ) -> Identities:
        """Put the staged files in place, then the manifest; returns the identities of those files."""
        ...

    def discard(self, staged: Sequence[Staged]) -> None:
        """Remove staged files that were not committed."""
        ...

    def switched_off(self, written: Sequence[str]) -> list[str]:
        """The files of outputs that are switched off and still lie here; `written` are those that are on."""
        ...

    def watch(self, lock: Lock) -> TargetWatch:
        """A watch over the published files and the leader's lock."""
        ...
