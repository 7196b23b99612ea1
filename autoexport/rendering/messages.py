"""Encodes the messages between an export and its worker process: blocks of rows there, lengths and counts back.

Messages are values of Python's built-in types, encoded by `marshal`. Both ends are the same interpreter, no other
program writes to the pipes, and no message is ever stored.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, islice
from typing import Any

import orjson

from autoexport.formats.contract import FormatOptions, Owner
from autoexport.model import packing
from autoexport.model.blocks import BlockRows, FlatRows
from autoexport.model.mapping import BoxFormat, BoxReading, KeepQuery
from autoexport.model.tree import DatasetNode, ProjectNode
from autoexport.values.encoders import fingerprints

LENGTH = struct.Struct(">Q")
"""The prefix of each message: its length in bytes."""

END: tuple[Any, ...] = ()
"""The last message. The end of the pipe would not be enough: a process that was forked meanwhile keeps it open."""


def ready() -> tuple[Any, ...]:
    """The first answer, with the encoders of the process: packages may have been replaced since its parent began.

    The answers that follow are `blocks`, `os error`, `error` or `done`, each with its values.
    """
    return "ready", fingerprints()


def encoded(content: tuple[Any, ...]) -> bytes:
    """A message with its length in front."""
    data = packing.pack(content)
    return LENGTH.pack(len(data)) + data


def decoded(data: bytes) -> tuple[Any, ...]:
    """A message, without its length."""
    content: tuple[Any, ...] = packing.unpack(data)
    return content


@dataclass(frozen=True, slots=True)
class Start:
    """The first message: how to render, and the descriptors of the spools, one for each format with blocks."""

    options: FormatOptions
    box: BoxReading | None
    box_format: BoxFormat | None
    keep_query: KeepQuery
    worded: tuple[str, ...]
    expand: dict[str, str]
    spools: Sequence[int]

    def message(self) -> bytes:
        """The message to send."""
        keep, spools = _plain(self.keep_query), tuple(self.spools)
        return encoded((dict(self.options), self.box, self.box_format, keep, self.worded, self.expand, spools))

    @classmethod
    def read(cls, content: tuple[Any, ...]) -> Start:
        """Read a received message."""
        options, box, box_format, keep_query, worded, expand, spools = content
        return cls(options, box, box_format, keep_query, worded, expand, spools)


def _plain(keep_query: KeepQuery) -> dict[str, dict[str, list[str]]]:
    return {logical: {name: list(kept) for name, kept in fields.items()} for logical, fields in keep_query.items()}


def rows_message(rows: BlockRows, owners: Sequence[Owner]) -> bytes:
    """A piece of a block to be rendered, or several blocks, with the projects and datasets of the blocks."""
    tables = [(list(table.fields), table.values) for table in (rows.images, rows.annotations)]
    projects = {id(project): project for project, _ in owners}
    places = dict(zip(projects, range(len(projects)), strict=True))
    above = (
        _described(list(projects.values())),
        [places[id(project)] for project, _ in owners],
        _described([dataset for _, dataset in owners]),
        [list(project.classes) for project in projects.values()],
    )
    facts = [dict(project.facts) for project in projects.values()]
    return encoded((rows.dataset, tables, rows.spans, rows.ends, list(rows.members), above, facts))


def read_rows(content: tuple[Any, ...]) -> tuple[BlockRows, list[Owner]]:
    """Read a received `rows_message`."""
    key, (images, annotations), spans, ends, members, (projects, places, datasets, classes), facts = content
    rows = BlockRows(key, FlatRows(*images), FlatRows(*annotations), spans, ends, members)
    nodes = [
        ProjectNode(key, values, classes=own, facts=known)
        for (key, values), own, known in zip(_values(projects), classes, facts, strict=True)
    ]
    below = [DatasetNode(key, values) for key, values in _values(datasets)]
    return rows, [(nodes[place], dataset) for place, dataset in zip(places, below, strict=True)]


# --- values that `marshal` does not know ---------------------------------------------------------------

_Described = tuple[list[str], list[Any], list[Any]]


def _described(nodes: Sequence[ProjectNode] | Sequence[DatasetNode]) -> _Described:
    """The names of the values, the keys of the nodes, and the values of all nodes, one node after the other."""
    values: list[Any] = list(chain.from_iterable(node.values.values() for node in nodes))
    if not _PLAIN.issuperset(map(type, values)):
        values = list(map(_sendable, values))
    return list(nodes[0].values), [node.key for node in nodes], values


_PLAIN = {type(None), bool, int, float, str}


def _sendable(value: Any) -> Any:
    if isinstance(value, datetime):
        return "time", value.isoformat()
    return ("json", orjson.dumps(value)) if isinstance(value, orjson.Fragment) else value


def _values(described: _Described) -> list[tuple[Any, dict[str, Any]]]:
    names, keys, values = described
    received = iter([_received(*value) if isinstance(value, tuple) else value for value in values])
    return [(key, dict(zip(names, islice(received, len(names)), strict=True))) for key in keys]


def _received(kind: str, value: Any) -> Any:
    return datetime.fromisoformat(value) if kind == "time" else orjson.Fragment(value)
