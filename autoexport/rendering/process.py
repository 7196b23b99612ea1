"""Renders in a worker process: starts it, sends it blocks of rows, collects its answers."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from autoexport.errors import RenderError
from autoexport.formats.contract import FormatOptions, Owner
from autoexport.model.blocks import BlockRows
from autoexport.rendering.messages import END, LENGTH, Start, decoded, encoded, ready, rows_message
from autoexport.rendering.spool import Rendered, Spool, rendered_blocks
from autoexport.runtime.files import WORKING_FILES, explain_os_error
from autoexport.runtime.interpreter import command_of, program_of
from autoexport.runtime.logs import get_logger
from autoexport.runtime.pipe_writer import PipeWriter, open_pipe
from autoexport.values.block import RowMapping

log = get_logger()

_START_S = 20.0
"""A worker process that does not answer after so many seconds is given up."""

CODE = program_of("autoexport.rendering.worker")


@contextlib.asynccontextmanager
async def process_renderer(
    spools: Sequence[Spool], mapping: RowMapping, options: FormatOptions
) -> AsyncIterator[WorkerProcessRenderer | None]:
    """A renderer in a worker process, which is ended on exit; None if threads have to render instead.

    That is so if no process could be started, or if it has other encoders. Raises `PublishError` if a spool cannot
    be flushed.
    """
    for spool in spools:
        await spool.flush()
    renderer = await _started(spools)
    if renderer is None:
        yield None
        return
    try:
        descriptors = [spool.descriptor for spool in spools]
        worded = tuple(sorted(mapping.worded))
        read = mapping.box, mapping.box_format, mapping.keep_query, worded, mapping.expand
        start = Start(options, *read, descriptors)
        yield renderer if await renderer.begin(start) else None
    finally:
        await renderer.end()


async def _started(spools: Sequence[Spool]) -> WorkerProcessRenderer | None:
    read_end, writer = open_pipe()
    try:
        process = await asyncio.create_subprocess_exec(
            *command_of(CODE),
            stdin=read_end, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
            pass_fds=[spool.descriptor for spool in spools],
        )  # fmt: skip
    except (OSError, NotImplementedError) as error:
        log.debug("render.no_process", error=str(error))
        await writer.close()
        return None
    except BaseException:
        await writer.close()
        raise
    finally:
        os.close(read_end)
    return WorkerProcessRenderer(process, writer, spools)


class WorkerProcessRenderer:
    """Sends blocks to a worker process and collects its answers while it works.

    The protocol (`messages`): `Start` is answered by `ready`; pieces of blocks and END are sent without waiting
    for answers. The worker answers when blocks end, an error at once, and END with its processor time.
    """

    def __init__(self, process: asyncio.subprocess.Process, writer: PipeWriter, spools: Sequence[Spool]) -> None:
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        self._process = process
        self._writer = writer
        self._from_worker = process.stdout
        self._spools = spools
        self._blocks_added = self._blocks_answered = 0
        self._all_done = False
        self.worker_cpu_s = 0.0
        self._answers: asyncio.Task[deque[bytes]] | None = None

    async def begin(self, start: Start) -> bool:
        """Start the rendering; false if the process does not answer as a worker does."""
        try:
            async with asyncio.timeout(_START_S):
                self._writer.send(start.message())
                answer = await next_answer(self._from_worker)
            reply = decoded(answer) if answer is not None else None
        except (OSError, TimeoutError, ValueError, EOFError, TypeError) as error:
            log.debug("render.no_process", error=str(error) or type(error).__name__)
            return False
        if not is_ready(reply):
            return False
        self._answers = asyncio.create_task(self._collect(), name="rendering")
        return True

    async def add(self, rows: BlockRows, owners: Sequence[Owner]) -> None:
        """Send one more piece of a block, or several blocks, as `Renderer.add` has it."""
        assert self._answers is not None  # noqa: S101 - it has begun
        self._blocks_added += len(rows.blocks()) - (not rows.ends)
        await self._writer.sent(self._answers)
        if self._answers.done():
            await self.finish()  # The worker ended before its time: this raises the reason.
        else:
            self._writer.send(rows_message(rows, owners))

    async def finish(self) -> Iterator[Rendered]:
        """Send END and wait for all answers, as `Renderer.finish` has it."""
        assert self._answers is not None  # noqa: S101 - it has begun
        await self._writer.sent(self._answers)
        if not self._answers.done():
            self._writer.send(encoded(END))
            await self._writer.sent(self._answers)
        answers = await self._answers
        if not self._all_done or self._blocks_answered != self._blocks_added:
            await self._process.wait()
            raise RenderError(
                f"The rendering process ended before its time, with exit code {self._process.returncode}.",
                hint="Was it killed, or short of memory? See the kernel's log. The exporter tries again.",
            )
        return rendered_blocks(self._spools, answers)

    async def end(self) -> None:
        """Kill the process, if it still runs, and close the pipe."""
        if self._answers is not None:
            self._answers.cancel()
            await asyncio.wait({self._answers})
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._writer.close()
        await self._process.wait()

    async def _collect(self) -> deque[bytes]:
        """The digests of the blocks, still packed: unpacked they would take three times as much memory."""
        blocks: deque[bytes] = deque()
        while (answer := await next_answer(self._from_worker)) is not None:
            kind, *content = decoded(answer)
            if kind == "done":
                (self.worker_cpu_s,) = content
                self._all_done = True
                break
            if kind == "os error":
                raise explain_os_error(OSError(content[0], ""), WORKING_FILES)
            if kind != "blocks":
                raise RenderError(f"A block could not be rendered: {content[0]}.", hint="Please report this.")
            number, digests = content
            self._blocks_answered += number
            blocks.append(digests)
        return blocks


def is_ready(reply: tuple[Any, ...] | None) -> bool:
    """Whether a worker's first answer says that it can begin; warns if it has other encoders than this process."""
    if reply is not None and reply != ready() and reply[:1] == ready()[:1]:
        # Bytes of two encoders in one file would not be what a full export writes.
        log.warning("render.other_encoder", hint="Packages were replaced while the program ran: restart it.")
    return reply == ready()


async def next_answer(answers: asyncio.StreamReader) -> bytes | None:
    """The next answer of a worker without its length, still encoded; None after the last one."""
    try:
        (length,) = LENGTH.unpack(await answers.readexactly(LENGTH.size))
        return await answers.readexactly(length)
    except asyncio.IncompleteReadError:
        return None
