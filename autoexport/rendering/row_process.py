"""Starts the worker process that writes the file of a format that cuts its rows by a rule of its own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence

from autoexport.errors import RenderError
from autoexport.formats.contract import EncoderFormat, FormatOptions, RowFormat, RowRange
from autoexport.model import packing
from autoexport.rendering.row_groups import Piece, RowFiles
from autoexport.runtime.interpreter import command_of, program_of
from autoexport.runtime.logs import get_logger
from autoexport.runtime.steps import stepped

PROCESS_FROM_ROWS = 5_000
"""A file of at least so many rows is made by a worker process, if some are fresh.

The encoder takes 26 MB, also for one row group, which its end frees. Starting it takes 0.13 s of a core.
"""

_GROWTH_S = 5.0
"""The time from one look at the size of the file to the next, in seconds."""

log = get_logger()

CODE = program_of("autoexport.rendering.row_worker")


def _answer(process: subprocess.Popen[bytes], message: bytes | None, target: int) -> bytes:
    """The answer of the process, which is ended on every way out. As long as its file grows, it makes progress."""
    size, unsent = 0, message
    with process:
        try:
            while True:
                try:
                    return process.communicate(unsent, _GROWTH_S)[0]
                except subprocess.TimeoutExpired:
                    unsent = None  # it was taken over, and is sent by the next call
                    if (grown := os.fstat(target).st_size) > size:
                        size = grown
                        stepped()
        except BaseException:
            process.kill()
            raise


def write_groups_apart(
    output: RowFormat, options: FormatOptions, ranges: Sequence[RowRange], files: RowFiles
) -> tuple[list[Piece], float] | None:
    """Do what `write_groups` does in a worker process; also returns its processor time in seconds.

    Encoders hold the interpreter's lock, so in a thread of this process the event loop would wait. None if no
    process can be started, or if it has another encoder. Raises `RenderError`, OSError, EOFError.
    """
    descriptors = (files.spool, files.published, files.target)
    encoder = output.encoder() if isinstance(output, EncoderFormat) else None
    message = packing.pack(
        (type(output).__module__, output.file_name, dict(options), list(ranges), descriptors, encoder)
    )
    try:
        process = subprocess.Popen(  # noqa: S603 - our own program
            command_of(CODE), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, pass_fds=[it for it in descriptors if it is not None],
        )  # fmt: skip
    except OSError as error:
        log.debug("render.no_process", error=str(error))
        return None
    try:
        kind, *content = packing.unpack(_answer(process, message, files.target))
    except (EOFError, ValueError, TypeError):
        kind, content = "error", [f"it ended with exit code {process.returncode}"]
    if kind == "other encoder":
        # Bytes of two encoders in one file would not be what a full export writes.
        log.warning("render.other_encoder", hint="Packages were replaced while the program ran: restart it.")
        return None
    if kind == "os error":
        raise OSError(content[0], os.strerror(content[0]))
    if kind == "short":
        raise EOFError
    if kind != "done":
        raise RenderError(
            f"The process that encodes {output.file_name} failed: {content[0]}.",
            hint="Was it killed, or short of memory? See the kernel's log. The exporter tries again.",
        )
    pieces, cpu_s = content
    return pieces, cpu_s
