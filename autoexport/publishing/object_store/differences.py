"""Compares the objects of a store with its manifest, a few megabytes at a time."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from autoexport.publishing.crc32 import digest
from autoexport.publishing.manifest import MANIFEST_NAME, BesideRecord, FileRecord, Manifest
from autoexport.publishing.object_store.remote_manifest import RemoteManifest

if TYPE_CHECKING:
    from autoexport.publishing.object_store.store import ObjectStore


async def differences(store: ObjectStore, manifest: Manifest) -> list[str]:
    """The differences between a store and the files of this manifest, one line each. Raises `PublishError`."""
    found = await store.read(MANIFEST_NAME)
    if found is None:
        return [f"{MANIFEST_NAME} is missing in {store.url}"]
    remote = RemoteManifest.from_json(found[0])
    if remote is None:
        return [f"{MANIFEST_NAME} in {store.url} was changed by another program"]
    if remote.manifest != manifest:
        number, own = remote.manifest.generation, manifest.generation
        return [
            f"{MANIFEST_NAME} in {store.url} is of generation {number}, or was changed; the files are of {own}"
        ]
    lines = []
    records: dict[str, FileRecord | BesideRecord] = {**manifest.files, **manifest.beside}
    for name, record in records.items():
        crc, size = 0, 0
        async for piece in store.pieces(remote.keys[name], record.bytes):
            crc, size = zlib.crc32(piece, crc), size + len(piece)
        length = await store.length(remote.keys[name])
        if length is None:
            lines.append(f"{name}: it is missing in {store.url} ({remote.keys[name]})")
        elif length != record.bytes:
            lines.append(f"{name}: {length:,} bytes in {store.url}, the manifest says {record.bytes:,}")
        elif digest(crc) != record.digest:
            lines.append(f"{name}: {digest(crc)} in {store.url}, the manifest says {record.digest}")
    return lines
