"""The private memory: what was published, section by section, and of which state of the database.

Two files in the state directory. `ledger.json` says how the published files are made up; `position`
says where the database stood, in the source's own words, and may be renewed alone when the database
moved without changing anything that is exported. A ledger that does not fit is no error: it only
means a full export.
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

from autoexport.incremental.position import _PIECE_BYTES, _POSITION, save_position
from autoexport.model.blocks import BlockRecord, SectionPlace, SectionRecord, Sums
from autoexport.model.scratch import Scratch, Stored
from autoexport.publishing.identity import FileIdentity
from autoexport.runtime.files import replace_durably
from autoexport.values.encoders import changed

LEDGER_VERSION = 2
_LEDGER = "ledger.json"
_SECTIONS = b',"sections":[\n'
_BODY = b",[\n"
_NEXT = b"]],\n"
_LAST = b"0]"

_SEAL = b',\n"seal":"'
_SEAL_BYTES = len(_SEAL) + 16 + len(b'"}\n')


@dataclass(slots=True)
class Ledger:
    """What is known of the last publish.

    `database`, `settings` and `mapping` are digests. `unpublished` counts, by logical table, the live rows that
    have no parent. `sections` hold all published datasets, empty ones too, and their blocks; `block_files` are the
    indexes of the files that have blocks. `kinds` are the types of the keys of datasets and of images, empty if
    there are none. `forgotten` is why the sections were given up during this export; None where they were not.
    `encoders` are the fingerprints of the encoders that wrote the files; an older ledger has none.
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
    forgotten: str | None = None

    def forget_sections(self, reason: str) -> None:
        """Give up the sections: everything is rendered now, also if this export has to restart."""
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
        """Why this ledger cannot be built upon, or None if it can.

        `identify` returns the identity of a published file as it is now, from its name and its recorded checksum.
        """
        if self.forgotten is not None:
            return self.forgotten
        if self.settings != settings:
            return "the settings changed"
        if names := changed(self.encoders, encoders):
            return f"the {' and '.join(names)} encoder changed"
        if names := changed(self.encoders, encoders):
            return f"the {' and '.join(names)} encoder changed"
        if self.database != database:
            return "the ledger is of another database"
        if self.mapping != mapping:
            return "the tables or their mapping changed"
        for name, identity in self.files.items():
            now = identify(name, identity.crc)
            if now is None:
                return f"{name} is not there"
            if now != identity:
                return f"{name} was changed by another program"
        return None


def load_ledger(state: Path) -> Ledger | None:
    """The ledger of a state directory, or None where there is none that can be read.

    The datasets and blocks of a section stay in the file until they are asked for.
    """
    try:
        file = _LedgerFile(state / _LEDGER)
        with os.fdopen(os.dup(file.descriptor), "rb") as lines:
            end = _sealed_bytes(lines)
            lines.seek(0)
            head = lines.readline()
            raw = orjson.loads(head.removesuffix(_SECTIONS) + b"}")
            if raw.pop("version") != LEDGER_VERSION:
                return None
            raw["files"] = {name: FileIdentity(*values) for name, values in raw["files"].items()}
            raw["kinds"] = tuple(raw["kinds"])
            return Ledger(**raw, sections=list(_sections(lines, file, end)))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


class _LedgerFile:
    """An open ledger: also when another one has taken its name, its sections can be read."""

    def __init__(self, path: Path) -> None:
        self.descriptor = -1
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)

    def append(self, data: bytes) -> int:
        """A ledger is only read."""
        raise NotImplementedError

    def read(self, offset: int, length: int) -> bytes:
        """Some bytes of it."""
        return os.pread(self.descriptor, length, offset)


def _sealed_bytes(file: BinaryIO) -> int:
    """How much of a ledger its seal is of. Raises ValueError if it is not the seal of that."""
    sealed = end = file.seek(-_SEAL_BYTES, os.SEEK_END)
    tail = file.read()
    file.seek(0)
    seal = xxhash.xxh3_64()
    while sealed and (piece := file.read(min(sealed, _PIECE_BYTES))):
        seal.update(piece)
        sealed -= len(piece)
    if tail != _sealing(seal):
        raise ValueError("the ledger was edited")
    return end


def _sections(lines: BinaryIO, file: Scratch, end: int) -> Iterator[SectionRecord]:
    """The sections of a ledger up to the offset `end`: each a line about it, and the lines of its body."""
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

    In this order, a crash leaves an older position, which hides nothing, or one that does not fit.
    """
    if position is None:
        with suppress(FileNotFoundError):
            (state / _POSITION).unlink()
    head = {
        "version": LEDGER_VERSION,
        "database": ledger.database,
        "settings": ledger.settings,
        "mapping": ledger.mapping,
        "generation": ledger.generation,
        "timestamp": ledger.timestamp,
        "files": {
            name: [item.size, item.mtime_ns, item.ctime_ns, item.inode, item.crc]
            for name, item in ledger.files.items()
        },
        "tables": ledger.tables,
        "unpublished": ledger.unpublished,
        "kinds": ledger.kinds,
        "block_files": list(ledger.block_files),
        "encoders": ledger.encoders,
    }
    replace_durably(state / _LEDGER, _sealed(_written(head, ledger.sections)), mode=0o600)
    if position is not None:
        save_position(state, ledger.generation, position)


def _written(head: dict[str, Any], sections: Iterable[SectionRecord]) -> Iterator[bytes]:
    yield orjson.dumps(head)[:-1] + _SECTIONS
    for section in sections:
        sums = [getattr(section.sums, name) for name in Sums.__slots__]
        places = [(place.offset, place.length, place.crc, place.guarded) for place in section.places]
        about = [section.digest, section.counted, section.empty, sums, places, section.body.length]
        yield b"".join((orjson.dumps(about)[:-1], _BODY, section.body.read(), _NEXT))
    yield _LAST


def _sealed(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The pieces and a digest of them, by which a ledger that somebody edited is told."""
    seal = xxhash.xxh3_64()
    for piece in pieces:
        seal.update(piece)
        yield piece
    yield _sealing(seal)


def _sealing(seal: xxhash.xxh3_64) -> bytes:
    return b'%s%s"}\n' % (_SEAL, seal.hexdigest().encode())
