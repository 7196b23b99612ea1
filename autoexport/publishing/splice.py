"""Kept byte ranges and fresh bytes to staged temp files: how a new file is laid out and written."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from autoexport.errors import PublishError
from autoexport.publishing.identity import FileIdentity
from autoexport.publishing.layout import Layout, Segment
from autoexport.publishing.throttle import WriteThrottle
from autoexport.runtime.files import create_new, explain_os_error, made_durable, temp_beside, write_all

_COPY_BYTES = 16 << 20
"""A copy is done in steps of this many bytes, so that it can be stopped."""


SMALL_BYTES = 32 << 10
"""Smaller pieces are copied through memory, and written together in steps of `_JOINED_BYTES`."""

_JOINED_BYTES = 256 << 10
_WINDOW_BYTES = 128 << 10


# EPERM: what sandboxes answer for a system call that they do not know.
_NO_COPY_FILE_RANGE = {errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EBADF, errno.EPERM}


# A link may lead out of the directory, and a pipe would be waited for.
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


@dataclass(slots=True)
class Staged:
    """A written temp file, durable, waiting for its rename. `inode`, `size` and `mtime_ns` are its own."""

    layout: Layout
    temp: Path
    inode: int
    size: int
    mtime_ns: int


def find_identical(
    layout: Layout, spool: int | None, directory: Path, known: FileIdentity | None = None
) -> FileIdentity | None:
    """The identity of the published file if it has exactly these bytes already, else None. Reads it only if its
    size fits, and of it only what is not kept in its place: then it has to be the `known` one."""
    try:
        descriptor = os.open(directory / layout.file_name, _READ)
    except OSError:
        return None
    try:
        # Taken before it is read: what is written to it meanwhile, or later, makes it another.
        identity = FileIdentity.of_open(descriptor, layout.crc)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode) or identity.size != layout.length:
            return None
        if layout.kept_bytes and not _is(descriptor, known):
            return None
        at = 0
        for piece in layout.pieces:
            if isinstance(piece, Segment) and not piece.fresh and piece.offset == at:
                at += piece.length
                continue
            for expected in contents(piece, spool, descriptor, layout.file_name):
                if os.pread(descriptor, len(expected), at) != expected:
                    return None
                at += len(expected)
        return identity
    finally:
        os.close(descriptor)


def contents(piece: bytes | Segment, spool: int | None, published: int, name: str) -> Iterator[bytes]:
    """The bytes of one piece of a file, at most 1 MB at a time."""
    if isinstance(piece, bytes):
        yield piece
        return
    source = spool if piece.fresh else published
    at, end = piece.offset, piece.offset + piece.length
    while at < end:
        data = os.pread(source, min(1 << 20, end - at), at) if source is not None else b""
        if not data:
            raise _cut_short(name)
        yield data
        at += len(data)


def stage(
    layout: Layout,
    spool: int | None,
    directory: Path,
    known: FileIdentity | None,
    *,
    throttled: bool = False,
) -> Staged:
    """Write the file beside its target, durably. Raises `PublishError`.

    `known` is the identity of the published file that kept ranges come from: it is compared before and after.
    `paced`: leave the disk to others as well.
    """
    target = directory / layout.file_name
    temp = temp_beside(target)
    try:
        kept = os.open(target, _READ) if layout.kept_bytes else None
        try:
            # What replaces a private file is private from its first byte on.
            replaced = target.is_file() and not target.is_symlink()
            descriptor = create_new(temp, 0o600 if replaced else 0o666)
            try:
                throttle = WriteThrottle(descriptor, layout.length) if throttled else None
                if throttle is not None and kept is not None:
                    throttle.read_from(kept)
                with made_durable(descriptor, layout.length, throttled=throttled):
                    _same(kept, known, layout.file_name)
                    for piece in _together(layout, spool, kept):
                        if isinstance(piece, bytes):
                            write_all(descriptor, piece)
                            if throttle is not None:
                                throttle.keep(len(piece))
                        else:
                            _copy(spool if piece.fresh else kept, descriptor, piece, layout.file_name, throttle)
                    _same(kept, known, layout.file_name)
                status = os.fstat(descriptor)
            finally:
                os.close(descriptor)
        finally:
            if kept is not None:
                os.close(kept)
    except BaseException as error:
        temp.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise explain_os_error(error, target) from error
        raise
    return Staged(layout, temp, status.st_ino, status.st_size, status.st_mtime_ns)


def _together(layout: Layout, spool: int | None, kept: int | None) -> Iterator[bytes | Segment]:
    """The pieces of a file, small neighbours as one: a system call for each block of one image would take longer
    than rendering it."""
    some: list[bytes] = []
    size = 0
    windows = {True: _Window(spool, layout.file_name), False: _Window(kept, layout.file_name)}
    for piece in layout.pieces:
        small = isinstance(piece, bytes) or piece.length < SMALL_BYTES
        if some and (not small or size >= _JOINED_BYTES):
            yield b"".join(some)
            some, size = [], 0
        if isinstance(piece, bytes):
            some.append(piece)
            size += len(piece)
        elif small:
            some.append(windows[piece.fresh].read(piece))
            size += piece.length
        else:
            yield piece
    if some:
        yield b"".join(some)


class _Window:
    """Reads small segments of a file, several with one call if they follow one another."""

    def __init__(self, descriptor: int | None, name: str) -> None:
        self._descriptor = descriptor
        self._name = name
        self._data, self._offset = b"", 0

    def read(self, piece: Segment) -> bytes:
        begun = piece.offset - self._offset
        if not 0 <= begun <= begun + piece.length <= len(self._data):
            if self._descriptor is None:
                raise _cut_short(self._name)
            self._data = os.pread(self._descriptor, max(_WINDOW_BYTES, piece.length), piece.offset)
            self._offset, begun = piece.offset, 0
            if len(self._data) < piece.length:
                raise _cut_short(self._name)
        return self._data[begun : begun + piece.length]


def _same(descriptor: int | None, known: FileIdentity | None, name: str) -> None:
    if descriptor is None:
        return
    if not _is(descriptor, known):
        raise _cut_short(name)


def _is(descriptor: int, known: FileIdentity | None) -> bool:
    return known is not None and FileIdentity.of_open(descriptor, known.crc) == known


def _copy(source: int | None, target: int, piece: Segment, name: str, throttle: WriteThrottle | None) -> None:
    """Copy a range inside the kernel where it can, else through memory."""
    if source is None:
        raise _cut_short(name)
    at, left = piece.offset, piece.length
    most = _COPY_BYTES if throttle is None else throttle.PORTION_BYTES
    in_kernel = hasattr(os, "copy_file_range")
    while left:
        step = min(left, most)
        if in_kernel:
            try:
                done = os.copy_file_range(source, target, step, at)
            except OSError as error:
                if error.errno not in _NO_COPY_FILE_RANGE:
                    raise
                done = 0
            if not done:  # some file systems say so instead of refusing
                in_kernel = False
                continue
        else:
            data = os.pread(source, min(step, 1 << 20), at)
            write_all(target, data)
            done = len(data)
        if not done:
            raise _cut_short(name)
        at += done
        left -= done
        if throttle is not None:
            throttle.keep(done)


def _cut_short(name: str) -> PublishError:
    return PublishError(
        f"{name} changed while it was being copied.", hint="Another program writes to it; it is tried again."
    )
