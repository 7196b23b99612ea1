"""Writing beside an application is slowed down, but not without limit."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from autoexport.publishing import throttle
from autoexport.publishing.throttle import WriteThrottle
from autoexport.runtime import files
from autoexport.runtime.files import PORTION_BYTES, create_new


def test_a_rate_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rate is limited unless the file would take too long; lost time is not made up for."""
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    monkeypatch.setattr("time.sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    descriptor = create_new(tmp_path / "file")
    for size, lasts in ((WriteThrottle.BYTES_PER_S, 1.0), (40e9, WriteThrottle.MOST_S)):
        kept_to, began = WriteThrottle(descriptor, int(size)), now[0]
        for _ in range(100):
            now[0] += 0.001
            kept_to.keep(int(size / 100))
        assert now[0] - began == pytest.approx(lasts, abs=0.005)
    slow, began = WriteThrottle(descriptor, int(WriteThrottle.BYTES_PER_S)), now[0]
    now[0] += 60
    for _ in range(100):
        slow.keep(int(WriteThrottle.BYTES_PER_S / 100))
    assert now[0] - began == pytest.approx(61, abs=0.005)
    os.close(descriptor)


def test_each_portion_is_begun_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In order, without a gap, in whole pages: a half-filled page would be written twice."""
    begun: list[tuple[int, int]] = []
    monkeypatch.setattr(throttle, "begin_writing_out", lambda _fd, start, end: begun.append((start, end - start)))
    descriptor = create_new(tmp_path / "file")
    kept_to = WriteThrottle(descriptor, 10 * PORTION_BYTES)
    for _ in range(1000):
        kept_to.keep(2000)
    os.close(descriptor)
    assert len(begun) >= 6
    at = 0
    for start, length in begun:
        assert (start, length % 4096) == (at, 0)
        at += length


@pytest.mark.parametrize("known", [True, False], ids=["sync_file_range", "posix_fadvise"])
def test_written_portions_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: bool) -> None:
    """By either call, also from a descriptor that is read in portions."""
    if not known:
        monkeypatch.setattr(files, "_sync_file_range", None)
    descriptor, text = create_new(tmp_path / "file"), os.urandom(3 * PORTION_BYTES)
    os.write(descriptor, text)
    throttle.begin_writing_out(descriptor, 0, len(text))
    WriteThrottle(descriptor, len(text)).read_from(descriptor)
    assert os.pread(descriptor, len(text) + 1, 0) == text
    os.close(descriptor)
