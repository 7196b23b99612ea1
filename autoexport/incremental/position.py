"""Stores where the database stood at the last publish."""

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

_POSITION = "position"
_PIECE_BYTES = 1 << 20


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


class HeldPosition:
    """A position that outlives its snapshot, in the state directory."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._descriptor: int | None = None

    def take(self, position: Position) -> HeldPosition:
        """Hold the bytes of this one; itself. Raises `PublishError`."""
        with disk_errors_explained(WORKING_FILES):
            self._descriptor = create_nameless(self._state / f"spool-{secrets.token_hex(8)}")
            for piece in position.pieces():
                write_all(self._descriptor, piece)
        return self

    def pieces(self) -> Iterator[bytes]:
        """The bytes, at most 1 MB at a time."""
        at = 0
        while self._descriptor is not None and (piece := os.pread(self._descriptor, 1 << 20, at)):
            at += len(piece)
            yield piece

    def close(self) -> None:
        """Let go of it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
