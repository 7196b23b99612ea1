"""A file is durable when it is said to be, and a disk that refuses is heard."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from autoexport import files
from autoexport.files import create_new, made_durable, write_all


@pytest.fixture
def descriptor(tmp_path: Path) -> int:
    """Of a new file."""
    return create_new(tmp_path / "file")


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The calls that write a file out, as they are made."""
    calls: list[str] = []
    for name in ("fsync", "fdatasync"):

        def seen(number: int, name: str = name, real: object = getattr(os, name)) -> None:
            calls.append(name)
            real(number)  # type: ignore[operator]

        monkeypatch.setattr(os, name, seen)
    return calls


def test_a_small_file_is_written_out_at_the_end(descriptor: int, synced: list[str]) -> None:
    """By one call, and no thread."""
    threads = threading.active_count()
    with made_durable(descriptor, 10):
        write_all(descriptor, b"0123456789")
        assert threading.active_count() == threads
        assert synced == []
    assert synced == ["fsync"]
    os.close(descriptor)


def test_a_large_file_is_written_out_meanwhile(
    descriptor: int, synced: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And at the end once more; the thread is gone then."""
    monkeypatch.setattr(files, "_LARGE_BYTES", 1)
    threads = threading.active_count()
    with made_durable(descriptor, 10):
        write_all(descriptor, b"0123456789")
        while "fdatasync" not in synced:
            threading.Event().wait(0.001)
    assert synced[-1] == "fsync"
    assert threading.active_count() == threads
    os.close(descriptor)


def test_a_failure_meanwhile_is_a_failure(descriptor: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel tells of a page that could not be written only once: not to the call at the end."""
    failed = threading.Event()

    def refuse(number: int) -> None:
        failed.set()
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(files, "_LARGE_BYTES", 1)
    monkeypatch.setattr(os, "fdatasync", refuse)
    durable = made_durable(descriptor, 10)
    durable.__enter__()
    write_all(descriptor, b"0123456789")
    assert failed.wait(20)
    with pytest.raises(OSError, match="Input/output"):
        durable.__exit__(None, None, None)
    os.close(descriptor)


def test_an_error_inside_is_the_error(descriptor: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written out for nobody, and the thread is gone."""
    monkeypatch.setattr(files, "_LARGE_BYTES", 1)
    threads = threading.active_count()
    with pytest.raises(LookupError), made_durable(descriptor, 10):
        raise LookupError
    assert threading.active_count() == threads
    os.close(descriptor)
