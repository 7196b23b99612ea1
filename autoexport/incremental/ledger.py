"""The private memory: what was published, block by block, and of which state of the database.

Two files in the state directory. `ledger.json` says how the published files are made up; `position`
says where the database stood, in the source's own words, and may be renewed alone when the database
moved without changing anything that is exported. A ledger that does not fit is no error: it only
means a full export.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import orjson
import xxhash

from autoexport.incremental.position import _PIECE_BYTES, _POSITION, save_position
from autoexport.model.blocks import BlockRecord, Part, _packed
from autoexport.model.catalog import Key
from autoexport.publishing.identity import FileIdentity
from autoexport.runtime.files import replace_durably
from autoexport.values.encoders import changed

LEDGER_VERSION = 1
_LEDGER = "ledger.json"
_BLOCKS = b',"blocks":[\n'

_SEAL = b',\n"seal":"'
_SEAL_BYTES = len(_SEAL) + 16 + len(b'"}\n')


@dataclass(slots=True)
class Ledger:
    """What is known of the last publish.

    `database`, `settings` and `mapping` are digests. `unpublished` counts, by logical table, the live rows that
    have no parent. `datasets` are the keys of all published datasets, empty ones too. `forgotten` is why the
    blocks were given up during this export; None where they were not. `encoders` are the fingerprints of the
    encoders that wrote the files; an older ledger has none.
    """

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
    forgotten: str | None = None

    def forget_blocks(self, reason: str) -> None:
        """Give up the blocks and their memory: everything is rendered now, also if this export has to restart."""
        self.blocks, self.forgotten = [], reason

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
