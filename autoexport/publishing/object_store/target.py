"""Publishes into an object store: local copies, immutable objects, and one conditional write of the manifest."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path, PurePosixPath

from autoexport.config.object_url import ObjectURL
from autoexport.publishing.contract import Target
from autoexport.publishing.identity import FileIdentity
from autoexport.publishing.locks import Lock
from autoexport.publishing.manifest import MANIFEST_NAME, Manifest
from autoexport.publishing.object_store import require
from autoexport.publishing.object_store.delivery import Delivery
from autoexport.publishing.object_store.differences import differences
from autoexport.publishing.object_store.local import LocalCopies
from autoexport.publishing.object_store.probe import probe
from autoexport.publishing.object_store.record import load_record
from autoexport.publishing.object_store.remote_manifest import RemoteManifest
from autoexport.publishing.object_store.watch import ObjectWatch
from autoexport.runtime.progress import Progress


class ObjectStoreTarget(LocalCopies):
    """A prefix of a bucket, with copies of the files in a local directory. `Target` documents each method.

    Raises `ConfigurationError` if a package is missing.
    """

    def __init__(self, local: Target, state: Path, url: ObjectURL, grace_s: float) -> None:
        require()
        super().__init__(local)
        self.elsewhere = str(url)
        self._state = state
        self._delivery = Delivery(url, local.directory, state, grace_s)
        self._remote: Manifest | None = None

    @contextlib.asynccontextmanager
    async def hold(self) -> AsyncIterator[None]:
        """Hold the working directory, and look at the manifest in the store."""
        async with self.local.hold():
            await self._delivery.look()
            self._remote = await self._delivery.other(self.local.read_manifest())
            try:
                yield
            finally:
                self._remote = None

    def overtaken(self) -> bool:
        """Whether the manifest in the store is not the local one, but that of another exporter."""
        return self._remote is not None

    def read_manifest(self) -> Manifest | None:
        """The manifest of another exporter that published last; the local one otherwise.

        If it is not held: the last manifest that was seen in the store.
        """
        if self._remote is not None:
            return self._remote
        if self._delivery.held:
            return self.local.read_manifest()
        seen = load_record(self._state, self.elsewhere).seen
        return seen.manifest if seen is not None else self.local.read_manifest()

    def read_manifest_text(self) -> bytes | None:
        """The bytes of that manifest, as a file would have them."""
        if self._delivery.held and self._remote is None:
            return self.local.read_manifest_text()
        manifest = self.read_manifest()
        return manifest.to_json() if manifest is not None else None

    def identify(self, file_name: str, crc: int) -> FileIdentity | None:
        """Identify the local file."""
        return self.local.identify(file_name, crc)

    def read_all(self, pattern: str) -> Iterator[bytes]:
        """Read the local files, or those of another exporter that go on from one publish to the next."""
        if self._remote is None:
            return self.read_local(pattern)
        names = sorted(name for name in self._delivery.continued if PurePosixPath(name).match(pattern))
        return iter([self._delivery.continued[name] for name in names])

    async def deliver(self, manifest: Manifest, *, every_file: bool, progress: Progress) -> tuple[str, ...] | None:
        """Upload the files that the store does not have, then replace its manifest."""
        return await self._delivery.deliver(manifest, every_file=every_file, progress=progress)

    async def probe(self) -> Manifest | None:
        """Write and remove a probe."""
        found = await self._delivery.store.read(MANIFEST_NAME)
        await probe(self._delivery.store)
        seen = RemoteManifest.from_json(found[0]) if found is not None else None
        return seen.manifest if seen is not None else None

    async def differences(self, manifest: Manifest) -> list[str]:
        """Read every object."""
        return await differences(self._delivery.store, manifest)

    def watch(self, lock: Lock) -> ObjectWatch:
        """Watch the local copies by `lstat`, and the manifest by its version."""
        return ObjectWatch(
            self.local.watch(lock),
            lambda: self._delivery.store.version(MANIFEST_NAME),
            lambda: load_record(self._state, self.elsewhere).e_tag,
        )
