"""Counts labels by name; most of them in a file, if there are many."""

from __future__ import annotations

import heapq
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from itertools import groupby, islice
from operator import itemgetter

import xxhash

from autoexport.model import packing
from autoexport.model.scratch import Scratch

MOST_HELD = 20_000
"""So many names are counted in memory, at about 0.2 KB each."""

_TOGETHER = 500  # names that are read at a time
_PART_BITS = 8  # leading bits of the hash that names of a part have in common


class LabelCounts(Mapping[str, int]):
    """The number of annotations by label, in the order of the names.

    Free text as a label gives as many names as annotations. Then they are sorted in parts, kept in `scratch`, and
    merged when they are read; `add` nothing after that.
    """

    def __init__(self, scratch: Scratch) -> None:
        self._scratch = scratch
        self._held: dict[str, int] = {}
        self._parts: list[list[tuple[int, int]]] = []
        self._length: int | None = None
        self._hashes = self._counts = array("Q")

    def add(self, counted: Mapping[str, int]) -> None:
        """Add the counts of a block."""
        held = self._held
        for name, count in counted.items():
            held[name] = held.get(name, 0) + count
        if len(held) > MOST_HELD:
            self.spill()

    def spill(self) -> None:
        """Keep the names that are in memory in the scratch file."""
        if self._held:
            self._parts.append(self._kept(iter(sorted(self._held.items()))))
            self._held = {}

    def items(self) -> Iterator[tuple[str, int]]:  # type: ignore[override]
        """The names in order, each with its count."""
        self._merge()
        return iter(self._held.items()) if not self._parts else self._read(self._parts[0])

    def __len__(self) -> int:
        self._merge()
        return len(self._held) if self._length is None else self._length

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self.items())

    def __getitem__(self, name: str) -> int:
        self._merge()
        if not self._parts:
            return self._held[name]
        if not self._hashes:
            self._index()
        wanted = _hash(name)
        index = bisect_left(self._hashes, wanted)
        if index == len(self._hashes) or self._hashes[index] != wanted:
            raise KeyError(name)
        return self._counts[index]

    def _merge(self) -> None:
        """Put everything in order, once."""
        if self._length is not None:
            return
        if not self._parts:
            self._held = dict(sorted(self._held.items()))
            self._length = len(self._held)
            return
        if len(self._parts) > 1 or self._held:
            streams = [*map(self._read, self._parts), iter(sorted(self._held.items()))]
            merged = groupby(heapq.merge(*streams), itemgetter(0))
            self._parts = [self._kept((name, sum(count for _, count in same)) for name, same in merged)]
            self._held = {}
        self._length = sum(1 for _ in self._read(self._parts[0]))

    def _kept(self, counted: Iterator[tuple[str, int]]) -> list[tuple[int, int]]:
        """Keep a sorted part in the scratch file; its places there."""
        places = []
        while some := list(islice(counted, _TOGETHER)):
            packed = packing.pack(some)
            places.append((self._scratch.append(packed), len(packed)))
        return places

    def _read(self, places: list[tuple[int, int]]) -> Iterator[tuple[str, int]]:
        for offset, length in places:
            yield from packing.unpack(self._scratch.read(offset, length))

    def _index(self) -> None:
        """Sort the counts by a 64-bit hash of the name, which takes 16 bytes for each.

        They are sorted in parts: a list of all of them would take five times as much.
        """
        parts = [array("Q") for _ in range(1 << _PART_BITS)]
        for name, count in self.items():
            hashed = _hash(name)
            parts[hashed >> 64 - _PART_BITS].extend((hashed, count))
        hashes, counts = array("Q"), array("Q")
        for part in parts:
            pairs = sorted(zip(part[::2], part[1::2], strict=True))
            hashes.extend(hashed for hashed, _ in pairs)
            counts.extend(count for _, count in pairs)
        self._hashes, self._counts = hashes, counts


def _hash(name: str) -> int:
    return xxhash.xxh3_64_intdigest(name.encode("utf-8", "surrogatepass"))
