"""Stores which blocks were published, and from which database.

The state directory holds two files. `ledger.json` describes the published files block by block. `position` holds
the source's own description of the state of the database. If the database changed but no exported row did, only
`position` is written. A missing or unusable ledger is no error: the next export is full.
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

from autoexport.incremental.position import PIECE_BYTES, POSITION_FILE, save_position
from autoexport.model.blocks import BlockRecord, Part, pack_fields
from autoexport.model.catalog import Key
from autoexport.publishing.identity import FileIdentity
from autoexport.runtime.files import replace_durably
from autoexport.values.encoders import changed

LEDGER_VERSION = 2
_LEDGER = "ledger.json"
_BLOCKS = b',"blocks":[\n'
_SEAL = b',\n"seal":"'
_SEAL_BYTES = len(_SEAL) + 16 + len(b'"}\n')


@dataclass(slots=True)
class Ledger:
    """The record of the last publish.

    `database`, `settings` and `mapping` are digests. `unpublished` counts, by logical table, the live rows that
    have no parent. `datasets` are the keys of all published datasets, empty ones too. `encoders` are the
    fingerprints of the encoders that wrote the files; an older ledger has none. `forgotten` is the reason why this
    export gave up the blocks; None if it did not.
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
        """Free the blocks, because everything is rendered now, also if this export has to restart."""
        self.blocks, self.forgotten = [], reason

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
            return "the settings changed"
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

    It is parsed block by block. Parsed at once, it would take six times the memory of the blocks themselves.
    """
    try:
        with (state / _LEDGER).open("rb") as file:
            sealed_bytes = _verified_bytes(file)
            file.seek(0)
            head = file.readline()
            raw = orjson.loads(head.removesuffix(_BLOCKS) + b"}")
            if raw.pop("version") != LEDGER_VERSION:
                return None
            raw["datasets"] = [_key(key) for key in raw["datasets"]]
            raw["files"] = {name: FileIdentity(*values) for name, values in raw["files"].items()}
            return Ledger(**raw, blocks=list(_blocks(file, sealed_bytes - len(head))))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


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


def _blocks(lines: BinaryIO, size_bytes: int) -> Iterator[BlockRecord]:
    """Parse the blocks in the next `size_bytes` bytes, one a line. Equal values of many blocks are held once."""
    common: dict[Any, Any] = {}
    for line in lines:
        size_bytes -= len(line)
        ended = size_bytes <= 0
        # The seal follows the last block on the same line.
        row = line[: len(line) + size_bytes].removesuffix(b"]") if ended else line.removesuffix(b",\n")
        if row:
            dataset, first, last, counts, parents, ids, parts = orjson.loads(row)
            if type(first) is list or type(dataset) is list:
                dataset, first, last = _key(dataset), _key(first), _key(last)
            yield BlockRecord(
                common.setdefault(dataset, dataset),
                first,
                last,
                pack_fields(counts),
                common.setdefault(parents, parents),
                ids,
                [Part(*part) for part in parts],
            )
        if ended:
            return


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
    yield orjson.dumps(head, default=_plain)[:-1] + _BLOCKS
    for index, block in enumerate(blocks):
        parts = [[part.offset, part.length, part.crc] for part in block.parts]
        counts = orjson.Fragment(block.packed)
        row = [block.dataset, block.first, block.last, counts, block.parents, block.ids, parts]
        yield (b",\n" if index else b"") + orjson.dumps(row, default=_plain)
    yield b"]"


def _plain(key: bytes) -> list[str]:
    """A key of bytes, for which JSON has no type."""
    return [key.hex()]


def _key(plain: Any) -> Key:
    """The key that was written as `plain`."""
    return bytes.fromhex(plain[0]) if type(plain) is list else plain


def _sealed(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The pieces and a digest of them. The digest shows whether the ledger was edited or damaged."""
    digest = xxhash.xxh3_64()
    for piece in pieces:
        digest.update(piece)
        yield piece
    yield _seal(digest)


def _seal(digest: xxhash.xxh3_64) -> bytes:
    return b'%s%s"}\n' % (_SEAL, digest.hexdigest().encode())
