"""Reads and writes the objects below one prefix of a bucket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

from autoexport.config.object_url import ObjectURL
from autoexport.publishing.object_store.access import opened
from autoexport.publishing.object_store.errors import explain, is_bucket_missing
from autoexport.publishing.object_store.limits import LARGE_S, QUICK_S, SMALL_S

if TYPE_CHECKING:
    from obstore.store import ObjectStore as Store

PIECE_BYTES = 8 << 20
_FAILURES = (BaseError, OSError, ValueError)


@dataclass(frozen=True, slots=True)
class Version:
    """The version of an object, as the store tells it: the condition of its next replacement."""

    e_tag: str | None
    version: str | None = None


@dataclass(frozen=True, slots=True)
class Listed:
    """An object in a list: its key below the prefix, its size in bytes, and when it was written."""

    key: str
    size: int
    modified: datetime


class ObjectStore:
    """The objects below the prefix of a URL. Raises `ConfigurationError`, and its methods raise `PublishError`."""

    def __init__(self, url: ObjectURL) -> None:
        self.url = url
        self._quick: Store = opened(url, QUICK_S)
        self._small: Store = opened(url, SMALL_S)
        self._large: Store = opened(url, LARGE_S)

    def version(self, key: str) -> Version | None:
        """The version of an object; None if there is none. It blocks."""
        try:
            return _version(obstore.head(self._quick, key))
        except FileNotFoundError as error:
            self._require_bucket(error)
            return None
        except _FAILURES as error:
            raise explain(error, self.url, "the manifest is looked at") from None

    async def length(self, key: str) -> int | None:
        """The size of an object in bytes; None if there is none."""
        try:
            return int((await obstore.head_async(self._small, key))["size"])
        except FileNotFoundError as error:
            self._require_bucket(error)
            return None
        except _FAILURES as error:
            raise explain(error, self.url, "reading") from None

    async def read(self, key: str) -> tuple[bytes, Version] | None:
        """The bytes of a small object and its version; None if there is none."""
        try:
            found = await obstore.get_async(self._small, key)
            return bytes(await found.bytes_async()), _version(found.meta)
        except FileNotFoundError as error:
            self._require_bucket(error)
            return None
        except _FAILURES as error:
            raise explain(error, self.url, "reading") from None

    async def pieces(self, key: str, size: int) -> AsyncIterator[bytes]:
        """The bytes of an object of this size, a few megabytes at a time; fewer if the object is shorter."""
        try:
            for begin in range(0, size, PIECE_BYTES):
                length = min(PIECE_BYTES, size - begin)
                yield bytes(await obstore.get_range_async(self._large, key, start=begin, length=length))
        except FileNotFoundError as error:
            self._require_bucket(error)
        except _FAILURES as error:
            raise explain(error, self.url, "reading") from None

    async def write(self, key: str, body: bytes, media_type: str) -> None:
        """Write an object, whether or not there is one."""
        try:
            await obstore.put_async(self._small, key, body, attributes=_attributes(key, media_type))
        except _FAILURES as error:
            raise explain(error, self.url, "writing") from None

    async def replace(self, key: str, body: bytes, known: Version | None, media_type: str) -> Version | None:
        """Replace an object if its version is `known`, or create it if that is None; None if it is not so."""
        mode: Any = "create"
        if known is not None:
            mode = {name: value for name, value in (("e_tag", known.e_tag), ("version", known.version)) if value}
        try:
            written = await obstore.put_async(
                self._small, key, body, mode=mode, attributes=_attributes(key, media_type)
            )
        except (AlreadyExistsError, PreconditionError):
            return None
        except FileNotFoundError as error:
            self._require_bucket(error)
            return None  # The object that was to be replaced is gone.
        except _FAILURES as error:
            if "ConditionalRequestConflict" in str(error):
                return None
            raise explain(error, self.url, "writing") from None
        return _version(written)

    async def listed(self, under: str) -> AsyncIterator[Listed]:
        """The objects whose keys begin with the folders of `under`."""
        try:
            async for some in obstore.list(self._small, under):
                for found in some:
                    yield Listed(found["path"], found["size"], found["last_modified"])
        except _FAILURES as error:
            raise explain(error, self.url, "listing") from None

    async def remove(self, keys: Iterable[str]) -> None:
        """Remove objects; those that do not exist do not matter."""
        try:
            await obstore.delete_async(self._small, list(keys))
        except FileNotFoundError as error:
            self._require_bucket(error)
        except _FAILURES as error:
            raise explain(error, self.url, "deleting") from None

    def _require_bucket(self, error: FileNotFoundError) -> None:
        """Raise `PublishError` if it is not the object that is missing, but the whole bucket."""
        if is_bucket_missing(error):
            raise explain(error, self.url) from None


def _version(found: Any) -> Version:
    return Version(found["e_tag"], found["version"])


def _attributes(key: str, media_type: str) -> Any:
    cache = "no-cache" if "/" not in key else "private, max-age=31536000, immutable"
    return {"Content-Type": media_type, "Cache-Control": cache}
