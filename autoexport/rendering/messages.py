"""Encodes the messages between an export and its worker process: blocks of rows there, lengths and counts back.

Messages are values of Python's built-in types, encoded by `marshal`. Both ends are the same interpreter, no other
program writes to the pipes, and no message is ever stored.
"""

from __future__ import annotations

import marshal
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from autoexport.formats.contract import FormatOptions
from autoexport.model.blocks import BlockRows, FlatRows, Value
from autoexport.model.mapping import BoxFormat, BoxReading, KeepQuery
from autoexport.model.tree import DatasetNode, ProjectNode
from autoexport.values.encoders import fingerprints

LENGTH = struct.Struct(">Q")
"""The prefix of each message: its length in bytes."""

END: tuple[Any, ...] = ()
"""The last message. The end of the pipe would not be enough: a process that was forked meanwhile keeps it open."""


def ready() -> tuple[Any, ...]:
    """The first answer, with the encoders of the process: packages may have been replaced since its parent began.

    The answers that follow are `block`, `os error`, `error` or `done`, each with its values.
    """
    return "ready", fingerprints()


_VERSION = 2  # of marshal: later versions look for identical objects, which takes longer than it saves


def encoded(content: tuple[Any, ...]) -> bytes:
    """A message with its length in front."""
    data = marshal.dumps(content, _VERSION)
    return LENGTH.pack(len(data)) + data


def decoded(data: bytes) -> tuple[Any, ...]:
    """A message, without its length."""
    content: tuple[Any, ...] = marshal.loads(data)  # noqa: S302 - only the other end of the pipe sends it
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


def block_message(rows: BlockRows, project: ProjectNode, dataset: DatasetNode) -> bytes:
    """A piece of a block to be rendered, with its project and dataset."""
    tables = [(list(table.fields), table.values) for table in (rows.images, rows.annotations)]
    above = [(node.key, _described(node.values)) for node in (project, dataset)]
    return encoded((rows.dataset, tables, rows.spans, rows.ends, above, dict(project.facts)))


def read_block(content: tuple[Any, ...]) -> tuple[BlockRows, ProjectNode, DatasetNode]:
    """Read a received `block_message`."""
    key, (images, annotations), spans, ends, above, facts = content
    rows = BlockRows(key, FlatRows(*images), FlatRows(*annotations), spans, ends)
    (project, own), (dataset, other) = above
    return rows, ProjectNode(project, _values(own), facts=facts), DatasetNode(dataset, _values(other))


# --- values that `marshal` does not know ---------------------------------------------------------------


def _described(values: dict[str, Value]) -> list[tuple[str, str, Any]]:
    return [(name, *_kind(value)) for name, value in values.items()]


def _kind(value: Any) -> tuple[str, Any]:
    if isinstance(value, datetime):
        return "time", value.isoformat()
    if isinstance(value, orjson.Fragment):
        return "json", orjson.dumps(value)
    return "", value


def _values(described: list[tuple[str, str, Any]]) -> dict[str, Any]:
    return {name: _value(kind, value) for name, kind, value in described}


def _value(kind: str, value: Any) -> Any:
    if kind == "time":
        return datetime.fromisoformat(value)
    return orjson.Fragment(value) if kind == "json" else value
