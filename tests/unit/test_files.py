"""A file is durable when it is said to be, and a disk that refuses is heard."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from autoexport import files
from autoexport.files import Pace, create_new, made_durable, write_all


@pytest.fixture
def descriptor(tmp_path: Path) -> int:
    """Of a new file."""
    return create_new(tmp_path / "file")


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The calls that write a file out, as they are made."""
    calls: list[str] = []
    for name in ("fsync", "posix_fadvise", "posix_fallocate"):

        def seen(number: int, *arguments: int, name: str = name, real: object = getattr(os, name)) -> None:
            calls.append(name)
            real(number, *arguments)  # type: ignore[operator]

        monkeypatch.setattr(os, name, seen)
    return calls


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few bytes make a large file."""
    monkeypatch.setattr(files, "_LARGE_BYTES", 1)
    monkeypatch.setattr(files, "_WRITE_OUT_BYTES", 4096)


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
        while "posix_fadvise" not in synced:
            threading.Event().wait(0.001)
        assert "fsync" not in synced
    assert synced[-1] == "fsync"
    assert threading.active_count() == threads
    assert os.pread(descriptor, 20_000, 0) == b"0123456789" * 1000
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


def test_a_pace_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who writes is held back to so many bytes a second, but never for longer than the limit for a file."""
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    monkeypatch.setattr("time.sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    for size, lasts in ((250e6, 1.0), (40e9, Pace.MOST_S)):
        pace, began = Pace(int(size)), now[0]
        for _ in range(100):
            now[0] += 0.001
            pace.keep(int(size / 100))
        assert now[0] - began == pytest.approx(lasts, abs=0.005)
    slow, began = Pace(int(250e6)), now[0]
    now[0] += 60
    for _ in range(100):
        slow.keep(int(2.5e6))
    assert now[0] - began == pytest.approx(61, abs=0.005)


@pytest.mark.usefixtures("large")
def test_systems_without_these_calls(descriptor: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are for speed only."""
    monkeypatch.delattr(os, "posix_fallocate")
    monkeypatch.delattr(os, "posix_fadvise")
    with made_durable(descriptor, 10):
        write_all(descriptor, b"0123456789")
    assert os.fstat(descriptor).st_size == 10
    os.close(descriptor)


def test_an_error_inside_is_the_error(descriptor: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written out for nobody, and the thread is gone."""
    monkeypatch.setattr(files, "_LARGE_BYTES", 1)
    threads = threading.active_count()
    with pytest.raises(LookupError), made_durable(descriptor, 10):
        raise LookupError
    assert threading.active_count() == threads
    os.close(descriptor)
