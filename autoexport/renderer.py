"""Who renders: threads of this process for a few blocks, a process of its own for many."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import sys
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from autoexport.bodies import Joined, bodies_of
from autoexport.boxes import BoxMapping
from autoexport.errors import RenderError
from autoexport.files import WORKING_FILES, explain_os_error
from autoexport.formats import FormatOptions
from autoexport.ledger import Part
from autoexport.logs import get_logger
from autoexport.model import BlockRows, DatasetNode, ProjectNode
from autoexport.offloop import in_thread, is_interpreter
from autoexport.render_messages import END, LENGTH, Start, block_message, decoded, encoded, ready
from autoexport.spool import Spool

APART_FROM_ROWS = 50_000
"""Rows from which a process of its own is worth its start, which takes about 0.15 s of a core."""

_PIPE_BYTES = 1 << 20
"""Of the pipe to the process: what an unprivileged one may have (proc(5), `pipe-max-size`). With the usual 64 KiB
the process waits for the rest of a block whenever this one is busy with the next."""

_START_S = 20.0
# The path is handed over, so that the process finds the same modules; `-I` keeps the environment out.
CODE = "import sys; sys.path[:] = sys.argv[1:]; from autoexport.render_worker import main; main()"

log = get_logger()


@dataclass(slots=True)
class Rendered:
    """What the ledger keeps of a rendered block: packed counts, the sum of its ids, its parts in the spools."""

    packed: bytes
    ids: int
    parts: list[Part]


class Renderer(Protocol):
    """Takes blocks in order, piece by piece, and appends their bytes to the spools."""

    elsewhere_s: float
    """Seconds of a core that were used outside this process; known after `finish`."""

    async def add(self, rows: BlockRows, project: ProjectNode, dataset: DatasetNode) -> None:
        """Render one more piece, sooner or later. Raises `PublishError` or `RenderError`, also for one before."""
        ...

    async def finish(self) -> list[Rendered]:
        """What was rendered, in the order in which it was added. Raises as `add`."""
        ...


@contextlib.asynccontextmanager
async def rendering(
    spools: Sequence[Spool], mapping: BoxMapping, options: FormatOptions, rows: int
) -> AsyncIterator[Renderer]:
    """Somebody who renders about so many rows."""
    if rows >= APART_FROM_ROWS and spools and is_interpreter():
        async with _apart(spools, mapping, options) as renderer:
            if renderer is not None:
                yield renderer
                return
    yield _InThreads(spools, mapping)


class _InThreads:
    """Renders piece by piece, in a thread."""

    elsewhere_s = 0.0

    def __init__(self, spools: Sequence[Spool], mapping: BoxMapping) -> None:
        self._spools = spools
        self._outputs = [spool.output for spool in spools]
        self._joined = Joined(self._outputs)
        self._mapping = mapping
        self._rendered: list[Rendered] = []

    async def add(self, rows: BlockRows, project: ProjectNode, dataset: DatasetNode) -> None:
        made = await asyncio.to_thread(bodies_of, rows, self._mapping, self._outputs, project, dataset)
        for spool, body in zip(self._spools, made.bodies, strict=True):
            await spool.append(body)
        self._joined.add(made)
        if rows.ends:
            self._rendered.append(_noted(self._spools, *self._joined.end()))

    async def finish(self) -> list[Rendered]:
        return self._rendered


def _noted(spools: Sequence[Spool], packed: bytes, ids: int, lengths: Sequence[tuple[int, int]]) -> Rendered:
    """A block that lies in the spools behind those that were noted before."""
    return Rendered(packed, ids, [spool.added(*part) for spool, part in zip(spools, lengths, strict=True)])


# --- a process of its own ------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def _apart(
    spools: Sequence[Spool], mapping: BoxMapping, options: FormatOptions
) -> AsyncIterator[_Apart | None]:
    """A rendering process; None where none can be started, which costs time and nothing else."""
    for spool in spools:
        await spool.flush()
    theirs, ours = os.pipe2(os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):
            fcntl.fcntl(ours, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        os.set_blocking(ours, False)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-c", CODE, *sys.path,
            stdin=theirs, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
            pass_fds=[spool.descriptor for spool in spools],
        )  # fmt: skip
    except (OSError, NotImplementedError, TypeError) as error:
        log.debug("render.no_process", error=str(error))
        os.close(ours)
        yield None
        return
    except BaseException:
        os.close(ours)
        raise
    finally:
        os.close(theirs)
    renderer = _Apart(process, ours, spools)
    try:
        start = Start(options, mapping.box, mapping.box_format, [spool.descriptor for spool in spools])
        yield renderer if await renderer.begin(start) else None
    finally:
        await renderer.end()


class _Apart:
    """Hands blocks to a rendering process, and takes its answers while it works."""

    def __init__(self, process: asyncio.subprocess.Process, pipe: int, spools: Sequence[Spool]) -> None:
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        self._process = process
        self._pipe: int | None = pipe
        self._from = process.stdout
        self._spools = spools
        self._added = 0
        self._all_done = False
        self.elsewhere_s = 0.0
        self._sending: asyncio.Task[None] | None = None
        self._answers: asyncio.Task[deque[bytes]] | None = None

    async def begin(self, start: Start) -> bool:
        """Whether it answers at all."""
        try:
            async with asyncio.timeout(_START_S):
                self._send(start.message())
                answer = await self._answer()
            said = decoded(answer) if answer is not None else None
        except (OSError, TimeoutError, ValueError, EOFError, TypeError) as error:
            log.debug("render.no_process", error=str(error) or type(error).__name__)
            return False
        if said != ready():
            if said is not None:
                # Bytes of two encoders in one file would not be what a full export writes.
                log.warning(
                    "render.other_encoder", hint="packages were replaced while it ran: restart the program"
                )
            return False
        self._answers = asyncio.create_task(self._collect(), name="rendering")
        return True

    async def add(self, rows: BlockRows, project: ProjectNode, dataset: DatasetNode) -> None:
        assert self._answers is not None  # noqa: S101 - it has begun
        await self._sent()
        self._send(block_message(rows, project, dataset))
        self._added += rows.ends
        if self._is_gone():
            await self.finish()

    async def finish(self) -> list[Rendered]:
        assert self._answers is not None  # noqa: S101 - it has begun
        await self._sent()
        self._send(encoded(END))
        await self._sent()
        answers = await self._answers
        if not self._all_done or len(answers) != self._added:
            await self._process.wait()
            raise RenderError(
                f"The rendering process ended before its time, with {self._process.returncode}.",
                hint="Was it killed, or short of memory? See the kernel's log; it is tried again.",
            )
        return await in_thread(self._all_rendered, answers)

    async def end(self) -> None:
        """Leave nothing running."""
        if self._answers is not None:
            self._answers.cancel()
            await asyncio.wait({self._answers})
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.wait({self._sending})
        self._close()
        await self._process.wait()

    def _send(self, message: bytes) -> None:
        """Send a message, by and by what finds no room at once; the one before has to be `_sent`.

        Not in a thread: two that take turns several hundred times a second wait for each other longer than that.
        """
        assert self._pipe is not None  # noqa: S101 - nothing is sent after the end
        if self._is_gone():
            return
        if rest := _written(self._pipe, memoryview(message)):
            self._sending = asyncio.create_task(_write_rest(self._pipe, rest), name="rendering: sending")

    async def _sent(self) -> None:
        """Wait until all is sent, or nobody takes it any more. The pipe may not tell: others can have it open."""
        if self._sending is not None:
            pending = {self._sending, self._answers} if self._answers is not None else {self._sending}
            await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            if self._sending.done():
                sent, self._sending = self._sending, None
                sent.result()

    def _is_gone(self) -> bool:
        return self._answers is not None and self._answers.done()

    def _close(self) -> None:
        if self._pipe is not None:
            os.close(self._pipe)
            self._pipe = None

    async def _collect(self) -> deque[bytes]:
        """The answers about blocks, as they came: decoded they would take three times as much memory meanwhile."""
        blocks: deque[bytes] = deque()
        while (answer := await self._answer()) is not None:
            kind, *content = decoded(answer)
            if kind == "done":
                (self.elsewhere_s,) = content
                self._all_done = True
                break
            if kind == "os error":
                raise explain_os_error(OSError(content[0], ""), WORKING_FILES)
            if kind != "block":
                raise RenderError(f"A block could not be rendered: {content[0]}.", hint="Please report this.")
            blocks.append(answer)
        return blocks

    def _all_rendered(self, answers: deque[bytes]) -> list[Rendered]:
        # Each is given up as soon as it is decoded.
        return [_noted(self._spools, *decoded(answers.popleft())[1:]) for _ in range(len(answers))]

    async def _answer(self) -> bytes | None:
        try:
            (length,) = LENGTH.unpack(await self._from.readexactly(LENGTH.size))
            return await self._from.readexactly(length)
        except asyncio.IncompleteReadError:
            return None


def _written(pipe: int, message: memoryview) -> memoryview:
    """What of a message finds no room now. Nothing, where nobody reads it any more: the answers tell why."""
    try:
        while message:
            message = message[os.write(pipe, message) :]
    except BlockingIOError:
        return message
    except ConnectionError:
        return message[:0]
    return message


async def _write_rest(pipe: int, message: memoryview) -> None:
    loop, room = asyncio.get_running_loop(), asyncio.Event()
    loop.add_writer(pipe, room.set)
    try:
        while message:
            await room.wait()
            room.clear()
            message = _written(pipe, message)
    finally:
        loop.remove_writer(pipe)
