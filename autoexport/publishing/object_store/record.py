"""Keeps on disk what this exporter knows of a store: its own name there, and the last manifest that it saw."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import orjson

from autoexport.publishing.object_store.remote_manifest import RemoteManifest
from autoexport.runtime.files import replace_durably

RECORD_NAME = "object_store.json"
"""Its name in the state directory."""


@dataclass(frozen=True, slots=True)
class Record:
    """The record of one store, named by `url`.

    `writer` is a random name, which tells the publishes of this exporter from others. `e_tag` is that of the last
    manifest that was seen, and `text` are its bytes. `swept_at` is in seconds since the epoch.
    """

    url: str
    writer: str
    e_tag: str | None = None
    text: str = ""
    swept_at: float = 0.0

    @property
    def seen(self) -> RemoteManifest | None:
        """The last manifest that was seen; None if there was none that this program wrote."""
        return RemoteManifest.from_json(self.text.encode("utf-8", "surrogatepass")) if self.text else None


def load_record(state: Path, url: str) -> Record:
    """The record of this store; a new one, with a new name, if there is none. It writes nothing."""
    with suppress(OSError, ValueError, TypeError):
        record = Record(**orjson.loads((state / RECORD_NAME).read_bytes()))
        sound = isinstance(record.text, str) and isinstance(record.swept_at, int | float)
        if record.url == url and len(bytes.fromhex(record.writer)) == 8 and sound:
            return record
    return Record(url, os.urandom(8).hex())


def save_record(state: Path, record: Record, **changes: object) -> Record:
    """Write the record with these changes, and return it. Raises `PublishError`."""
    changed = replace(record, **changes)  # type: ignore[arg-type]
    fields = {name: getattr(changed, name) for name in Record.__slots__}
    replace_durably(state / RECORD_NAME, [orjson.dumps(fields)], mode=0o600)
    return changed
