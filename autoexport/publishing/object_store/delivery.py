"""Brings the files of the working directory to a store, as one generation that readers see whole or not at all."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import xxhash

from autoexport.config.object_url import ObjectURL
from autoexport.errors import LostRace, PublishError
from autoexport.publishing.manifest import MANIFEST_NAME, BesideRecord, FileRecord, Manifest
from autoexport.publishing.object_store.media_types import media_type
from autoexport.publishing.object_store.probe import probe
from autoexport.publishing.object_store.record import Record, load_record, save_record
from autoexport.publishing.object_store.remote_manifest import (
    RemoteManifest,
    checksum,
    copy_key,
    folder_of,
)
from autoexport.publishing.object_store.sweep import sweep
from autoexport.publishing.object_store.upload import Upload, upload
from autoexport.runtime.logs import get_logger
from autoexport.runtime.progress import Progress
from autoexport.runtime.threads import in_thread
from autoexport.runtime.waits import waiting

if TYPE_CHECKING:
    from autoexport.publishing.object_store.store import ObjectStore, Version

PATIENCE_S = 30.0
"""An exporter that lost a race publishes again only if the store stays as it is for so long."""

_LOOK_S = 1.0
_BACKUP_NAME = f"{MANIFEST_NAME}.before-autoexport"
_CONTINUED = ("history.csv", "changes.jsonl")
_SWEEPS = 10
"""So many times in the time of grace, at most, unnamed objects are looked for."""

log = get_logger()


class Delivery:
    """The way from one working directory to one store. Its methods raise `PublishError`.

    `held`: `look` was called, so `seen` and `version` are those of the manifest in the store.
    """

    def __init__(self, url: ObjectURL, directory: Path, state: Path, grace_s: float) -> None:
        self.url = url
        self.held = False
        self.seen: RemoteManifest | None = None
        self.version: Version | None = None
        self.beside: dict[str, bytes] = {}
        self._directory = directory
        self._state = state
        self._grace_s = grace_s
        self._record: Record = load_record(state, str(url))
        self._behind = False
        self._manifests: dict[str, RemoteManifest] = {}

    @cached_property
    def store(self) -> ObjectStore:
        """The store. Raises `ConfigurationError` if it cannot be opened."""
        from autoexport.publishing.object_store.store import ObjectStore  # obstore is loaded on use

        return ObjectStore(self.url)

    # --- before an export --------------------------------------------------------------------------------

    async def look(self) -> None:
        """Read the manifest in the store. The first time, make sure that this program may write there."""
        self._record = await in_thread(load_record, self._state, str(self.url))
        found = await self.store.read(MANIFEST_NAME)
        before, looked_before = self.seen, self.held
        text, self.version = found if found is not None else (b"", None)
        self.seen = RemoteManifest.from_json(text) if text else None
        if self.seen is None and not self._record.text:
            await self._begin(text)
        elif looked_before and self._is_others() and (before is None or before.publish != self.seen.publish):  # type: ignore[union-attr]
            self._fall_behind()
        self.held = True
        self._remember(text)
        self.beside = {}

    async def _begin(self, text: bytes) -> None:
        await probe(self.store)
        if text:
            # A file of this name that no exporter wrote: its bytes stay, under another name.
            await self.store.replace(_BACKUP_NAME, text, None, media_type(MANIFEST_NAME))

    async def other(self, local: Manifest | None) -> Manifest | None:
        """The manifest in the store, if another exporter published it; None if the local one goes on from it.

        Then `beside` are the files of it that go on from one publish to the next.
        """
        if self.seen is None or self.seen.manifest == local:
            return None
        if local is not None and self.seen.manifest.generation <= local.generation and not self._is_others():
            return None
        for name in _CONTINUED:
            if name in self.seen.keys and (found := await self.store.read(self.seen.keys[name])) is not None:
                self.beside[name] = found[0]
        return self.seen.manifest

    def _is_others(self) -> bool:
        return self.seen is not None and self.seen.writer != self._record.writer

    def _fall_behind(self) -> None:
        if not self._behind:
            log.warning("publish.behind", store=str(self.url), hint="another exporter published: this one waits")
        self._behind = True

    def _remember(self, text: bytes) -> None:
        e_tag = self.version.e_tag if self.version is not None else None
        last = text.decode() if self.seen is not None else self._record.text
        if (e_tag, last) != (self._record.e_tag, self._record.text):
            self._record = save_record(self._state, self._record, e_tag=e_tag, text=last)

    # --- after an export ---------------------------------------------------------------------------------

    async def deliver(self, manifest: Manifest, *, every_file: bool, progress: Progress) -> tuple[str, ...] | None:
        """Upload what the store does not have, then replace its manifest; the names of the uploaded files.

        None if the store has this manifest. `every_file`: upload every file. Raises `LostRace` if another exporter
        published since `look`.
        """
        if not every_file and self.seen is not None and self.seen.manifest == manifest:
            if not self._is_others():
                await self._sweep(self.seen)
            return None
        if self._behind:
            await self._wait(progress)
        records: dict[str, FileRecord | BesideRecord] = {**manifest.files, **manifest.beside}
        folder = folder_of(manifest.generation, self._attempt(manifest, every_file=every_file))
        keys = {} if every_file else await self._kept_keys(records)
        names = [name for name in records if name not in keys]
        keys |= {name: f"{folder}/{name}" for name in names}
        await self._upload(folder, {name: records[name] for name in names}, progress)
        await self._replace_manifest(folder, manifest, keys)
        return tuple(sorted(names))

    def _attempt(self, manifest: Manifest, *, every_file: bool) -> str:
        """The same for a second try of this exporter, which then finds what the first one uploaded."""
        salt = os.urandom(8).hex() if every_file else ""
        return xxhash.xxh3_64_hexdigest(f"{self._record.writer} {salt} ".encode() + manifest.to_json())

    async def _wait(self, progress: Progress) -> None:
        """Let the exporter that won the last race go on; raises `LostRace` when it publishes again."""
        deadline = time.monotonic() + PATIENCE_S
        with waiting():
            while time.monotonic() < deadline:
                if await in_thread(self.store.version, MANIFEST_NAME) != self.version:
                    raise self._lost()
                progress.advance(0)
                await asyncio.sleep(_LOOK_S)

    async def _kept_keys(self, records: Mapping[str, FileRecord | BesideRecord]) -> dict[str, str]:
        """The keys of the files that the store has, by the last manifest."""
        last = self.seen or self._record.seen
        if last is None:
            return {}
        keys = {name: key for name, record in records.items() if (key := last.key_of(name, record)) is not None}
        if self.seen is None:
            there = {found.key: found.size async for found in self.store.listed("g")}
            return {name: key for name, key in keys.items() if there.get(key) == records[name].bytes}
        return keys

    async def _upload(
        self, folder: str, records: Mapping[str, FileRecord | BesideRecord], progress: Progress
    ) -> None:
        there = {found.key: found.size async for found in self.store.listed(folder)}
        files = [
            Upload(
                str(self._directory / name), f"{folder}/{name}", record.bytes, checksum(record), media_type(name)
            )
            for name, record in records.items()
            if there.get(f"{folder}/{name}") != record.bytes
        ]
        await upload(self.url, files, lambda: progress.advance(0))
        there = {found.key: found.size async for found in self.store.listed(folder)}
        for name, record in records.items():
            if there.get(f"{folder}/{name}") != record.bytes:
                raise PublishError(
                    f"{name} is not in {self.url} after its upload.", hint="The exporter tries again."
                )

    async def _replace_manifest(self, folder: str, manifest: Manifest, keys: dict[str, str]) -> None:
        before = self.seen or self._record.seen
        delivered = RemoteManifest(
            manifest=manifest,
            keys=keys,
            writer=self._record.writer,
            publish=os.urandom(8).hex(),
            key=copy_key(folder),
            previous=before.key if before is not None else None,
            published_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        )
        text, kind = delivered.to_json(), media_type(MANIFEST_NAME)
        await self.store.write(delivered.key, text, kind)
        version = await self.store.replace(MANIFEST_NAME, text, self.version, kind)
        if version is None:
            # An answer that was lost makes the store refuse the second try: the first one may have done it.
            found = await self.store.read(MANIFEST_NAME)
            if found is None or found[0] != text:
                raise self._lost()
            version = found[1]
        self.seen, self.version, self._behind = delivered, version, False
        log.info("publish.delivered", store=str(self.url), generation=manifest.generation)
        self._remember(text)
        await self._sweep(delivered)

    def _lost(self) -> LostRace:
        self._fall_behind()
        return LostRace(
            f"Another exporter published to {self.url} first.",
            hint="It wrote a whole set. Let one exporter write there, or run this one again.",
        )

    async def _sweep(self, current: RemoteManifest) -> None:
        """Remove unnamed objects from time to time; a failure is only logged."""
        now = time.time()
        if 0 <= now - self._record.swept_at < self._grace_s / _SWEEPS:
            return
        try:
            removed = await sweep(self.store, current, self._grace_s, self._manifests)
        except PublishError as error:
            log.warning("sweep.failed", error=str(error), hint=error.hint)
            return
        if removed:
            log.info("sweep.removed", objects=removed)
        self._record = save_record(self._state, self._record, swept_at=now)
