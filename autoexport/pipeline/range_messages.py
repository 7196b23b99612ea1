"""Encodes the messages between an export and its range workers.

The first one goes to the worker. It is pickled: it has the mapping, and the way to open the snapshot. Only this
program writes to the pipe, and both ends are the same code. The answers are values of built-in types (`packing`).
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping as ReadOnly
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from autoexport.formats.contract import FormatOptions
from autoexport.model.blocks import Stretch
from autoexport.model.catalog import Key
from autoexport.model.mapping import Mapping
from autoexport.rendering.messages import LENGTH
from autoexport.sources.contract import SharedSnapshot

if TYPE_CHECKING:  # A copy of a SQLite file is begun before SQLAlchemy is loaded.
    from autoexport.sources.reader import Counted


@dataclass(frozen=True, slots=True)
class RangeStart:
    """One range of an export, and all that its worker has to know.

    `database` is the published name of the database. `training` is that of the `TreeBuilder`. `state` is the
    private directory. `spools` are descriptors; the worker writes to their extents of the number `extent`.
    `counted` and `kept` are those of `SnapshotReader.stretch`.
    """

    shared: SharedSnapshot
    mapping: Mapping
    database: str
    options: FormatOptions
    training: ReadOnly[Key, tuple[str, Sequence[str]]]
    state: Path
    spools: Sequence[int]
    extent: int
    stretch: Stretch
    counted: Counted
    kept: int

    def message(self) -> bytes:
        """The message to send, with its length in front."""
        data = pickle.dumps(self, pickle.HIGHEST_PROTOCOL)
        return LENGTH.pack(len(data)) + data

    @classmethod
    def read(cls, data: bytes) -> RangeStart:
        """Read a received message, without its length."""
        start: RangeStart = pickle.loads(data)  # noqa: S301 - from the process that started this one
        return start
