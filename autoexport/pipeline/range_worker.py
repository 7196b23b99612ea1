"""Runs in a range worker: reads one range of a snapshot, renders it, and appends its bytes to the spools.

It ends when its input ends, whichever way its parent ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncGenerator, Callable
from typing import Any

from autoexport.errors import AutoexportError
from autoexport.formats import chosen_formats
from autoexport.model import packing
from autoexport.model.blocks import BlockRows
from autoexport.model.catalog import Key
from autoexport.pipeline.range_messages import RangeStart
from autoexport.pipeline.recording import keys_of
from autoexport.rendering.bodies import BlockDigest, all_bodies_of, separators
from autoexport.rendering.messages import LENGTH, encoded, ready
from autoexport.rendering.spool import ExtentWriter, ScratchFile
from autoexport.rendering.tree import TreeBuilder
from autoexport.runtime.tuning import collect_seldom, return_memory, unlock_sqlite
from autoexport.sources.contract import Snapshot
from autoexport.sources.reader import SnapshotReader
from autoexport.values.block import ruled_parents

_REQUESTS, _ANSWERS = 0, 1
_LEAVE_S = 0.3
"""How long a worker may take to leave a database."""


def main() -> None:
    """Render the range that standard input names, and answer on standard output."""
    # A signal that ends an export politely may reach the whole process group: the parent decides about the end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return_memory()
    collect_seldom()
    (length,) = LENGTH.unpack(_received(LENGTH.size))
    start = RangeStart.read(_received(length))
    unlock_sqlite()  # It is loaded if the snapshot is one of SQLite, whose connection has a thread of its own.
    try:
        written = asyncio.run(_run(start))
        answer: tuple[Any, ...] = ("done", time.process_time(), written)
    except AutoexportError as error:
        answer = ("failed", type(error).__name__, str(error), error.hint)
    except OSError as error:
        answer = ("os error", error.errno)
    except Exception as error:  # noqa: BLE001 - the parent reports every error
        answer = ("error", f"{type(error).__name__}: {error}")
    _send(answer)


async def _run(start: RangeStart) -> list[int]:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None  # noqa: S101 - this is one

    def leave() -> None:
        """The input has ended: the parent has, or needs the range no more."""
        loop.remove_reader(_REQUESTS)
        task.cancel()  # A server then stops to work for this process.
        loop.call_later(_LEAVE_S, os._exit, 1)

    loop.add_reader(_REQUESTS, leave)
    try:
        async with start.shared.opened() as snapshot:
            _send(ready())
            return await _read(start, snapshot)
    finally:
        loop.remove_reader(_REQUESTS)


async def _read(start: RangeStart, snapshot: Snapshot) -> list[int]:
    """Read and render; the number of bytes that were written to each spool."""
    reader = SnapshotReader(snapshot, start.mapping)
    with contextlib.closing(ScratchFile(start.state)) as scratch:
        parents = await reader.parents()
        builder = TreeBuilder(parents, start.mapping, start.database, ruled_parents, scratch)
        builder.training = start.training
        render = _Range(start, builder)
        blocks: AsyncGenerator[BlockRows, None] = reader.stretch(start.stretch, start.counted, start.kept)
        async with contextlib.aclosing(blocks):
            async for rows in blocks:
                render.add(rows)
        return render.finish()


class _Range:
    """Renders the pieces of a range, one after the other, and sends what the export records of them."""

    def __init__(self, start: RangeStart, builder: TreeBuilder) -> None:
        self._mapping = start.mapping
        self._builder = builder
        self._outputs = [output for output in chosen_formats(start.options) if output.has_blocks]
        self._digest = BlockDigest(self._outputs)
        self._first: list[Key] = []
        self._writers = [
            ExtentWriter(descriptor, start.extent, separator, len(start.spools))
            for separator, descriptor in zip(separators(self._outputs), start.spools, strict=True)
        ]

    def add(self, rows: BlockRows) -> None:
        """Render one more piece, or several blocks. Raises `OSError`."""
        owners, parents = self._builder.owners([dataset for dataset, _ in rows.blocks()])
        pieces = all_bodies_of(rows, self._mapping, self._outputs, owners)
        for index, writer in enumerate(self._writers):
            writer.append(piece.bodies[index] for piece in pieces)
        ended = self._digest.add_all(pieces, ends=rows.ends)
        keys = keys_of(rows, parents, self._first)
        _send(("blocks", keys, packing.pack(ended), len(rows.spans) + sum(rows.spans)))

    def finish(self) -> list[int]:
        """Write the rest; the number of written bytes by spool. Raises `OSError`."""
        for writer in self._writers:
            writer.flush()
        return [writer.written for writer in self._writers]


def _received(length: int) -> bytes:
    """So many bytes of standard input. Ends the process if the parent has ended."""
    data = bytearray()
    while len(data) < length:
        some = os.read(_REQUESTS, min(length - len(data), 1 << 20))
        if not some:
            os._exit(1)
        data += some
    return bytes(data)


def _send(answer: tuple[Any, ...], write: Callable[[int, memoryview], int] = os.write) -> None:
    rest = memoryview(encoded(answer))
    try:
        while rest:
            rest = rest[write(_ANSWERS, rest) :]
    except BrokenPipeError:
        os._exit(0)  # The parent is gone: no process reads the answers, and no file has to be cleaned up.
