"""Starts the process that works on a lake, sends it a request and collects its answers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from importlib.util import find_spec

from autoexport.errors import AutoexportError, ConfigurationError, PublishError
from autoexport.publishing.lake.requests import Answer, Request
from autoexport.runtime.interpreter import command_of, program_of
from autoexport.runtime.logs import get_logger
from autoexport.runtime.threads import in_thread

log = get_logger()

CODE = program_of("autoexport.publishing.lake.worker")

_END_S = 5.0
"""A worker process that closed its answers may take so many seconds to end."""

_ENDED = "Was it killed, or short of memory? See the kernel's log. The exporter tries again."


def require() -> None:
    """Raise `ConfigurationError` if deltalake is not installed."""
    if find_spec("deltalake") is None:
        raise ConfigurationError(
            "A lake needs a package that is not installed: deltalake.",
            hint="Install it: python -m pip install 'autoexport[lake]'",
        )


async def worked(request: Request, advance: Callable[[int], None]) -> Answer:
    """Do what the request asks in a process of its own; `advance` is told how many rows more are written.

    The library takes 60 MB, which that process gives back when it ends. In a program that cannot start Python, a
    thread does it. Raises `AutoexportError`.
    """
    require()
    answer = await _apart(request, advance)
    if answer is None:
        from autoexport.publishing.lake.work import work

        return await in_thread(work, request, lambda _: None)
    if answer.error:
        kind: type[AutoexportError] = ConfigurationError if answer.wrong_settings else PublishError
        raise kind(answer.error, hint=answer.hint)
    return answer


async def _apart(request: Request, advance: Callable[[int], None]) -> Answer | None:
    """The last answer; None if no process can be started."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command_of(CODE),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
            limit=1 << 20,
        )  # fmt: skip
    except (OSError, NotImplementedError) as error:
        log.debug("lake.no_process", error=str(error))
        return None
    assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018 - they are pipes
    try:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            process.stdin.write(request.encoded())
            await process.stdin.drain()
        with contextlib.suppress(ValueError, TypeError, KeyError):  # no answer of a worker
            async for line in process.stdout:
                answer = Answer.read(line)
                if answer.done:
                    return answer
                advance(answer.rows)
        process.stdin.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_END_S):
                await process.wait()
        raise PublishError(
            f"The process that writes the lake ended early, with exit code {process.returncode}.", hint=_ENDED
        )
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.stdin.close()
        await process.wait()
