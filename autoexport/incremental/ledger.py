"""Stores which sections and blocks were published, and from which database.

The state directory holds two files. `ledger.json` describes the published files section by section. `position`
holds the source's own description of the state of the database. If the database changed but no exported row did,
only `position` is written. A missing or unusable ledger is no error: the next export is full.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import orjson
import xxhash

from autoexport.incremental.position import PIECE_BYTES, POSITION_FILE, save_position
from autoexport.model.blocks import BlockRecord
from autoexport.model.scratch import Scratch, Stored
from autoexport.model.sections import SectionPlace, SectionRecord, Sums
from autoexport.publishing.identity import FileIdentity
from autoexport.runtime.files import replace_durably
from autoexport.values.encoders import changed

LEDGER_VERSION = 5
_LEDGER = "ledger.json"
_SECTIONS = b',"sections":[\n'
_BODY = b",[\n"
_NEXT = b"]],\n"
_LAST = b"0]"
_SEAL = b',\n"seal":"'
_SEAL_BYTES = len(_SEAL) + 16 + len(b'"}\n')


@dataclass(slots=True)
class Ledger:
    """The record of the last publish.

    `database`, `settings` and `mapping` are digests. `unpublished` counts, by logical table, the live rows that
    have no parent. `sections` hold all published datasets, empty ones too, and their blocks. `block_files` are the
    indexes of the files that have blocks. `kinds` name the types of the keys of datasets and of images; a name is
    empty if there are no keys. `encoders` are the fingerprints of the encoders that wrote the files; an older
    ledger has none. `left_alone` are the files of outputs that have been switched off since they were published.
    `forgotten` is the reason why this export gave up the sections; None if it did not.
    """

    database: str
    settings: str
    mapping: str
    generation: int
    timestamp: str
    files: dict[str, FileIdentity]
    tables: dict[str, str] = field(default_factory=dict)
    unpublished: dict[str, int] = field(default_factory=dict)
    kinds: tuple[str, str] = ("", "")
    block_files: Sequence[int] = ()
    sections: Iterable[SectionRecord] = ()
    encoders: Mapping[str, str] = field(default_factory=dict)
    left_alone: dict[str, FileIdentity] = field(default_factory=dict)
    forgotten: str | None = None

    def forget_sections(self, reason: str) -> None:
        """Free the sections, because everything is rendered now, also if this export has to restart."""
        self.sections, self.forgotten = (), reason

    def blocks(self) -> Iterator[BlockRecord]:
        """The blocks of all sections."""
        return chain.from_iterable(section.blocks(self.block_files) for section in self.sections)

    def misfit(
        self,
        database: str,
        settings: str,
        mapping: str,
        encoders: Mapping[str, str],
        identify: Callable[[str, int], FileIdentity | None],
    ) -> str | None:
        """The reason why an export cannot use this ledger; None if it can.

        `identify` returns the identity of a published file as it is now, from its name and its recorded checksum.
        """
        if self.forgotten is not None:
            return self.forgotten
        if not self.encoders:
            return "an earlier version wrote the ledger"
        if self.settings != settings:
            same_options = self.settings.split()[0] == settings.split()[0]
            return "the integer ids changed" if same_options else "the settings changed"
        if names := changed(self.encoders, encoders):
            return f"the {' and '.join(names)} encoder changed"
        if self.database != database:
            return "the ledger is of another database"
        if self.mapping != mapping:
            return "the tables or their mapping changed"
        for name, identity in self.files.items():
            now = identify(name, identity.crc)
            if now is None:
                return f"{name} is missing"
            if now != identity:
                return f"{name} was changed by another program"
        return None


def load_ledger(state: Path) -> Ledger | None:
    """The ledger of a state directory; None if there is no valid one.

    The datasets and blocks of a section stay in the file until they are needed.
    """
    try:
        file = _LedgerFile(state / _LEDGER)
        with os.fdopen(os.dup(file.descriptor), "rb") as lines:
            end = _verified_bytes(lines)
            lines.seek(0)
            head = lines.readline()
            raw = orjson.loads(head.removesuffix(_SECTIONS) + b"}")
            if raw.pop("version") != LEDGER_VERSION:
                return None
            for name in ("files", "left_alone"):
                raw[name] = {file: FileIdentity(*values) for file, values in raw.get(name, {}).items()}
            raw["kinds"] = tuple(raw["kinds"])
            return Ledger(**raw, sections=list(_sections(lines, file, end)))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


class _LedgerFile:
    """An open ledger. Its sections can still be read after another ledger has taken its name."""

    def __init__(self, path: Path) -> None:
        self.descriptor = -1
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)

    def append(self, data: bytes) -> int:
        """Raises NotImplementedError: a ledger is only read."""
        raise NotImplementedError

    def read(self, offset: int, length: int) -> bytes:
        """The bytes at an offset."""
        return os.pread(self.descriptor, length, offset)


def _verified_bytes(file: BinaryIO) -> int:
    """The number of bytes before the seal of a ledger. Raises ValueError if the seal does not fit them."""
    sealed_bytes = remaining = file.seek(-_SEAL_BYTES, os.SEEK_END)
    tail = file.read()
    file.seek(0)
    digest = xxhash.xxh3_64()
    while remaining and (piece := file.read(min(remaining, PIECE_BYTES))):
        digest.update(piece)
        remaining -= len(piece)
    if tail != _seal(digest):
        raise ValueError("the ledger was edited")
    return sealed_bytes


def _sections(lines: BinaryIO, file: Scratch, end: int) -> Iterator[SectionRecord]:
    """Parse the sections up to the offset `end`: each has a line of its own, and the lines of its body."""
    offset = lines.tell()
    while offset < end - len(_LAST):
        line = lines.readline()
        digest, counted, empty, sums, places, length = orjson.loads(line.removesuffix(_BODY) + b"]")
        body = Stored(file, offset + len(line), length)
        places = [SectionPlace(*place) for place in places]
        yield SectionRecord(digest, counted, empty, Sums(*sums), places, body)
        offset = lines.seek(offset + len(line) + length + len(_NEXT))


def save_ledger(state: Path, ledger: Ledger, position: Iterator[bytes] | None) -> None:
    """Write the ledger and then the position, durably. Without a position, the next export is full.

    In this order, a crash leaves an older position, which hides no change, or one of another generation.
    Raises `PublishError`.
    """
    if position is None:
        with suppress(FileNotFoundError):
            (state / POSITION_FILE).unlink()
    head = {
        "version": LEDGER_VERSION,
        "database": ledger.database,
        "settings": ledger.settings,
        "mapping": ledger.mapping,
        "generation": ledger.generation,
        "timestamp": ledger.timestamp,
        "files": _plain(ledger.files),
        "left_alone": _plain(ledger.left_alone),
        "tables": ledger.tables,
        "unpublished": ledger.unpublished,
        "kinds": ledger.kinds,
        "block_files": list(ledger.block_files),
        "encoders": ledger.encoders,
    }
    replace_durably(state / _LEDGER, _sealed(_written(head, ledger.sections)), mode=0o600)
    if position is not None:
        save_position(state, ledger.generation, position)


def _plain(files: Mapping[str, FileIdentity]) -> dict[str, list[int]]:
    return {name: [it.size, it.mtime_ns, it.ctime_ns, it.inode, it.crc] for name, it in files.items()}


def _written(head: dict[str, Any], sections: Iterable[SectionRecord]) -> Iterator[bytes]:
    yield orjson.dumps(head)[:-1] + _SECTIONS
    for section in sections:
        sums = [getattr(section.sums, name) for name in Sums.__slots__]
        places = [(place.offset, place.length, place.crc, place.guarded) for place in section.places]
        about = [section.digest, section.counted, section.empty, sums, places, section.body.length]
        yield orjson.dumps(about)[:-1] + _BODY
        yield from section.body.pieces()
        yield _NEXT
    yield _LAST


def _sealed(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The pieces and a digest of them. The digest shows whether the ledger was edited or damaged."""
    digest = xxhash.xxh3_64()
    for piece in pieces:
        digest.update(piece)
        yield piece
    yield _seal(digest)


def _seal(digest: xxhash.xxh3_64) -> bytes:
    return b'%s%s"}\n' % (_SEAL, digest.hexdigest().encode())
