"""Keeps changes.jsonl: for each publish, which images, projects, datasets and labels changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

CHANGES_NAME = "changes.jsonl"
MOST_IDS = 1_000
"""So many ids of each list are named. The number of all is there, too."""

GENERATIONS = 100
MOST_BYTES = 1_000_000
"""The file has the last generations, at most this number and at most so many bytes."""

LINE_BEGINNING = b'{"generation":'
"""The first bytes of each line."""

_MOST_DIGITS = 18
"""Of a generation: a longer number is damage, and Python refuses to read thousands of digits."""

TABLES = ("images", "projects", "datasets", "labels")
VERBS = ("added", "changed", "removed")

Record = dict[str, Any]


@dataclass(slots=True)
class Difference:
    """The ids that were added, changed or removed, each as JSON, in the order in which they were found."""

    added: list[bytes] = field(default_factory=list)
    changed: list[bytes] = field(default_factory=list)
    removed: list[bytes] = field(default_factory=list)


def compare(old: Mapping[bytes, int], new: Mapping[bytes, int]) -> Difference:
    """Compare the fingerprints of two states by id."""
    found = Difference()
    for key, fingerprint in new.items():
        if key not in old:
            found.added.append(key)
        elif old[key] != fingerprint:
            found.changed.append(key)
    found.removed = [key for key in old if key not in new]
    return found


def full_line(generation: int, timestamp: str) -> bytes:
    """The line of a publish of which the changes are not known: anything may have changed."""
    return orjson.dumps({"generation": generation, "timestamp": timestamp, "full": True})


def line(generation: int, timestamp: str, found: Mapping[str, Difference]) -> bytes:
    """The line of a publish; `found` has a difference for each of `TABLES`."""
    record: Record = {"generation": generation, "timestamp": timestamp, "full": False}
    for table in TABLES:
        own = {verb: getattr(found[table], verb) for verb in VERBS}
        record[table] = {
            verb: {"count": len(ids), "ids": [orjson.Fragment(key) for key in ids[:MOST_IDS]]}
            for verb, ids in own.items()
        }
    return orjson.dumps(record)


def with_line(text: bytes, generation: int, added: bytes) -> bytes:
    """The file with one more line. Lines of this generation and of later ones go: they were never published."""
    before = [own for number, own in _numbered(text) if number < generation]
    kept = [*before[1 - GENERATIONS :], added]
    size = 0
    for index in range(len(kept) - 1, -1, -1):
        size += len(kept[index]) + 1
        if size > MOST_BYTES and index < len(kept) - 1:
            kept = kept[index + 1 :]
            break
    return b"\n".join([*kept, b""])


def _numbered(text: bytes) -> Iterator[tuple[int, bytes]]:
    """Each line with its generation, without parsing the rest of it."""
    begin = LINE_BEGINNING
    for own in text.split(b"\n"):
        number = own[len(begin) : own.find(b",")]
        if own.startswith(begin) and number.isdigit() and len(number) <= _MOST_DIGITS:
            yield int(number), own


def since(text: bytes, generation: int, latest: int, timestamp: str) -> Record:
    """The changes after a generation, up to the latest, as one record.

    `full` is true if they are not known: the file has not all of the generations between, one of them was a full
    export, or named only some of its ids while there are several.
    """
    head: Record = {"since": generation, "generation": latest, "timestamp": timestamp}
    lines = {number: own for number, own in _numbered(text) if generation < number <= latest}
    if generation > latest or len(lines) != latest - generation:
        return {**head, "full": True}
    try:
        records = [orjson.loads(lines[number]) for number in sorted(lines)]
        if any(record["full"] for record in records):
            return {**head, "full": True}
        if len(records) == 1:
            return {**head, "full": False, **{table: records[0][table] for table in TABLES}}
        joined = {table: _joined(record[table] for record in records) for table in TABLES}
    except (ValueError, KeyError, TypeError):
        return {**head, "full": True}
    if None in joined.values():
        return {**head, "full": True}
    return {**head, "full": False, **joined}


def _joined(records: Iterable[Record]) -> Record | None:
    """The sum of several changes of one table; None if one of them names only some ids."""
    first: dict[Any, str] = {}
    last: dict[Any, str] = {}
    for record in records:
        for verb in VERBS:
            own = record[verb]
            if own["count"] != len(own["ids"]):
                return None
            for key in own["ids"]:
                first.setdefault(key, verb)
                last[key] = verb
    ids: dict[str, list[Any]] = {verb: [] for verb in VERBS}
    for key, begun in first.items():
        existed, exists = begun != "added", last[key] != "removed"
        if existed or exists:
            ids["changed" if existed and exists else "added" if exists else "removed"].append(key)
    return {verb: {"count": len(own), "ids": own[:MOST_IDS]} for verb, own in ids.items()}
