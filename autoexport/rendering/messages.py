"""What an export and its rendering process say to each other: blocks of rows there, lengths and counts back.

Messages are values of Python's own types, in the encoding of `marshal`: both ends are the same
interpreter, and nobody else holds an end of the pipes. Nothing of it is ever stored.
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
from autoexport.model.mapping import BoxFormat, BoxReading
from autoexport.model.tree import DatasetNode, ProjectNode
from autoexport.values.encoders import fingerprints

LENGTH = struct.Struct(">Q")
"""What stands before each message: its length in bytes."""

END: tuple[Any, ...] = ()
"""The last message. The end of the pipe alone would not do: whoever was forked meanwhile keeps it open."""


def ready() -> tuple[Any, ...]:
    """The first answer, with the encoders of the process: packages may have been replaced since its parent began.

    The answers that follow are `block`, `os error`, `error` or `done`, each with its values.
    """
    return "ready", fingerprints()


_VERSION = 2  # of marshal: later ones look for objects that are the same, which takes longer than it saves


def encoded(content: tuple[Any, ...]) -> bytes:
    """A message with its length."""
    data = marshal.dumps(content, _VERSION)
    return LENGTH.pack(len(data)) + data


def decoded(data: bytes) -> tuple[Any, ...]:
    """A message, without its length."""
    content: tuple[Any, ...] = marshal.loads(data)  # noqa: S302 - see above
    return content


@dataclass(frozen=True, slots=True)
class Start:
    """The first message: how to render, and the descriptors of the spools, one for each format with blocks."""

    options: FormatOptions
    box: BoxReading | None
    box_format: BoxFormat | None
    spools: Sequence[int]

    def message(self) -> bytes:
        """As it is sent."""
        return encoded((dict(self.options), self.box, self.box_format, tuple(self.spools)))

    @classmethod
    def read(cls, content: tuple[Any, ...]) -> Start:
        """As it arrives."""
        options, box, box_format, spools = content
        return cls(options, box, box_format, spools)


def block_message(rows: BlockRows, project: ProjectNode, dataset: DatasetNode) -> bytes:
    """A piece of a block to be rendered, and what is above it."""
    tables = [(list(table.fields), table.values) for table in (rows.images, rows.annotations)]
    above = [(node.key, _described(node.values)) for node in (project, dataset)]
    return encoded((rows.dataset, tables, rows.spans, rows.ends, above))


def read_block(content: tuple[Any, ...]) -> tuple[BlockRows, ProjectNode, DatasetNode]:
    """As it arrives."""
    key, (images, annotations), spans, ends, above = content
    rows = BlockRows(key, FlatRows(*images), FlatRows(*annotations), spans, ends)
    (project, own), (dataset, other) = above
    return rows, ProjectNode(project, _values(own)), DatasetNode(dataset, _values(other))


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
