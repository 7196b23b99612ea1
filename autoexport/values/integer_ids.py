"""Turns keys into integer ids for formats that know no other: COCO counts on them.

Integers from 1 to 2^53 - 1 stay as they are if all keys of the table are such. Else every key of the table is
hashed, because a mixture could give two rows the same id. Readers keep ids in doubles, which hold 53 bits, and
pycocotools takes the id 0 for "no match".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson
import xxhash

LARGEST_ID = 2**53 - 1
_SPARE_BITS = 11
"""The bits of a 64-bit hash that an id has no room for."""

MOST_LEVELS = 4
"""A key whose id collides is hashed at most so many times. Two different keys need a second one about never."""


@dataclass(frozen=True, slots=True)
class IdRule:
    """How the keys of a table become ids. It is a function of the keys of the table alone.

    `levels` are the ids that several keys have after one hash, after two, and so on: those keys are hashed again.
    `shared` are the ids that equal keys have; no hash tells them apart.
    """

    hashed: bool = False
    levels: tuple[frozenset[int], ...] = ()
    shared: frozenset[int] = frozenset()

    def ids(self, keys: Sequence[Any]) -> list[int | None]:
        """The id of each key; None for a key that is null, or that several rows have.

        `keys` follow the text rule: numbers stay numbers, bytes are base64.
        """
        ids: list[Any] = _all_hashed(keys) if self.hashed else list(keys)
        for level, colliding in enumerate(self.levels, 1):
            if not colliding.isdisjoint(ids):
                ids = [
                    _hashed(key, level) if found in colliding and self._is_at(key, level) else found
                    for key, found in zip(keys, ids, strict=True)
                ]
        if None in keys or (self.shared and not self.shared.isdisjoint(ids)):
            return [
                None if key is None or found in self.shared else found
                for key, found in zip(keys, ids, strict=True)
            ]
        return ids

    def again(self, repeated: frozenset[int]) -> IdRule:
        """The rule that hashes the keys once more whose ids under this rule are `repeated`.

        After some hashes only equal keys are left, and their ids are shared.
        """
        if not self.hashed or len(self.levels) == MOST_LEVELS:
            return replace(self, shared=repeated)
        return replace(self, levels=(*self.levels, repeated))

    def _is_at(self, key: Any, level: int) -> bool:
        """Whether a key collided at every level before this one; another key may have its id by chance."""
        return all(_hashed(key, before) in self.levels[before] for before in range(level))

    def plain(self) -> tuple[bool, list[list[int]], list[int]]:
        """The rule in plain values, in a definite order, to be stored or sent."""
        return self.hashed, [sorted(level) for level in self.levels], sorted(self.shared)

    @classmethod
    def from_plain(cls, plain: Sequence[Any]) -> IdRule:
        """The rule that `plain` described."""
        hashed, levels, shared = plain
        return cls(hashed, tuple(map(frozenset, levels)), frozenset(shared))


def fits(key: object) -> bool:
    """Whether a key can be an id itself."""
    return type(key) is int and 1 <= key <= LARGEST_ID


def _all_hashed(keys: Sequence[Any]) -> list[int]:
    digest = xxhash.xxh3_64_intdigest
    try:
        return [digest(key.encode()) >> _SPARE_BITS or LARGEST_ID for key in keys]
    except (AttributeError, UnicodeEncodeError):
        return [_hashed(key, 0) for key in keys]


def _hashed(key: Any, level: int) -> int:
    """The hash of a key as text. From the second level on, the type counts as well: 1 and "1" are two keys."""
    text = key if isinstance(key, str) else _text(key)
    if level:
        text = f"{type(key).__name__} {text}"
    found = xxhash.xxh3_64_intdigest(text.encode("utf-8", "surrogatepass"), level) >> _SPARE_BITS
    return found or LARGEST_ID


def _text(key: Any) -> str:
    return orjson.dumps(key).decode() if isinstance(key, float | orjson.Fragment) else str(key)
