"""Compares many numbers in bounded memory: which occur more than once, which of some are not among others."""

from __future__ import annotations

import os
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import islice, pairwise
from pathlib import Path

from autoexport.runtime.files import create_nameless, write_all

_BUCKETS = 64
_HELD = 100_000
"""So many numbers are held in memory before they are sorted and written: 0.8 MB."""


class Numbers:
    """Collects numbers, to find those that were added more than once, or are not among others; blocking.

    Each portion is sorted and written to a file without a name in `folder`, cut by the numbers' highest bits. The
    portions of a bucket are then compared together: a 64th of all numbers. Few numbers stay in memory.
    """

    def __init__(self, folder: Path, bits: int) -> None:
        """`bits`: all numbers are below two to this power."""
        self._path = folder / f"spool-{os.urandom(8).hex()}"
        self._shift = max(bits - _BUCKETS.bit_length() + 1, 0)
        self._held = array("Q")
        self._descriptor: int | None = None
        self._written: list[list[tuple[int, int]]] = [[] for _ in range(_BUCKETS)]
        self._size = 0

    def add(self, numbers: Iterable[int]) -> None:
        """Add some numbers. Raises `OSError`."""
        remaining = iter(numbers)
        while some := list(islice(remaining, _HELD)):
            self._held.extend(some)
            if len(self._held) >= _HELD:
                self._spill()

    def repeated(self) -> set[int]:
        """The numbers that were added more than once. Raises `OSError`."""
        if self._descriptor is None:
            return _repeated(self._held)
        found: set[int] = set()
        for bucket in self._buckets():
            found |= _repeated(bucket)
        return found

    def missing_in(self, others: Numbers) -> set[int]:
        """The numbers that were not added to the others. Raises `OSError`."""
        if self._descriptor is None and others._descriptor is None:
            return set(self._held) - set(others._held)
        missing: set[int] = set()
        for bucket, other in zip(self._buckets(), others._buckets(), strict=True):
            missing |= set(bucket) - set(other)
        return missing

    def _buckets(self) -> Iterator[array[int]]:
        self._spill()
        for portions in self._written:
            bucket = array("Q")
            for data in self._read(portions):
                bucket.frombytes(data)
            yield bucket

    def close(self) -> None:
        """Give the file up."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _spill(self) -> None:
        if self._descriptor is None:
            self._descriptor = create_nameless(self._path)
        portion = array("Q", sorted(self._held))
        self._held = array("Q")
        write_all(self._descriptor, portion.tobytes())
        ends = [bisect_left(portion, bucket << self._shift) for bucket in range(_BUCKETS)]
        for bucket, (begin, end) in enumerate(pairwise([*ends, len(portion)])):
            if begin < end:
                self._written[bucket].append((self._size + 8 * begin, 8 * (end - begin)))
        self._size += 8 * len(portion)

    def _read(self, portions: list[tuple[int, int]]) -> Iterator[bytes]:
        assert self._descriptor is not None  # noqa: S101 - it was written
        for offset, length in portions:
            yield os.pread(self._descriptor, length, offset)


def _repeated(numbers: array[int]) -> set[int]:
    if len(set(numbers)) == len(numbers):
        return set()
    return {number for number, following in pairwise(sorted(numbers)) if number == following}
