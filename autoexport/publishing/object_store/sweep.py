"""Removes the objects that no kept manifest names, after a time in which readers may still need them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from autoexport.publishing.object_store.remote_manifest import FOLDER, RemoteManifest

if TYPE_CHECKING:
    from autoexport.publishing.object_store.store import ObjectStore

KEPT_MANIFESTS = 3
"""So many of the last manifests stay with their files, however long ago they were replaced."""

_AT_ONCE = 500


async def sweep(
    store: ObjectStore, current: RemoteManifest, grace_s: float, known: dict[str, RemoteManifest]
) -> int:
    """Remove what is older than `grace_s` seconds and is named by no kept manifest; returns the number of objects.

    Kept are the last manifests, and those that were replaced less than `grace_s` seconds ago. `known` are
    manifests by key, which need not be read again. Raises `PublishError`.
    """
    now, grace = datetime.now(UTC), timedelta(seconds=grace_s)
    kept = await _kept(store, current, now - grace, known)
    unnamed: list[str] = []
    removed = 0
    async for found in store.listed("g"):
        if FOLDER.fullmatch(found.key) and found.key not in kept and found.modified <= now - grace:
            unnamed.append(found.key)
        if len(unnamed) == _AT_ONCE:
            removed += await _remove(store, unnamed)
    return removed + await _remove(store, unnamed)


async def _kept(
    store: ObjectStore, current: RemoteManifest, since: datetime, known: dict[str, RemoteManifest]
) -> set[str]:
    """The keys that the kept manifests name: back from the current one, each leads to the one before."""
    kept: dict[str, RemoteManifest] = {}
    manifest: RemoteManifest | None = current
    while manifest is not None and manifest.key not in kept:
        kept[manifest.key] = manifest
        replaced_at, previous = manifest.published, manifest.previous
        if previous is None or (len(kept) >= KEPT_MANIFESTS and replaced_at < since):
            break
        manifest = known.get(previous)
        if manifest is None and (found := await store.read(previous)) is not None:
            manifest = RemoteManifest.from_json(found[0])
    known.clear()
    known.update(kept)
    return set().union(*(one.named_keys for one in kept.values()))


async def _remove(store: ObjectStore, keys: list[str]) -> int:
    count = len(keys)
    if keys:
        await store.remove(keys)
        keys.clear()
    return count
