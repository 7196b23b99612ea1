"""Writes a temp file from kept ranges of the published file and fresh bytes of the spool."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from autoexport.errors import PublishError
from autoexport.publishing.identity import FileIdentity
from autoexport.publishing.layout import Layout
from autoexport.publishing.pieces import Segment
from autoexport.publishing.throttle import WriteThrottle
from autoexport.runtime.files import (
    PORTION_BYTES,
    create_new,
    explain_os_error,
    made_durable,
    temp_beside,
    write_all,
)
from autoexport.runtime.interruption import is_interrupted
from autoexport.runtime.steps import stepped

_COPY_BYTES = 16 << 20
"""Size of the steps of a copy. Between two steps it can be stopped."""

_READ_BYTES = 1 << 20

SMALL_BYTES = 32 << 10
"""Smaller pieces are copied through memory, and written together in steps of `_JOINED_BYTES`."""

_JOINED_BYTES = 256 << 10
_WINDOW_BYTES = 128 << 10

# Sandboxes answer EPERM to a system call that they do not know.
_NO_COPY_FILE_RANGE = {errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EBADF, errno.EPERM}

# A link may lead out of the directory, and opening a pipe would block.
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


Spools = Sequence[int] | None
"""The descriptors of the fresh parts of a format's blocks; None if it has none."""


@dataclass(slots=True)
class Staged:
    """A durable temp file that is ready to be renamed. `inode`, `size` and `mtime_ns` are those of this file."""

    layout: Layout
    temp: Path
    inode: int
    size: int
    mtime_ns: int


def find_identical(
    layout: Layout, spools: Spools, directory: Path, known: FileIdentity | None = None
) -> FileIdentity | None:
    """The identity of the published file if it already has exactly the bytes of the layout, else None.

    The file is read only if its size fits. Kept ranges that stay at their offset are not read; if there are kept
    ranges, the file must have the identity `known`.
    """
    try:
        descriptor = os.open(directory / layout.file_name, _READ)
    except OSError:
        return None
    try:
        # Taken before the file is read: any write from now on changes the identity.
        identity = FileIdentity.of_open(descriptor, layout.crc)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode) or identity.size != layout.length:
            return None
        if layout.kept_bytes and not _has_identity(descriptor, known):
            return None
        offset = 0
        for piece in layout.pieces:
            if isinstance(piece, Segment) and not piece.fresh and piece.offset == offset:
                offset += piece.length
                continue
            for expected in contents(piece, spools, descriptor, layout.file_name):
                if os.pread(descriptor, len(expected), offset) != expected:
                    return None
                offset += len(expected)
                stepped()
        return identity
    finally:
        os.close(descriptor)


def contents(piece: bytes | Segment, spools: Spools, published: int, name: str) -> Iterator[bytes]:
    """The bytes of one piece of a file, at most 1 MB at a time. Raises `PublishError` if the source is too short.

    `spools` and `published` are descriptors of the sources; `name` is the file's, for the error message.
    """
    if isinstance(piece, bytes):
        yield piece
        return
    source = _spool(spools, piece) if piece.fresh else published
    offset, end = piece.offset, piece.offset + piece.length
    while offset < end:
        data = os.pread(source, min(_READ_BYTES, end - offset), offset) if source is not None else b""
        if not data:
            raise changed_meanwhile(name)
        yield data
        offset += len(data)


def stage(
    layout: Layout,
    spools: Spools,
    directory: Path,
    known: FileIdentity | None,
    *,
    throttled: bool = False,
) -> Staged:
    """Write the file durably to a temp file beside its target. Raises `PublishError`.

    Kept ranges come from the published file, which must have the identity `known` before and after the copy.
    `throttled`: write slowly, so that an application can use the disk as well.
    """
    target = directory / layout.file_name
    temp = temp_beside(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        kept = os.open(target, _READ) if layout.kept_bytes else None
        try:
            # The replacement of a private file must be private from its first byte on.
            replaced = target.is_file() and not target.is_symlink()
            descriptor = create_new(temp, 0o600 if replaced else 0o666)
            try:
                throttle = WriteThrottle(descriptor, layout.length) if throttled else None
                if throttle is not None and kept is not None:
                    throttle.read_from(kept)
                with made_durable(descriptor, layout.length, throttled=throttled):
                    _check_unchanged(kept, known, layout.file_name)
                    for piece in _together(layout, spools, kept):
                        if is_interrupted():
                            raise PublishError("The export was interrupted.", hint="Run it again.")
                        if isinstance(piece, bytes):
                            write_all(descriptor, piece)
                            stepped()
                            if throttle is not None:
                                throttle.keep(len(piece))
                        else:
                            source = _spool(spools, piece) if piece.fresh else kept
                            _copy(source, descriptor, piece, layout.file_name, throttle)
                    _check_unchanged(kept, known, layout.file_name)
                status = os.fstat(descriptor)
                if status.st_size != layout.length:
                    raise PublishError(
                        f"{layout.file_name} has {status.st_size:,} bytes instead of {layout.length:,}.",
                        hint="A read or a write was short. The exporter tries again.",
                    )
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


def _together(layout: Layout, spools: Spools, kept: int | None) -> Iterator[bytes | Segment]:
    """The pieces of a file, with small neighbours joined.

    A system call for each block of one image would take longer than rendering the block.
    """
    some: list[bytes] = []
    size = 0
    windows: dict[int | None, _Window] = {None: _Window(kept, layout.file_name)}
    for part, spool in enumerate(spools or ()):
        windows[part] = _Window(spool, layout.file_name)
    for piece in layout.pieces:
        small = isinstance(piece, bytes) or piece.length < SMALL_BYTES
        if some and (not small or size >= _JOINED_BYTES):
            yield b"".join(some)
            some, size = [], 0
        if isinstance(piece, bytes):
            some.append(piece)
            size += len(piece)
        elif small:
            window = windows.get(piece.part if piece.fresh else None)
            if window is None:
                raise changed_meanwhile(layout.file_name)
            some.append(window.read(piece))
            size += piece.length
        else:
            yield piece
    if some:
        yield b"".join(some)


def _spool(spools: Spools, piece: Segment) -> int | None:
    return spools[piece.part] if spools and piece.part < len(spools) else None


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
                raise changed_meanwhile(self._name)
            self._data = os.pread(self._descriptor, max(_WINDOW_BYTES, piece.length), piece.offset)
            self._offset, begun = piece.offset, 0
            if len(self._data) < piece.length:
                raise changed_meanwhile(self._name)
        return self._data[begun : begun + piece.length]


def _check_unchanged(descriptor: int | None, known: FileIdentity | None, name: str) -> None:
    if descriptor is not None and not _has_identity(descriptor, known):
        raise changed_meanwhile(name)


def _has_identity(descriptor: int, known: FileIdentity | None) -> bool:
    return known is not None and FileIdentity.of_open(descriptor, known.crc) == known


def _copy(source: int | None, target: int, piece: Segment, name: str, throttle: WriteThrottle | None) -> None:
    """Copy a range inside the kernel if it supports that, else through memory."""
    if source is None:
        raise changed_meanwhile(name)
    offset, end = piece.offset, piece.offset + piece.length
    step_bytes = _COPY_BYTES if throttle is None else PORTION_BYTES
    in_kernel = hasattr(os, "copy_file_range")
    while offset < end:
        wanted = min(end - offset, step_bytes)
        if in_kernel:
            try:
                copied = os.copy_file_range(source, target, wanted, offset)
            except OSError as error:
                if error.errno not in _NO_COPY_FILE_RANGE:
                    raise
                copied = 0
            if not copied:  # Some file systems return 0 instead of an error.
                in_kernel = False
                continue
        else:
            data = os.pread(source, min(wanted, _READ_BYTES), offset)
            write_all(target, data)
            copied = len(data)
        if not copied:
            raise changed_meanwhile(name)
        offset += copied
        stepped()
        if throttle is not None:
            throttle.keep(copied)


@contextlib.contextmanager
def open_published(path: Path, known: FileIdentity | None) -> Iterator[int]:
    """Open a published file. Raises `PublishError` if its identity is not `known`, before or after."""
    try:
        descriptor = os.open(path, _READ)
    except OSError as error:
        raise changed_meanwhile(path.name) from error
    try:
        _check_unchanged(descriptor, known, path.name)
        yield descriptor
        _check_unchanged(descriptor, known, path.name)
    finally:
        os.close(descriptor)


def changed_meanwhile(name: str) -> PublishError:
    """The error if a published file is not the one that the ledger describes."""
    return PublishError(
        f"{name} changed while it was being copied.",
        hint="Another program writes to it. The exporter tries again.",
    )
