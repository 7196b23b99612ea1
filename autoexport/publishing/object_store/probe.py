"""Writes and removes a probe: may this program write to a store, and do two writers exclude each other?"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from autoexport.errors import PublishError

if TYPE_CHECKING:
    from autoexport.publishing.object_store.store import ObjectStore

_TEXT = "text/plain; charset=utf-8"


async def probe(store: ObjectStore) -> None:
    """Write, read, replace and remove a probe. Raises `PublishError` if one of these fails.

    The store must refuse to create it twice, and to replace another version of it.
    """
    key, mark = f"probe-{os.urandom(8).hex()}", os.urandom(8).hex().encode()
    first = await store.replace(key, mark, None, _TEXT)
    try:
        if first is None or await store.replace(key, b"second", None, _TEXT) is not None:
            raise _unfit(store)
        found = await store.read(key)
        if found is None or found[0] != mark:
            raise _unfit(store)
        second = await store.replace(key, mark + b"2", first, _TEXT)
        if second is None or await store.replace(key, b"third", first, _TEXT) is not None:
            raise _unfit(store)
        async for _ in store.listed("g"):
            break
    finally:
        await store.remove([key])


def _unfit(store: ObjectStore) -> PublishError:
    return PublishError(
        f"{store.url} ignores the conditions of a write, so exporters could mix their files.",
        hint="Use a store with conditional writes (If-Match, If-None-Match).",
    )
