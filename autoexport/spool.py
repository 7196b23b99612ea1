"""Where rendered blocks wait until the whole file is known: one nameless file a format."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import aiofiles
import aiofiles.os

from autoexport.contracts import Format
from autoexport.files import explain_os_error
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
        try:
            await self._stream.write(body + self.output.separator)
        except OSError as error:
            raise explain_os_error(error, "the working files") from error

    def added(self, length: int, crc: int) -> Part:
        """Note a block that was appended, by us or by somebody else through the same descriptor."""
        part = Part(self.bytes, length, crc, fresh=True)
        self.bytes += length + len(self.output.separator)
        return part

    async def clear(self) -> None:
        """Begin anew: what was appended before, and perhaps not noted, is gone. Raises `PublishError`."""
        try:
            await self._stream.seek(0)
            await self._stream.truncate()
        except OSError as error:
            raise explain_os_error(error, "the working files") from error
        self.bytes = 0

    async def flush(self) -> None:
        """Hand everything to the kernel. Raises `PublishError`."""
        try:
            await self._stream.flush()
        except OSError as error:
            raise explain_os_error(error, "the working files") from error


@contextlib.asynccontextmanager
async def spools(state: Path, outputs: Sequence[Format]) -> AsyncIterator[list[Spool]]:
    """A spool for each format that has blocks, in the state directory, without a name."""
    async with contextlib.AsyncExitStack() as stack:
        opened = []
        for output in outputs:
            if output.has_blocks:
                path = state / f"spool-{secrets.token_hex(8)}"
                stream = await stack.enter_async_context(
                    aiofiles.open(path, "x+b", buffering=1 << 20, opener=_private)
                )
                await aiofiles.os.unlink(path)
                opened.append(Spool(output, stream))
        yield opened


def _private(path: str, flags: int) -> int:
    import os

    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
