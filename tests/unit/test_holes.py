"""What nobody reads any more gives its room back, and nothing else of the file changes."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from autoexport import holes
from autoexport.holes import STEP_BYTES, GivingBack, punch_hole
from autoexport.pace import PAGE_BYTES


@pytest.fixture
def content() -> bytes:
    return random.Random(5).randbytes(4 * STEP_BYTES)


@pytest.fixture
def working(tmp_path: Path, content: bytes) -> Iterator[int]:
    """An open working file with that content, on the disk; skips where the file system knows no holes."""
    descriptor = os.open(tmp_path / "spool", os.O_RDWR | os.O_CREAT)
    os.write(descriptor, bytes(PAGE_BYTES))
    if not punch_hole(descriptor, 0, PAGE_BYTES):
        pytest.skip("this file system cannot punch holes")
    os.pwrite(descriptor, content, 0)
    os.fsync(descriptor)
    yield descriptor
    os.close(descriptor)


def room(descriptor: int) -> int:
    """What a file takes on the disk, in bytes."""
    return os.fstat(descriptor).st_blocks * 512


@pytest.mark.parametrize(
    ("start", "end"), [(0, PAGE_BYTES), (1, 3 * PAGE_BYTES), (PAGE_BYTES, 4 * PAGE_BYTES + 7)]
)
def test_only_whole_pages_of_the_range_are_given_back(working: int, content: bytes, start: int, end: int) -> None:
    first, last = -(-start // PAGE_BYTES) * PAGE_BYTES, end // PAGE_BYTES * PAGE_BYTES
    before = room(working)
    assert punch_hole(working, start, end)
    assert os.pread(working, len(content), 0) == content[:first] + bytes(last - first) + content[last:]
    assert room(working) == before - (last - first)


def test_a_range_without_a_whole_page_is_left_alone(working: int, content: bytes) -> None:
    assert not punch_hole(working, 1, 2 * PAGE_BYTES - 1)
    assert os.pread(working, len(content), 0) == content


def test_what_is_copied_in_order_is_given_back_and_the_rest_is_not(working: int, content: bytes) -> None:
    spent = 3 * STEP_BYTES
    with GivingBack(working) as back:
        for at in range(0, spent, STEP_BYTES // 4):
            back.add(at, STEP_BYTES // 4)
    assert os.pread(working, len(content), 0) == bytes(spent) + content[spent:]
    assert room(working) < len(content) - spent + STEP_BYTES


def test_what_lies_between_two_ranges_is_not_touched(working: int, content: bytes) -> None:
    with GivingBack(working) as back:
        back.add(0, STEP_BYTES - PAGE_BYTES)  # too little, and what follows does not continue it
        back.add(2 * STEP_BYTES, STEP_BYTES)
        back.add(STEP_BYTES, STEP_BYTES // 2)
    expected = content[: 2 * STEP_BYTES] + bytes(STEP_BYTES) + content[3 * STEP_BYTES :]
    assert os.pread(working, len(content), 0) == expected


def test_where_holes_are_unknown_nothing_happens(
    working: int, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holes, "_fallocate", None)
    with GivingBack(working) as back:
        back.add(0, len(content))
    assert os.pread(working, len(content), 0) == content
