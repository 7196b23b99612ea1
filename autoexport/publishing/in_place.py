"""The part of a target whose readers find the files where they are written: nothing has to be brought to them."""

from __future__ import annotations

from autoexport.publishing.manifest import Manifest
from autoexport.runtime.progress import Progress


class InPlace:
    """`Target` documents each method."""

    elsewhere = ""

    def overtaken(self) -> bool:
        """No: the lock keeps other exporters away."""
        return False

    async def deliver(self, manifest: Manifest, *, every_file: bool, progress: Progress) -> tuple[str, ...] | None:
        """Do nothing."""
        return None

    async def probe(self) -> Manifest | None:
        """Write nothing: the system tells whether a directory is writable."""
        return self.read_manifest()

    async def differences(self, manifest: Manifest) -> list[str]:
        """None: the files themselves were compared."""
        return []

    def read_manifest(self) -> Manifest | None:
        """The published manifest."""
        raise NotImplementedError
