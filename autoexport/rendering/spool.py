"""Keeps rendered blocks in files without names until the layout of the whole file is known."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiofiles

from autoexport.formats.contract import Format, RowFormat, part_count
from autoexport.model import packing
from autoexport.model.blocks import Part
from autoexport.rendering.bodies import Digest, joined
from autoexport.runtime.files import WORKING_FILES, create_nameless, disk_errors_explained, write_all

_HELD_BYTES = 1 << 20
_WINDOW_BYTES = 128 << 10


EXTENT_BYTES = 1 << 38
"""The distance of the extents of a spool. Each process appends to one of its own. The room between them takes no
block of the disk; ext4 has files of 16 TB."""

_PROBE_BYTES = 16 << 20


class Spool:
    """One part of the fresh blocks, in a file without a name, each followed by the format's separator.

    An empty part takes no byte. The parts of a `RowFormat` are `numbered` rows, which lie one after the other.
    """

    def __init__(self, separator: bytes, stream: Any, *, numbered: bool = False) -> None:
        self.separator = separator
        self.bytes = 0
        self._numbered = numbered
        self._stream = stream

    @property
    def descriptor(self) -> int:
        """The descriptor of the file, which holds everything that was appended before the last `flush`."""
        descriptor: int = self._stream.fileno()
        return descriptor

    async def append(self, bodies: Sequence[bytes]) -> None:
        """Append blocks, or pieces of blocks. Raises `PublishError`."""
        with disk_errors_explained(WORKING_FILES):
            await self._stream.write(joined(bodies, self.separator))

    def added(self, length: int, crc: int) -> Part:
        """Note a block of so many bytes that was appended, here or by the worker process; where it lies."""
        part = Part(self.bytes, length, crc, fresh=True)
        self.bytes += length + len(self.separator) if length else 0
        return part

    def take_extents(self, written: Sequence[int]) -> Iterator[None]:
        """Take over the extents, to which processes wrote so many bytes each. After each step, the blocks of one
        extent can be `added`. Raises `PublishError`.
        """
        end = 0
        for extent, length in enumerate(written):
            if not self._numbered:
                self.bytes = extent * EXTENT_BYTES
            elif extent:
                with disk_errors_explained(WORKING_FILES):
                    _move(self.descriptor, extent * EXTENT_BYTES, end, length)
            end += length
            yield
        if self._numbered:
            with disk_errors_explained(WORKING_FILES):
                os.ftruncate(self.descriptor, end)

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


def has_extents(spools: Sequence[Spool], extents: int) -> bool:
    """Whether the file system takes files with so many extents, and holes between them. The spools are empty."""
    for spool in spools:
        try:
            os.ftruncate(spool.descriptor, _PROBE_BYTES)
            if os.fstat(spool.descriptor).st_blocks * 512 >= _PROBE_BYTES:
                return False
            os.ftruncate(spool.descriptor, extents * EXTENT_BYTES)
        except OSError:  # also beyond a limit of the user's (setrlimit(2), RLIMIT_FSIZE)
            return False
        finally:
            with contextlib.suppress(OSError):
                os.ftruncate(spool.descriptor, 0)
    return True


def _move(descriptor: int, offset: int, target: int, length: int) -> None:
    """Copy a range of a file to another place before it. Raises `OSError`."""
    for begun in range(0, length, _HELD_BYTES):
        rest = memoryview(os.pread(descriptor, min(_HELD_BYTES, length - begun), offset + begun))
        place = target + begun
        while rest:
            written = os.pwrite(descriptor, rest, place)
            rest, place = rest[written:], place + written


class ExtentWriter:
    """Appends to an extent of a spool by its descriptor, in a process of its own."""

    def __init__(self, descriptor: int, extent: int, separator: bytes, spools: int) -> None:
        self._descriptor = descriptor
        self._offset = extent * EXTENT_BYTES
        self._separator = separator
        self.written = 0
        self._held: list[bytes] = []
        self._held_bytes, self._most_bytes = 0, _HELD_BYTES // spools

    def append(self, bodies: Iterable[bytes]) -> None:
        """Append blocks, or pieces of blocks, as `Spool.append` does. Raises `OSError`."""
        for body in filter(None, bodies):
            self._held += (body, self._separator)
            self._held_bytes += len(body) + len(self._separator)
        if self._held_bytes >= self._most_bytes:
            self.flush()

    def flush(self) -> None:
        """Write what is held. Raises `OSError`."""
        rest = memoryview(b"".join(self._held))
        self._held, self._held_bytes = [], 0
        while rest:
            # Not `write`: the processes share the position in the file.
            written = os.pwrite(self._descriptor, rest, self._offset)
            rest, self._offset = rest[written:], self._offset + written
            self.written += written


class ScratchFile:
    """A `Scratch` in a file without a name in the state directory. Raises `OSError`."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._descriptor: int | None = None
        self._written = 0
        self._held = bytearray()
        self._window, self._window_offset = b"", 0

    def append(self, data: bytes) -> int:
        """Append to the file; at first to memory."""
        offset = self._written + len(self._held)
        self._held += data
        if len(self._held) >= _HELD_BYTES:
            self._write()
        return offset

    def _write(self) -> None:
        if self._descriptor is None:
            self._descriptor = create_nameless(self._state / f"spool-{secrets.token_hex(8)}")
        write_all(self._descriptor, bytes(self._held))
        self._written += len(self._held)
        self._held = bytearray()

    def read(self, offset: int, length: int) -> bytes:
        """Read from the file or from memory. Neighbouring bytes are mostly read one after the other."""
        if offset < self._written < offset + length:
            self._write()
        if offset >= self._written:
            begun = offset - self._written
            return bytes(self._held[begun : begun + length])
        begun = offset - self._window_offset
        if not 0 <= begun <= begun + length <= len(self._window):
            assert self._descriptor is not None  # noqa: S101 - something was written
            ahead = min(max(length, _WINDOW_BYTES), self._written - offset)
            self._window, self._window_offset, begun = os.pread(self._descriptor, ahead, offset), offset, 0
        return self._window[begun : begun + length]

    def close(self) -> None:
        """Remove everything."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


@contextlib.asynccontextmanager
async def spools(state: Path, outputs: Sequence[Format]) -> AsyncIterator[list[Spool]]:
    """A spool for each part of the blocks, in the state directory. Raises `OSError`."""
    async with contextlib.AsyncExitStack() as stack:
        opened = []
        for output in outputs:
            for _ in range(count := part_count(output)):
                path = state / f"spool-{secrets.token_hex(8)}"
                stream = await stack.enter_async_context(
                    aiofiles.open(path, "x+b", buffering=_HELD_BYTES // count, opener=_nameless)
                )
                stack.push_async_callback(_emptied, stream)
                opened.append(Spool(output.separator, stream, numbered=isinstance(output, RowFormat)))
        yield opened


async def _emptied(stream: Any) -> None:
    """Empty a spool before it is closed, as `close_nameless` does."""
    with contextlib.suppress(OSError):
        await stream.truncate(0)


def _nameless(path: str, flags: int) -> int:
    return create_nameless(Path(path))


@dataclass(slots=True)
class Rendered:
    """A rendered block: its packed counts, the sum of its image id hashes, its parts in the spools."""

    packed: bytes
    ids: int
    parts: list[Part]


def packed(digests: Sequence[Digest]) -> bytes:
    """Encode the digests of blocks."""
    return packing.pack(list(digests))


def rendered_blocks(spools: Sequence[Spool], digests: deque[bytes]) -> Iterator[Rendered]:
    """Note in the spools the blocks that follow those noted before, from their `packed` digests.

    The memory of these is free as soon as they are decoded.
    """
    while digests:
        for counts, ids, lengths in packing.unpack(digests.popleft()):
            yield Rendered(counts, ids, [spool.added(*part) for spool, part in zip(spools, lengths, strict=True)])
