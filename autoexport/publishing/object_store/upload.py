"""Uploads files in a process of its own: starts it, sends it the request, follows its answers and ends it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from autoexport.config.object_url import ObjectURL
from autoexport.errors import PublishError
from autoexport.publishing.object_store.limits import LARGE_S
from autoexport.runtime.interpreter import command_of, is_interpreter, program_of
from autoexport.runtime.logs import get_logger

CODE = program_of("autoexport.publishing.object_store.upload_worker")
_LINE_BYTES = 1 << 20

log = get_logger()


@dataclass(frozen=True, slots=True)
class Upload:
    """A file to upload. `crc` is the CRC-32 that it must have."""

    path: str
    key: str
    bytes: int
    crc: int
    media_type: str


async def upload(
    url: ObjectURL, files: Sequence[Upload], progressed: Callable[[], object], limit_s: float = LARGE_S
) -> None:
    """Upload the files in this order; calls `progressed` with each piece that is sent.

    `limit_s` is the limit of a request in seconds. Cancelling it ends the process. Raises `PublishError`.
    """
    if not files:
        return
    request = {"url": asdict(url), "limit_s": limit_s, "files": [asdict(file) for file in files]}
    process = await _started()
    try:
        error = await _talk(process, json.dumps(request).encode() + b"\n", progressed)
        code = await process.wait()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await asyncio.shield(process.wait())
    if error is not None:
        raise error
    if code != 0:
        raise PublishError(
            f"The upload to {url} ended early (exit code {code}).", hint="The exporter tries again."
        )


async def _started() -> asyncio.subprocess.Process:
    if not is_interpreter():
        raise PublishError("No process can be started to upload files.", hint="Run the exporter with python.")
    try:
        return await asyncio.create_subprocess_exec(
            *command_of(CODE), limit=_LINE_BYTES, stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
    except OSError as error:
        raise PublishError(
            f"The process that uploads cannot be started: {error.strerror}.", hint="The exporter tries again."
        ) from error


async def _talk(
    process: asyncio.subprocess.Process, request: bytes, progressed: Callable[[], object]
) -> PublishError | None:
    """Send the request and read the answers; returns the error that ended the work, if one did."""
    assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018 - they are pipes
    with contextlib.suppress(ConnectionError):  # It has ended, and its answers say why.
        process.stdin.write(request)
        await process.stdin.drain()
        process.stdin.close()
    async for line in process.stdout:
        answer = json.loads(line)
        if "error" in answer:
            return PublishError(answer["error"], hint=answer["hint"])
        if "done" in answer:
            log.debug("upload.done", key=answer["done"])
        progressed()
    return None
