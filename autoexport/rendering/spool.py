"""Keeps rendered blocks in files without names until the layout of the whole file is known."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiofiles

from autoexport.formats.contract import Format
from autoexport.model.blocks import Part
from autoexport.runtime.files import WORKING_FILES, create_nameless, disk_errors_explained


class Spool:
    """The fresh blocks of one format in a file without a name, each followed by the format's separator."""

    def __init__(self, output: Format, stream: Any) -> None:
        self.output = output
        self.bytes = 0
        self._stream = stream

    @property
    def descriptor(self) -> int:
        """The descriptor of the file, which holds everything that was appended before the last `flush`."""
        descriptor: int = self._stream.fileno()
        return descriptor

    async def append(self, bodies: Sequence[bytes]) -> None:
        """Append blocks, or pieces of blocks. Raises `PublishError`."""
        with disk_errors_explained(WORKING_FILES):
            await self._stream.write(self.output.separator.join([*bodies, b""]))

    def added(self, length: int, crc: int) -> Part:
        """Note a block of so many bytes that was appended, here or by the worker process; where it lies."""
        part = Part(self.bytes, length, crc, fresh=True)
        self.bytes += length + len(self.output.separator)
        return part

    async def clear(self) -> None:
        """Remove everything that was appended, noted or not. Raises `PublishError`."""
        with disk_errors_explained(WORKING_FILES):
            await self._stream.seek(0)
            await self._stream.truncate()
        self.bytes = 0

    async def flush(self) -> None:
        """Write the buffer to the file. Raises `PublishError`."""
        with disk_errors_explained(WORKING_FILES):
            await self._stream.flush()


@contextlib.asynccontextmanager
async def spools(state: Path, outputs: Sequence[Format]) -> AsyncIterator[list[Spool]]:
    """A spool for each format that has blocks, in the state directory. Raises `OSError`."""
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


@dataclass(slots=True)
class Rendered:
    """A rendered block: its packed counts, the sum of its image id hashes, its parts in the spools."""

    packed: bytes
    ids: int
    parts: list[Part]


def rendered_block(
    spools: Sequence[Spool], packed: bytes, ids: int, lengths: Sequence[tuple[int, int]]
) -> Rendered:
    """Note in the spools the block that follows those noted before; `lengths` has length and CRC-32 for each."""
    return Rendered(packed, ids, [spool.added(*part) for spool, part in zip(spools, lengths, strict=True)])
