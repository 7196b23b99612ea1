"""Describes the manifest in a store: that of the files, with the key of each, and how it came there."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import orjson

from autoexport.publishing.manifest import MANIFEST_NAME, BesideRecord, FileRecord, Manifest

OWN_KEY = "object_store"
"""The key of the manifest in JSON that a manifest in a directory has not."""

FOLDER = re.compile(r"g/\d{1,18}-[0-9a-f]{16}/.+")
"""The keys of files: nothing else is ever removed."""


@dataclass(frozen=True, slots=True)
class RemoteManifest:
    """`manifest.json` in a store; autoexport/publishing/README.md documents each field.

    `keys` are those of the files by name, also of the files beside. `writer` is a random name of the exporter with
    its working directory. `publish` is random too, so that no two of these manifests have the same bytes. `key` is
    that of its own copy, `previous` that of the manifest before. `published_at` is an ISO 8601 time, UTC.
    """

    manifest: Manifest
    keys: dict[str, str]
    writer: str
    publish: str
    key: str
    previous: str | None
    published_at: str

    @property
    def named_keys(self) -> set[str]:
        """The keys of its files and of its copy."""
        return {self.key, *self.keys.values()}

    @property
    def published(self) -> datetime:
        """The time of the publish."""
        return datetime.fromisoformat(self.published_at)

    def key_of(self, name: str, record: FileRecord | BesideRecord) -> str | None:
        """The key of a file if it has the size and the digest of this record; else None."""
        own = self.manifest.files.get(name) or self.manifest.beside.get(name)
        if own is None or (own.bytes, own.digest) != (record.bytes, record.digest):
            return None
        return self.keys.get(name)

    def to_json(self) -> bytes:
        """The bytes of the object."""
        record = orjson.loads(self.manifest.to_json())
        for name, entry in (*record["files"].items(), *record["beside"].items()):
            entry["key"] = self.keys[name]
        own = {name: value for name, value in asdict(self).items() if name not in ("manifest", "keys")}
        return orjson.dumps({**record, OWN_KEY: own}, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)

    @classmethod
    def from_json(cls, text: bytes) -> RemoteManifest | None:
        """Parse the bytes of an object; None if this version did not write them."""
        try:
            record: dict[str, Any] = orjson.loads(text)
            own = record.pop(OWN_KEY)
            keys = {}
            for name, entry in (*record["files"].items(), *record["beside"].items()):
                keys[name] = entry.pop("key")
            manifest = Manifest.from_json(orjson.dumps(record))
            before = [] if own["previous"] is None else [own["previous"]]
            if manifest is None or not all(map(FOLDER.fullmatch, (*keys.values(), own["key"], *before))):
                return None
            if not all(isinstance(own[name], str) for name in ("writer", "publish")):
                return None
            if datetime.fromisoformat(own["published_at"]).tzinfo is None:
                return None
            return cls(manifest, keys, **own)
        except (ValueError, KeyError, TypeError, AttributeError):
            return None


def folder_of(generation: int, attempt: str) -> str:
    """The folder of the new files of a generation; `attempt` are 16 hexadecimal digits of this writer alone."""
    return f"g/{generation}-{attempt}"


def copy_key(folder: str) -> str:
    """The key of the copy of the manifest, by which it is found when it is replaced."""
    return f"{folder}/{MANIFEST_NAME}"


def checksum(record: FileRecord | BesideRecord) -> int:
    """The CRC-32 that the record of a file names."""
    return int(record.digest.removeprefix("crc32:"), 16)
