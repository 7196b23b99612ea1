"""Where rendered blocks, and the position, wait until the whole file is known: in files without names."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import aiofiles

from autoexport.contracts import Format, Position
from autoexport.files import WORKING_FILES, create_nameless, disk_errors_explained, write_all
from autoexport.ledger import Part


class Spool:
    """The fresh blocks of one format, one after the other, each followed by the format's separator."""

    def __init__(self, output: Format, stream: Any) -> None:
        self.output = output
        self.bytes = 0
        self._stream = stream

    @property
    def descriptor(self) -> int:
        """For reading what was added; everything added before `flush` is there."""
        number: int = self._stream.fileno()
        return number

    async def append(self, body: bytes) -> None:
        """Append a piece of a block. Raises `PublishError`."""
        with disk_errors_explained(WORKING_FILES):
            await self._stream.write(body + self.output.separator)

    def added(self, length: int, crc: int) -> Part:
        """Note a block that was appended, by us or by somebody else through the same descriptor."""
        part = Part(self.bytes, length, crc, fresh=True)
        self.bytes += length + len(self.output.separator)
        return part

    async def clear(self) -> None:
        """Begin anew: what was appended before, and perhaps not noted, is gone. Raises `PublishError`."""
        with disk_errors_explained(WORKING_FILES):
            await self._stream.seek(0)
            await self._stream.truncate()
        self.bytes = 0

    async def flush(self) -> None:
        """Hand everything to the kernel. Raises `PublishError`."""
        with disk_errors_explained(WORKING_FILES):
            await self._stream.flush()


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


@contextlib.asynccontextmanager
async def spools(state: Path, outputs: Sequence[Format]) -> AsyncIterator[list[Spool]]:
    """A spool for each format that has blocks, in the state directory, without a name."""
    async with contextlib.AsyncExitStack() as stack:
        opened = []
        for output in outputs:
            if output.has_blocks:
                path = state / f"spool-{secrets.token_hex(8)}"
                stream = await stack.enter_async_context(
                    aiofiles.open(path, "x+b", buffering=1 << 20, opener=_nameless)
                )
                opened.append(Spool(output, stream))
        yield opened


def _nameless(path: str, flags: int) -> int:
    return create_nameless(Path(path))
