"""Describes a publish for readers: the files, the database, the counts and the cost."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Literal

import orjson

FORMAT_VERSION = 2
_READABLE = (1, FORMAT_VERSION)
MANIFEST_NAME = "manifest.json"
BESIDE_NAMES = ("index.html", "history.csv", "progress.jsonl", "changes.jsonl")
"""The names that files beside the exported ones have."""

Mode = Literal["full", "incremental"]


@dataclass(frozen=True, slots=True)
class FileRecord:
    """A published file: its size in bytes, its digest as `crc32:…` and its rows (images, for the JSON tree)."""

    bytes: int
    digest: str
    rows: int


@dataclass(frozen=True, slots=True)
class BesideRecord:
    """A file beside the exported ones: its size in bytes and its digest as `crc32:…`."""

    bytes: int
    digest: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """`manifest.json`; autoexport/formats/README.md documents each field."""

    generation: int
    timestamp: str
    database: str
    files: dict[str, FileRecord]
    beside: dict[str, BesideRecord] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    orphans: dict[str, int] = field(default_factory=dict)
    soft_deleted: dict[str, int] = field(default_factory=dict)
    repaired: int = 0
    guarded: int = 0
    redacted: int = 0
    left_out: dict[str, dict[str, int]] = field(default_factory=dict)
    duration_seconds: float = 0.0
    rendered_images: int = 0
    mode: Mode = "full"
    kept_bytes: int = 0
    rendered_bytes: int = 0
    format_version: int = FORMAT_VERSION

    @property
    def read_at(self) -> datetime | None:
        """The time when the database was read, in whole seconds; None if the time stamp is invalid."""
        try:
            time = datetime.fromisoformat(self.timestamp)
        except ValueError:
            return None
        return time if time.tzinfo is not None else None

    def to_json(self) -> bytes:
        """The bytes of the file."""
        record = {"format_version": self.format_version, **asdict(self)}
        return orjson.dumps(record, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)

    @classmethod
    def from_json(cls, text: bytes) -> Manifest | None:
        """Parse the bytes of a manifest; None if this version did not write them."""
        try:
            record: dict[str, Any] = orjson.loads(text)
            if record["format_version"] not in _READABLE:
                return None
            record["files"] = {name: FileRecord(**entry) for name, entry in record["files"].items()}
            beside = record.get("beside", {}).items()
            record["beside"] = {name: BesideRecord(**entry) for name, entry in beside}
            manifest = cls(**record)
            return manifest if _is_sound(manifest) else None
        except (ValueError, KeyError, TypeError, AttributeError):
            return None


_NUMBERS = ("generation", "repaired", "guarded", "redacted", "rendered_images", "kept_bytes", "rendered_bytes")


def _is_sound(manifest: Manifest) -> bool:
    """Whether the values are of the kinds that this program writes, and all names lead into the directory.

    The file is public: a person or a program may have edited it.
    """
    records: list[FileRecord | BesideRecord] = [*manifest.files.values(), *manifest.beside.values()]
    counts = [manifest.counts, manifest.orphans, manifest.soft_deleted, *manifest.left_out.values()]
    numbers = [getattr(manifest, name) for name in _NUMBERS]
    numbers += [record.bytes for record in records] + [record.rows for record in manifest.files.values()]
    numbers += [number for each in counts for number in each.values()]
    texts = [manifest.timestamp, manifest.database, manifest.mode, *(record.digest for record in records)]
    return (
        all(type(number) is int and 0 <= number < 2**63 - 1 for number in numbers)
        and {*map(type, texts)} <= {str}
        and isinstance(manifest.duration_seconds, int | float)
        and all(map(_leads_inside, (*manifest.files, *manifest.beside)))
    )


def _leads_inside(name: str) -> bool:
    parts = name.removesuffix("/").split("/")
    return not {"", ".", ".."} & set(parts) and "\0" not in name
