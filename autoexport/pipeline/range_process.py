"""Starts a range worker, collects its answers and ends it."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence

from autoexport import errors
from autoexport.errors import AutoexportError, RenderError
from autoexport.pipeline.range_messages import RangeStart
from autoexport.rendering.messages import decoded
from autoexport.rendering.process import is_ready, next_answer
from autoexport.runtime.files import WORKING_FILES, explain_os_error
from autoexport.runtime.interpreter import command_of, program_of
from autoexport.runtime.logs import get_logger

log = get_logger()

_START_S = 20.0
"""A worker that has not opened the snapshot after so many seconds is given up."""

_LEAVE_S = 0.5
_LIMIT_BYTES = 1 << 20

CODE = program_of("autoexport.pipeline.range_worker", without_rich=True)


class RangeProcess:
    """One range worker. `keys` and `digests` are those of its blocks, packed, as soon as it is `collect`ed.

    `cpu_s` is its processor time in seconds, and `written` the number of bytes in its extent of each spool.
    """

    def __init__(self) -> None:
        self.keys: deque[bytes] = deque()
        self.digests: deque[bytes] = deque()
        self.cpu_s = 0.0
        self.written: list[int] = []
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, spools: Sequence[int]) -> bool:
        """Start the process, which may use these descriptors; false if none can be started."""
        try:
            self._process = await asyncio.create_subprocess_exec(
                *command_of(CODE),
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
                pass_fds=spools, limit=_LIMIT_BYTES,
            )  # fmt: skip
        except (OSError, NotImplementedError) as error:
            log.debug("render.no_process", error=str(error))
        return self._process is not None

    async def begin(self, start: RangeStart) -> bool:
        """Name the range; false if the worker cannot open the snapshot, or does not answer as one does."""
        assert self._process is not None  # noqa: S101 - it was started
        assert self._process.stdin is not None  # noqa: S101 - it is a pipe
        try:
            async with asyncio.timeout(_START_S):
                self._process.stdin.write(start.message())
                await self._process.stdin.drain()
                answer = await self._answer()
            reply = decoded(answer) if answer is not None else None
        except (OSError, TimeoutError, ValueError, EOFError, TypeError) as error:
            log.debug("render.no_process", error=str(error) or type(error).__name__)
            return False
        if not (begun := is_ready(reply)) and reply is not None:
            log.debug("render.no_process", error=str(reply[-1]))
        return begun

    async def collect(self, advance: Callable[[int], None]) -> None:
        """Collect all answers; `advance` gets numbers of rendered rows. Raises `AutoexportError`."""
        while (answer := await self._answer()) is not None:
            kind, *content = decoded(answer)
            if kind == "done":
                self.cpu_s, self.written = content
                return
            if kind == "failed":
                raise _error(*content)
            if kind == "os error":
                raise explain_os_error(OSError(content[0], ""), WORKING_FILES)
            if kind != "blocks":
                raise RenderError(f"A range could not be rendered: {content[0]}.", hint="Please report this.")
            keys, digests, rows = content
            self.keys.append(keys)
            self.digests.append(digests)
            advance(rows)
        assert self._process is not None  # noqa: S101 - it was started
        await self._process.wait()
        raise RenderError(
            f"A range worker ended before its time, with exit code {self._process.returncode}.",
            hint="Was it killed, or short of memory? See the kernel's log. The exporter tries again.",
        )

    async def end(self) -> None:
        """End the process, if it still runs, and wait for its end.

        It gets a moment to leave the database: a server would go on sorting for a process that is killed.
        """
        if self._process is None:
            return
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LEAVE_S):
                    await self._process.wait()
        finally:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()

    async def _answer(self) -> bytes | None:
        """The next answer without its length, still encoded; None after the last one."""
        assert self._process is not None  # noqa: S101 - it was started
        assert self._process.stdout is not None  # noqa: S101 - it is a pipe
        return await next_answer(self._process.stdout)


def _error(kind: str, message: str, hint: str) -> AutoexportError:
    """The error that a worker met, of the same kind."""
    found: type[AutoexportError] = getattr(errors, kind, RenderError)
    return found(message, hint=hint)
