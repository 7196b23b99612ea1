"""A file is durable when it is said to be, and a disk that refuses is heard."""

from __future__ import annotations

import asyncio
import errno
import os
import pwd
import threading
from pathlib import Path

import pytest

from autoexport.config.settings import Settings
from autoexport.formats import chosen_formats
from autoexport.publishing import throttle
from autoexport.publishing.throttle import WriteThrottle
from autoexport.rendering.spool import spools
from autoexport.runtime import files
from autoexport.runtime.files import (
    PORTION_BYTES,
    close_nameless,
    create_nameless,
    create_new,
    explain_os_error,
    made_durable,
    write_all,
)


@pytest.fixture
def descriptor(tmp_path: Path) -> int:
    """Of a new file."""
    return create_new(tmp_path / "file")


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The calls that write a file out, as they are made."""
    calls: list[str] = []
    places = (
        (os, "fsync"),
        (os, "posix_fallocate"),
        (files, "begin_writing_out"),
        (throttle, "begin_writing_out"),
    )
    for place, name in places:

        def seen(number: int, *arguments: int, name: str = name, real: object = getattr(place, name)) -> None:
            calls.append(name)
            real(number, *arguments)  # type: ignore[operator]

        monkeypatch.setattr(place, name, seen)
    return calls


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few bytes make a large file."""
    monkeypatch.setattr(files, "_LARGE_BYTES", 1)
    monkeypatch.setattr(files, "_WRITE_OUT_BYTES", 4096)


def test_nothing_is_left_of_a_file_without_a_name(tmp_path: Path) -> None:
    """It is empty before it is closed: what was written to it is never written to the disk."""
    descriptor = create_nameless(tmp_path / "file")
    write_all(descriptor, b"0123456789")
    with os.fdopen(os.dup(descriptor)) as still_open:
        close_nameless(descriptor)
        assert os.fstat(still_open.fileno()).st_size == 0
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_nothing_is_left_of_a_spool(tmp_path: Path) -> None:
    """The same holds for the spools of an export, also of one that fails."""

    async def use(still_open: list[int]) -> None:
        async with spools(tmp_path, chosen_formats(Settings().format_options)) as opened:
            for spool in opened:
                await spool.append([b"0123456789"])
                await spool.flush()
                still_open.append(os.dup(spool.descriptor))
            assert [os.fstat(number).st_size for number in still_open] == [12, 10]
            raise KeyError

    still_open: list[int] = []
    try:
        with pytest.raises(KeyError):
            asyncio.run(use(still_open))
        assert [os.fstat(number).st_size for number in still_open] == [0, 0]
    finally:
        for number in still_open:
            os.close(number)


def test_a_small_file_is_written_out_at_the_end(descriptor: int, synced: list[str]) -> None:
    """By one call, and no thread."""
    threads = threading.active_count()
    with made_durable(descriptor, 10):
        write_all(descriptor, b"0123456789")
        assert threading.active_count() == threads
        assert synced == []
    assert synced == ["fsync"]
    os.close(descriptor)


@pytest.mark.usefixtures("large")
def test_a_large_file_is_written_out_meanwhile(descriptor: int, synced: list[str]) -> None:
    """Room is reserved before, and it is durable at the end; the thread is gone then."""
    threads = threading.active_count()
    with made_durable(descriptor, 10_000):
        assert synced == ["posix_fallocate"]
        assert os.fstat(descriptor).st_size == 10_000
        write_all(descriptor, b"0123456789" * 1000)
        while "begin_writing_out" not in synced:
            threading.Event().wait(0.001)
        assert "fsync" not in synced
    assert synced[-1] == "fsync"
    assert threading.active_count() == threads
    assert os.pread(descriptor, 20_000, 0) == b"0123456789" * 1000
    os.close(descriptor)


def test_a_pace_begins_writing_out_itself(descriptor: int, synced: list[str]) -> None:
    """Beside an application: room is reserved also for less, each portion is begun when it is there, no thread."""
    threads, size = threading.active_count(), 2 * PORTION_BYTES + 5000
    kept_to = WriteThrottle(descriptor, size)
    with made_durable(descriptor, size, throttled=True):
        assert synced == ["posix_fallocate"]
        for length, begun in (
            (PORTION_BYTES - 1, 0),
            (2, 1),
            (PORTION_BYTES, 2),
            (4999, 2),
        ):
            write_all(descriptor, b"x" * length)
            kept_to.keep(length)
            assert synced.count("begin_writing_out") == begun
        assert threading.active_count() == threads
    assert synced[-1] == "fsync"
    assert os.pread(descriptor, size + 1, 0) == b"x" * size
    os.close(descriptor)


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("error", [errno.EOPNOTSUPP, errno.ENOSYS, errno.EPERM])
def test_room_that_cannot_be_reserved(descriptor: int, error: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not every file system can."""

    def refuse(number: int, offset: int, length: int) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with made_durable(descriptor, 10_000):
        write_all(descriptor, b"0123456789" * 1000)
    assert os.fstat(descriptor).st_size == 10_000
    os.close(descriptor)


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize(("call", "error"), [("posix_fallocate", errno.ENOSPC), ("fsync", errno.EIO)])
def test_a_disk_that_refuses(descriptor: int, call: str, error: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """No room is known at once; what could not be written meanwhile, at the end."""

    def refuse(*arguments: int) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, call, refuse)
    with pytest.raises(OSError, match=os.strerror(error)), made_durable(descriptor, 10_000):
        write_all(descriptor, b"0123456789" * 1000)
    os.close(descriptor)


@pytest.mark.usefixtures("large")
def test_systems_without_these_calls(descriptor: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are for speed only."""
    monkeypatch.delattr(os, "posix_fallocate")
    monkeypatch.delattr(os, "posix_fadvise")
    monkeypatch.setattr(files, "_sync_file_range", None)
    with made_durable(descriptor, 10):
        write_all(descriptor, b"0123456789")
    assert os.fstat(descriptor).st_size == 10
    os.close(descriptor)


def test_an_error_inside_is_the_error(descriptor: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing more is written out, and the thread is gone."""
    monkeypatch.setattr(files, "_LARGE_BYTES", 1)
    threads = threading.active_count()
    with pytest.raises(LookupError), made_durable(descriptor, 10):
        raise LookupError
    assert threading.active_count() == threads
    os.close(descriptor)


def test_a_file_of_another_user_is_told_with_its_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run as root leaves such files; the hint works when pasted."""
    path = tmp_path / "publish lock"
    path.touch()
    denied = PermissionError(errno.EACCES, "Permission denied", str(path))
    assert "permission is denied" in str(explain_os_error(denied, path))
    owner = pwd.getpwuid(os.geteuid()).pw_name
    monkeypatch.setattr(os, "geteuid", lambda: 987_654)
    told = explain_os_error(denied, path)
    assert str(told) == f"Cannot write {path}: it belongs to {owner}."
    assert told.hint.endswith(f"sudo chown -R 987654 '{path}'")
    assert "permission is denied" in str(explain_os_error(denied, tmp_path / "absent"))
