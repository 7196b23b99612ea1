"""Stores the position: the state of the database that was read last, in the words of the source."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path

from autoexport.runtime.files import (
    WORKING_FILES,
    create_nameless,
    disk_errors_explained,
    replace_durably,
    write_all,
)
from autoexport.sources.contract import Position

POSITION_FILE = "position"
PIECE_BYTES = 1 << 20
"""Files are read in pieces of this size."""

_GENERATION = b"%020d"
"""The head of the file: the generation of the ledger that the position belongs to."""

_GENERATION_BYTES = 20


def save_position(state: Path, generation: int, position: Iterator[bytes]) -> None:
    """Write the position for the ledger of a generation, durably. Raises `PublishError`.

    A file that already has these bytes is left alone.
    """
    path = state / POSITION_FILE
    pieces = chain([_GENERATION % generation], position)
    equal_bytes = 0
    # As in `load_position`, a link is not followed: it is replaced.
    with suppress(OSError), open(path, "rb", opener=_open_no_link) as known:
        for piece in pieces:
            if known.read(len(piece)) != piece:
                pieces = chain([piece], pieces)
                break
            equal_bytes += len(piece)
        else:
            if not known.read(1):
                return
    # The equal beginning is read again from the old file, not held in memory: a position may be large.
    replace_durably(path, chain(_head(path, equal_bytes), pieces), mode=0o600)


def _head(path: Path, size_bytes: int) -> Iterator[bytes]:
    """The first `size_bytes` bytes of a file, in pieces."""
    if size_bytes:
        with path.open("rb") as file:
            while size_bytes and (piece := file.read(min(size_bytes, PIECE_BYTES))):
                size_bytes -= len(piece)
                yield piece


def _open_no_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW)


def load_position(state: Path, generation: int) -> Iterator[bytes] | None:
    """The position that was saved for this generation, in pieces; None if there is none."""
    try:
        descriptor = _open_no_link(str(state / POSITION_FILE), os.O_RDONLY)
    except OSError:
        return None
    if os.read(descriptor, _GENERATION_BYTES) != _GENERATION % generation:
        os.close(descriptor)
        return None
    pieces = _pieces(descriptor)
    next(pieces)  # A generator that never started would not close its file when it is dropped.
    return pieces


def _pieces(descriptor: int) -> Iterator[bytes]:
    try:
        yield b""
        while piece := os.read(descriptor, PIECE_BYTES):
            yield piece
    finally:
        os.close(descriptor)


class HeldPosition:
    """A copy of a position in a nameless file of the state directory, for use after the snapshot is closed."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._descriptor: int | None = None

    def take(self, position: Position) -> HeldPosition:
        """Copy the bytes of a position; returns itself. Raises `PublishError`."""
        with disk_errors_explained(WORKING_FILES):
            self._descriptor = create_nameless(self._state / f"spool-{secrets.token_hex(8)}")
            for piece in position.pieces():
                write_all(self._descriptor, piece)
        return self

    def pieces(self) -> Iterator[bytes]:
        """The bytes, at most 1 MB at a time."""
        offset = 0
        while self._descriptor is not None and (piece := os.pread(self._descriptor, PIECE_BYTES, offset)):
            offset += len(piece)
            yield piece

    def close(self) -> None:
        """Remove the copy."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
