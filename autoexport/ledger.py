"""The private memory: what was published, block by block, and of which state of the database.

Two files in the state directory. `ledger.json` says how the published files are made up; `position`
says where the database stood, in the source's own words, and may be renewed alone when the database
moved without changing anything that is exported. A ledger that does not fit is no error: it only
means a full export.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import orjson
import xxhash

from autoexport.encoders import changed
from autoexport.files import replace_durably
from autoexport.model import Counts, Key

LEDGER_VERSION = 1
_LEDGER = "ledger.json"
_POSITION = "position"
_BLOCKS = b',"blocks":[\n'
_SEAL = b',\n"seal":"'
_SEAL_BYTES = len(_SEAL) + 16 + len(b'"}\n')
_PIECE_BYTES = 1 << 20


@dataclass(slots=True)
class Part:
    """The bytes of a block in one file: in the published one, or fresh in the spool."""

    offset: int
    length: int
    crc: int
    fresh: bool = False


@dataclass(slots=True)
class BlockRecord:
    """A block: which images, what it counts, what it embeds from above, and its bytes in each file.

    `counts` is packed, because a database of ten million images has fifteen thousand blocks.
    `parents` is a digest of the values of its dataset and project that its bytes repeat. `ids` is the
    sum of the hashes of its image ids, modulo 2^64: sums of blocks are equal when the same images are in them.
    """

    dataset: Key
    first: Key
    last: Key
    packed: bytes
    parents: str
    ids: int
    parts: list[Part]

    @property
    def counts(self) -> Counts:
        """The counts, unpacked."""
        images, labeled, annotations, splits, labels, repaired, guarded = orjson.loads(self.packed)
        return Counts(images, labeled, annotations, Counter(splits), Counter(labels), repaired, guarded)


def pack(counts: Counts) -> bytes:
    """Counts as a block record keeps them."""
    return _packed(
        [
            counts.images, counts.labeled, counts.annotations, dict(counts.splits), dict(counts.labels),
            counts.repaired, counts.guarded,
        ]
    )  # fmt: skip


def _packed(counts: list[Any]) -> bytes:
    # A copy: orjson gives its result together with all the room that it made for it, 4 KB at least.
    return bytes(memoryview(orjson.dumps(counts)))


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """How a published file is recognised as the one that was written."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    crc: int

    @classmethod
    def of(cls, path: Path, crc: int) -> FileIdentity:
        """The identity of a file as it is now. Raises `OSError`."""
        return cls._of(path.stat(), crc)

    @classmethod
    def of_open(cls, descriptor: int, crc: int) -> FileIdentity:
        """As `of`, of a file that is open."""
        return cls._of(os.fstat(descriptor), crc)

    @classmethod
    def _of(cls, status: os.stat_result, crc: int) -> FileIdentity:
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, crc)


@dataclass(slots=True)
class Ledger:
    """What is known of the last publish. `unpublished` counts, by logical table, the live rows that
    no parent leads to; `datasets` are the keys of all published datasets, empty ones too. `encoders` are the
    fingerprints of the encoders that wrote the files; an older ledger has none."""

    database: str
    settings: str
    mapping: str
    generation: int
    timestamp: str
    files: dict[str, FileIdentity]
    tables: dict[str, str] = field(default_factory=dict)
    unpublished: dict[str, int] = field(default_factory=dict)
    datasets: list[Key] = field(default_factory=list)
    blocks: list[BlockRecord] = field(default_factory=list)
    encoders: Mapping[str, str] = field(default_factory=dict)

    def misfit(
        self, database: str, settings: str, mapping: str, encoders: Mapping[str, str], directory: Path
    ) -> str | None:
        """Why this ledger cannot be built upon, or None if it can."""
        if self.settings != settings:
            return "the settings changed"
        if names := changed(self.encoders, encoders):
            return f"the {' and '.join(names)} encoder changed"
        if self.database != database:
            return "the ledger is of another database"
        if self.mapping != mapping:
            return "the tables or their mapping changed"
        for name, identity in self.files.items():
            try:
                if FileIdentity.of(directory / name, identity.crc) != identity:
                    return f"{name} was changed by someone else"
            except OSError:
                return f"{name} is not there"
        return None


def load_ledger(state: Path) -> Ledger | None:
    """The ledger of a state directory, or None where there is none that can be read.

    Block by block, because all of it parsed at once would take six times as much memory as the blocks themselves.
    """
    try:
        with (state / _LEDGER).open("rb") as file:
            end = _sealed_bytes(file)
            file.seek(0)
            head = file.readline()
            raw = orjson.loads(head.removesuffix(_BLOCKS) + b"}")
            if raw.pop("version") != LEDGER_VERSION:
                return None
            raw["files"] = {name: FileIdentity(*values) for name, values in raw["files"].items()}
            return Ledger(**raw, blocks=list(_blocks(file, end - len(head))))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


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


def _blocks(lines: BinaryIO, size_bytes: int) -> Iterator[BlockRecord]:
    """The blocks of as many bytes, a line each; what many of them have in common is held once."""
    common: dict[Any, Any] = {}
    for line in lines:
        size_bytes -= len(line)
        ended = size_bytes <= 0
        # The last line is followed by the seal, in place of a comma.
        row = line[: len(line) + size_bytes].removesuffix(b"]") if ended else line.removesuffix(b",\n")
        if row:
            dataset, first, last, counts, parents, ids, parts = orjson.loads(row)
            yield BlockRecord(
                common.setdefault(dataset, dataset),
                first,
                last,
                _packed(counts),
                common.setdefault(parents, parents),
                ids,
                [Part(*part) for part in parts],
            )
        if ended:
            return


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
        "datasets": ledger.datasets,
        "encoders": ledger.encoders,
    }
    replace_durably(state / _LEDGER, _sealed(_written(head, ledger.blocks)), mode=0o600)
    if position is not None:
        save_position(state, ledger.generation, position)


def _written(head: dict[str, Any], blocks: list[BlockRecord]) -> Iterator[bytes]:
    yield orjson.dumps(head)[:-1] + _BLOCKS
    for number, block in enumerate(blocks):
        parts = [[part.offset, part.length, part.crc] for part in block.parts]
        counts = orjson.Fragment(block.packed)
        row = [block.dataset, block.first, block.last, counts, block.parents, block.ids, parts]
        yield (b",\n" if number else b"") + orjson.dumps(row)
    yield b"]"


def _sealed(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The pieces and a digest of them, by which a ledger that somebody edited is told."""
    seal = xxhash.xxh3_64()
    for piece in pieces:
        seal.update(piece)
        yield piece
    yield _sealing(seal)


def _sealing(seal: xxhash.xxh3_64) -> bytes:
    return b'%s%s"}\n' % (_SEAL, seal.hexdigest().encode())


def save_position(state: Path, generation: int, position: Iterator[bytes]) -> None:
    """Write the position that goes with the ledger of a generation; not if it is there already."""
    path = state / _POSITION
    pieces = chain([b"%020d" % generation], position)
    alike_bytes = 0
    # As in `load_position`, a link is not followed: it is replaced.
    with suppress(OSError), open(path, "rb", opener=_open_itself) as known:
        for piece in pieces:
            if known.read(len(piece)) != piece:
                pieces = chain([piece], pieces)
                break
            alike_bytes += len(piece)
        else:
            if not known.read(1):
                return
    # What is alike is read again from the old file rather than held: a position may be large.
    replace_durably(path, chain(_first(path, alike_bytes), pieces), mode=0o600)


def _first(path: Path, size_bytes: int) -> Iterator[bytes]:
    if size_bytes:
        with path.open("rb") as file:
            while size_bytes and (piece := file.read(min(size_bytes, _PIECE_BYTES))):
                size_bytes -= len(piece)
                yield piece


def _open_itself(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW)


def load_position(state: Path, generation: int) -> Iterator[bytes] | None:
    """The position of a generation in pieces, or None where there is none that goes with it."""
    try:
        descriptor = _open_itself(str(state / _POSITION), os.O_RDONLY)
    except OSError:
        return None
    if os.read(descriptor, 20) != b"%020d" % generation:
        os.close(descriptor)
        return None
    pieces = _pieces(descriptor)
    next(pieces)  # one that never began would not close its file when it is dropped
    return pieces


def _pieces(descriptor: int) -> Iterator[bytes]:
    try:
        yield b""
        while piece := os.read(descriptor, _PIECE_BYTES):
            yield piece
    finally:
        os.close(descriptor)
