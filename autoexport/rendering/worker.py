"""Runs in the worker process: reads blocks of rows from standard input and appends their bytes to the spools.

It loads neither SQL nor settings, and ends when its input ends, whichever way its parent ended.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

from autoexport.formats import chosen_formats
from autoexport.model import packing
from autoexport.rendering.bodies import BlockDigest, all_bodies_of, joined, separators
from autoexport.rendering.messages import END, LENGTH, Start, decoded, encoded, read_rows, ready
from autoexport.runtime.files import write_all
from autoexport.runtime.tuning import return_memory

if TYPE_CHECKING:
    from autoexport.formats.contract import Format


def main() -> None:
    """Answer the messages of standard input on standard output until the input ends."""
    # A signal that ends an export politely may reach the whole process group: the parent decides about the end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    gc.disable()  # Rows and cells have no cycles.
    return_memory()
    requests, replies = sys.stdin.buffer, sys.stdout.buffer
    first = _receive(requests)
    if first is None:
        return
    start = Start.read(first)
    outputs = [output for output in chosen_formats(start.options) if output.has_blocks]
    block_digest = BlockDigest(outputs)
    _send(replies, ready())
    while (message := _receive(requests)) not in (None, END):
        try:
            answer = _render(message, start, outputs, block_digest)
        except OSError as error:
            answer = ("os error", error.errno)
        except Exception as error:  # noqa: BLE001 - the parent reports every error
            answer = ("error", f"{type(error).__name__}: {error}")
        if answer is not None:
            _send(replies, answer)
    _send(replies, ("done", time.process_time()))


def _render(
    message: tuple[Any, ...], start: Start, outputs: Sequence[Format], block_digest: BlockDigest
) -> tuple[Any, ...] | None:
    """Append blocks, or a piece of one, to the spools; the answer about the blocks that end, None if none does."""
    rows, owners = read_rows(message)
    pieces = all_bodies_of(rows, start, outputs, owners)
    for index, (separator, descriptor) in enumerate(zip(separators(outputs), start.spools, strict=True)):
        write_all(descriptor, joined((piece.bodies[index] for piece in pieces), separator))
    ended = block_digest.add_all(pieces, ends=rows.ends)
    return ("blocks", len(ended), packing.pack(ended)) if ended else None


def _receive(stream: BinaryIO) -> tuple[Any, ...] | None:
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(head)
    data = stream.read(length)
    return decoded(data) if len(data) == length else None


def _send(stream: BinaryIO, content: tuple[Any, ...]) -> None:
    try:
        stream.write(encoded(content))
        stream.flush()
    except BrokenPipeError:
        os._exit(0)  # The parent is gone: no process reads the answers, and no file has to be cleaned up.
